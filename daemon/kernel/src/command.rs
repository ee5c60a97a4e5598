//! What can be asked of the kernel, and why it may be refused.

use crate::definition::TimerDefinition;
use crate::event::ActionResult;
use crate::id::{FiringId, TenantId, TimerId};
use crate::instance::TimerState;
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
    /// Stop a timer that has not fired.
    Cancel {
        /// Who asks.
        tenant: TenantId,
        /// Which timer.
        id: TimerId,
        /// Why.
        reason: Option<String>,
    },
    /// The actions of a fire have ended.
    Finish {
        /// Which fire.
        firing: FiringId,
        /// One for each action tried.
        results: Vec<ActionResult>,
    },
}

/// Why a command was refused. Nothing has changed then.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum CommandError {
    /// The schedule cannot be used.
    Schedule(ScheduleError),
    /// A field of the definition breaks a limit; the text says which and what to do.
    Invalid(String),
    /// No such timer for this tenant.
    NotFound(TimerId),
    /// The timer is past the state in which this can be done.
    WrongState {
        /// Which timer.
        id: TimerId,
        /// Where it is.
        state: TimerState,
    },
    /// The idempotency key was used before, with another definition.
    IdempotencyConflict {
        /// The timer that the key made.
        id: TimerId,
    },
    /// The id was used before.
    DuplicateId(TimerId),
}

impl fmt::Display for CommandError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Schedule(e) => e.fmt(f),
            Self::Invalid(what) => f.write_str(what),
            Self::NotFound(id) => write!(f, "no timer {id}: GET /v1/timers lists the ones there are"),
            Self::WrongState { id, state } => {
                write!(
                    f,
                    "timer {id} is {}: only a scheduled timer can be cancelled, only a firing one finished",
                    state.as_str()
                )
            }
            Self::IdempotencyConflict { id } => write!(
                f,
                "this idempotency key made timer {id} from another definition: use a new key for a new timer"
            ),
            Self::DuplicateId(id) => write!(f, "a timer {id} exists already: use a new id"),
        }
    }
}

impl std::error::Error for CommandError {}
