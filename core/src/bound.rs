//! Bounded time: an interval that is guaranteed to hold the true moment, and what two such intervals tell of order.
//!
//! This is the interval clock of Marzullo and Owicki (1983), the form that Spanner's TrueTime made known: two moments
//! are ordered only when their intervals do not touch.

use crate::time::{Span, Timestamp};

/// An interval `[earliest, latest]` that holds the true time. `earliest <= latest` always.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimeBound {
    earliest: Timestamp,
    latest: Timestamp,
}

/// What two bounds tell of the order of two moments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// The first is certainly earlier.
    Before,
    /// The first is certainly later.
    After,
    /// The intervals touch: nobody can tell.
    Unknown,
}

impl TimeBound {
    /// Nothing is known: every moment is possible.
    pub const UNBOUNDED: Self = Self { earliest: Timestamp::MIN, latest: Timestamp::MAX };

    /// From its edges; `None` when `earliest > latest`.
    pub fn new(earliest: Timestamp, latest: Timestamp) -> Option<Self> {
        (earliest <= latest).then_some(Self { earliest, latest })
    }

    /// For edges that are in order by construction.
    #[inline(always)]
    pub(crate) const fn of_ordered(earliest: Timestamp, latest: Timestamp) -> Self {
        debug_assert!(earliest.as_ns() <= latest.as_ns());
        Self { earliest, latest }
    }

    /// `mid ± error`; the sign of `error` is ignored, the edges saturate.
    pub fn around(mid: Timestamp, error: Span) -> Self {
        let error = error.abs();
        Self { earliest: mid - error, latest: mid + error }
    }

    /// The earliest moment it can be.
    pub const fn earliest(self) -> Timestamp {
        self.earliest
    }

    /// The latest moment it can be.
    pub const fn latest(self) -> Timestamp {
        self.latest
    }

    /// `latest - earliest`; saturates.
    pub fn width(self) -> Span {
        self.latest - self.earliest
    }

    /// True when either edge is unlimited.
    pub fn is_unbounded(self) -> bool {
        self.earliest == Timestamp::MIN || self.latest == Timestamp::MAX
    }

    /// True when `t` lies inside, edges included.
    pub fn contains(self, t: Timestamp) -> bool {
        self.earliest <= t && t <= self.latest
    }

    /// The bound `elapsed` later, where the clock that measured `elapsed` may run wrong by `max_drift_ppb`: both edges
    /// move by `elapsed` and the interval grows by `|elapsed| * max_drift_ppb` on each side, rounded up.
    pub fn project(self, elapsed: Span, max_drift_ppb: u32) -> Self {
        let growth =
            (i128::from(elapsed.abs().as_ns()) * i128::from(max_drift_ppb) + 999_999_999) / 1_000_000_000;
        let growth = Span::from_ns(i64::try_from(growth).unwrap_or(i64::MAX));
        // An unlimited edge stays unlimited however far it is moved.
        let earliest =
            if self.earliest == Timestamp::MIN { Timestamp::MIN } else { self.earliest + elapsed - growth };
        let latest =
            if self.latest == Timestamp::MAX { Timestamp::MAX } else { self.latest + elapsed + growth };
        Self { earliest, latest }
    }

    /// What both intervals allow; `None` when they exclude each other (then at least one of them is wrong).
    pub fn intersect(self, other: Self) -> Option<Self> {
        Self::new(self.earliest.max(other.earliest), self.latest.min(other.latest))
    }

    /// The order of two moments known only by their bounds.
    pub fn order(self, other: Self) -> Order {
        if self.latest < other.earliest {
            Order::Before
        } else if other.latest < self.earliest {
            Order::After
        } else {
            Order::Unknown
        }
    }

    /// True when this moment is certainly before `t`.
    pub fn is_before(self, t: Timestamp) -> bool {
        self.latest < t
    }

    /// True when this moment is certainly after `t`.
    pub fn is_after(self, t: Timestamp) -> bool {
        self.earliest > t
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bound(a: i64, b: i64) -> TimeBound {
        TimeBound::new(Timestamp::from_ns(a.min(b)), Timestamp::from_ns(a.max(b))).unwrap()
    }

    #[test]
    fn intervals_that_touch_are_not_ordered() {
        assert_eq!(bound(0, 10).order(bound(11, 20)), Order::Before);
        assert_eq!(bound(0, 10).order(bound(10, 20)), Order::Unknown);
        assert_eq!(bound(21, 30).order(bound(11, 20)), Order::After);
    }

    #[test]
    fn an_inverted_interval_cannot_be_made() {
        assert_eq!(TimeBound::new(Timestamp::from_ns(1), Timestamp::from_ns(0)), None);
        assert_eq!(bound(0, 10).intersect(bound(11, 20)), None);
    }

    #[test]
    fn projection_grows_by_the_drift_rounded_up() {
        let b = bound(-5, 5).project(Span::from_secs(1), 15_000);
        assert_eq!(
            (b.earliest().as_ns(), b.latest().as_ns()),
            (1_000_000_000 - 15_005, 1_000_000_000 + 15_005)
        );
        assert_eq!(bound(0, 0).project(Span::from_ns(1), 1).width(), Span::from_ns(2));
        assert_eq!(TimeBound::UNBOUNDED.project(Span::from_secs(-9), 5), TimeBound::UNBOUNDED);
    }

    proptest! {
        #[test]
        fn order_is_antisymmetric(a: i64, b: i64, c: i64, d: i64) {
            let (x, y) = (bound(a, b), bound(c, d));
            let mirrored = match y.order(x) {
                Order::Before => Order::After,
                Order::After => Order::Before,
                Order::Unknown => Order::Unknown,
            };
            prop_assert_eq!(x.order(y), mirrored);
            prop_assert_eq!(x.order(y) == Order::Unknown, x.intersect(y).is_some());
        }

        #[test]
        fn a_projected_bound_is_never_narrower(
            a in -(1i64 << 60)..(1i64 << 60), w in 0..1_000_000_000i64, e in -(1i64 << 50)..(1i64 << 50), ppb: u32,
        ) {
            let b = bound(a, a + w);
            prop_assert!(b.project(Span::from_ns(e), ppb).width() >= b.width());
        }
    }
}
