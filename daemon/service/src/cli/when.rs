//! Times and durations as people write them.

use jiff::civil::{Date, Time, Weekday};
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use std::time::Duration;

/// What a text means.
#[derive(Clone, Debug, PartialEq)]
pub enum When {
    /// So long from now.
    After(Duration),
    /// At a moment; with a sentence where the local time does not name exactly one.
    At(Timestamp, Option<String>),
    /// Again and again, so far apart.
    Every(Duration),
    /// By a cron rule in a zone.
    Cron {
        /// Five or six fields.
        expression: String,
        /// The zone's IANA name.
        zone: String,
    },
}

const HELP: &str = "write it as \"20m\", \"in 1h30m\", \"tomorrow 9:00 Europe/Paris\", \"2026-12-01T09:00Z\", \
                    \"every 5m\", \"every day at 9:00\" or a cron rule";

/// What is wrong with a text, with advice where the reason has none.
fn advise(text: &str, reason: &str) -> String {
    match reason.contains("write it as") {
        true => format!("{text:?} cannot be used: {reason}"),
        false => format!("{text:?} cannot be used: {reason}: {HELP}"),
    }
}

/// Reads a text at a moment, for somebody in a zone. Never panics.
pub fn parse_when(text: &str, now: Timestamp, zone: &TimeZone) -> Result<When, String> {
    let text = text.trim();
    let words: Vec<&str> = text.split_whitespace().collect();
    let Some(first) = words.first() else { return Err(format!("the time is empty: {HELP}")) };
    let lower = first.to_ascii_lowercase();
    if lower == "every" {
        return every(&words[1..], zone).map_err(|e| advise(text, &e));
    }
    if lower == "in" {
        return parse_duration(&words[1..].join(" ")).map(When::After);
    }
    if lower.starts_with('@') {
        return shorthand(&lower, &words[1..], zone).map_err(|e| advise(text, &e));
    }
    if lower.starts_with('-') && lower[1..].starts_with(|c: char| c.is_ascii_digit()) {
        return Err(format!("{text:?} lies in the past: a timer fires later: {HELP}"));
    }
    if let Ok(moment) = text.parse::<Timestamp>() {
        return Ok(When::At(moment, None));
    }
    if let Ok(span) = parse_duration(text) {
        return Ok(When::After(span));
    }
    if let Some(rule) = cron(&words, zone) {
        return Ok(rule);
    }
    moment(&words, now, zone).map_err(|e| advise(text, &e))
}

/// A duration as "1h30m", "2 days" or "90 s"; a day is 24 hours.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let bad = |what: &str| {
        format!("the duration {text:?} cannot be used: {what}: write it as 90s, 1h30m or \"2 days\"")
    };
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(bad("it is empty"));
    }
    let mut total_ns: u128 = 0;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, tail) = rest.split_at(end);
        let tail = tail.trim_start();
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(end);
        let unit_ns: u128 = match unit.to_ascii_lowercase().as_str() {
            "ms" | "millisecond" | "milliseconds" => 1_000_000,
            "s" | "sec" | "secs" | "second" | "seconds" => 1_000_000_000,
            "m" | "min" | "mins" | "minute" | "minutes" => 60_000_000_000,
            "h" | "hr" | "hour" | "hours" => 3_600_000_000_000,
            "d" | "day" | "days" => 86_400_000_000_000,
            "w" | "week" | "weeks" => 604_800_000_000_000,
            "" => return Err(bad("a number has no unit")),
            _ => return Err(bad("the unit is not known")),
        };
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        let whole: u64 = whole.parse().map_err(|_| bad("a number is missing or too large"))?;
        if fraction.len() > 9 || fraction.contains('.') {
            return Err(bad("the number has too many digits or points"));
        }
        let scale = 10u128.pow(fraction.len() as u32);
        let part: u128 =
            if fraction.is_empty() { 0 } else { fraction.parse().map_err(|_| bad("the number"))? };
        // Below 2^64 * 2^60 each: no overflow of 128 bits in a text of any length that matters, and checked all the same.
        let ns = u128::from(whole) * unit_ns + part * unit_ns / scale;
        total_ns = total_ns.checked_add(ns).ok_or_else(|| bad("it is too long"))?;
        rest = tail.trim_start_matches([' ', ',']);
        rest = rest.strip_prefix("and ").unwrap_or(rest).trim_start();
    }
    // Longer than the timestamps of the service reach.
    let ns = i64::try_from(total_ns).map_err(|_| bad("it is longer than 292 years"))?;
    Ok(Duration::from_nanos(ns.unsigned_abs()))
}

fn weekday(word: &str) -> Option<Weekday> {
    Some(match word.to_ascii_lowercase().as_str() {
        "monday" | "mon" => Weekday::Monday,
        "tuesday" | "tue" => Weekday::Tuesday,
        "wednesday" | "wed" => Weekday::Wednesday,
        "thursday" | "thu" => Weekday::Thursday,
        "friday" | "fri" => Weekday::Friday,
        "saturday" | "sat" => Weekday::Saturday,
        "sunday" | "sun" => Weekday::Sunday,
        _ => return None,
    })
}

fn clock_time(word: &str) -> Result<Time, String> {
    let bad = || format!("{word:?} is no time of day: write it as 9:00, 9am or 17:30:15");
    let lower = word.to_ascii_lowercase();
    let half =
        [("am", 0), ("pm", 12)].into_iter().find_map(|(mark, add)| Some((lower.strip_suffix(mark)?, add)));
    if let Some((hours, add)) = half {
        let hours = if hours.contains(':') { hours.to_string() } else { format!("{hours}:00") };
        let time = clock_time(&hours).map_err(|_| bad())?;
        let hour = time.hour();
        return match (1..=12).contains(&hour) {
            true => Time::new(hour % 12 + add, time.minute(), time.second(), 0).map_err(|_| bad()),
            false => Err(bad()),
        };
    }
    let parts: Vec<i8> = word.split(':').map(|p| p.parse().map_err(|_| bad())).collect::<Result<_, _>>()?;
    match parts[..] {
        [hour, minute] => Time::new(hour, minute, 0, 0).map_err(|_| bad()),
        [hour, minute, second] => Time::new(hour, minute, second, 0).map_err(|_| bad()),
        _ => Err(bad()),
    }
}

fn zone_named(name: &str) -> Result<TimeZone, String> {
    TimeZone::get(name)
        .map_err(|_| format!("{name:?} is no time zone of this machine: write it as Europe/Paris or UTC"))
}

/// `[at] TIME [ZONE]`.
fn time_and_zone(words: &[&str], zone: &TimeZone) -> Result<(Time, TimeZone), String> {
    let words = match words {
        [first, rest @ ..] if first.eq_ignore_ascii_case("at") => rest,
        words => words,
    };
    match words {
        [time] => Ok((clock_time(time)?, zone.clone())),
        [time, name] => Ok((clock_time(time)?, zone_named(name)?)),
        [] => Err("the time of day is missing".into()),
        [_, _, extra, ..] => Err(format!("{extra:?} is too much")),
    }
}

fn zone_name(zone: &TimeZone) -> Result<String, String> {
    zone.iana_name()
        .map(String::from)
        .ok_or_else(|| "the local zone has no name: name one, as Europe/Paris".into())
}

fn every(words: &[&str], zone: &TimeZone) -> Result<When, String> {
    let Some(first) = words.first() else { return Err("how often is missing".into()) };
    let day_field = match first.to_ascii_lowercase().as_str() {
        "day" => Some("*".to_string()),
        "weekday" => Some("1-5".to_string()),
        word => weekday(word).map(|d| d.to_sunday_zero_offset().to_string()),
    };
    let Some(day) = day_field.filter(|_| words.len() > 1) else {
        let span = match first.starts_with(|c: char| c.is_ascii_digit()) {
            true => parse_duration(&words.join(" "))?,
            false => parse_duration(&format!("1 {}", words.join(" ")))?,
        };
        return Ok(When::Every(span));
    };
    let (time, zone) = time_and_zone(&words[1..], zone)?;
    let expression = match time.second() {
        0 => format!("{} {} * * {day}", time.minute(), time.hour()),
        second => format!("{second} {} {} * * {day}", time.minute(), time.hour()),
    };
    Ok(When::Cron { expression, zone: zone_name(&zone)? })
}

/// `@daily` and its like, and a zone behind it.
fn shorthand(word: &str, words: &[&str], zone: &TimeZone) -> Result<When, String> {
    if !matches!(word, "@hourly" | "@daily" | "@midnight" | "@weekly" | "@monthly" | "@yearly" | "@annually")
    {
        return Err(format!("{word:?} is no rule: there are @hourly, @daily, @weekly, @monthly and @yearly"));
    }
    let zone = match words {
        [] => zone.clone(),
        [name] => zone_named(name)?,
        [_, extra, ..] => return Err(format!("{extra:?} is too much")),
    };
    Ok(When::Cron { expression: word.to_string(), zone: zone_name(&zone)? })
}

/// Five or six fields, and a zone behind them. What they mean is for the service to judge.
fn cron(words: &[&str], zone: &TimeZone) -> Option<When> {
    let is_field =
        |w: &&&str| w.starts_with(|c: char| c.is_ascii_digit() || "*?".contains(c)) || weekday(w).is_some();
    let is_zone = |w: &&str| w.starts_with(|c: char| c.is_ascii_alphabetic()) && TimeZone::get(w).is_ok();
    if !is_field(&words.first()?) {
        return None;
    }
    let (fields, name) = match words.split_last()? {
        (last, fields) if is_zone(last) && fields.len() >= 5 => (fields, (*last).to_string()),
        _ => (words, zone_name(zone).ok()?),
    };
    matches!(fields.len(), 5 | 6).then(|| When::Cron { expression: fields.join(" "), zone: name })
}

fn moment(words: &[&str], now: Timestamp, zone: &TimeZone) -> Result<When, String> {
    let first = words[0].to_ascii_lowercase();
    let (rest, is_next) = if first == "next" { (&words[1..], true) } else { (words, false) };
    let Some(day) = rest.first() else { return Err("the day is missing".into()) };
    // `2026-12-01T09:00 Europe/Paris` is a date and a time in one word.
    let split: Vec<&str>;
    let rest = match day.split_once('T').filter(|(date, _)| date.parse::<Date>().is_ok()) {
        Some((date, time)) => {
            split = [date, time].into_iter().chain(rest[1..].iter().copied()).collect();
            &split[..]
        }
        None => rest,
    };
    let day = rest[0];
    // A bare time of day is the next moment that shows it.
    let is_bare = !is_next && (day.contains(':') || clock_time(day).is_ok());
    let (time, zone) = time_and_zone(if is_bare { rest } else { &rest[1..] }, zone)?;
    let today = now.to_zoned(zone.clone()).date();
    let later =
        |days: i64| today.checked_add(days.days()).map_err(|_| "the date lies too far ahead".to_string());
    let date = match day.to_ascii_lowercase().as_str() {
        _ if is_bare => match resolve(today, time, &zone)? {
            When::At(t, _) if t <= now => later(1)?,
            _ => today,
        },
        "today" => today,
        "tomorrow" => later(1)?,
        word => match (weekday(word), word.parse::<Date>()) {
            (Some(want), _) => {
                // The same weekday today is a week away, whether `next` is said or not.
                let ahead = i64::from(today.weekday().until(want));
                later(if ahead == 0 { 7 } else { ahead })?
            }
            (None, Ok(date)) if !is_next => date,
            _ => return Err(format!("{day:?} is no day")),
        },
    };
    resolve(date, time, &zone)
}

/// The moment of a local time; the one after a gap and the first of two, each with a sentence that says so.
fn resolve(date: Date, time: Time, zone: &TimeZone) -> Result<When, String> {
    let local = date.to_datetime(time);
    let ambiguous = zone.to_ambiguous_zoned(local);
    let offset = ambiguous.offset();
    let chosen = ambiguous.compatible().map_err(|e| e.to_string())?;
    let note = match offset {
        jiff::tz::AmbiguousOffset::Unambiguous { .. } => None,
        jiff::tz::AmbiguousOffset::Gap { .. } => {
            Some(format!("the clocks leave {local} out there: {chosen} was chosen"))
        }
        jiff::tz::AmbiguousOffset::Fold { .. } => {
            Some(format!("{local} occurs twice there: the first, {chosen}, was chosen"))
        }
    };
    Ok(When::At(chosen.timestamp(), note))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn now() -> Timestamp {
        // A Wednesday.
        "2026-11-25T10:00:00Z".parse().unwrap()
    }

    fn check(text: &str, want: &str) {
        let said = match parse_when(text, now(), &TimeZone::UTC) {
            Ok(When::After(d)) => format!("after {}", d.as_secs_f64()),
            Ok(When::At(t, None)) => format!("at {t}"),
            Ok(When::At(t, Some(note))) => {
                format!("at {t} ({})", if note.contains("twice") { "fold" } else { "gap" })
            }
            Ok(When::Every(d)) => format!("every {}", d.as_secs_f64()),
            Ok(When::Cron { expression, zone }) => format!("cron {expression} {zone}"),
            Err(e) => format!("error {e}"),
        };
        assert!(
            said == want || (want == "error" && said.starts_with("error")),
            "{text:?}: {said}, not {want}"
        );
    }

    #[test]
    fn what_people_write() {
        for (text, want) in [
            ("in 20m", "after 1200"),
            ("20m", "after 1200"),
            ("1h30m", "after 5400"),
            ("2 days", "after 172800"),
            ("1.5s", "after 1.5"),
            ("tomorrow 9:00 Europe/Paris", "at 2026-11-26T08:00:00Z"),
            ("today 17:30", "at 2026-11-25T17:30:00Z"),
            ("09:00", "at 2026-11-26T09:00:00Z"),
            ("next monday 08:00", "at 2026-11-30T08:00:00Z"),
            ("wednesday at 11:00", "at 2026-12-02T11:00:00Z"),
            ("2026-12-01T09:00Z", "at 2026-12-01T09:00:00Z"),
            ("2026-12-01 09:00 America/New_York", "at 2026-12-01T14:00:00Z"),
            ("2026-12-01T09:00 America/New_York", "at 2026-12-01T14:00:00Z"),
            ("2027-03-28 02:30 Europe/Paris", "at 2027-03-28T01:30:00Z (gap)"),
            ("2027-10-31 02:30 Europe/Paris", "at 2027-10-31T00:30:00Z (fold)"),
            ("every 5m", "every 300"),
            ("every hour", "every 3600"),
            ("every day", "every 86400"),
            ("every day at 9:00 Europe/Paris", "cron 0 9 * * * Europe/Paris"),
            ("every monday 8:15", "cron 15 8 * * 1 UTC"),
            ("*/5 * * * *", "cron */5 * * * * UTC"),
            ("0 9 * * 1-5 Europe/Paris", "cron 0 9 * * 1-5 Europe/Paris"),
            ("in 1 hour 30 minutes", "after 5400"),
            ("1 hour 30 minutes and 5 seconds", "after 5405"),
            ("Tomorrow At 9:00", "at 2026-11-26T09:00:00Z"),
            ("9am", "at 2026-11-26T09:00:00Z"),
            ("tomorrow 12:30am", "at 2026-11-26T00:30:00Z"),
            ("today 12pm", "at 2026-11-25T12:00:00Z"),
            ("@daily", "cron @daily UTC"),
            ("@Hourly Europe/Paris", "cron @hourly Europe/Paris"),
            ("@often", "error"),
            ("13pm", "error"),
            ("-5m", "error"),
            ("1 2 3 4 5 6 7", "error"),
            ("", "error"),
            ("20", "error"),
            ("in", "error"),
            ("every", "error"),
            ("next", "error"),
            ("tomorrow", "error"),
            ("tomorrow 25:00", "error"),
            ("tomorrow 9:00 Mars/Base", "error"),
            ("99999999999999 weeks", "error"),
            ("1.2.3s", "error"),
        ] {
            check(text, want);
        }
    }

    proptest! {
        #[test]
        fn any_text_is_an_answer(text in "\\PC{0,40}") {
            let _ = parse_when(&text, now(), &TimeZone::UTC);
        }

        #[test]
        fn words_in_any_order_are_an_answer(
            words in proptest::collection::vec(
                proptest::sample::select(vec!["every", "in", "next", "day", "at", "9:00", "T", "-1", "2026-12-01", "mon", "5m",
                    "*", "UTC", "@daily", "9pm", "-9999-01-01", "é", "At", "0", "Europe/Paris", "9999-12-31", "23:59", "tomorrow", "."]), 0..8)
        ) {
            let _ = parse_when(&words.join(" "), now(), &TimeZone::UTC);
        }

        #[test]
        fn a_local_time_is_met_or_the_difference_is_said(
            day in 1i8..=28, month in 1i8..=12, hour in 0i8..24, minute in 0i8..60,
            zone in proptest::sample::select(vec!["Europe/Paris", "America/New_York", "Australia/Lord_Howe", "UTC"]),
        ) {
            let text = format!("2027-{month:02}-{day:02} {hour:02}:{minute:02} {zone}");
            let Ok(When::At(t, note)) = parse_when(&text, now(), &TimeZone::UTC) else { panic!("{text}") };
            let zone = TimeZone::get(zone).unwrap();
            let shown = t.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string();
            let is_met = text.starts_with(&shown);
            // What was said tells a gap, where another time is shown, from a fold, where there is a second one.
            let (gap, fold) = (note.as_deref().is_some_and(|n| n.contains("leave")), note.as_deref().is_some_and(|n| n.contains("twice")));
            proptest::prop_assert_eq!(is_met, !gap, "{}", text);
            let is_ambiguous = !zone.to_ambiguous_zoned(t.to_zoned(zone.clone()).datetime()).offset().eq(
                &jiff::tz::AmbiguousOffset::Unambiguous { offset: zone.to_offset(t) });
            proptest::prop_assert_eq!(is_met && is_ambiguous, fold, "{}", text);
        }
    }
}
