//! The operating system's clocks: the one place where the reading half of the project asks for the time.

use chronotick_core::page::Clocks;
use chronotick_core::{MonoTime, Span, Timestamp};
use rustix::time::{ClockId, Timespec, clock_gettime};

#[inline(always)]
fn ns(t: Timespec) -> i64 {
    // The kernel keeps its clocks in 64-bit nanoseconds, so that these cannot overflow.
    t.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(t.tv_nsec)
}

/// CLOCK_REALTIME: the system clock, uncorrected.
#[inline]
pub fn realtime() -> Timestamp {
    Timestamp::from_ns(ns(clock_gettime(ClockId::Realtime)))
}

/// CLOCK_BOOTTIME: monotonic, counts suspend.
#[inline]
pub fn boottime() -> MonoTime {
    MonoTime::from_ns(ns(clock_gettime(ClockId::Boottime)))
}

/// CLOCK_MONOTONIC_RAW: monotonic, never slewed.
#[inline]
pub fn monotonic_raw() -> MonoTime {
    MonoTime::from_ns(ns(clock_gettime(ClockId::MonotonicRaw)))
}

/// CLOCK_REALTIME and CLOCK_BOOTTIME at the same moment, as near as this machine allows: the tightest of five
/// sandwiches, with half its width as the error of the pairing.
pub fn realtime_boottime_pair() -> (Timestamp, MonoTime, Span) {
    let sandwich = || {
        let before = boottime();
        let real = realtime();
        let after = boottime();
        (
            real,
            before + Span::from_ns((after - before).as_ns() / 2),
            Span::from_ns((after - before).as_ns() / 2),
        )
    };
    let mut best = sandwich();
    for _ in 0..4 {
        let next = sandwich();
        if next.2 < best.2 {
            best = next;
        }
    }
    best
}

/// The clocks of this machine, for [`Record::read`](crate::Record::read).
#[derive(Clone, Copy, Debug, Default)]
pub struct OsClocks;

impl Clocks for OsClocks {
    fn realtime(&self) -> Timestamp {
        realtime()
    }

    #[inline(always)]
    fn boottime(&self) -> MonoTime {
        boottime()
    }

    fn monotonic_raw(&self) -> MonoTime {
        monotonic_raw()
    }

    #[inline(always)]
    fn counter(&self) -> Option<i64> {
        crate::counter::read()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_is_consistent_with_single_readings() {
        let (before_real, before_boot) = (realtime(), boottime());
        let (real, boot, error) = realtime_boottime_pair();
        assert!(before_real <= real && before_boot <= boot + error && !error.is_negative());
    }
}
