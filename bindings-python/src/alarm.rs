//! A kernel timer that an event loop can watch: asyncio's own timers are good to a millisecond or two.

use crate::convert::int64;
use pyo3::prelude::*;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::{AsRawFd, OwnedFd};

const NS_PER_S: i64 = 1_000_000_000;

/// A timer that is readable from a moment of `CLOCK_BOOTTIME` on.
#[pyclass(frozen, module = "chronotick._native")]
pub(crate) struct Alarm(OwnedFd);

#[pymethods]
impl Alarm {
    /// Not set yet.
    #[new]
    fn new() -> PyResult<Self> {
        let flags = TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC;
        Ok(Self(timerfd_create(TimerfdClockId::Boottime, flags).map_err(std::io::Error::from)?))
    }

    /// What an event loop watches.
    fn fileno(&self) -> i32 {
        self.0.as_raw_fd()
    }

    /// Readable from this moment on, and no longer of the moment before; at once if it has passed.
    fn set(&self, boottime_ns: &Bound<'_, PyAny>) -> PyResult<()> {
        // All zeros would turn the timer off.
        let at_ns = int64(boottime_ns, "boottime_ns")?.max(1);
        let once = Itimerspec {
            it_interval: Timespec { tv_sec: 0, tv_nsec: 0 },
            it_value: Timespec { tv_sec: at_ns / NS_PER_S, tv_nsec: at_ns % NS_PER_S },
        };
        timerfd_settime(&self.0, TimerfdTimerFlags::ABSTIME, &once).map_err(std::io::Error::from)?;
        Ok(())
    }
}
