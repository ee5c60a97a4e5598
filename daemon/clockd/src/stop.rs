//! The signal that ends all threads, and the one way they wait.

use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use std::sync::{Condvar, Mutex, PoisonError};

/// Set once, seen by everybody who waits on it.
#[derive(Debug, Default)]
pub(crate) struct Stop {
    stopped: Mutex<bool>,
    changed: Condvar,
}

impl Stop {
    /// Ends all waits, now and later.
    pub(crate) fn set(&self) {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner) = true;
        self.changed.notify_all();
    }

    /// True after [`set`](Self::set).
    pub(crate) fn is_set(&self) -> bool {
        *self.stopped.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until `deadline` or the stop; true when stopped.
    pub(crate) fn wait_until(&self, deadline: MonoTime) -> bool {
        let mut stopped = self.stopped.lock().unwrap_or_else(PoisonError::into_inner);
        while !*stopped {
            let left = deadline - boottime();
            if left <= Span::ZERO {
                return false;
            }
            stopped = match self.changed.wait_timeout(stopped, left.to_duration()) {
                Ok((guard, _)) => guard,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
        true
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
}
