//! The interval that most sources agree on (Marzullo 1984; RFC 5905 section 11.2.1).
//!
//! RFC 5905 looks for the smallest number of falsetickers that explains the intervals. That number can be too small: a
//! falseticker that overlaps the edge of two true intervals cuts the truth off. A hard bound may not rest on such
//! luck, so this takes every point that enough of the intervals contain, and returns the hull of those points. Where at
//! most `f` of `n` are wrong, the truth is in at least `n - f` intervals, so the hull of those points has it.

/// An interval in nanoseconds that a source says the truth is in; `low <= high`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Interval {
    /// Lower edge.
    pub low: f64,
    /// Upper edge.
    pub high: f64,
}

impl Interval {
    /// `mid ± distance`.
    pub fn around(mid: f64, distance: f64) -> Self {
        Self { low: mid - distance.abs(), high: mid + distance.abs() }
    }

    /// The part of it that `other` shares; itself where they share nothing.
    pub fn narrowed_by(&self, other: &Self) -> Self {
        if self.overlaps(other) {
            Self { low: self.low.max(other.low), high: self.high.min(other.high) }
        } else {
            *self
        }
    }

    /// True when the two have a point in common.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.low <= other.high && other.low <= self.high
    }
}

/// The hull of the points that more than half of `intervals` contain; `None` when there is no such point. A single
/// interval is its own majority.
pub fn majority(intervals: &[Interval]) -> Option<Interval> {
    hull(intervals, intervals.len() / 2 + 1)
}

/// The hull of the points that at least `needed` of `intervals` contain; `None` when there is no such point.
pub fn hull(intervals: &[Interval], needed: usize) -> Option<Interval> {
    // A lower edge opens before an upper edge at the same place closes: intervals that touch have a point in common.
    let mut edges: Vec<(f64, bool)> =
        intervals.iter().flat_map(|i| [(i.low, false), (i.high, true)]).collect();
    edges.sort_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let (mut open, mut low, mut high) = (0, None, None);
    for (at, closes) in edges {
        if closes {
            if open >= needed {
                high = Some(at);
            }
            open -= 1;
        } else {
            open += 1;
            if open >= needed && low.is_none() {
                low = Some(at);
            }
        }
    }
    Some(Interval { low: low?, high: high? })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(intervals: &[(f64, f64)], want: Option<(f64, f64)>) {
        let intervals: Vec<_> = intervals.iter().map(|&(low, high)| Interval { low, high }).collect();
        assert_eq!(majority(&intervals).map(|i| (i.low, i.high)), want, "{intervals:?}");
    }

    #[test]
    fn who_agrees_with_whom() {
        check(&[], None);
        check(&[(1.0, 3.0)], Some((1.0, 3.0)));
        check(&[(1.0, 3.0), (2.0, 4.0)], Some((2.0, 3.0)));
        check(&[(1.0, 2.0), (2.0, 4.0)], Some((2.0, 2.0)));
        // Two that exclude each other: no majority, whoever is right.
        check(&[(1.0, 2.0), (3.0, 4.0)], None);
        // The falseticker is far away.
        check(&[(1.0, 3.0), (2.0, 4.0), (90.0, 91.0)], Some((2.0, 3.0)));
        // The third cuts into the first two; the truth may be in any pair.
        check(&[(0.0, 10.0), (0.0, 10.0), (9.0, 19.0)], Some((0.0, 10.0)));
        check(&[(1.0, 2.0), (3.0, 4.0), (5.0, 6.0)], None);
        // Two against two.
        check(&[(0.0, 1.0), (0.0, 1.0), (5.0, 6.0), (5.0, 6.0)], None);
        check(&[(0.0, 1.0), (0.0, 1.0), (0.5, 2.0), (5.0, 6.0)], Some((0.5, 1.0)));
    }

    proptest! {
        #[test]
        fn the_truth_is_inside_whenever_most_are_right(
            right in prop::collection::vec((0.0..50.0f64, 0.0..50.0f64), 1..6),
            wrong in prop::collection::vec((-200.0..200.0f64, 0.0..80.0f64), 0..5),
        ) {
            // The truth is 0. The liars may be anywhere, and are fewer than the others.
            let mut all: Vec<Interval> =
                right.iter().map(|&(a, b)| Interval { low: -a, high: b }).collect();
            let liars = wrong.len().min(right.len().saturating_sub(1));
            all.extend(wrong[..liars].iter().map(|&(mid, d)| Interval::around(mid, d)));
            let hull = majority(&all).expect("the truth is in a majority");
            prop_assert!(hull.low <= 0.0 && hull.high >= 0.0, "{:?} of {:?}", hull, all);
        }
    }
}
