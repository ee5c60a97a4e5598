//! The arguments and answers of the tools: their schemas come from these types.

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// What to do at the fire.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Action {
    /// A name within the timer.
    pub(super) id: String,
    /// `webhook`, or another kind that the service offers.
    pub(super) kind: String,
    /// As the kind wants them; a webhook: {"url": "https://..."}.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) parameters: Option<Map<String, Value>>,
}

/// A timer to make: give exactly one of after, at, every and cron.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Create {
    /// What it is called.
    pub(super) name: String,
    /// A duration from now: "90s", "5m", "1h30m".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// A time: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// A duration between fires.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) every: Option<String>,
    /// A cron expression.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) cron: Option<String>,
    /// The time zone of the cron expression: "Europe/Berlin".
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) zone: Option<String>,
    /// How often it fires at most, for every and cron.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) count: Option<u64>,
    /// What to do at the fire; none is allowed: timer_wait and subscriptions see the fire all the same.
    #[serde(default)]
    pub(super) actions: Vec<Action>,
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// The agent that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) agent: Option<String>,
    /// The team that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) team: Option<String>,
    /// Kept with the timer as it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) metadata: Option<Map<String, Value>>,
    /// The same key makes one timer, however often it is sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) idempotency_key: Option<String>,
    /// "yes" to create a timer that runs a command, where the client cannot ask its user.
    #[serde(skip_serializing)]
    pub(super) confirm: Option<String>,
}

/// One timer.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct One {
    /// Its id.
    pub(super) id: String,
}

/// One timer, in the words of the server before this one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OldOne {
    /// Its id.
    pub(super) timer_id: String,
}

/// One timer, and why.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Because {
    /// Its id.
    pub(super) id: String,
    /// Why, for the record.
    pub(super) reason: Option<String>,
}

/// Give exactly one of at, after and extend_by.
#[derive(Debug, Deserialize, Serialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Reschedule {
    /// Its id.
    #[serde(skip_serializing)]
    pub(super) id: String,
    /// To this time: RFC 3339.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) at: Option<String>,
    /// So long from now.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) after: Option<String>,
    /// So long after its present due time; a negative duration brings it forward.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) extend_by: Option<String>,
}

/// Which timers.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct List {
    /// Only those in this state.
    pub(super) state: Option<String>,
    /// Only those of this agent.
    pub(super) agent: Option<String>,
    /// Only those of this team.
    pub(super) team: Option<String>,
    /// Only those that carry all of these labels.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// At most so many: 1 to 1000.
    pub(super) limit: Option<u32>,
    /// The next_cursor of the page before.
    pub(super) cursor: Option<String>,
}

/// Which timers to cancel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancelMany {
    /// Only those in this state.
    pub(super) state: Option<String>,
    /// Only those of this agent.
    pub(super) agent: Option<String>,
    /// Only those of this team.
    pub(super) team: Option<String>,
    /// Only those that carry all of these labels.
    #[serde(default)]
    pub(super) labels: BTreeMap<String, String>,
    /// Why, for the record.
    pub(super) reason: Option<String>,
    /// The count that the call without it named, where the client cannot ask its user.
    pub(super) confirm: Option<String>,
}

/// Which part of a timer's history.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct History {
    /// Its id.
    pub(super) id: String,
    /// At most so many: 1 to 1000.
    pub(super) limit: Option<u32>,
    /// The next_after of the page before.
    pub(super) after: Option<String>,
}

/// A timer in the words of the server before this one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OldCreate {
    pub(super) name: String,
    /// "30s", "5m", or a number of milliseconds.
    pub(super) duration: Value,
    pub(super) agent_id: Option<String>,
    pub(super) team: Option<String>,
    /// An address to call at the fire.
    pub(super) webhook: Option<String>,
    /// Kept in the metadata.
    pub(super) message: Option<String>,
    pub(super) metadata: Option<Map<String, Value>>,
}

/// Which timers, in the words of the server before this one.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct OldList {
    pub(super) agent_id: Option<String>,
    pub(super) team: Option<String>,
    pub(super) status: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct QuickWait {
    /// "30s", "5m", or a number of milliseconds.
    pub(super) duration: Value,
    pub(super) name: Option<String>,
    pub(super) agent_id: Option<String>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Broadcast {
    pub(super) team: String,
    pub(super) message: String,
    pub(super) data: Option<Map<String, Value>>,
}

#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Coordinate {
    pub(super) session_name: String,
    /// The agents, by name.
    pub(super) agents: Vec<String>,
    /// "sequential" lets them fire one second apart; else all at once.
    pub(super) workflow: Option<String>,
}

/// No arguments.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

/// What is not known or does not apply is null; the field is there all the same.
fn or_null<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    let mut schema = generator.subschema_for::<Option<T>>();
    // A description is given beside it, where it is used.
    schema.remove("description");
    schema
}

/// Where a timer is in its life.
#[derive(JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(dead_code, reason = "its schema is what is used")]
enum StateOut {
    Waiting,
    Scheduled,
    Paused,
    Firing,
    Completed,
    Failed,
    Cancelled,
    Expired,
}

/// A timer as it stands; docs/api/rest.md says more of each field.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "its schema is what is used")]
pub(super) struct TimerOut {
    id: String,
    name: String,
    state: StateOut,
    /// As it was given: after, at, every or cron, with its details.
    schedule: Map<String, Value>,
    /// When it fires next.
    #[schemars(schema_with = "or_null::<String>")]
    due_at: (),
    created_at: String,
    /// When it fired last.
    #[schemars(schema_with = "or_null::<String>")]
    fired_at: (),
    /// How late that was, in nanoseconds.
    #[schemars(schema_with = "or_null::<i64>")]
    lateness_ns: (),
    /// The latest fire, with its due time, its clock and its firing_id.
    #[schemars(schema_with = "or_null::<Map<String, Value>>")]
    last_fire: (),
    /// How often it fired.
    fires: u64,
    completions: u64,
    failures: u64,
    #[schemars(schema_with = "or_null::<String>")]
    ended_at: (),
    #[schemars(schema_with = "or_null::<String>")]
    cancel_reason: (),
    #[schemars(schema_with = "or_null::<String>")]
    pause_reason: (),
    labels: BTreeMap<String, String>,
    /// As it was given.
    metadata: Value,
    /// Grows with each change.
    version: u64,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "its schema is what is used")]
pub(super) struct TimersOut {
    timers: Vec<TimerOut>,
    #[schemars(schema_with = "or_null::<String>")]
    next_cursor: (),
}

/// What became of one occurrence, or of several that were skipped in a row.
#[derive(JsonSchema)]
#[allow(dead_code, reason = "its schema is what is used")]
struct EntryOut {
    nominal_at: String,
    /// fired, skipped or buffered.
    outcome: String,
    firing_id: String,
    #[schemars(schema_with = "or_null::<String>")]
    due_at: (),
    #[schemars(schema_with = "or_null::<String>")]
    fired_at: (),
    #[schemars(schema_with = "or_null::<i64>")]
    lateness_ns: (),
    by_hand: bool,
    /// Why it was skipped.
    #[schemars(schema_with = "or_null::<String>")]
    reason: (),
    count: u64,
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "its schema is what is used")]
pub(super) struct HistoryOut {
    entries: Vec<EntryOut>,
    #[schemars(schema_with = "or_null::<String>")]
    next_after: (),
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "its schema is what is used")]
pub(super) struct CancelManyOut {
    /// How many the filter finds; with needs_confirmation nothing has changed.
    matches: u64,
    cancelled: u64,
    needs_confirmation: bool,
    /// Why cancelled is another number than matches.
    #[schemars(schema_with = "or_null::<String>")]
    note: (),
    /// What to do next.
    #[schemars(schema_with = "or_null::<String>")]
    next: (),
}

#[derive(JsonSchema)]
#[allow(dead_code, reason = "its schema is what is used")]
pub(super) struct HealthOut {
    status: String,
    version: String,
    clock: Map<String, Value>,
}

/// Why a timer fired when it did, or did not.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Explanation {
    pub(super) id: String,
    pub(super) state: String,
    pub(super) verdict: Verdict,
    /// What led to it, the first one first.
    pub(super) causes: Vec<Cause>,
    /// All of it in a sentence.
    pub(super) sentence: String,
}

/// What became of a timer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub(super) enum Verdict {
    /// It waits for its due time.
    NotDue,
    /// It waits for other timers.
    WaitsForOthers,
    /// Nothing fires until it is resumed.
    Paused,
    /// It was cancelled before it fired again.
    Cancelled,
    /// Its due time has passed, and it has not fired.
    Overdue,
    /// Its last fire came when it was due.
    OnTime,
    /// Its last fire came late.
    Late,
    /// It ended, or stands, without a fire: its policies skipped what was due.
    Skipped,
    /// An action of its last fire failed.
    Failed,
}

/// One cause.
#[derive(Debug, Serialize, JsonSchema)]
pub(super) struct Cause {
    /// A stable word.
    pub(super) code: String,
    pub(super) text: String,
    /// The fields of the timer, its history or the clock that say so.
    pub(super) evidence: Map<String, Value>,
}
