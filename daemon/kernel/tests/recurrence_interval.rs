//! Interval recurrences against counting on the fingers; bounds, jitter, the cache, and input that is not meant well.

use chronotick_core::{Span, Timestamp};
use minoots_kernel::recurrence::{
    Bounds, CronSpec, EVERY_MIN_NS, FoldPolicy, GapPolicy, IntervalMode, IntervalSpec, Missed, Recurrence,
    RecurrenceCache, RecurrenceError, jitter_ns,
};
use proptest::prelude::*;

const MS: i64 = 1_000_000;

fn at(ms: i64) -> Timestamp {
    Timestamp::from_ms(ms)
}

fn fixed_rate(every_ms: i64, anchor_ms: Option<i64>) -> IntervalSpec {
    IntervalSpec {
        every_ns: every_ms * MS,
        mode: IntervalMode::FixedRate,
        anchor_ns: anchor_ms.map(|ms| ms * MS),
    }
}

fn fixed_delay(every_ms: i64) -> IntervalSpec {
    IntervalSpec { every_ns: every_ms * MS, mode: IntervalMode::FixedDelay, anchor_ns: None }
}

fn bounds(start_ms: Option<i64>, end_ms: Option<i64>) -> Bounds {
    Bounds { start_ns: start_ms.map(|ms| ms * MS), end_ns: end_ms.map(|ms| ms * MS), count: None }
}

fn cron(expression: &str) -> CronSpec {
    CronSpec {
        expression: expression.into(),
        zone: "Europe/Paris".into(),
        gap: Some(GapPolicy::RunAtEnd),
        overlap: None,
        exclude_dates: Vec::new(),
    }
}

#[test]
fn the_first_occurrences_of_an_interval() {
    /// Created at 100 ms; each answer is asked with the one before.
    fn check(spec: IntervalSpec, bounds: Bounds, want_ms: &[i64]) {
        let recurrence = Recurrence::interval(&spec, &bounds).unwrap();
        let mut found = recurrence.first(at(100));
        for want in want_ms {
            assert_eq!(found, Some(at(*want)), "{spec:?} {bounds:?}");
            found = recurrence.next(at(100), at(*want));
        }
        if bounds.end_ns.is_some() {
            assert_eq!(found, None, "{spec:?} {bounds:?}");
        }
    }
    check(fixed_rate(30, None), bounds(None, None), &[130, 160, 190]);
    check(fixed_rate(30, Some(0)), bounds(None, None), &[120, 150]);
    check(fixed_rate(30, Some(10)), bounds(None, None), &[100, 130]);
    check(fixed_rate(30, Some(1000)), bounds(None, None), &[100, 130]);
    check(fixed_rate(30, Some(-7)), bounds(None, None), &[113, 143]);
    // A start moves no grid; the end is exclusive.
    check(fixed_rate(30, None), bounds(Some(170), Some(250)), &[190, 220]);
    check(fixed_rate(30, None), bounds(Some(160), Some(190)), &[160]);
    check(fixed_rate(30, Some(0)), bounds(Some(10), Some(151)), &[120, 150]);
    check(fixed_rate(30, None), bounds(None, Some(130)), &[]);
    // A fixed delay starts at its start, and counts from the end of the fire.
    check(fixed_delay(30), bounds(None, None), &[130, 160]);
    check(fixed_delay(30), bounds(Some(500), Some(560)), &[500, 530]);
    let delay = Recurrence::interval(&fixed_delay(30), &bounds(None, None)).unwrap();
    assert_eq!(delay.next(at(100), at(137)), Some(at(167)));
    assert_eq!(delay.missed(at(100), at(130), at(10_000), 5), missed(1, at(130), false));
    assert_eq!(delay.latest(at(100), at(130), at(10_000), 5), [at(130)]);
    assert_eq!(delay.latest(at(100), at(130), at(10_000), 0), []);
}

fn missed(count: u64, last: Timestamp, is_capped: bool) -> Missed {
    Missed { count, last, is_capped }
}

#[test]
fn intervals_at_the_ends_of_time() {
    let recurrence = Recurrence::interval(&fixed_rate(1, Some(0)), &Bounds::default()).unwrap();
    let last = Timestamp::from_ns(i64::MAX / MS * MS);
    let first = Timestamp::from_ns(i64::MIN / MS * MS);
    assert_eq!(recurrence.first(Timestamp::MIN), Some(first));
    assert_eq!(recurrence.next(first, Timestamp::MIN), Some(first));
    assert_eq!(recurrence.next(first, last), None);
    assert_eq!(recurrence.next(first, Timestamp::MAX), None);
    // All of the range, a millisecond apart, counted at once.
    let count = (i64::MAX / MS) as u64 * 2 + 1;
    assert_eq!(recurrence.missed(first, first, Timestamp::MAX, 10), missed(count, last, false));
    assert_eq!(recurrence.latest(first, first, Timestamp::MAX, 2), [last - Span::from_ms(1), last]);
    let far = Recurrence::interval(
        &IntervalSpec { every_ns: i64::MAX, mode: IntervalMode::FixedRate, anchor_ns: None },
        &Bounds::default(),
    )
    .unwrap();
    assert_eq!(far.first(Timestamp::from_ns(1)), None);
    assert_eq!(far.first(Timestamp::EPOCH), Some(Timestamp::MAX));
    assert_eq!(far.next(Timestamp::EPOCH, Timestamp::MAX), None);
    let daily = Recurrence::cron(&cron("@daily"), &Bounds::default()).unwrap();
    assert_eq!(daily.first(Timestamp::MAX), None);
    assert_eq!(daily.next(Timestamp::EPOCH, Timestamp::MAX), None);
    assert!(daily.first(Timestamp::MIN).is_some());
}

#[test]
fn cron_within_bounds() {
    let spec = CronSpec { zone: "UTC".into(), ..cron("*/10 * * * * *") };
    let check = |bounds: Bounds, created_ms, want_ms: Option<i64>| {
        let recurrence = Recurrence::cron(&spec, &bounds).unwrap();
        assert_eq!(recurrence.first(at(created_ms)), want_ms.map(at), "{bounds:?} {created_ms}");
        assert_eq!(recurrence.next(at(created_ms), at(created_ms)), want_ms.map(at));
    };
    check(bounds(None, None), 10_000, Some(20_000));
    check(bounds(None, None), 9_999, Some(10_000));
    check(bounds(None, None), -10_001, Some(-10_000));
    check(bounds(Some(30_000), None), 0, Some(30_000));
    check(bounds(Some(30_001), None), 0, Some(40_000));
    check(bounds(None, Some(20_000)), 0, Some(10_000));
    check(bounds(None, Some(20_000)), 10_000, None);
    check(bounds(None, Some(20_001)), 10_000, Some(20_000));
    let bounded = Recurrence::cron(&spec, &bounds(Some(15_000), Some(60_000))).unwrap();
    assert_eq!(bounded.missed(at(0), at(20_000), at(1_000_000), 100), missed(4, at(50_000), false));
    assert_eq!(bounded.missed(at(0), at(20_000), at(1_000_000), 3), missed(3, at(50_000), true));
    assert_eq!(bounded.missed(at(0), at(20_000), at(29_999), 3), missed(1, at(20_000), false));
    assert_eq!(bounded.missed(at(0), at(20_000), at(19_999), 3), missed(0, at(20_000), false));
    assert_eq!(bounded.latest(at(0), at(20_000), at(1_000_000), 2), [at(40_000), at(50_000)]);
    assert_eq!(bounded.latest(at(0), at(20_000), at(40_000), 9), [at(20_000), at(30_000), at(40_000)]);
    // `from` counts even where the rule does not know it.
    assert_eq!(bounded.latest(at(0), at(21_000), at(30_000), 9), [at(21_000), at(30_000)]);
}

#[test]
fn what_cannot_be_used_is_refused_and_says_what_to_do() {
    fn check(result: Result<Recurrence, RecurrenceError>, want: &str) {
        let text = result.err().map(|e| e.to_string()).unwrap_or_default();
        assert!(text.contains(want) && !want.is_empty(), "{text:?}, not {want:?}");
    }
    let interval = |spec: IntervalSpec| Recurrence::interval(&spec, &Bounds::default());
    for every_ns in [EVERY_MIN_NS - 1, 0, -1, i64::MIN] {
        check(
            interval(IntervalSpec { every_ns, ..fixed_rate(1, None) }),
            "too short: give one of 1ms or more",
        );
    }
    check(interval(IntervalSpec { anchor_ns: Some(0), ..fixed_delay(1) }), "leave anchor_ns out");
    let any = fixed_rate(60_000, Some(0));
    check(Recurrence::interval(&any, &bounds(Some(5), Some(5))), "give an end after the start");
    check(Recurrence::interval(&any, &bounds(Some(5), Some(4))), "give an end after the start");
    check(Recurrence::interval(&any, &Bounds { count: Some(0), ..Bounds::default() }), "count of 0: give 1");
    check(Recurrence::interval(&any, &bounds(Some(1), Some(60_000))), "no occurrence from its start");
    let cron_in = |expression, bounds| Recurrence::cron(&cron(expression), &bounds);
    check(cron_in("0 0 30 2 *", Bounds::default()), "\"0 0 30 2 *\" fires at no moment");
    check(cron_in("0 0 29 2 *", bounds(Some(0), Some(60_000))), "no occurrence from its start");
    check(cron_in("* * *", Bounds::default()), "does not parse");
    check(
        Recurrence::cron(&CronSpec { zone: "Europe/Atlantis".into(), ..cron("@daily") }, &Bounds::default()),
        "no time zone is called \"Europe/Atlantis\"",
    );
    assert!(Recurrence::interval(&any, &bounds(Some(1), Some(60_001))).is_ok());
}

#[test]
fn a_cache_answers_as_if_it_were_not_there() {
    let mut cache = RecurrenceCache::with_capacity(4);
    let created = Timestamp::from_secs(1_700_000_000);
    for round in 0..3 {
        for minute in 0..10 {
            let spec = cron(&format!("{minute} 2 * * *"));
            let bounds = Bounds { count: Some(minute + 1), ..Bounds::default() };
            let cached = cache.cron(&spec, &bounds).unwrap();
            let compiled = Recurrence::cron(&spec, &bounds).unwrap();
            assert_eq!(cached.first(created), compiled.first(created), "{round}");
            assert_eq!(cached.bounds(), &bounds);
            assert!(cache.len() <= 4 && !cache.is_empty());
        }
    }
    // The policy and the bounds are not forgotten when the rule is known.
    let spec = cron("30 2 * * *");
    let second = CronSpec { overlap: Some(FoldPolicy::Second), ..spec.clone() };
    let fold = Timestamp::from_secs(1_792_843_200);
    let answers =
        [&spec, &second, &spec].map(|spec| cache.cron(spec, &Bounds::default()).unwrap().first(fold));
    assert!(answers[0] == answers[2] && answers[0] < answers[1], "{answers:?}");
    let error = cache.cron(&spec, &Bounds { count: Some(0), ..Bounds::default() }).err();
    assert_eq!(error, Some(RecurrenceError::ZeroCount));
    assert!(cache.cron(&cron("0 0 31 2 *"), &Bounds::default()).is_err());
}

#[test]
fn jitter_is_spread_evenly() {
    // 100 buckets of 1000 each on average, with a deviation of about 32: none may be six of these off.
    let check = |seed: &dyn Fn(u128) -> u128, nominal_ns: &dyn Fn(i64) -> i64| {
        let mut buckets = [0u32; 100];
        for i in 0..100_000 {
            let jitter = jitter_ns(seed(i as u128), nominal_ns(i), 999_999);
            buckets[usize::try_from(jitter / 10_000).unwrap()] += 1;
        }
        let (min, max) = (buckets.iter().min(), buckets.iter().max());
        assert!(min >= Some(&810) && max <= Some(&1190), "{buckets:?}");
    };
    check(&|i| i, &|_| 0);
    check(&|i| i << 64, &|_| 0);
    check(&|_| 7, &|i| i);
    check(&|_| 7, &|i| i * 60_000_000_000);
    check(&|i| (0x0190 << 112) | (i << 62), &|_| 1_790_000_000_000_000_000);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn an_interval_is_its_grid(
        every_ms in 1..50i64,
        anchor_ms in prop::option::of(-200..200i64),
        created_ms in -100..100i64,
        start_ms in prop::option::of(-100..100i64),
        length_ms in prop::option::of(1..300i64),
        probe_ms in -200..400i64,
        n in 0..20usize,
    ) {
        let end_ms = length_ms.map(|ms| start_ms.unwrap_or(0) + ms);
        let Ok(recurrence) = Recurrence::interval(&fixed_rate(every_ms, anchor_ms), &bounds(start_ms, end_ms)) else {
            let range = start_ms.unwrap_or(-1000)..end_ms.unwrap_or(1000);
            let on_grid = |ms: &i64| anchor_ms.is_some_and(|anchor| (ms - anchor) % every_ms == 0);
            prop_assert!(range.clone().find(on_grid).is_none(), "refused");
            return Ok(());
        };
        // One millisecond after another: is it an occurrence?
        let grid: Vec<i64> = (-1000..1000)
            .filter(|ms| match anchor_ms {
                Some(anchor) => (ms - anchor) % every_ms == 0 && *ms >= created_ms,
                None => (ms - created_ms) % every_ms == 0 && *ms > created_ms,
            })
            .filter(|ms| start_ms.is_none_or(|start| *ms >= start) && end_ms.is_none_or(|end| *ms < end))
            .collect();
        let created = at(created_ms);
        prop_assert_eq!(recurrence.first(created), grid.first().map(|ms| at(*ms)));
        let after = grid.iter().find(|ms| **ms > probe_ms).map(|ms| at(*ms));
        prop_assert_eq!(recurrence.next(created, at(probe_ms)), after);
        if let Some(from_ms) = grid.get(grid.len() / 3).copied() {
            let within: Vec<_> = grid.iter().filter(|ms| (from_ms..=probe_ms).contains(ms)).map(|ms| at(*ms)).collect();
            let found = recurrence.missed(created, at(from_ms), at(probe_ms), 3);
            let last = within.last().copied().unwrap_or(at(from_ms));
            prop_assert_eq!(found, missed(within.len() as u64, last, false));
            let latest = recurrence.latest(created, at(from_ms), at(probe_ms), n);
            prop_assert_eq!(&latest[..], &within[within.len().saturating_sub(n)..]);
        }
    }

    #[test]
    fn jitter_stays_in_its_range(seed in any::<u128>(), nominal in any::<i64>(), max in any::<i64>()) {
        let jitter = jitter_ns(seed, nominal, max);
        prop_assert!((0..=max.max(0)).contains(&jitter));
        prop_assert_eq!(jitter, jitter_ns(seed, nominal, max));
        prop_assert!((0..=1).contains(&jitter_ns(seed, nominal, 1)));
    }

    #[test]
    fn no_expression_panics_or_hangs(
        fields in prop::collection::vec("[-0-9*,/LW#?+A-Fa-z]{1,6}|[0-9]{1,2}(-[0-9]{1,2})?(/[0-9]{1,5})?|[*?]|[0-9]{1,2}[LW]|[0-7]#[0-9L]", 5..7),
        free in "\\PC{0,40}",
        created in any::<i64>(),
    ) {
        for expression in [fields.join(" "), free] {
            if let Ok(recurrence) = Recurrence::cron(&cron(&expression), &Bounds::default()) {
                let created = Timestamp::from_ns(created);
                if let Some(first) = recurrence.first(created) {
                    prop_assert!(first > created);
                    prop_assert!(recurrence.next(created, first).is_none_or(|next| next > first));
                    prop_assert_eq!(recurrence.latest(created, first, first, 3), [first]);
                }
            }
        }
    }
}
