//! The time by which credentials are judged: corrected time with its bound.
//!
//! A credential is good from a moment to a moment, and a clock knows the time only within a bound. One rule for all of
//! them: it is accepted while it *may* be good, at any moment within [now - error, now + error]. A clock of which no
//! bound is known is taken at its word, and no bound widens the limits by more than [`ALLOWANCE_MAX`].

use crate::clock::{KernelClock, OsClock};
use chronotick_core::{Span, Timestamp};
use minoots_kernel::ClockStamp;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

/// The most that the clock's bound gives to a credential: a clock that is lost must not keep old ones alive.
pub const ALLOWANCE_MAX: Span = Span::from_secs(300);

/// Tells the time to whatever judges credentials. Clones share one clock.
#[derive(Clone)]
pub struct Now(Arc<Mutex<dyn KernelClock>>);

impl Now {
    /// Over a clock.
    pub fn new(clock: impl KernelClock + 'static) -> Self {
        Self(Arc::new(Mutex::new(clock)))
    }

    /// The time now.
    pub fn moment(&self) -> Moment {
        Moment::of(&self.0.lock().unwrap_or_else(PoisonError::into_inner).stamp())
    }
}

impl Default for Now {
    fn default() -> Self {
        Self::new(OsClock)
    }
}

impl fmt::Debug for Now {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Now")
    }
}

/// A moment as credentials are judged by it, in Unix nanoseconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Moment {
    /// The best estimate.
    pub now_ns: i64,
    /// The earliest time that it may be.
    pub earliest_ns: i64,
    /// The latest time that it may be.
    pub latest_ns: i64,
}

impl Moment {
    /// From the clock's own words.
    pub fn of(stamp: &ClockStamp) -> Self {
        let now_ns = stamp.now.as_ns();
        if stamp.bound.is_unbounded() {
            return Self { now_ns, earliest_ns: now_ns, latest_ns: now_ns };
        }
        let (least, most) = (stamp.now - ALLOWANCE_MAX, stamp.now + ALLOWANCE_MAX);
        let within = |t: Timestamp| t.as_ns().clamp(least.as_ns(), most.as_ns());
        Self { now_ns, earliest_ns: within(stamp.bound.earliest()), latest_ns: within(stamp.bound.latest()) }
    }

    /// Whether it may be before the end of something.
    pub const fn may_be_before(&self, end_ns: i64) -> bool {
        self.earliest_ns < end_ns
    }

    /// Whether it may be at or after the start of something.
    pub const fn may_have_reached(&self, start_ns: i64) -> bool {
        self.latest_ns >= start_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::TimeBound;
    use minoots_kernel::ClockSource;

    #[test]
    fn a_bound_widens_the_limits_up_to_the_allowance() {
        fn check(error: Option<Span>, want_error_s: i64) {
            let now = Timestamp::from_ns(1_800_000_000_000_000_000);
            let bound = error.map_or(TimeBound::UNBOUNDED, |e| TimeBound::around(now, e));
            let moment = Moment::of(&ClockStamp { now, bound, source: ClockSource::Page });
            let end = |s: i64| moment.now_ns + s * 1_000_000_000;
            assert_eq!(moment.earliest_ns, end(-want_error_s), "{error:?}");
            assert_eq!(moment.latest_ns, end(want_error_s), "{error:?}");
            // Good until the end, not at it.
            assert!(
                moment.may_be_before(end(-want_error_s) + 1) && !moment.may_be_before(end(-want_error_s))
            );
            assert!(moment.may_have_reached(end(want_error_s)));
            assert!(!moment.may_have_reached(end(want_error_s) + 1));
        }
        check(None, 0);
        check(Some(Span::from_secs(2)), 2);
        check(Some(Span::from_secs(86_400)), 300);
    }
}
