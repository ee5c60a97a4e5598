//! A clock that is set by the simulation.

use chronotick_core::{MonoTime, Span, TimeBound, Timestamp};
use minoots::clock::KernelClock;
use minoots_kernel::{ClockSource, ClockStamp};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The time of the simulated machine; clones share it.
#[derive(Clone, Debug)]
pub struct SimClock(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    now: Timestamp,
    passing: MonoTime,
    source: ClockSource,
}

impl SimClock {
    /// Starts at a moment.
    pub fn new(now: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(State { now, passing: MonoTime::from_ns(0), source: ClockSource::Page })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Time passes.
    pub fn pass(&self, span: Span) {
        let mut state = self.state();
        state.now += span;
        state.passing += span;
    }

    /// The wall clock is set, forward or back.
    pub fn step(&self, span: Span) {
        self.state().now += span;
    }

    /// The clock page is lost, or found again.
    pub fn set_source(&self, source: ClockSource) {
        self.state().source = source;
    }

    /// The moment.
    pub fn now(&self) -> Timestamp {
        self.state().now
    }
}

impl KernelClock for SimClock {
    fn stamp(&mut self) -> ClockStamp {
        let state = self.state();
        match state.source {
            ClockSource::Os => ClockStamp::os(state.now),
            source => {
                let bound = TimeBound::around(state.now, Span::from_us(50));
                ClockStamp { now: state.now, bound, source }
            }
        }
    }

    fn passing(&mut self) -> MonoTime {
        self.state().passing
    }

    fn detail(&self) -> String {
        "simulated".to_string()
    }
}
