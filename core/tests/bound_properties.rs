//! Properties of bound arithmetic: what intersections, projections and readings must do for any numbers.
#![cfg(not(loom))]
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::page::{AnchorClock, Flags, Record, Source};
use chronotick_core::{Order, Span, TimeBound, Timestamp};
use proptest::prelude::*;

/// Moments far enough from the ends of the range that nothing saturates below.
const FAR: std::ops::Range<i64> = -(1 << 60)..(1 << 60);
const LONG: std::ops::Range<i64> = -(1 << 50)..(1 << 50);

fn bound(a: i64, b: i64) -> TimeBound {
    TimeBound::new(Timestamp::from_ns(a.min(b)), Timestamp::from_ns(a.max(b))).unwrap()
}

fn record(max_error: f32, drift_uncertainty: f64) -> Record {
    Record {
        offset_correction: 0.001_234,
        drift_rate: 1.5e-6,
        prediction_time: 1_760_272_795.0,
        valid_until: 1_760_272_855.0,
        sequence: 2,
        flags: Flags(Flags::VALID | Flags::WARMUP_COMPLETE),
        source: Source::Ntp,
        anchor_clock: AnchorClock::Boottime,
        max_error,
        drift_uncertainty,
        ..Record::default()
    }
}

proptest! {
    #[test]
    fn an_intersection_holds_exactly_what_both_hold(a: i64, b: i64, c: i64, d: i64, t: i64) {
        let (x, y, t) = (bound(a, b), bound(c, d), Timestamp::from_ns(t));
        let both = x.contains(t) && y.contains(t);
        prop_assert_eq!(x.intersect(y).is_some_and(|i| i.contains(t)), both);
    }

    #[test]
    fn an_intersection_is_commutative_idempotent_and_never_wider(a: i64, b: i64, c: i64, d: i64) {
        let (x, y) = (bound(a, b), bound(c, d));
        prop_assert_eq!(x.intersect(y), y.intersect(x));
        prop_assert_eq!(x.intersect(x), Some(x));
        prop_assert_eq!(x.intersect(TimeBound::UNBOUNDED), Some(x));
        if let Some(i) = x.intersect(y) {
            prop_assert!(i.width() <= x.width() && i.width() <= y.width());
        }
    }

    #[test]
    fn intersections_are_associative(a: [i64; 3], b: [i64; 3]) {
        let [x, y, z] = core::array::from_fn(|i| bound(a[i], b[i]));
        prop_assert_eq!(
            x.intersect(y).and_then(|i| i.intersect(z)),
            y.intersect(z).and_then(|i| x.intersect(i))
        );
    }

    #[test]
    fn order_is_transitive_and_agrees_with_every_moment_inside(a: [i64; 3], b: [i64; 3]) {
        let [x, y, z] = core::array::from_fn(|i| bound(a[i], b[i]));
        if x.order(y) == Order::Before {
            prop_assert!(x.latest() < y.earliest() && x.is_before(y.earliest()) && y.is_after(x.latest()));
            if y.order(z) == Order::Before {
                prop_assert_eq!(x.order(z), Order::Before);
            }
        }
        prop_assert_eq!(x.order(x), Order::Unknown);
    }

    #[test]
    fn two_projections_are_one_within_rounding(
        a in FAR, w in 0..1_000_000_000i64, e1 in 0..1i64 << 50, e2 in 0..1i64 << 50, ppb in 0..1_000_000u32, back: bool,
    ) {
        let sign = if back { -1 } else { 1 };
        let (e1, e2) = (Span::from_ns(sign * e1), Span::from_ns(sign * e2));
        let b = bound(a, a + w);
        let (twice, once) = (b.project(e1, ppb).project(e2, ppb), b.project(e1 + e2, ppb));
        // Each projection rounds up by less than a nanosecond on each side: in two steps it is never narrower.
        let apart = once.earliest() - twice.earliest();
        prop_assert!(!apart.is_negative() && apart <= Span::from_ns(1), "{apart:?}");
        prop_assert_eq!(twice.latest() - once.latest(), apart);
    }

    #[test]
    fn a_detour_of_projections_is_never_narrower_than_the_way(
        a in FAR, w in 0..1_000_000_000i64, e1 in LONG, e2 in LONG, ppb: u32,
    ) {
        let (e1, e2) = (Span::from_ns(e1), Span::from_ns(e2));
        let b = bound(a, a + w);
        let (detour, way) = (b.project(e1, ppb).project(e2, ppb), b.project(e1 + e2, ppb));
        prop_assert!(detour.earliest() <= way.earliest() && way.latest() <= detour.latest());
    }

    #[test]
    fn projections_keep_what_lies_inside_and_are_monotone(
        a in FAR, w in 0..1_000_000_000i64, inner in 0.0..1.0f64, e in LONG, p: u32, q: u32,
    ) {
        let (outer, e) = (bound(a, a + w), Span::from_ns(e));
        let inside = bound(a + (w as f64 * inner * 0.5) as i64, a + w - (w as f64 * inner * 0.5) as i64);
        let (o, i) = (outer.project(e, p), inside.project(e, p));
        prop_assert!(o.earliest() <= i.earliest() && i.latest() <= o.latest());
        prop_assert!(outer.project(e, p.max(q)).width() >= outer.project(e, p.min(q)).width());
        prop_assert_eq!(outer.project(Span::ZERO, p), outer);
    }

    #[test]
    fn a_reading_is_no_surer_with_a_greater_error_or_drift(
        e1 in 1e-9f32..1e3, e2 in 1e-9f32..1e3, d1 in 0.0..1e-3f64, d2 in 0.0..1e-3f64, elapsed in LONG,
    ) {
        let half = |error: f32, drift: f64| record(error, drift).read_at(Span::from_ns(elapsed)).max_error();
        prop_assert!(half(e1.max(e2), d1) >= half(e1.min(e2), d1));
        prop_assert!(half(e1, d1.max(d2)) >= half(e1, d1.min(d2)));
        let sigma = |drift: f64| record(e1, drift).read_at(Span::from_ns(elapsed)).sigma();
        prop_assert!(sigma(d1.max(d2)) >= sigma(d1.min(d2)));
    }

    #[test]
    fn a_bound_covers_all_that_the_clock_may_have_drifted(
        error in 1e-9f32..1e3, drift in 0.0..1e-3f64, elapsed in LONG, wrong in -1.0..1.0f64,
    ) {
        // A clock that was `wrong` times its error off, and ran off by `wrong` times all that the page allows.
        let reading = record(error, drift).read_at(Span::from_ns(elapsed));
        let rate = 15e-6 + 3.0 * drift;
        let off_ns = wrong * (f64::from(error) * 1e9 + elapsed.unsigned_abs() as f64 * rate);
        let truth = reading.corrected + Span::from_ns(off_ns as i64);
        prop_assert!(reading.bound.contains(truth), "{reading:?} without {truth:?}");
    }

    #[test]
    fn a_stored_error_never_shrinks(error in 0.0..1e6f64) {
        let stored = f64::from(Record::max_error_from_f64(error));
        prop_assert!(stored >= error && stored <= error * (1.0 + 1e-6) + 1e-40);
    }
}
