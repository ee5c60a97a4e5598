//! What the user asked for: the immutable definition of a timer.
//!
//! Every field that came after version 1 of the event log is left out of the log where it has its default, and has that
//! default where it is missing, so that old logs read as they were meant.

use crate::id::{TenantId, TimerId};
use crate::recurrence::{Bounds, CronSpec, IntervalSpec};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest timer name, in bytes.
pub const NAME_MAX_BYTES: usize = 256;
/// The most labels a timer may carry.
pub const LABELS_MAX: usize = 64;
/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 256;

/// The longest label key or label value, in bytes.
pub const LABEL_MAX_BYTES: usize = 256;
/// The most actions a timer may have.
pub const ACTIONS_MAX: usize = 64;
/// The largest definition: the sum of its texts, in bytes.
pub const DEFINITION_MAX_BYTES: usize = 1 << 20;
/// The longest reason of a cancellation, in bytes.
pub const REASON_MAX_BYTES: usize = 1024;
/// The longest detail of an action's result that is kept, in bytes; the rest is cut off.
pub const DETAIL_MAX_BYTES: usize = 4096;

/// The most timers that one timer may wait for.
pub const UPSTREAMS_MAX: usize = 64;
/// The most missed occurrences that a catch-up may fire.
pub const CATCH_UP_MAX: u64 = 1000;
/// An occurrence that is later than this has been missed, unless the timer says otherwise.
pub const GRACE_DEFAULT_NS: i64 = 1_000_000_000;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// The immutable part of a timer.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct TimerDefinition {
    /// Who owns it.
    pub tenant: TenantId,
    /// A name for people; need not be unique.
    pub name: String,
    /// When it fires.
    pub schedule: ScheduleSpec,
    /// What it does, in order.
    #[serde(default)]
    pub actions: Vec<ActionSpec>,
    /// Short strings to find it by; a tag is a label with an empty value.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Anything the user wants back, as JSON text; the edge has checked that it parses.
    #[serde(default)]
    pub metadata_json: Option<String>,
    /// A repeated create with this key and the same definition answers with the timer of the first.
    #[serde(default)]
    pub idempotency_key: Option<String>,
    /// Between when, and how often, a recurring timer fires.
    #[serde(default, skip_serializing_if = "is_default")]
    pub bounds: Bounds,
    /// Each occurrence is due up to this much after its nominal time: how much is fixed by the timer's id and that time.
    #[serde(default, skip_serializing_if = "is_default")]
    pub jitter_ns: i64,
    /// What becomes of occurrences that were missed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub misfire: Option<MisfirePolicy>,
    /// How late an occurrence may be before it counts as missed; [`GRACE_DEFAULT_NS`] where it is not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grace_ns: Option<i64>,
    /// What becomes of an occurrence that is due while an earlier fire is under way.
    #[serde(default, skip_serializing_if = "is_default")]
    pub overlap: OverlapPolicy,
    /// Of timers that are due at the same instant, those with more fire first.
    #[serde(default, skip_serializing_if = "is_default")]
    pub priority: i8,
    /// An occurrence that has not fired this long after it was due is skipped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expire_after_ns: Option<i64>,
    /// The schedule starts only when other timers have fired or ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_after: Option<StartAfter>,
    /// Who asked for it: the principal as the edge knew it. Not a part of what is compared for a repeated create.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created_by: Option<String>,
    /// The schema that its metadata was checked against, as `name@version`; the edge has checked it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub payload_schema: Option<String>,
    /// Which agent receives its commands, as JSON text that the edge has checked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent_binding_json: Option<String>,
    /// What an older interface was given and has no field here, as JSON text, so that it can answer in its own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origin_json: Option<String>,
}

impl TimerDefinition {
    /// What becomes of missed occurrences: what was asked, else a one-shot fires late and a recurring timer fires once
    /// for all it has missed.
    pub fn misfire_policy(&self) -> MisfirePolicy {
        self.misfire.unwrap_or(if self.schedule.is_recurring() {
            MisfirePolicy::FireOnce
        } else {
            MisfirePolicy::FireNow
        })
    }

    /// Whether both ask for the same thing, whoever asks.
    pub fn asks_the_same(&self, other: &Self) -> bool {
        self.created_by == other.created_by && self == other
            || Self { created_by: other.created_by.clone(), ..self.clone() } == *other
    }

    /// The sum of its texts, in bytes.
    pub fn text_bytes(&self) -> usize {
        let labels = self.labels.iter().map(|(k, v)| k.len() + v.len()).sum::<usize>();
        let actions =
            self.actions.iter().map(|a| a.id.len() + a.kind.len() + a.parameters_json.len()).sum::<usize>();
        let optional = [
            &self.metadata_json,
            &self.idempotency_key,
            &self.created_by,
            &self.payload_schema,
            &self.agent_binding_json,
            &self.origin_json,
        ];
        let optional = optional.into_iter().flatten().map(String::len).sum::<usize>();
        self.tenant.as_str().len() + self.name.len() + labels + actions + optional
    }

    /// How late an occurrence may be before it counts as missed.
    pub fn grace_ns(&self) -> i64 {
        self.grace_ns.unwrap_or(GRACE_DEFAULT_NS)
    }
}

/// A schedule as it is stored. Nanoseconds, so that it reads back exactly.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleSpec {
    /// Once, this many nanoseconds after creation (or after the timers it waits for).
    AfterNs(i64),
    /// Once, at this many nanoseconds since the Unix epoch, corrected time.
    AtNs(i64),
    /// Again and again at a distance.
    Interval(IntervalSpec),
    /// By a calendar rule in a time zone.
    Cron(CronSpec),
}

impl Default for ScheduleSpec {
    fn default() -> Self {
        Self::AfterNs(0)
    }
}

impl ScheduleSpec {
    /// True for a schedule with more than one occurrence.
    pub const fn is_recurring(&self) -> bool {
        matches!(self, Self::Interval(_) | Self::Cron(_))
    }
}

/// What becomes of occurrences that were missed: the service was down, the timer was late by more than its grace.
/// Whatever it is, every occurrence ends in the ledger.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MisfirePolicy {
    /// Each of them fires, late, in order.
    FireNow,
    /// None of them fires.
    Skip,
    /// The last of them fires for all; the others are skipped.
    FireOnce,
    /// The last `max` of those within `within_ns` fire, in order; the others are skipped.
    CatchUp {
        /// At most so many, 1 to [`CATCH_UP_MAX`].
        max: u64,
        /// Not older than this.
        within_ns: i64,
    },
}

/// What becomes of an occurrence that is due while an earlier fire of the same timer is under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OverlapPolicy {
    /// It fires all the same.
    #[default]
    Allow,
    /// It is skipped.
    Skip,
    /// One waits until the earlier fire has ended; more are skipped.
    BufferOne,
    /// It fires, and the earlier fire is given up.
    CancelPrevious,
}

/// Which timers a timer waits for before its schedule starts.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct StartAfter {
    /// The timers, each once.
    pub upstreams: Vec<Upstream>,
    /// How many of them it takes.
    #[serde(default)]
    pub need: Need,
}

/// A timer that another one waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Upstream {
    /// Which one; of the same tenant.
    pub timer: TimerId,
    /// What it has to do.
    pub on: UpstreamOn,
}

/// What an upstream has to do for a timer that waits for it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UpstreamOn {
    /// It has fired.
    Fired,
    /// A fire of it has ended well.
    Completed,
    /// A fire of it has failed.
    Failed,
    /// It has ended, in whatever way.
    Ended,
}

/// How many upstreams it takes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Need {
    /// Every one.
    #[default]
    All,
    /// The first one.
    Any,
    /// So many.
    AtLeast(u32),
}

impl StartAfter {
    /// How many upstreams it takes, as a number.
    pub fn needed(&self) -> usize {
        match self.need {
            Need::All => self.upstreams.len(),
            Need::Any => 1,
            Need::AtLeast(n) => n as usize,
        }
    }
}

/// One thing to do when the timer fires.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActionSpec {
    /// Unique within the timer.
    pub id: String,
    /// Which connector carries it out: `webhook`.
    pub kind: String,
    /// The connector's parameters as JSON text; the edge has checked them with the connector.
    pub parameters_json: String,
}
