//! Intervals: the arithmetic of a grid, and of a fixed delay.

use super::error::RecurrenceError;
use super::spec::{EVERY_MIN_NS, IntervalMode, IntervalSpec};

/// A checked interval. Moments are nanoseconds; the sums are done in 128 bits, so that none overflows.
#[derive(Clone, Copy, Debug)]
pub(super) struct IntervalRule {
    every_ns: i64,
    mode: IntervalMode,
    anchor_ns: Option<i64>,
}

impl IntervalRule {
    pub(super) fn compile(spec: &IntervalSpec) -> Result<Self, RecurrenceError> {
        let IntervalSpec { every_ns, mode, anchor_ns } = *spec;
        if every_ns < EVERY_MIN_NS {
            return Err(RecurrenceError::EveryTooShort { every_ns });
        }
        if mode == IntervalMode::FixedDelay && anchor_ns.is_some() {
            return Err(RecurrenceError::AnchorWithFixedDelay);
        }
        Ok(Self { every_ns, mode, anchor_ns })
    }

    /// True if the occurrences are a grid, which is known without knowing when the timer fired.
    pub(super) fn has_grid(&self) -> bool {
        self.mode == IntervalMode::FixedRate
    }

    /// The moment of the grid, where the creation of the timer does not decide it.
    pub(super) fn anchor_ns(&self) -> Option<i64> {
        self.anchor_ns
    }

    /// The first occurrence at or after `from_ns` for a timer created at `created_ns`.
    pub(super) fn first_from(&self, created_ns: i64, from_ns: i64) -> Option<i64> {
        let every = i128::from(self.every_ns);
        let (base, least) = match self.anchor_ns {
            Some(anchor_ns) => (i128::from(anchor_ns), i128::from(created_ns)),
            None => (i128::from(created_ns), i128::from(created_ns) + every),
        };
        let from = i128::from(from_ns).max(least);
        let found = match self.mode {
            IntervalMode::FixedRate => from + (base - from).rem_euclid(every),
            IntervalMode::FixedDelay => from,
        };
        i64::try_from(found).ok()
    }

    /// The first occurrence after `after_ns`, which for a fixed delay is the end of the previous fire.
    pub(super) fn first_after(&self, created_ns: i64, after_ns: i64, start_ns: i64) -> Option<i64> {
        let from = match self.mode {
            IntervalMode::FixedRate => after_ns.checked_add(1)?,
            IntervalMode::FixedDelay => after_ns.checked_add(self.every_ns)?,
        };
        self.first_from(created_ns, from.max(start_ns))
    }

    /// The last point of the grid in `[first_ns, until_ns]`, where `first_ns` is one, and how many there are.
    pub(super) fn last_from(&self, first_ns: i64, until_ns: i64) -> Option<(i64, u64)> {
        let distance = i128::from(until_ns) - i128::from(first_ns);
        if distance < 0 {
            return None;
        }
        let steps = distance / i128::from(self.every_ns);
        let last = i128::from(first_ns) + steps * i128::from(self.every_ns);
        // Both fit: `last` is at most `until_ns`, and `steps` is at most 2^64 divided by the shortest interval.
        Some((last as i64, steps as u64 + 1))
    }

    /// The distance between two points of the grid.
    pub(super) fn every_ns(&self) -> i64 {
        self.every_ns
    }
}
