//! The rates that were measured, for the models: the last forty minutes or so.

use chronotick_core::{MonoTime, Span};
use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many observations are kept.
pub(crate) const CAPACITY: usize = 256;
/// Observations nearer than this to the one before give way to the next: many sources would fill the ring in minutes.
const EVERY: Span = Span::from_secs(10);

/// One measured rate.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Observation {
    /// When, on CLOCK_BOOTTIME.
    pub(crate) at: MonoTime,
    /// Rate of true time against [`steady`](crate::steady) time, minus one: the oscillator, whoever slews the clocks.
    pub(crate) rate: f64,
    /// One standard deviation.
    pub(crate) sigma: f64,
    /// The hottest thermometer, in degrees Celsius.
    pub(crate) temperature_c: Option<f64>,
    /// Mean number of runnable tasks.
    pub(crate) load: Option<f64>,
}

/// What was observed until `now`.
#[derive(Clone, PartialEq, Debug)]
pub(crate) struct History {
    /// When it was taken.
    pub(crate) now: MonoTime,
    /// Oldest first.
    pub(crate) observations: Vec<Observation>,
    /// Changes when the past was forgotten; an answer to another epoch is worth nothing.
    pub(crate) epoch: u32,
}

/// The ring behind it, which the hub fills and the models' threads read. Locked for a copy at most.
#[derive(Debug, Default)]
pub(crate) struct Ring {
    inner: Mutex<Inner>,
}

#[derive(Debug, Default)]
struct Inner {
    kept: VecDeque<Observation>,
    epoch: u32,
}

impl Ring {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds an observation. One out of order, or with a rate that is no number, is ignored.
    pub(crate) fn push(&self, new: Observation) {
        let kept = &mut self.lock().kept;
        if !(new.rate.is_finite() && new.sigma.is_finite()) || kept.back().is_some_and(|o| new.at <= o.at) {
            return;
        }
        // The newest is always there, and the others are ten seconds apart.
        if kept.len() >= 2 && new.at - kept[kept.len() - 2].at < EVERY {
            kept.pop_back();
        }
        if kept.len() == CAPACITY {
            kept.pop_front();
        }
        kept.push_back(new);
    }

    /// Forgets everything, because the local clock was disrupted. Returns the new epoch.
    pub(crate) fn clear(&self) -> u32 {
        let mut inner = self.lock();
        inner.kept.clear();
        inner.epoch = inner.epoch.wrapping_add(1);
        inner.epoch
    }

    /// A copy of what there is.
    pub(crate) fn snapshot(&self, now: MonoTime) -> History {
        let inner = self.lock();
        History { now, observations: inner.kept.iter().copied().collect(), epoch: inner.epoch }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// An observation `at_s` seconds after the boot.
    pub(crate) fn observation(at_s: f64, rate: f64) -> Observation {
        let at = MonoTime::from_ns((at_s * 1e9) as i64);
        Observation { at, rate, sigma: 1e-8, temperature_c: Some(40.0), load: None }
    }

    #[test]
    fn the_newest_is_there_and_the_others_are_apart() {
        let ring = Ring::default();
        for i in 0..40 {
            ring.push(observation(f64::from(i) * 3.0, 1e-6));
        }
        let at: Vec<i64> =
            ring.snapshot(MonoTime::MAX).observations.iter().map(|o| o.at.as_ns() / 1_000_000_000).collect();
        assert_eq!((at[0], at[at.len() - 1]), (0, 117));
        assert!(at.windows(2).rev().skip(1).all(|w| (9..=12).contains(&(w[1] - w[0]))), "{at:?}");
    }

    #[test]
    fn it_is_bounded_and_forgets_when_told() {
        let ring = Ring::default();
        for i in 0..1000 {
            ring.push(observation(f64::from(i) * 60.0, 1e-6));
        }
        ring.push(observation(5.0, 1e-6));
        ring.push(observation(1e6, f64::NAN));
        let history = ring.snapshot(MonoTime::from_ns(7));
        assert_eq!(
            (history.observations.len(), history.now, history.epoch),
            (CAPACITY, MonoTime::from_ns(7), 0)
        );
        assert_eq!(history.observations[CAPACITY - 1].at, MonoTime::from_ns(59_940_000_000_000));
        assert_eq!(ring.clear(), 1);
        assert!(ring.snapshot(MonoTime::from_ns(7)).observations.is_empty());
    }
}
