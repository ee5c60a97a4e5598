//! The operating system's clocks.

use super::KernelClock;
use chronotick_core::{MonoTime, Timestamp};
use minoots_kernel::ClockStamp;
use rustix::time::{ClockId, Timespec, clock_gettime};

/// The wall clock of the operating system, of which no bound is known.
#[derive(Clone, Debug, Default)]
pub struct OsClock;

impl KernelClock for OsClock {
    fn stamp(&mut self) -> ClockStamp {
        ClockStamp::os(realtime())
    }

    fn detail(&self) -> String {
        "the operating system's clock was asked for".to_string()
    }
}

/// The wall clock.
pub(super) fn realtime() -> Timestamp {
    Timestamp::from_ns(nanoseconds(clock_gettime(ClockId::Realtime)))
}

/// The monotonic clock, for pacing of retries: no step of the wall clock moves it.
pub fn monotonic() -> MonoTime {
    MonoTime::from_ns(nanoseconds(clock_gettime(ClockId::Monotonic)))
}

fn nanoseconds(t: Timespec) -> i64 {
    t.tv_sec.saturating_mul(1_000_000_000).saturating_add(t.tv_nsec)
}
