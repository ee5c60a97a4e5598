//! What can be asked of the kernel, and why it may be refused.

use crate::definition::{REASON_MAX_BYTES, TimerDefinition};
use crate::event::{ActionResult, UpstreamSeen};
use crate::id::{FiringId, TenantId, TimerId};
use crate::instance::{TimerInstance, TimerState};
use crate::recurrence::RecurrenceError;
use crate::validate;
use crate::view::ColdError;
use chronotick_core::schedule::ScheduleError;
use core::fmt;
use std::sync::Arc;

/// A request to change something.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Command {
    /// Make a timer. The caller chose the id.
    Create {
        /// A new id, never used before.
        id: TimerId,
        /// What is asked.
        definition: Arc<TimerDefinition>,
    },
    /// Change a timer that is there.
    Change {
        /// Who asks.
        tenant: TenantId,
        /// Which timer.
        id: TimerId,
        /// Only if the timer still has this version.
        expected_version: Option<u64>,
        /// What to change.
        change: Change,
    },
    /// Say that whoever a fire woke has answered.
    Acknowledge {
        /// Who owns the timer.
        tenant: TenantId,
        /// Which fire.
        firing: FiringId,
        /// Who answered.
        by: Option<String>,
        /// In their words.
        note: Option<String>,
    },
    /// The actions of a fire have ended.
    Finish {
        /// Who owns the timer.
        tenant: TenantId,
        /// Which fire.
        firing: FiringId,
        /// One for each action tried.
        results: Vec<ActionResult>,
    },
    /// Something was seen of a timer that this one waits for.
    Resolve {
        /// Who owns both.
        tenant: TenantId,
        /// The one that waits.
        id: TimerId,
        /// The one it waits for.
        upstream: TimerId,
        /// What that one has done.
        seen: UpstreamSeen,
    },
}

/// A change to one timer.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Change {
    /// Nothing more of it fires.
    Cancel {
        /// Why.
        reason: Option<String>,
    },
    /// Its next occurrence is moved.
    Reschedule(NewDue),
    /// It does not fire until it is resumed.
    Pause {
        /// Why.
        reason: Option<String>,
    },
    /// It goes on.
    Resume,
    /// It fires now: a one-shot ahead of its time, a recurring timer once more.
    FireNow,
}

impl Change {
    /// The verb, for messages.
    pub const fn verb(&self) -> &'static str {
        match self {
            Self::Cancel { .. } => "cancelled",
            Self::Reschedule(_) => "rescheduled",
            Self::Pause { .. } => "paused",
            Self::Resume => "resumed",
            Self::FireNow => "fired by hand",
        }
    }

    /// Whether it keeps the limits that hold for any timer.
    pub fn check(&self) -> Result<(), CommandError> {
        match self {
            Self::Cancel { reason: Some(reason) } | Self::Pause { reason: Some(reason) } => {
                validate::check_length("the reason", reason, 0, REASON_MAX_BYTES)
            }
            _ => Ok(()),
        }
    }
}

/// Where an occurrence is moved to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NewDue {
    /// To this moment of corrected time, Unix nanoseconds.
    AtNs(i64),
    /// So many nanoseconds from now.
    AfterNs(i64),
    /// So many nanoseconds after its present due time; a negative number brings it forward.
    LaterByNs(i64),
}

/// What a command did. Its events are staged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Outcome {
    /// The timer as it stands after it.
    pub timer: Arc<TimerInstance>,
    /// True when there was nothing to do, because it had been done before.
    pub replayed: bool,
}

/// Why a command was refused. Nothing has changed then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The schedule cannot be used.
    Schedule(ScheduleError),
    /// The recurrence cannot be used.
    Recurrence(RecurrenceError),
    /// A field of the definition breaks a limit; the text says which and what to do.
    Invalid(String),
    /// No such timer for this tenant.
    NotFound(TimerId),
    /// No such fire of this timer.
    NoSuchFire(FiringId),
    /// The timer is not in a state in which this can be done.
    WrongState {
        /// Which timer.
        id: TimerId,
        /// Where it is.
        state: TimerState,
        /// What was asked, as a participle.
        verb: &'static str,
    },
    /// The timer has changed since the caller looked at it.
    VersionConflict {
        /// Which timer.
        id: TimerId,
        /// Its version now.
        version: u64,
    },
    /// The idempotency key was used before, with another definition.
    IdempotencyConflict {
        /// The timer that the key made.
        id: TimerId,
    },
    /// The id was used before.
    DuplicateId(TimerId),
    /// The index beside the log cannot be read.
    Cold(ColdError),
}

impl From<ColdError> for CommandError {
    fn from(error: ColdError) -> Self {
        Self::Cold(error)
    }
}

impl From<RecurrenceError> for CommandError {
    fn from(error: RecurrenceError) -> Self {
        Self::Recurrence(error)
    }
}

impl From<ScheduleError> for CommandError {
    fn from(error: ScheduleError) -> Self {
        Self::Schedule(error)
    }
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule(e) => e.fmt(f),
            Self::Recurrence(e) => e.fmt(f),
            Self::Invalid(what) => f.write_str(what),
            Self::NotFound(id) => write!(f, "no timer {id}: GET /v1/timers lists the ones there are"),
            Self::NoSuchFire(firing) => {
                write!(
                    f,
                    "timer {} has no fire {firing}: its history lists the ones there were",
                    firing.timer
                )
            }
            Self::WrongState { id, state, verb } => {
                let state = state.as_str();
                write!(
                    f,
                    "timer {id} is {state}, so it cannot be {verb}: read it again to see what can be done"
                )
            }
            Self::VersionConflict { id, version } => write!(
                f,
                "timer {id} has version {version} now: read it again, and repeat the change if it is still wanted"
            ),
            Self::IdempotencyConflict { id } => write!(
                f,
                "this idempotency key made timer {id} from another definition: use a new key for a new timer"
            ),
            Self::DuplicateId(id) => write!(f, "a timer {id} exists already: use a new id"),
            Self::Cold(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for CommandError {}
