//! What the service tells of timers, their history and their events.

use super::TimersError;
use super::times::{self, from_wire, span_ns};
use crate::Timestamp;
use minoots_proto::v2;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$row:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[non_exhaustive]
        pub enum $name {
            $($(#[$row])* #[serde(rename = $word)] $variant,)*
        }
        impl $name {
            /// Every one of them.
            pub const ALL: &[Self] = &[$(Self::$variant),*];
            /// Its word in the API.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }
        impl std::str::FromStr for $name {
            type Err = String;
            fn from_str(word: &str) -> Result<Self, String> {
                match word {
                    $($word => Ok(Self::$variant),)*
                    _ => Err(format!("{word:?} is not known: use {}", [$($word),*].join(", "))),
                }
            }
        }
    };
}

words! {
    /// Where a timer is in its life.
    State {
        /// Waiting for its time.
        Scheduled = "scheduled",
        /// Its actions are being carried out, and it waits for no time.
        Firing = "firing",
        /// Ended well.
        Completed = "completed",
        /// Ended: an action of its last fire failed for good.
        Failed = "failed",
        /// Cancelled.
        Cancelled = "cancelled",
        /// Waiting for other timers.
        Waiting = "waiting",
        /// Not waiting until it is resumed.
        Paused = "paused",
        /// Ended without a fire.
        Expired = "expired",
        /// A state that this client does not know.
        Unknown = "unknown",
    }
}

impl State {
    /// Nothing more comes of it.
    pub fn is_end(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }

    pub(super) fn to_wire(self) -> v2::TimerState {
        use v2::TimerState as W;
        match self {
            Self::Scheduled => W::Scheduled,
            Self::Firing => W::Firing,
            Self::Completed => W::Completed,
            Self::Failed => W::Failed,
            Self::Cancelled => W::Cancelled,
            Self::Waiting => W::Waiting,
            Self::Paused => W::Paused,
            Self::Expired => W::Expired,
            Self::Unknown => W::Unspecified,
        }
    }

    fn from_wire(state: i32) -> Self {
        let known = Self::ALL.iter().find(|s| **s != Self::Unknown && s.to_wire() as i32 == state);
        known.copied().unwrap_or(Self::Unknown)
    }
}

/// When a timer fires, as it was asked for.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Schedule {
    /// So many nanoseconds after it was created.
    AfterNs(u64),
    /// At a moment.
    #[serde(serialize_with = "times::serialize")]
    At(Timestamp),
    /// Again and again, so many nanoseconds apart.
    EveryNs(u64),
    /// By a rule in a time zone.
    Cron {
        /// The rule.
        expression: String,
        /// The zone; empty for UTC.
        zone: String,
    },
}

/// The latest fire of a timer.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Fire {
    /// Its name for ever.
    pub firing_id: String,
    /// When it fired.
    #[serde(serialize_with = "times::serialize_option")]
    pub fired_at: Option<Timestamp>,
    /// When it was to fire.
    #[serde(serialize_with = "times::serialize_option")]
    pub due_at: Option<Timestamp>,
    /// Fired minus due.
    pub lateness_ns: i64,
    /// Half the width of the clock's bound, where it had one.
    pub max_error_ns: Option<i64>,
    /// When its actions had ended.
    #[serde(serialize_with = "times::serialize_option")]
    pub delivered_at: Option<Timestamp>,
    /// When it was acknowledged.
    #[serde(serialize_with = "times::serialize_option")]
    pub acknowledged_at: Option<Timestamp>,
}

/// How one action of a fire ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ActionResult {
    /// The action's id.
    pub action: String,
    /// It succeeded.
    pub ok: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// What it answered, or the last error.
    pub detail: String,
}

/// A timer as it stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TimerInfo {
    /// Its name for ever.
    pub id: String,
    /// Its name for people.
    pub name: String,
    /// Where it is in its life.
    pub state: State,
    /// When it fires, as it was asked for.
    pub schedule: Option<Schedule>,
    /// Labels; a tag is one with an empty value.
    pub labels: BTreeMap<String, String>,
    /// The user's JSON.
    pub metadata: Option<Value>,
    /// When it was created.
    #[serde(serialize_with = "times::serialize_option")]
    pub created_at: Option<Timestamp>,
    /// When it is, or was, to fire.
    #[serde(serialize_with = "times::serialize_option")]
    pub due_at: Option<Timestamp>,
    /// When it ended.
    #[serde(serialize_with = "times::serialize_option")]
    pub ended_at: Option<Timestamp>,
    /// How many fires there were.
    pub fires: u64,
    /// How many of them failed.
    pub failures: u64,
    /// The latest fire.
    pub last_fire: Option<Fire>,
    /// How its actions ended at the last fire.
    pub results: Vec<ActionResult>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// Why it is paused.
    pub pause_reason: Option<String>,
    /// Who asked for it.
    pub created_by: Option<String>,
    /// Counts its events; for compare-and-set.
    pub version: u64,
}

fn time(t: Option<prost_types::Timestamp>) -> Option<Timestamp> {
    t.map(from_wire)
}

fn schedule(s: v2::timer_definition::Schedule) -> Schedule {
    use v2::timer_definition::Schedule as W;
    let ns = |d: prost_types::Duration| u64::try_from(span_ns(d)).unwrap_or(0);
    match s {
        W::After(d) => Schedule::AfterNs(ns(d)),
        W::At(t) => Schedule::At(from_wire(t)),
        W::Interval(i) => Schedule::EveryNs(i.every.map_or(0, ns)),
        W::Cron(c) => Schedule::Cron { expression: c.expression, zone: c.zone },
    }
}

impl TimerInfo {
    pub(super) fn from_wire(timer: Option<v2::Timer>) -> Result<Self, TimersError> {
        let t = timer.ok_or_else(|| TimersError::missing("timer"))?;
        let d = t.definition.ok_or_else(|| TimersError::missing("definition"))?;
        let metadata = d.metadata_json.map(|text| serde_json::from_str(&text)).transpose();
        Ok(Self {
            id: t.id,
            name: d.name,
            state: State::from_wire(t.state),
            schedule: d.schedule.map(schedule),
            labels: d.labels.into_iter().collect(),
            metadata: metadata.map_err(|e| TimersError::Answer(format!("metadata: {e}")))?,
            created_at: time(t.created_at),
            due_at: time(t.due_at),
            ended_at: time(t.ended_at),
            fires: t.fires,
            failures: t.failures,
            last_fire: t.last_fire.map(|f| Fire {
                firing_id: f.firing_id,
                fired_at: time(f.fired_at),
                due_at: time(f.due_at),
                lateness_ns: f.lateness_ns,
                max_error_ns: f.max_error_ns,
                delivered_at: time(f.delivered_at),
                acknowledged_at: time(f.acknowledged_at),
            }),
            results: results(t.results),
            cancel_reason: t.cancel_reason,
            pause_reason: t.pause_reason,
            created_by: t.created_by,
            version: t.version,
        })
    }
}

fn results(results: Vec<v2::ActionResult>) -> Vec<ActionResult> {
    let one = |r: v2::ActionResult| ActionResult {
        action: r.action,
        ok: r.ok,
        attempts: r.attempts,
        detail: r.detail,
    };
    results.into_iter().map(one).collect()
}

/// What became of an occurrence, or of several in a row that did not fire.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct HistoryEntry {
    /// The time that the schedule named.
    #[serde(serialize_with = "times::serialize_option")]
    pub nominal_at: Option<Timestamp>,
    /// What the fire is, or would have been, called.
    pub firing_id: String,
    /// What became of it.
    pub outcome: HistoryOutcome,
    /// When its actions had ended.
    #[serde(serialize_with = "times::serialize_option")]
    pub delivered_at: Option<Timestamp>,
    /// How they ended: `completed`, `failed` or `superseded`.
    pub end: Option<String>,
}

/// What became of an occurrence.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
#[non_exhaustive]
pub enum HistoryOutcome {
    /// It fired.
    Fired {
        /// When.
        #[serde(serialize_with = "times::serialize_option")]
        fired_at: Option<Timestamp>,
        /// Fired minus due.
        lateness_ns: i64,
        /// Half the width of the clock's bound, where it had one.
        max_error_ns: Option<i64>,
        /// Somebody fired it, beside its schedule.
        by_hand: bool,
    },
    /// It did not fire and will not.
    Skipped {
        /// How many in a row.
        count: u64,
        /// Why, in a word.
        reason: String,
    },
    /// It waits until an earlier fire has ended.
    Buffered,
}

/// The word of an enum of the wire, without the prefix that its values share.
fn short(word: &str, prefix: &str) -> String {
    word.strip_prefix(prefix).unwrap_or(word).to_lowercase()
}

impl HistoryEntry {
    pub(super) fn from_wire(e: v2::HistoryEntry) -> Result<Self, TimersError> {
        use v2::history_entry::Outcome as W;
        let end = match e.end() {
            v2::DeliveryEnd::Unspecified => None,
            end => Some(short(end.as_str_name(), "DELIVERY_END_")),
        };
        let outcome = match e.outcome.ok_or_else(|| TimersError::missing("outcome"))? {
            W::Fired(f) => HistoryOutcome::Fired {
                fired_at: time(f.fired_at),
                lateness_ns: f.lateness_ns,
                max_error_ns: f.max_error_ns,
                by_hand: f.by_hand,
            },
            W::Skipped(s) => HistoryOutcome::Skipped {
                count: s.count,
                reason: short(s.reason().as_str_name(), "SKIP_REASON_"),
            },
            W::Buffered(_) => HistoryOutcome::Buffered,
        };
        Ok(Self {
            nominal_at: time(e.nominal_at),
            firing_id: e.firing_id,
            outcome,
            delivered_at: time(e.delivered_at),
            end,
        })
    }
}

/// Something that happened to a timer.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct TimerEvent {
    /// What: `timer.fired` and so on, as docs/api/rest.md lists them.
    pub kind: String,
    /// To which timer.
    pub timer_id: String,
    /// When, on corrected time.
    #[serde(serialize_with = "times::serialize_option")]
    pub at: Option<Timestamp>,
    /// Its number in the log of its partition.
    pub sequence: u64,
    /// The partition.
    pub partition: u32,
    /// The place after it, to go on from.
    pub cursor: String,
    /// How many events there were after it, when it was sent.
    pub behind: u64,
    /// For a fire, its end and its acknowledgement: which one.
    pub firing_id: Option<String>,
    /// For a fire: fired minus due.
    pub lateness_ns: Option<i64>,
    /// For a fire: half the width of the clock's bound, where it had one.
    pub max_error_ns: Option<i64>,
    /// Where it says so: when the timer is to fire.
    #[serde(serialize_with = "times::serialize_option")]
    pub due_at: Option<Timestamp>,
    /// For a cancellation and a pause: why.
    pub reason: Option<String>,
    /// For the end of a fire: how its actions ended.
    pub results: Vec<ActionResult>,
}

impl TimerEvent {
    pub(super) fn from_wire(e: v2::Event) -> Result<Self, TimersError> {
        use v2::event::Kind as K;
        let mut event = Self {
            kind: String::new(),
            timer_id: e.timer_id,
            at: time(e.at),
            sequence: e.sequence,
            partition: e.partition,
            cursor: e.cursor,
            behind: e.behind,
            firing_id: None,
            lateness_ns: None,
            max_error_ns: None,
            due_at: None,
            reason: None,
            results: Vec::new(),
        };
        let next_due = |next: Option<v2::Occurrence>| next.and_then(|o| time(o.due_at));
        let kind = match e.kind.ok_or_else(|| TimersError::missing("kind"))? {
            K::Scheduled(s) => {
                event.due_at = time(s.due_at);
                "timer.scheduled"
            }
            K::Cancelled(c) => {
                event.reason = c.reason;
                "timer.cancelled"
            }
            K::Fired(f) => {
                event.firing_id = Some(f.firing_id);
                event.lateness_ns = Some(f.lateness_ns);
                event.max_error_ns = f.max_error_ns;
                event.due_at = time(f.due_at);
                "timer.fired"
            }
            K::Completed(end) => {
                event.firing_id = Some(end.firing_id);
                event.results = results(end.results);
                "timer.completed"
            }
            K::Failed(end) => {
                event.firing_id = Some(end.firing_id);
                event.results = results(end.results);
                "timer.failed"
            }
            K::Held(_) => "timer.held",
            K::Resolved(r) => {
                event.due_at = next_due(r.next);
                "timer.resolved"
            }
            K::Rescheduled(r) => {
                event.due_at = next_due(r.next);
                "timer.rescheduled"
            }
            K::Paused(p) => {
                event.reason = p.reason;
                "timer.paused"
            }
            K::Resumed(_) => "timer.resumed",
            K::Buffered(_) => "timer.buffered",
            K::Skipped(s) => {
                event.reason = Some(short(s.reason().as_str_name(), "SKIP_REASON_"));
                "timer.skipped"
            }
            K::Acknowledged(a) => {
                event.firing_id = Some(a.firing_id);
                "timer.acknowledged"
            }
        };
        event.kind = kind.to_string();
        Ok(event)
    }
}
