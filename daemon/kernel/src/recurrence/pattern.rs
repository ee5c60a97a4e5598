//! A cron expression as a set of civil times: which of them comes next, with no time zone in sight.
//!
//! A civil time is counted in seconds from 1970-01-01 00:00:00, as if every day had 86,400 of them.

use super::error::RecurrenceError;
use super::spec::{EXCLUDE_DATES_MAX, EXPRESSION_MAX_BYTES};
use croner::parser::{CronParser, Seconds, Year};
use croner::{CronComponent, CronPattern};
use jiff::civil::{Date, Weekday};
use jiff::tz::Offset;

const DAY_S: i64 = 86_400;

/// The civil times that match an expression and lie on no excluded date.
#[derive(Debug)]
pub(super) struct Pattern {
    /// Bit `n` of each is set when the value `n` matches.
    seconds: u64,
    minutes: u64,
    hours: u64,
    months: u64,
    /// Decides on days: the rules of `L`, `W`, `#` and of the two day fields are croner's.
    days: CronPattern,
    has_wildcard_hour: bool,
    /// Days since 1970-01-01, ascending.
    excluded: Vec<i64>,
}

impl Pattern {
    pub(super) fn parse(expression: &str, exclude_dates: &[String]) -> Result<Self, RecurrenceError> {
        if expression.len() > EXPRESSION_MAX_BYTES {
            return Err(RecurrenceError::ExpressionTooLong { bytes: expression.len() });
        }
        if exclude_dates.len() > EXCLUDE_DATES_MAX {
            return Err(RecurrenceError::TooManyDates { count: exclude_dates.len() });
        }
        let parser = CronParser::builder().seconds(Seconds::Optional).year(Year::Disallowed).build();
        let mut days =
            parser.parse(expression).map_err(|e| bad_expression(expression, &e.to_string()))?.pattern;
        // Years are not ours, and their field takes five thousand bytes.
        days.years = CronComponent::default();
        let mut excluded =
            exclude_dates.iter().map(|text| parse_date(text)).collect::<Result<Vec<_>, _>>()?;
        excluded.sort_unstable();
        excluded.dedup();
        Ok(Self {
            seconds: mask(&days.seconds),
            minutes: mask(&days.minutes),
            hours: mask(&days.hours),
            months: mask(&days.months),
            has_wildcard_hour: days.hours.from_wildcard,
            days,
            excluded,
        })
    }

    /// True if the hour field is `*` or `*/n`, or a list with one of these.
    pub(super) fn has_wildcard_hour(&self) -> bool {
        self.has_wildcard_hour
    }

    /// True if nothing may fire on the date of this civil time.
    pub(super) fn is_excluded(&self, civil_s: i64) -> bool {
        self.excluded.binary_search(&civil_s.div_euclid(DAY_S)).is_ok()
    }

    /// The first match in `[from_s, until_s)`. Looks at no day after `until_s`.
    pub(super) fn next(&self, from_s: i64, until_s: i64) -> Option<i64> {
        if [self.seconds, self.minutes, self.hours, self.months].contains(&0) {
            return None;
        }
        let mut day = from_s.div_euclid(DAY_S);
        let mut date = date_of(day)?;
        let mut second = from_s.rem_euclid(DAY_S);
        while day * DAY_S < until_s {
            let skipped_days = if !has(self.months, i64::from(date.month())) {
                i64::from(date.days_in_month() - date.day() + 1)
            } else {
                if self.matches_day(day, date)
                    && let Some(found) = self.next_in_day(second)
                {
                    return Some(day * DAY_S + found).filter(|civil_s| *civil_s < until_s);
                }
                1
            };
            day += skipped_days;
            date = date_of(day)?;
            second = 0;
        }
        None
    }

    fn matches_day(&self, day: i64, date: Date) -> bool {
        use croner::Weekday as W;
        let weekday = match date.weekday() {
            Weekday::Sunday => W::Sunday,
            Weekday::Monday => W::Monday,
            Weekday::Tuesday => W::Tuesday,
            Weekday::Wednesday => W::Wednesday,
            Weekday::Thursday => W::Thursday,
            Weekday::Friday => W::Friday,
            Weekday::Saturday => W::Saturday,
        };
        // An error would say that the date does not exist; it comes from a calendar, so it does.
        self.days
            .day_match(i32::from(date.year()), date.month() as u32, date.day() as u32, weekday)
            .unwrap_or(false)
            && self.excluded.binary_search(&day).is_err()
    }

    /// The first matching second of a day, at or after `second`.
    fn next_in_day(&self, second: i64) -> Option<i64> {
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        if has(self.hours, hour) {
            if has(self.minutes, minute)
                && let Some(s) = first_from(self.seconds, second)
            {
                return Some(hour * 3600 + minute * 60 + s);
            }
            if let Some(m) = first_from(self.minutes, minute + 1) {
                return Some(hour * 3600 + m * 60 + first_from(self.seconds, 0)?);
            }
        }
        let hour = first_from(self.hours, hour + 1)?;
        Some(hour * 3600 + first_from(self.minutes, 0)? * 60 + first_from(self.seconds, 0)?)
    }
}

fn bad_expression(expression: &str, reason: &str) -> RecurrenceError {
    // One full stop, whether or not the parser wrote it.
    let reason = format!("{}.", reason.trim_end_matches('.'));
    RecurrenceError::BadExpression { expression: expression.into(), reason }
}

fn mask(field: &CronComponent) -> u64 {
    field.values().into_iter().filter(|value| *value < 64).fold(0, |bits, value| bits | 1 << value)
}

fn has(mask: u64, value: i64) -> bool {
    mask >> value & 1 == 1
}

/// The lowest value of the mask that is at least `from`, for `from` below 64.
fn first_from(mask: u64, from: i64) -> Option<i64> {
    let rest = mask >> from << from;
    (rest != 0).then(|| i64::from(rest.trailing_zeros()))
}

fn date_of(day: i64) -> Option<Date> {
    Some(Offset::UTC.to_datetime(jiff::Timestamp::from_second(day * DAY_S).ok()?).date())
}

fn parse_date(text: &str) -> Result<i64, RecurrenceError> {
    let bad = || RecurrenceError::BadDate(text.chars().take(32).collect());
    // Exactly this form: the library would accept others too, and a time after the date.
    let is_plain = text.len() == 10
        && text
            .bytes()
            .enumerate()
            .all(|(i, b)| if i == 4 || i == 7 { b == b'-' } else { b.is_ascii_digit() });
    if !is_plain {
        return Err(bad());
    }
    let date: Date = text.parse().map_err(|_| bad())?;
    let midnight = Offset::UTC.to_timestamp(date.at(0, 0, 0, 0)).map_err(|_| bad())?;
    Ok(midnight.as_second().div_euclid(DAY_S))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn civil(text: &str) -> i64 {
        format!("{text}Z").parse::<jiff::Timestamp>().unwrap().as_second()
    }

    fn text(civil_s: i64) -> String {
        Offset::UTC.to_datetime(jiff::Timestamp::from_second(civil_s).unwrap()).to_string()
    }

    #[test]
    fn matches_come_in_order_and_follow_the_fields() {
        fn check(expression: &str, from: &str, want: &[&str]) {
            let pattern = Pattern::parse(expression, &["2026-12-25".into()]).unwrap();
            let mut from_s = civil(from);
            for want in want {
                let found = pattern.next(from_s, civil("2200-01-01T00:00:00")).unwrap();
                assert_eq!(&text(found), want, "{expression} from {from}");
                from_s = found + 1;
            }
        }
        check("* * * * *", "2026-01-01T00:00:01", &["2026-01-01T00:01:00", "2026-01-01T00:02:00"]);
        check("* * * * * *", "2026-01-01T23:59:59", &["2026-01-01T23:59:59", "2026-01-02T00:00:00"]);
        check("30 5 * * *", "2026-01-01T05:30:00", &["2026-01-01T05:30:00", "2026-01-02T05:30:00"]);
        check("*/20 15 10,22 * * *", "2026-01-01T10:15:21", &["2026-01-01T10:15:40", "2026-01-01T22:15:00"]);
        check("0 0 29 2 *", "2026-01-01T00:00:00", &["2028-02-29T00:00:00", "2032-02-29T00:00:00"]);
        check("0 0 29 2 *", "2097-01-01T00:00:00", &["2104-02-29T00:00:00"]);
        // Both day fields are restricted: either one is enough; `+` asks for both.
        check("0 0 13 * FRI", "2026-02-12T00:00:00", &["2026-02-13T00:00:00", "2026-02-20T00:00:00"]);
        check("0 0 13 * +FRI", "2026-02-14T00:00:00", &["2026-03-13T00:00:00", "2026-11-13T00:00:00"]);
        check("0 0 29 2 +SUN", "2026-01-01T00:00:00", &["2032-02-29T00:00:00", "2060-02-29T00:00:00"]);
        check("0 0 L * *", "2028-02-01T00:00:00", &["2028-02-29T00:00:00", "2028-03-31T00:00:00"]);
        check("0 0 15W 8 *", "2026-01-01T00:00:00", &["2026-08-14T00:00:00"]);
        check("0 0 LW * *", "2026-05-01T00:00:00", &["2026-05-29T00:00:00", "2026-06-30T00:00:00"]);
        check("0 0 * * MON#2", "2026-01-01T00:00:00", &["2026-01-12T00:00:00", "2026-02-09T00:00:00"]);
        check("0 0 * * 5L", "2026-01-01T00:00:00", &["2026-01-30T00:00:00", "2026-02-27T00:00:00"]);
        check("0 0 * * 7", "2026-01-01T00:00:00", &["2026-01-04T00:00:00", "2026-01-11T00:00:00"]);
        check("@yearly", "2026-01-01T00:00:01", &["2027-01-01T00:00:00"]);
        check("@hourly", "2026-01-01T00:00:01", &["2026-01-01T01:00:00"]);
        check("0 12 * DEC *", "2026-12-24T12:00:00", &["2026-12-24T12:00:00", "2026-12-26T12:00:00"]);
        check("59 59 23 31 12 *", "2199-12-31T00:00:00", &["2199-12-31T23:59:59"]);
        check("0 0 1 1 *", "1677-06-01T00:00:00", &["1678-01-01T00:00:00"]);
    }

    #[test]
    fn the_limit_is_exclusive() {
        let pattern = Pattern::parse("0 0 * * *", &[]).unwrap();
        assert_eq!(pattern.next(1, DAY_S), None);
        assert_eq!(pattern.next(1, DAY_S + 1), Some(DAY_S));
        assert_eq!(pattern.next(0, 0), None);
    }

    #[test]
    fn bad_input_is_refused_with_the_parsers_reason() {
        fn check(expression: &str, dates: &[&str], want: &str) {
            let dates = dates.iter().map(|d| d.to_string()).collect::<Vec<_>>();
            let error = Pattern::parse(expression, &dates).err().map(|e| e.to_string()).unwrap_or_default();
            assert!(error.contains(want) && !want.is_empty(), "{expression}: {error:?}, not {want:?}");
        }
        check("", &[], "cannot be an empty string. Give five fields");
        check("* * * *", &[], "must have 5 or 6 fields");
        check("* * * * * * *", &[], "must have 5 or 6 fields");
        check("* * * * * 2027 *", &[], "must have 5 or 6 fields");
        check("60 * * * *", &[], "out of bounds");
        check("* 24 * * *", &[], "out of bounds");
        check("* * 0 * *", &[], "out of bounds");
        check("* * * 13 *", &[], "out of bounds");
        check("* * * * 8", &[], "out of bounds");
        check("*/0 * * * *", &[], "Step cannot be zero");
        check("5-1 * * * *", &[], "out of bounds");
        check("banana", &[], "must have 5 or 6 fields");
        check("@reboot", &[], "must have 5 or 6 fields");
        check("* * * * x", &[], "illegal character 'X'");
        check(&"*".repeat(257), &[], "has 257 bytes");
        check("@daily", &["2026-02-29"], "\"2026-02-29\" is no date");
        check("@daily", &["2026-2-1"], "is no date");
        check("@daily", &["2026-02-01T00:00:00"], "is no date");
        check("@daily", &["+002026-02"], "is no date");
        check("@daily", &["2026-01-01"; 1001], "1001 dates are excluded");
    }
}
