//! The kernel's clock: the one place of the service that reads the time for timers.

mod os;
mod page;

pub use os::OsClock;
pub use page::PageClock;

use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Timestamp};
use minoots_kernel::ClockStamp;
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

/// Tells the kernel what time it is.
pub trait KernelClock: Send {
    /// The time now, with its bound and its source.
    fn stamp(&mut self) -> ClockStamp;

    /// Time that passes and is never set: for waits that are no timers.
    fn passing(&mut self) -> MonoTime {
        boottime()
    }

    /// The state of that clock in words: the status of the page, or why the operating system's clock is used.
    fn detail(&self) -> String;
}

/// A clock that stands until it is set: for tests and simulations. Clones share the time.
#[derive(Clone, Debug, Default)]
pub struct ManualClock(Arc<AtomicI64>);

impl ManualClock {
    /// Stands at `now`.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(AtomicI64::new(now.as_ns())))
    }

    /// Sets the time. The engine sees it with its next request, or within a quarter of a second.
    pub fn set(&self, now: Timestamp) {
        // Relaxed: the time is one number and orders nothing else.
        self.0.store(now.as_ns(), Ordering::Relaxed);
    }
}

impl KernelClock for ManualClock {
    fn stamp(&mut self) -> ClockStamp {
        ClockStamp::os(Timestamp::from_ns(self.0.load(Ordering::Relaxed)))
    }

    fn detail(&self) -> String {
        "set by hand".to_string()
    }
}
