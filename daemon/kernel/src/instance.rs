//! A timer as it stands now: the fold of its events.

use crate::clock::ClockSource;
use crate::definition::TimerDefinition;
use crate::event::ActionResult;
use crate::id::TimerId;
use std::sync::Arc;

/// Where a timer is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum TimerState {
    /// Waiting for its time.
    Scheduled,
    /// Fired; its actions are being carried out.
    Firing,
    /// Fired, and every action succeeded.
    Completed,
    /// Fired, and an action failed for good.
    Failed,
    /// Cancelled before it fired.
    Cancelled,
}

impl TimerState {
    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Firing => "firing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// True when nothing more will happen to the timer.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

/// A timer: its definition and what has become of it. Times are Unix nanoseconds on corrected time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimerInstance {
    /// Its name for ever.
    pub id: TimerId,
    /// What was asked.
    pub definition: Arc<TimerDefinition>,
    /// Where it is in its life.
    pub state: TimerState,
    /// When it was created.
    pub created_ns: i64,
    /// Which clock said so.
    pub created_clock: ClockSource,
    /// When it is, or was, to fire.
    pub due_ns: i64,
    /// When it fired.
    pub fired_ns: Option<i64>,
    /// Which clock said so.
    pub fired_clock: Option<ClockSource>,
    /// Half the width of that clock's bound at the fire; `None` where it had none.
    pub fired_max_error_ns: Option<i64>,
    /// Fired minus due.
    pub lateness_ns: Option<i64>,
    /// When it completed, failed or was cancelled.
    pub ended_ns: Option<i64>,
    /// Why it was cancelled.
    pub cancel_reason: Option<String>,
    /// How its actions ended.
    pub results: Vec<ActionResult>,
    /// Counts its events: a compare-and-set handle for clients.
    pub version: u64,
}
