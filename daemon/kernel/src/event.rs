//! What has happened: the events whose log is the truth.

use crate::clock::ClockSource;
use crate::definition::TimerDefinition;
use crate::id::{FiringId, TenantId, TimerId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// One time at which a timer is to fire. Unix nanoseconds on corrected time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct Occurrence {
    /// The time that its schedule names: with the timer it is the firing id.
    pub nominal_ns: i64,
    /// When it is to fire: the nominal time and the jitter, or what it was rescheduled to.
    pub due_ns: i64,
}

/// Why an occurrence did not fire.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SkipReason {
    /// It was missed, and the misfire policy says that it does not fire late.
    Misfire,
    /// It was missed, and a later one fires for it.
    Coalesced,
    /// It could not fire before it expired.
    Expired,
    /// An earlier fire was still under way.
    Overlap,
    /// Another occurrence was already waiting for the earlier fire to end.
    BufferFull,
    /// The timer was paused.
    Paused,
    /// The timer was cancelled while the occurrence waited for an earlier fire to end.
    Cancelled,
}

impl SkipReason {
    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Misfire => "misfire",
            Self::Coalesced => "coalesced",
            Self::Expired => "expired",
            Self::Overlap => "overlap",
            Self::BufferFull => "buffer_full",
            Self::Paused => "paused",
            Self::Cancelled => "cancelled",
        }
    }
}

/// What has been seen of a timer that others wait for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Default, Serialize, Deserialize)]
pub struct UpstreamSeen {
    /// It has fired.
    pub fired: bool,
    /// A fire of it has ended well.
    pub completed: bool,
    /// A fire of it has failed.
    pub failed: bool,
    /// Nothing more will happen to it.
    pub ended: bool,
}

fn is_false(value: &bool) -> bool {
    !value
}

fn is_one(value: &u64) -> bool {
    *value == 1
}

const fn one() -> u64 {
    1
}

/// Something that happened to a timer. Times are Unix nanoseconds on corrected time. `next` is the occurrence that the
/// timer waits for from then on; a timer with none, and no fire under way, has ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// It was created.
    Scheduled {
        /// The new timer.
        timer: TimerId,
        /// What was asked.
        definition: Arc<TimerDefinition>,
        /// When it will fire.
        due_ns: i64,
        /// The nominal time of that, where it is another.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nominal_ns: Option<i64>,
    },
    /// It was created, and waits for other timers.
    Held {
        /// The new timer.
        timer: TimerId,
        /// What was asked.
        definition: Arc<TimerDefinition>,
    },
    /// A timer that it waits for did what counts, or can no longer do it.
    Resolved {
        /// Which timer.
        timer: TimerId,
        /// The one it waits for.
        upstream: TimerId,
        /// Whether that one counts.
        counts: bool,
        /// Set when it has waited enough.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Occurrence>,
    },
    /// Its next occurrence was moved.
    Rescheduled {
        /// Which timer.
        timer: TimerId,
        /// What it waits for now.
        next: Occurrence,
    },
    /// It does not fire until it is resumed.
    Paused {
        /// Which timer.
        timer: TimerId,
        /// Why, in the words of who asked.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// It goes on.
    Resumed {
        /// Which timer.
        timer: TimerId,
    },
    /// It was cancelled: nothing more of it will fire. Fires under way go on.
    Cancelled {
        /// Which timer.
        timer: TimerId,
        /// Why, in the words of who asked.
        reason: Option<String>,
    },
    /// It fired: its actions are to be carried out. The dedupe key is the firing id.
    Firing {
        /// The timer and its nominal time.
        firing: FiringId,
        /// Fired minus due, nanoseconds; negative where it was fired by hand ahead of its time.
        lateness_ns: i64,
        /// Half the width of the clock's bound at the fire; `None` where the clock had none.
        max_error_ns: Option<i64>,
        /// When it was due, where that is not the nominal time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        due_ns: Option<i64>,
        /// When the timer came into the timing queue for it.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        armed_ns: Option<i64>,
        /// It was fired by hand, beside its schedule.
        #[serde(default, skip_serializing_if = "is_false")]
        is_extra: bool,
        /// The nominal times of earlier fires that are given up for this one.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        supersedes: Vec<i64>,
        /// What it waits for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Occurrence>,
    },
    /// An occurrence waits until an earlier fire has ended.
    Buffered {
        /// Which timer.
        timer: TimerId,
        /// The occurrence.
        occurrence: Occurrence,
        /// What it waits for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Occurrence>,
    },
    /// An occurrence, or several in a row, did not fire and will not.
    Skipped {
        /// Which timer.
        timer: TimerId,
        /// The nominal time of the first one.
        nominal_ns: i64,
        /// The nominal time of the last one, where there are several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last_nominal_ns: Option<i64>,
        /// How many there are.
        #[serde(default = "one", skip_serializing_if = "is_one")]
        count: u64,
        /// Why.
        reason: SkipReason,
        /// What it waits for now.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Occurrence>,
    },
    /// All actions of a fire succeeded.
    Completed {
        /// Which fire.
        firing: FiringId,
        /// One for each action, in order.
        results: Vec<ActionResult>,
        /// What it waits for now, where that depends on the end of the fire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Occurrence>,
    },
    /// At least one action of a fire failed for good.
    Failed {
        /// Which fire.
        firing: FiringId,
        /// One for each action that was tried, in order.
        results: Vec<ActionResult>,
        /// What it waits for now, where that depends on the end of the fire.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        next: Option<Occurrence>,
    },
    /// Whoever was woken said so.
    Acknowledged {
        /// Which fire.
        firing: FiringId,
        /// Who.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        by: Option<String>,
        /// In their words.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        note: Option<String>,
    },
}

impl Event {
    /// The timer it happened to.
    pub const fn timer(&self) -> TimerId {
        match self {
            Self::Scheduled { timer, .. }
            | Self::Held { timer, .. }
            | Self::Resolved { timer, .. }
            | Self::Rescheduled { timer, .. }
            | Self::Paused { timer, .. }
            | Self::Resumed { timer }
            | Self::Cancelled { timer, .. }
            | Self::Buffered { timer, .. }
            | Self::Skipped { timer, .. } => *timer,
            Self::Firing { firing, .. }
            | Self::Completed { firing, .. }
            | Self::Failed { firing, .. }
            | Self::Acknowledged { firing, .. } => firing.timer,
        }
    }

    /// Its name in the API and on the stream.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } => "timer.scheduled",
            Self::Held { .. } => "timer.held",
            Self::Resolved { .. } => "timer.resolved",
            Self::Rescheduled { .. } => "timer.rescheduled",
            Self::Paused { .. } => "timer.paused",
            Self::Resumed { .. } => "timer.resumed",
            Self::Cancelled { .. } => "timer.cancelled",
            Self::Firing { .. } => "timer.fired",
            Self::Buffered { .. } => "timer.buffered",
            Self::Skipped { .. } => "timer.skipped",
            Self::Completed { .. } => "timer.completed",
            Self::Failed { .. } => "timer.failed",
            Self::Acknowledged { .. } => "timer.acknowledged",
        }
    }
}

/// How one action of a fire ended.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActionResult {
    /// The action's id in the definition.
    pub action: String,
    /// Whether it succeeded.
    pub ok: bool,
    /// How many times it was tried.
    pub attempts: u32,
    /// What it answered, or the error of the last attempt; short.
    pub detail: String,
}

/// An event with its place in the log.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct EventRecord {
    /// Its number in its partition: 1, 2, 3, ...
    pub sequence: u64,
    /// Who owns the timer.
    pub tenant: TenantId,
    /// When it happened, Unix nanoseconds on corrected time.
    pub at_ns: i64,
    /// Which clock said so.
    pub clock: ClockSource,
    /// What happened.
    pub event: Event,
}
