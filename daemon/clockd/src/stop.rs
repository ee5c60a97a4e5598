//! The signal that ends all threads, the one way they wait, and the way to call a source for a burst.

use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// The stop is set once and seen by everybody who waits on it; calls for a burst are counted.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    stopped: bool,
    /// Calls to all sources.
    calls_to_all: u32,
    /// Calls to one source, by its place in the list; grows as needed.
    calls: Vec<u32>,
}

impl State {
    fn epoch(&self, source: usize) -> u32 {
        self.calls_to_all.wrapping_add(self.calls.get(source).copied().unwrap_or(0))
    }
}

/// Why a wait ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Woken {
    /// The daemon ends.
    Stopped,
    /// The time has come.
    Deadline,
    /// Somebody called this source for a burst.
    Called,
}

impl Stop {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Ends all waits, now and later.
    pub(crate) fn set(&self) {
        self.state().stopped = true;
        self.changed.notify_all();
    }

    /// True after [`set`](Self::set).
    pub(crate) fn is_set(&self) -> bool {
        self.state().stopped
    }

    /// Waits until `deadline` or the stop; true when stopped.
    pub(crate) fn wait_until(&self, deadline: MonoTime) -> bool {
        self.wait(deadline, None) == Woken::Stopped
    }

    /// Asks one source to measure several times soon, because its time looks wrong.
    pub(crate) fn call_for_burst(&self, source: usize) {
        let mut state = self.state();
        if state.calls.len() <= source {
            state.calls.resize(source + 1, 0);
        }
        state.calls[source] = state.calls[source].wrapping_add(1);
        drop(state);
        self.changed.notify_all();
    }

    /// Asks all sources for a burst, because the local clock was disturbed.
    pub(crate) fn call_all_for_burst(&self) {
        let mut state = self.state();
        state.calls_to_all = state.calls_to_all.wrapping_add(1);
        drop(state);
        self.changed.notify_all();
    }

    /// A number that changes with each call to `source`.
    pub(crate) fn epoch(&self, source: usize) -> u32 {
        self.state().epoch(source)
    }

    /// Waits until `deadline`, the stop, or a call to `source` after `epoch`, which is brought up to date.
    pub(crate) fn wait_for_call(&self, deadline: MonoTime, source: usize, epoch: &mut u32) -> Woken {
        self.wait(deadline, Some((source, epoch)))
    }

    fn wait(&self, deadline: MonoTime, mut call: Option<(usize, &mut u32)>) -> Woken {
        let mut state = self.state();
        loop {
            if state.stopped {
                return Woken::Stopped;
            }
            if let Some((source, epoch)) = call.as_mut() {
                let now = state.epoch(*source);
                if now != **epoch {
                    **epoch = now;
                    return Woken::Called;
                }
            }
            let left = deadline - boottime();
            if left <= Span::ZERO {
                return Woken::Deadline;
            }
            state = match self.changed.wait_timeout(state, left.to_duration()) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_ends_a_wait_that_would_never_end() {
        let stop = Stop::default();
        std::thread::scope(|s| {
            let waiting = s.spawn(|| stop.wait_until(MonoTime::MAX));
            stop.set();
            assert!(waiting.join().unwrap());
        });
        assert!(stop.is_set());
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_not_before() {
        let stop = Stop::default();
        let deadline = boottime() + Span::from_ms(5);
        assert!(!stop.wait_until(deadline));
        assert!(boottime() >= deadline);
    }

    #[test]
    fn a_call_wakes_the_source_that_is_meant() {
        let stop = Stop::default();
        let (mut first, mut second) = (stop.epoch(0), stop.epoch(1));
        stop.call_for_burst(1);
        assert_eq!(stop.wait_for_call(MonoTime::MAX, 1, &mut second), Woken::Called);
        assert_eq!(stop.wait_for_call(boottime(), 1, &mut second), Woken::Deadline);
        assert_eq!(stop.wait_for_call(boottime(), 0, &mut first), Woken::Deadline);
        stop.call_all_for_burst();
        assert_eq!(stop.wait_for_call(MonoTime::MAX, 0, &mut first), Woken::Called);
        assert_eq!(stop.wait_for_call(MonoTime::MAX, 1, &mut second), Woken::Called);
        stop.set();
        assert_eq!(stop.wait_for_call(MonoTime::MAX, 1, &mut second), Woken::Stopped);
    }
}
