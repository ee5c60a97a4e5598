//! Cron over a time zone: the civil times of a pattern, placed on the line of moments.
//!
//! A zone is a row of stretches with a constant offset, and within one a civil time is a moment plus a constant. So
//! the pattern is searched stretch by stretch, and only what happens at the seams needs a decision:
//!
//! - Where the clocks are set back, the civil times of the *fold* are shown by two stretches. `first` drops those
//!   that an earlier stretch shows too, `second` those that a later one shows too.
//! - Where they are set forward, no stretch shows the civil times of the *gap*. `shift` counts them on with the offset
//!   before the gap; `run_at_end` puts them all on the first moment after it.
//!
//! The occurrences are one set of moments, given by the rule alone, and every question asks for the least one from some
//! moment on: whoever walks it sees each once and in order, wherever the walk begins.

use super::error::RecurrenceError;
use super::pattern::Pattern;
use super::spec::{CronSpec, FoldPolicy, GapPolicy};
use super::zone::{FIRST_S, LAST_S, OFFSETS_APART_MAX_S, Segment, Zone};
use std::sync::Arc;

/// A compiled cron expression in its zone. Moments are whole seconds of UTC.
#[derive(Debug)]
pub(super) struct CronRule {
    pattern: Pattern,
    zone: Arc<Zone>,
    gap: GapPolicy,
    fold: FoldPolicy,
}

impl CronRule {
    /// Compiles a spec; `zone` finds the table of a zone.
    ///
    /// The search for the first occurrence goes through the whole range of `Timestamp`, 585 years, which is longer than
    /// the 400 years after which the calendar repeats: what fires at no moment of it is refused here.
    pub(super) fn compile(
        spec: &CronSpec,
        zone: impl FnOnce(&str) -> Result<Arc<Zone>, RecurrenceError>,
    ) -> Result<Self, RecurrenceError> {
        let pattern = Pattern::parse(&spec.expression, &spec.exclude_dates)?;
        // A rule for every hour follows the time that passes, one that names hours follows the clock on the wall.
        let (gap, fold) = match pattern.has_wildcard_hour() {
            true => (GapPolicy::Skip, FoldPolicy::Both),
            false => (GapPolicy::RunAtEnd, FoldPolicy::First),
        };
        let (gap, fold) = (spec.gap.unwrap_or(gap), spec.overlap.unwrap_or(fold));
        let rule = Self { pattern, zone: zone(&spec.zone)?, gap, fold };
        match rule.first_from(FIRST_S) {
            Some(_) => Ok(rule),
            None => Err(RecurrenceError::NeverFires(spec.expression.clone())),
        }
    }

    /// The first occurrence at or after the second `from_s`; `None` if there is none that a `Timestamp` can hold.
    pub(super) fn first_from(&self, from_s: i64) -> Option<i64> {
        let from_s = from_s.max(FIRST_S);
        if from_s > LAST_S {
            return None;
        }
        let begin = self.zone.index_at(from_s);
        for (index, segment) in self.zone.segments().iter().enumerate().skip(begin) {
            let from_s = from_s.max(segment.start_s);
            let shown = self.first_shown(index, segment, from_s);
            // What a gap moved can land in this stretch or, where the gap is longer than the stretch, in a later one;
            // the one that counts is then met again there.
            let moved = self.first_moved(index, from_s);
            let found = shown.into_iter().chain(moved).min().filter(|s| *s < segment.end_s);
            if let Some(found) = found {
                return (found <= LAST_S).then_some(found);
            }
        }
        None
    }

    /// The last occurrence in `(after_s, until_s]`. Asks [`Self::first_from`] at most about 70 times.
    pub(super) fn last_in(&self, after_s: i64, until_s: i64) -> Option<i64> {
        let first_from = |s: i64| self.first_from(s).filter(|found| *found <= until_s);
        // Steps back from the end, each twice as long as the one before, until an occurrence is in sight.
        let mut step_s = 1;
        let mut from_s = until_s;
        let mut best = loop {
            if from_s <= after_s {
                break first_from(after_s.saturating_add(1))?;
            }
            if let Some(found) = first_from(from_s) {
                break found;
            }
            from_s = from_s.saturating_sub(step_s);
            step_s = step_s.saturating_mul(2);
        };
        // `best` is an occurrence. Halves what lies between it and the least second from which nothing is found.
        let mut nothing_from_s = until_s.saturating_add(1);
        while best + 1 < nothing_from_s {
            let middle_s = best + 1 + (nothing_from_s - best - 1) / 2;
            match first_from(middle_s) {
                Some(found) => best = found,
                None => nothing_from_s = middle_s,
            }
        }
        Some(best)
    }

    /// The first match that the stretch `index` shows at or after `from_s`, less those that the fold policy drops.
    fn first_shown(&self, index: usize, segment: &Segment, from_s: i64) -> Option<i64> {
        let until_s = segment.end_s.min(LAST_S + 1);
        let mut civil_s = from_s + segment.offset_s;
        loop {
            civil_s = self.pattern.next(civil_s, until_s + segment.offset_s)?;
            let other = match self.fold {
                FoldPolicy::Both => None,
                FoldPolicy::First => {
                    self.zone.before(index, segment.start_s).find(|earlier| earlier.shows(civil_s))
                }
                FoldPolicy::Second => {
                    self.zone.from(index + 1, segment.end_s).find(|later| later.shows(civil_s))
                }
            };
            match other {
                // All up to where the other stretch stops showing them are dropped alike.
                Some(other) => civil_s = other.civil_end_s(),
                None => return Some(civil_s - segment.offset_s),
            }
        }
    }

    /// The first occurrence at or after `from_s` that comes from a gap at the start of the stretch `index` or before.
    fn first_moved(&self, index: usize, from_s: i64) -> Option<i64> {
        if self.gap == GapPolicy::Skip {
            return None;
        }
        let segments = self.zone.segments();
        (1..=index)
            .rev()
            .take_while(|i| segments[*i].start_s + OFFSETS_APART_MAX_S > from_s)
            .filter(|i| segments[*i].offset_s > segments[*i - 1].offset_s)
            .filter_map(|i| match self.gap {
                GapPolicy::Skip => None,
                GapPolicy::Shift => self.first_shifted(i, from_s),
                GapPolicy::RunAtEnd => {
                    let at_s = segments[i].start_s;
                    (at_s >= from_s && !self.is_excluded(at_s)).then_some(())?;
                    self.first_left_out(i, at_s + segments[i - 1].offset_s).map(|_| at_s)
                }
            })
            .min()
    }

    /// The first occurrence at or after `from_s` that was moved on by the gap before the stretch `index`.
    fn first_shifted(&self, index: usize, from_s: i64) -> Option<i64> {
        let offset_s = self.zone.segments()[index - 1].offset_s;
        let mut civil_s = from_s.max(self.zone.segments()[index].start_s) + offset_s;
        loop {
            civil_s = self.first_left_out(index, civil_s)?;
            if !self.is_excluded(civil_s - offset_s) {
                return Some(civil_s - offset_s);
            }
            civil_s += 1;
        }
    }

    /// The first match at or after `civil_s` among the civil times that the gap before the stretch `index` leaves out.
    fn first_left_out(&self, index: usize, mut civil_s: i64) -> Option<i64> {
        let next = self.zone.segments()[index];
        loop {
            civil_s = self.pattern.next(civil_s, next.start_s + next.offset_s)?;
            // Clocks that are soon set back again may show part of the gap after all.
            let mut around = self.zone.before(index, next.start_s).chain(self.zone.from(index, next.start_s));
            match around.find(|segment| segment.shows(civil_s)) {
                Some(segment) => civil_s = segment.civil_end_s(),
                None => return Some(civil_s),
            }
        }
    }

    /// True if nothing may fire on the date that the zone shows at this moment.
    fn is_excluded(&self, s: i64) -> bool {
        self.pattern.is_excluded(s + self.zone.segments()[self.zone.index_at(s)].offset_s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spec(expression: &str, zone: &str) -> CronSpec {
        CronSpec {
            expression: expression.into(),
            zone: zone.into(),
            gap: None,
            overlap: None,
            exclude_dates: Vec::new(),
        }
    }

    fn compile(spec: &CronSpec) -> CronRule {
        CronRule::compile(spec, |name| Ok(Arc::new(Zone::named(name)?))).unwrap()
    }

    /// Walks the rule from one moment and compares the first occurrences, all of them written in UTC.
    fn check(spec: &CronSpec, from: &str, want: &[&str]) {
        let rule = compile(spec);
        let moment = |text: &str| text.parse::<jiff::Timestamp>().unwrap();
        let mut from_s = moment(from).as_second();
        for want in want {
            let found = rule.first_from(from_s).unwrap();
            let found_text = jiff::Timestamp::from_second(found).unwrap().to_string();
            assert_eq!(&found_text, want, "{spec:?} from {from}");
            from_s = found + 1;
        }
    }

    #[test]
    fn a_gap_skips_shifts_or_runs_at_its_end() {
        // Paris: 02:00 to 03:00 is left out on 29 March 2026, at 01:00 UTC.
        let check = |gap, expression: &str, want: &[&str]| {
            let spec = CronSpec { gap: Some(gap), ..spec(expression, "Europe/Paris") };
            check(&spec, "2026-03-28T12:00:00Z", want);
        };
        check(GapPolicy::Skip, "30 2 * * *", &["2026-03-30T00:30:00Z"]);
        check(GapPolicy::Shift, "30 2 * * *", &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
        check(GapPolicy::RunAtEnd, "30 2 * * *", &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"]);
        // Several of one gap collapse into one, and one that falls on an ordinary occurrence is that occurrence.
        check(GapPolicy::RunAtEnd, "*/20 2 * * *", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
        check(GapPolicy::RunAtEnd, "0 2,3 * * *", &["2026-03-29T01:00:00Z", "2026-03-30T00:00:00Z"]);
        check(GapPolicy::Shift, "30 2,3 * * *", &["2026-03-29T01:30:00Z", "2026-03-30T00:30:00Z"]);
        check(GapPolicy::Shift, "0,45 2 * * *", &["2026-03-29T01:00:00Z", "2026-03-29T01:45:00Z"]);
    }

    #[test]
    fn a_fold_fires_first_second_or_both() {
        // Paris: 02:00 to 03:00 occurs twice on 25 October 2026, at 00:00 and at 01:00 UTC.
        let check = |overlap, expression: &str, want: &[&str]| {
            let spec = CronSpec { overlap, ..spec(expression, "Europe/Paris") };
            check(&spec, "2026-10-24T12:00:00Z", want);
        };
        let (first, second, next) = ("2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-26T01:30:00Z");
        check(Some(FoldPolicy::First), "30 2 * * *", &[first, next]);
        check(Some(FoldPolicy::Second), "30 2 * * *", &[second, next]);
        check(Some(FoldPolicy::Both), "30 2 * * *", &[first, second, next]);
        check(None, "30 2 * * *", &[first, next]);
        // With `*` in the hours the absent policy is `both`: no pause, and no double.
        let hours =
            ["2026-10-24T23:30:00Z", "2026-10-25T00:30:00Z", "2026-10-25T01:30:00Z", "2026-10-25T02:30:00Z"];
        check(None, "30 23,*/1 * * *", &["2026-10-24T12:30:00Z"]);
        let late = |overlap, expression: &str, want: &[&str]| {
            let spec = CronSpec { overlap, ..spec(expression, "Europe/Paris") };
            super::tests::check(&spec, "2026-10-24T23:00:00Z", want);
        };
        late(None, "30 * * * *", &hours);
        late(None, "@hourly", &["2026-10-24T23:00:00Z", "2026-10-25T00:00:00Z", "2026-10-25T01:00:00Z"]);
        late(Some(FoldPolicy::First), "30 * * * *", &[hours[0], hours[1], hours[3]]);
        late(Some(FoldPolicy::Second), "30 * * * *", &[hours[0], hours[2], hours[3]]);
    }

    #[test]
    fn odd_zones() {
        // Half an hour of summer time on Lord Howe Island: 02:00 to 02:30 on 4 October 2026, at 15:30 UTC the day before.
        let lord_howe = |gap| CronSpec { gap: Some(gap), ..spec("15 2 * * *", "Australia/Lord_Howe") };
        check(
            &lord_howe(GapPolicy::Shift),
            "2026-10-03T00:00:00Z",
            &["2026-10-03T15:45:00Z", "2026-10-04T15:15:00Z"],
        );
        check(&lord_howe(GapPolicy::RunAtEnd), "2026-10-03T00:00:00Z", &["2026-10-03T15:30:00Z"]);
        // And back: 01:30 to 02:00 occurs twice on 5 April 2026.
        let spec_back =
            CronSpec { overlap: Some(FoldPolicy::Both), ..spec("45 1 * * *", "Australia/Lord_Howe") };
        check(
            &spec_back,
            "2026-04-04T00:00:00Z",
            &["2026-04-04T14:45:00Z", "2026-04-04T15:15:00Z", "2026-04-05T15:15:00Z"],
        );
        // Samoa had no 30 December 2011: the clocks went from the 29th, 24:00, to the 31st, 00:00, at 10:00 UTC.
        let apia = |gap| CronSpec { gap: Some(gap), ..spec("0 12 30 12 *", "Pacific/Apia") };
        check(&apia(GapPolicy::Skip), "2011-12-01T00:00:00Z", &["2012-12-29T22:00:00Z"]);
        check(
            &apia(GapPolicy::Shift),
            "2011-12-01T00:00:00Z",
            &["2011-12-30T22:00:00Z", "2012-12-29T22:00:00Z"],
        );
        check(
            &apia(GapPolicy::RunAtEnd),
            "2011-12-01T00:00:00Z",
            &["2011-12-30T10:00:00Z", "2012-12-29T22:00:00Z"],
        );
        // North Korea gained half an hour on 15 August 2015 and gave it back on 5 May 2018.
        check(
            &spec("45 23 * * *", "Asia/Pyongyang"),
            "2015-08-14T00:00:00Z",
            &["2015-08-14T14:45:00Z", "2015-08-15T15:15:00Z"],
        );
        check(
            &spec("45 23 * * *", "Asia/Pyongyang"),
            "2018-05-04T00:00:00Z",
            &["2018-05-04T15:00:00Z", "2018-05-05T14:45:00Z"],
        );
        // Venezuela: 02:30 became 03:00 on 1 May 2016.
        check(
            &spec("45 2 * * *", "America/Caracas"),
            "2016-05-01T00:00:00Z",
            &["2016-05-01T07:00:00Z", "2016-05-02T06:45:00Z"],
        );
        // Morocco sets its clocks back for Ramadan: 03:00 became 02:00 on 15 February 2026, 02:00 became 03:00 on 22 March.
        let casablanca = spec("30 2 * * *", "Africa/Casablanca");
        check(&casablanca, "2026-02-15T00:00:00Z", &["2026-02-15T01:30:00Z", "2026-02-16T02:30:00Z"]);
        check(&casablanca, "2026-03-21T12:00:00Z", &["2026-03-22T02:00:00Z", "2026-03-23T01:30:00Z"]);
        // Ireland: summer time is its standard time; the moments are those of London.
        check(
            &spec("30 1 * * *", "Europe/Dublin"),
            "2026-03-28T12:00:00Z",
            &["2026-03-29T01:00:00Z", "2026-03-30T00:30:00Z"],
        );
        // Sao Paulo: midnight was left out on 4 November 2018, so the day began at 01:00.
        check(
            &spec("0 0 * * *", "America/Sao_Paulo"),
            "2018-11-03T12:00:00Z",
            &["2018-11-04T03:00:00Z", "2018-11-05T02:00:00Z"],
        );
        // The rule goes on past the last listed change: 02:30 in New York on the second Sunday of March 2260.
        check(
            &spec("30 2 * * *", "America/New_York"),
            "2260-03-11T00:00:00Z",
            &["2260-03-11T07:00:00Z", "2260-03-12T06:30:00Z"],
        );
        check(&spec("0 0 29 2 *", "Asia/Kathmandu"), "2099-01-01T00:00:00Z", &["2104-02-28T18:15:00Z"]);
    }

    #[test]
    fn changes_that_follow_each_other_within_the_hour() {
        fn check(changes: &[(i64, i64)], expression: &str, gap: GapPolicy, fold: FoldPolicy, want: &[i64]) {
            let spec = CronSpec { gap: Some(gap), overlap: Some(fold), ..spec(expression, "made up") };
            let rule = CronRule::compile(&spec, |_| Ok(Arc::new(Zone::made_up(0, changes)))).unwrap();
            // The day of the changes is 1 January 1970; from each second of it the same set is found.
            for from_s in 35_000..44_000 {
                let next = rule.first_from(from_s).filter(|s| *s < 86_400);
                let wanted = want.iter().copied().find(|s| *s >= from_s);
                assert_eq!(next, wanted, "{expression} {gap:?} {fold:?} from {from_s}");
            }
        }
        use FoldPolicy::{Both, First, Second};
        use GapPolicy::{RunAtEnd, Shift, Skip};
        // Forward at 10:00 by an hour and back half an hour later: 10:00 to 10:30 is left out, 10:30 to 11:00 comes
        // late, and 11:00 to 11:30 occurs twice.
        let back = [(36_000, 3600), (37_800, 0)];
        let expression = "15,45 10,11 * * *";
        check(&back, expression, Shift, First, &[36_900, 38_700, 42_300]);
        check(&back, expression, Shift, Both, &[36_900, 38_700, 40_500, 42_300]);
        check(&back, expression, Skip, Second, &[38_700, 40_500, 42_300]);
        check(&back, expression, RunAtEnd, Second, &[36_000, 38_700, 40_500, 42_300]);
        check(&back, "45 10 * * *", RunAtEnd, First, &[38_700]);
        check(&back, "45 10 * * *", Shift, First, &[38_700]);
        // Forward at 10:00 and again ten minutes later: the first gap is longer than what lies between.
        let twice = [(36_000, 3600), (36_600, 7200)];
        let expression = "5,30 10,11 * * *";
        check(&twice, expression, Shift, First, &[36_300, 37_800]);
        check(&twice, expression, RunAtEnd, First, &[36_000, 36_300, 36_600]);
        check(&twice, expression, Skip, First, &[36_300]);
    }

    #[test]
    fn excluded_dates_do_not_fire_and_take_what_a_gap_moves_with_them() {
        let exclude = |expression: &str, gap, date: &str| CronSpec {
            gap: Some(gap),
            exclude_dates: vec![date.into()],
            ..spec(expression, "Pacific/Apia")
        };
        check(
            &exclude("0 12 * * *", GapPolicy::Skip, "2026-01-02"),
            "2026-01-01T00:00:00Z",
            &["2026-01-02T23:00:00Z"],
        );
        // Meant for the 30th, which Samoa did not have, and moved to the 31st: excluding either drops it.
        for date in ["2011-12-30", "2011-12-31"] {
            for gap in [GapPolicy::Shift, GapPolicy::RunAtEnd] {
                check(&exclude("0 12 30 12 *", gap, date), "2011-12-01T00:00:00Z", &["2012-12-29T22:00:00Z"]);
            }
        }
    }

    #[test]
    fn the_ends_of_the_range() {
        let every_second = compile(&spec("* * * * * *", "UTC"));
        assert_eq!(every_second.first_from(i64::MIN), Some(FIRST_S));
        assert_eq!(every_second.first_from(LAST_S), Some(LAST_S));
        assert_eq!(every_second.first_from(LAST_S + 1), None);
        assert_eq!(every_second.first_from(i64::MAX), None);
        assert_eq!(every_second.last_in(i64::MIN, i64::MAX), Some(LAST_S));
        // 11 April 2262 is the last day, and it ends at 23:47:16 UTC.
        let daily = compile(&spec("0 12 * * *", "Europe/Paris"));
        let last = daily.last_in(0, LAST_S).unwrap();
        assert_eq!(jiff::Timestamp::from_second(last).unwrap().to_string(), "2262-04-11T10:00:00Z");
        assert_eq!(daily.first_from(last + 1), None);
    }

    #[test]
    fn what_never_fires_is_refused() {
        for expression in ["0 0 30 2 *", "0 0 31 4,6,9,11 *", "0 0 31 2 +MON", "0 0 , * *", ", * * * * *"] {
            let error = CronRule::compile(&spec(expression, "UTC"), |name| Ok(Arc::new(Zone::named(name)?)));
            assert_eq!(error.err(), Some(RecurrenceError::NeverFires(expression.into())));
        }
    }

    #[test]
    fn the_last_in_a_stretch_is_an_occurrence_with_none_after_it() {
        for expression in ["*/7 * * * * *", "0 9 * * MON-FRI", "* * 0 1 1 *", "0 0 29 2 *"] {
            let rule = compile(&spec(expression, "America/New_York"));
            for until_s in [1_767_243_600, 1_767_243_601, 1_772_000_000, 1_800_000_000] {
                let after_s = until_s - 40_000_000;
                let last = rule.last_in(after_s, until_s);
                let any = rule.first_from(after_s + 1).filter(|s| *s <= until_s);
                assert_eq!(last.is_some(), any.is_some(), "{expression} until {until_s}");
                assert_eq!(last.and_then(|last| rule.first_from(last + 1).filter(|s| *s <= until_s)), None);
                assert_eq!(last, last.and_then(|last| rule.first_from(last)), "not an occurrence");
            }
        }
    }
}
