//! Cron recurrences against a second computation that walks the moments one by one.
//!
//! The walk converts each second or minute of UTC to civil time with jiff and compares the fields with sets of its own:
//! no croner, no table of offsets, no search. Gaps are the civil times that the walk jumps over, folds those it meets
//! twice.
#![expect(clippy::unwrap_used, reason = "a test: a panic is its failure")]

use chronotick_core::{Span, Timestamp};
use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone, TimeZoneDatabase};
use minoots_kernel::recurrence::{Bounds, CronSpec, FoldPolicy, GapPolicy, Recurrence};
use proptest::prelude::*;
use std::collections::{BTreeSet, HashMap};

const DAY_S: i64 = 86_400;

/// One field of an expression: its text and what it matches.
#[derive(Clone, Debug)]
struct Field {
    text: String,
    values: BTreeSet<i64>,
}

fn field(min: i64, max: i64) -> impl Strategy<Value = Field> {
    let list = move |text: String, values: Vec<i64>| Field { text, values: values.into_iter().collect() };
    prop_oneof![
        3 => Just(list("*".into(), (min..=max).collect())),
        1 => (2..20i64).prop_map(move |n| list(format!("*/{n}"), (min..=max).step_by(n as usize).collect())),
        4 => prop::collection::vec(min..=max, 1..4)
            .prop_map(move |v| list(v.iter().map(i64::to_string).collect::<Vec<_>>().join(","), v)),
        1 => (min..=max, min..=max, 1..5i64).prop_map(move |(a, b, n)| {
            let (a, b) = (a.min(b), a.max(b));
            list(format!("{a}-{b}/{n}"), (a..=b).step_by(n as usize).collect())
        }),
    ]
}

#[derive(Clone, Debug)]
struct Pattern {
    second: Option<Field>,
    minute: Field,
    hour: Field,
    day: Field,
    month: Field,
    weekday: Field,
}

impl Pattern {
    fn expression(&self) -> String {
        let fields = [&self.minute, &self.hour, &self.day, &self.month, &self.weekday];
        let fields = self.second.iter().chain(fields).map(|f| f.text.as_str());
        fields.collect::<Vec<_>>().join(" ")
    }

    fn matches(&self, civil: DateTime) -> bool {
        let has = |field: &Field, value: i8| field.values.contains(&i64::from(value));
        let second = match &self.second {
            Some(field) => has(field, civil.second()),
            None => civil.second() == 0,
        };
        let (day, weekday) =
            (has(&self.day, civil.day()), has(&self.weekday, civil.weekday().to_sunday_zero_offset()));
        let date = match (self.day.text == "*", self.weekday.text == "*") {
            (true, _) => weekday,
            (_, true) => day,
            _ => day || weekday,
        };
        second
            && has(&self.minute, civil.minute())
            && has(&self.hour, civil.hour())
            && has(&self.month, civil.month())
            && date
    }
}

/// Random expressions; the hours near the changes of the clocks come up more often than others.
fn pattern(with_seconds: bool) -> impl Strategy<Value = Pattern> {
    let any_day = |max| {
        prop_oneof![
            2 => Just(Field { text: "*".into(), values: (1..=max).collect() }),
            1 => field(1, max),
        ]
    };
    let weekday = prop_oneof![
        2 => Just(Field { text: "*".into(), values: (0..=6).collect() }),
        1 => field(0, 6),
    ]
    // `*/n` runs to 7, which is Sunday again: 0 and n, 2n..., and 7 where n divides it.
    .prop_filter("a step that meets 7", |f| !f.text.starts_with("*/"));
    let second = if with_seconds { field(0, 59).prop_map(Some).boxed() } else { Just(None).boxed() };
    let hour = prop_oneof![field(0, 3), field(0, 23)]
        .prop_filter("`*` of a part of the day", |f| !f.text.starts_with('*') || f.values.len() > 4);
    (second, field(0, 59), hour, any_day(31), any_day(12), weekday)
        .prop_map(|(second, minute, hour, day, month, weekday)| Pattern {
            second,
            minute,
            hour,
            day,
            month,
            weekday,
        })
        // Fewer than ten thousand in a day: the walk compares every one of them, for each pair of policies.
        .prop_filter("too many", |p| {
            p.second.as_ref().map_or(1, |f| f.values.len()) * p.minute.values.len() * p.hour.values.len()
                < 10_000
        })
}

/// What of a walk matches a pattern.
struct Matches<'a> {
    pattern: &'a Pattern,
    shown: Vec<(i64, DateTime)>,
    left_out: Vec<&'a (DateTime, i64, i64)>,
}

/// A stretch of moments with what the clocks of a zone show at each.
struct Walk {
    zone: &'static str,
    step_s: i64,
    from_s: i64,
    shown: Vec<DateTime>,
    /// For each civil time: the first and the last moment that shows it.
    passes: HashMap<DateTime, (i64, i64)>,
    /// Civil times that are left out; the moment they shift to, and the moment after the gap.
    left_out: Vec<(DateTime, i64, i64)>,
}

impl Walk {
    fn new(zone: &'static str, around: &str, days: i64, step_s: i64) -> Self {
        let tz = TimeZoneDatabase::bundled().get(zone).unwrap();
        let from_s = seconds(around) - days * DAY_S;
        let moments = (from_s..from_s + 2 * days * DAY_S).step_by(step_s as usize);
        let shown = moments.map(|s| civil(&tz, s)).collect::<Vec<_>>();
        let mut walk = Self { zone, step_s, from_s, shown, passes: HashMap::new(), left_out: Vec::new() };
        for (i, &now) in walk.shown.iter().enumerate() {
            let s = from_s + i as i64 * step_s;
            walk.passes.entry(now).or_insert((s, s)).1 = s;
        }
        for (i, pair) in walk.shown.windows(2).enumerate() {
            let before_s = from_s + i as i64 * step_s;
            let (shown, next) = (utc(pair[0]), utc(pair[1]));
            for missing in (shown..next).step_by(step_s as usize).skip(1) {
                let missing_civil = civil(&TimeZone::UTC, missing);
                if !walk.passes.contains_key(&missing_civil) {
                    walk.left_out.push((missing_civil, before_s + missing - shown, before_s + step_s));
                }
            }
        }
        walk
    }

    /// The part in which nothing depends on what lies outside the walk.
    fn inner(&self) -> (i64, i64) {
        let length = self.shown.len() as i64 * self.step_s;
        (self.from_s + 2 * DAY_S, self.from_s + length - 2 * DAY_S)
    }

    /// The moments that show a civil time of the pattern, and the left-out civil times that match it.
    fn matches<'a>(&'a self, pattern: &'a Pattern) -> Matches<'a> {
        let shown = self.shown.iter().enumerate().filter(|(_, shown)| pattern.matches(**shown));
        Matches {
            pattern,
            shown: shown.map(|(i, shown)| (self.from_s + i as i64 * self.step_s, *shown)).collect(),
            left_out: self.left_out.iter().filter(|(civil, ..)| pattern.matches(*civil)).collect(),
        }
    }

    fn expect(
        &self,
        matches: &Matches<'_>,
        gap: GapPolicy,
        overlap: Option<FoldPolicy>,
        excluded: &str,
    ) -> Vec<i64> {
        let fold = overlap.unwrap_or(match matches.pattern.hour.text.contains('*') {
            true => FoldPolicy::Both,
            false => FoldPolicy::First,
        });
        let excluded: jiff::civil::Date = excluded.parse().unwrap();
        let is_excluded = |civil: DateTime| civil.date() == excluded;
        let mut found = BTreeSet::new();
        for &(s, shown) in matches.shown.iter().filter(|(_, shown)| !is_excluded(*shown)) {
            let (first, last) = self.passes[&shown];
            let counts = match fold {
                FoldPolicy::First => s == first,
                FoldPolicy::Second => s == last,
                FoldPolicy::Both => true,
            };
            counts.then(|| found.insert(s));
        }
        for &&(civil, shifted, end) in &matches.left_out {
            let moment = match gap {
                GapPolicy::Skip => continue,
                GapPolicy::Shift => shifted,
                GapPolicy::RunAtEnd => end,
            };
            let lands_on = self.shown.get(((moment - self.from_s) / self.step_s) as usize);
            if !is_excluded(civil) && lands_on.is_some_and(|shown| !is_excluded(*shown)) {
                found.insert(moment);
            }
        }
        let (from, until) = self.inner();
        found.range(from..until).copied().collect()
    }

    /// Compares all occurrences, and the next few from each of `starts`.
    fn check(
        &self,
        matches: &Matches<'_>,
        gap: GapPolicy,
        overlap: Option<FoldPolicy>,
        excluded: &str,
        starts: &[f64],
    ) {
        let spec = CronSpec {
            expression: matches.pattern.expression(),
            zone: self.zone.into(),
            gap: Some(gap),
            overlap,
            exclude_dates: vec![excluded.into()],
        };
        // Some random dates do not exist: `0 0 31 2 *`.
        let Ok(recurrence) = Recurrence::cron(&spec, &Bounds::default()) else {
            assert!(self.expect(matches, gap, overlap, excluded).is_empty(), "{spec:?} refused");
            return;
        };
        let want = self.expect(matches, gap, overlap, excluded);
        let (from, until) = self.inner();
        let next = |after: Timestamp| {
            recurrence.next(Timestamp::EPOCH.min(after), after).filter(|t| *t < Timestamp::from_secs(until))
        };
        let before = Timestamp::from_secs(from) - Span::from_ns(1);
        let walked = std::iter::successors(next(before), |t| next(*t)).map(|t| t.as_ns() / 1_000_000_000);
        let mut wanted = want.iter();
        for found in walked {
            assert_eq!(Some(&found), wanted.next(), "{spec:?}: {}", moment_text(found));
        }
        assert_eq!(wanted.next(), None, "{spec:?}: missing");
        for start in starts {
            let start_s = from + ((until - from) as f64 * start) as i64;
            let rest = &want[want.partition_point(|s| *s <= start_s)..];
            let mut after = Timestamp::from_secs(start_s) + Span::from_ns(1);
            for want in rest.iter().take(5) {
                let found = next(after);
                assert_eq!(
                    found,
                    Some(Timestamp::from_secs(*want)),
                    "{spec:?} from {}",
                    moment_text(start_s)
                );
                after = found.unwrap_or(after);
            }
        }
        let (from, until) = (Timestamp::from_secs(from), Timestamp::from_secs(until - 1));
        if let (Some(first), Some(last)) = (want.first(), want.last()) {
            let (first, last) = (Timestamp::from_secs(*first), Timestamp::from_secs(*last));
            let missed = recurrence.missed(from, first, until, 40);
            assert_eq!(missed.count, (want.len() as u64).min(40), "{spec:?}");
            assert_eq!((missed.last, missed.is_capped), (last, want.len() > 40), "{spec:?}");
            let latest = recurrence.latest(from, first, until, 7);
            let want_latest = want[want.len().saturating_sub(7)..].iter().map(|s| Timestamp::from_secs(*s));
            assert_eq!(latest, want_latest.collect::<Vec<_>>(), "{spec:?}");
        }
    }
}

fn seconds(text: &str) -> i64 {
    text.parse::<jiff::Timestamp>().unwrap().as_second()
}

fn moment_text(s: i64) -> String {
    jiff::Timestamp::from_second(s).unwrap().to_string()
}

fn civil(tz: &TimeZone, s: i64) -> DateTime {
    tz.to_datetime(jiff::Timestamp::from_second(s).unwrap())
}

fn utc(civil: DateTime) -> i64 {
    Offset::UTC.to_timestamp(civil).unwrap().as_second()
}

const GAPS: [GapPolicy; 3] = [GapPolicy::Skip, GapPolicy::Shift, GapPolicy::RunAtEnd];
const FOLDS: [Option<FoldPolicy>; 4] =
    [None, Some(FoldPolicy::First), Some(FoldPolicy::Second), Some(FoldPolicy::Both)];

fn check_walks(walks: &[Walk], with_seconds: bool, cases: u32) {
    let starts = prop::collection::vec(0.0..1.0f64, 5);
    let config = ProptestConfig { cases, failure_persistence: None, ..ProptestConfig::default() };
    for walk in walks {
        let days = (walk.shown.len() as i64 * walk.step_s / DAY_S) as usize;
        proptest!(config.clone(), |(pattern in pattern(with_seconds), starts in starts.clone(), day in 0..days)| {
            // Any date of the walk, which is the middle one more often than another.
            let day = if day % 2 == 0 { days / 2 } else { day };
            let excluded = walk.shown[(day as i64 * DAY_S / walk.step_s) as usize].date().to_string();
            let matches = walk.matches(&pattern);
            for gap in GAPS {
                for overlap in FOLDS {
                    walk.check(&matches, gap, overlap, "1900-01-01", &starts);
                }
                walk.check(&matches, gap, Some(FoldPolicy::Both), &excluded, &starts);
            }
        });
    }
}

#[test]
fn minute_by_minute_around_changes_of_the_clocks() {
    let walk = |zone, around, days| Walk::new(zone, around, days, 60);
    let walks = [
        walk("Europe/Paris", "2026-03-29T01:00:00Z", 12),
        walk("Europe/Paris", "2026-10-25T01:00:00Z", 12),
        walk("America/New_York", "2007-03-11T07:00:00Z", 8),
        walk("America/New_York", "2024-11-03T06:00:00Z", 8),
        walk("America/New_York", "2255-11-04T06:00:00Z", 8),
        walk("Australia/Lord_Howe", "2019-10-05T15:30:00Z", 8),
        walk("Australia/Lord_Howe", "2020-04-04T15:00:00Z", 8),
        walk("Pacific/Apia", "2011-12-30T10:00:00Z", 12),
        walk("Pacific/Apia", "2011-09-24T11:00:00Z", 8),
        walk("America/Sao_Paulo", "2018-11-04T03:00:00Z", 8),
        walk("America/Sao_Paulo", "2019-02-17T02:00:00Z", 8),
        // Both changes of one Ramadan.
        walk("Africa/Casablanca", "2025-03-15T00:00:00Z", 40),
        walk("Asia/Kathmandu", "1985-12-31T18:30:00Z", 8),
        walk("Asia/Pyongyang", "2015-08-14T15:00:00Z", 8),
        walk("Asia/Pyongyang", "2018-05-04T15:00:00Z", 8),
        walk("America/Caracas", "2016-05-01T07:00:00Z", 8),
        walk("Europe/Dublin", "2026-10-25T01:00:00Z", 8),
        // A day that was lived twice.
        walk("Pacific/Kwajalein", "1969-10-01T00:00:00Z", 8),
        walk("UTC", "2024-02-29T00:00:00Z", 40),
    ];
    check_walks(&walks, false, 24);
}

#[test]
fn second_by_second_around_changes_of_the_clocks() {
    let walk = |zone, around| Walk::new(zone, around, 3, 1);
    let walks = [
        walk("Europe/Paris", "2027-03-28T01:00:00Z"),
        walk("Australia/Lord_Howe", "2026-04-04T15:00:00Z"),
        // From local mean time to zones: 3 minutes 58 seconds twice, and 9 minutes 21 seconds.
        walk("America/New_York", "1883-11-18T17:00:00Z"),
        walk("Europe/Paris", "1911-03-10T23:50:39Z"),
    ];
    check_walks(&walks, true, 6);
    // Every second of the hours in which these clocks change: what is dropped ends on the second.
    let list = |text: &str, values: &[std::ops::RangeInclusive<i64>]| Field {
        text: text.into(),
        values: values.iter().cloned().flatten().collect(),
    };
    let dense = Pattern {
        second: Some(list("*", &[0..=59])),
        minute: list("0,3-4,29-31,50-51,59", &[0..=0, 3..=4, 29..=31, 50..=51, 59..=59]),
        hour: list("0-3,11-12,23", &[0..=3, 11..=12, 23..=23]),
        day: list("*", &[1..=31]),
        month: list("*", &[1..=12]),
        weekday: list("*", &[0..=6]),
    };
    for walk in &walks {
        let matches = walk.matches(&dense);
        for (gap, fold) in GAPS.into_iter().zip([FoldPolicy::First, FoldPolicy::Second, FoldPolicy::Both]) {
            walk.check(&matches, gap, Some(fold), "1900-01-01", &[0.5]);
        }
        walk.check(&matches, GapPolicy::Shift, Some(FoldPolicy::First), "1900-01-01", &[]);
    }
}
