//! What has happened: the events whose log is the truth.

use crate::clock::ClockSource;
use crate::definition::TimerDefinition;
use crate::id::{FiringId, TenantId, TimerId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Something that happened to a timer. Times are Unix nanoseconds on corrected time.
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
    },
    /// It was cancelled before it fired.
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
        /// Fired minus nominal, nanoseconds.
        lateness_ns: i64,
        /// Half the width of the clock's bound at the fire; `None` where the clock had none.
        max_error_ns: Option<i64>,
    },
    /// All its actions succeeded.
    Completed {
        /// Which fire.
        firing: FiringId,
        /// One for each action, in order.
        results: Vec<ActionResult>,
    },
    /// At least one action failed for good.
    Failed {
        /// Which fire.
        firing: FiringId,
        /// One for each action that was tried, in order.
        results: Vec<ActionResult>,
    },
}

impl Event {
    /// The timer it happened to.
    pub const fn timer(&self) -> TimerId {
        match self {
            Self::Scheduled { timer, .. } | Self::Cancelled { timer, .. } => *timer,
            Self::Firing { firing, .. } | Self::Completed { firing, .. } | Self::Failed { firing, .. } => {
                firing.timer
            }
        }
    }

    /// Its name in the API and on the stream.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Scheduled { .. } => "timer.scheduled",
            Self::Cancelled { .. } => "timer.cancelled",
            Self::Firing { .. } => "timer.fired",
            Self::Completed { .. } => "timer.completed",
            Self::Failed { .. } => "timer.failed",
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
