//! The operating system's wall clock as the kernel's clock.

use super::KernelClock;
use minoots_kernel::ClockStamp;

/// The wall clock of the operating system, of which no bound is known.
#[derive(Clone, Debug, Default)]
pub struct OsClock;

impl KernelClock for OsClock {
    fn stamp(&mut self) -> ClockStamp {
        ClockStamp::os(chronotick::os_clock::realtime())
    }

    fn detail(&self) -> String {
        "the operating system's clock was asked for".to_string()
    }
}
