//! When a timer fires: the rule, and the arithmetic that turns it into moments. Pure functions of their arguments.
//!
//! A schedule is what the user asked for; [`Schedule::first_due`] resolves it against `now` on corrected time, once,
//! when the timer is created. Nothing here is relative afterwards, so a crash or a restart moves no deadline.

use crate::time::{Span, Timestamp};
use core::fmt;

/// A rule for when a timer fires.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Schedule {
    /// Once, this long after the timer is created.
    After(Span),
    /// Once, at this moment of corrected time.
    At(Timestamp),
}

/// Why a schedule cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ScheduleError {
    /// The delay is negative.
    NegativeDelay(Span),
    /// The moment has passed, by this much.
    InThePast {
        /// The moment asked for.
        due: Timestamp,
        /// How far it lies behind `now`.
        late_by: Span,
    },
    /// The moment lies past the year 2262.
    TooFar,
}

impl fmt::Display for ScheduleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NegativeDelay(d) => write!(f, "the delay {d} is negative: give a delay of 0s or more"),
            Self::InThePast { late_by, .. } => {
                write!(
                    f,
                    "that moment passed {late_by} ago: give a future moment, or a delay of 0s to fire at once"
                )
            }
            Self::TooFar => write!(f, "that moment lies past the year 2262, the last this service can keep"),
        }
    }
}

impl core::error::Error for ScheduleError {}

impl Schedule {
    /// The moment it first fires, for a timer created at `now`.
    pub fn first_due(self, now: Timestamp) -> Result<Timestamp, ScheduleError> {
        match self {
            Self::After(delay) if delay.is_negative() => Err(ScheduleError::NegativeDelay(delay)),
            Self::After(delay) => now.checked_add(delay).ok_or(ScheduleError::TooFar),
            Self::At(due) if due < now => Err(ScheduleError::InThePast { due, late_by: now - due }),
            Self::At(due) => Ok(due),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_shots_resolve_against_now_once() {
        let now = Timestamp::from_secs(1_000);
        let check = |s: Schedule, want| assert_eq!(s.first_due(now), want, "{s:?}");
        check(Schedule::After(Span::from_secs(2)), Ok(Timestamp::from_secs(1_002)));
        check(Schedule::After(Span::ZERO), Ok(now));
        check(Schedule::At(Timestamp::from_secs(1_001)), Ok(Timestamp::from_secs(1_001)));
        check(Schedule::At(now), Ok(now));
        check(Schedule::After(Span::from_ns(-1)), Err(ScheduleError::NegativeDelay(Span::from_ns(-1))));
        check(Schedule::After(Span::MAX), Err(ScheduleError::TooFar));
        let due = Timestamp::from_secs(990);
        check(Schedule::At(due), Err(ScheduleError::InThePast { due, late_by: Span::from_secs(10) }));
    }
}
