//! Duration text: how people write a length of time, and how we print one back.
//!
//! A duration is one or more `<number><unit>` parts, largest unit first by custom but in any order, with optional
//! spaces and an optional leading minus: `2s`, `1h30m`, `1.5h`, `250 ms`. Units: `ns`, `us` (or `µs`), `ms`, `s`,
//! `m`, `h`, `d` (24 h), `w` (7 d), and their English words. A number without a unit is refused, since the old tools
//! read it as milliseconds and people mean seconds.

use super::Span;
use alloc::format;
use alloc::string::{String, ToString};
use core::fmt;

/// Why a duration text was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ParseSpanError {
    /// Nothing but white space.
    Empty,
    /// A number was expected at this byte offset.
    ExpectedNumber {
        /// Byte offset in the text.
        at: usize,
    },
    /// A number with no unit after it.
    MissingUnit {
        /// The number as written.
        number: String,
    },
    /// A unit that is not in the list.
    UnknownUnit {
        /// The unit as written.
        unit: String,
    },
    /// Longer than an `i64` of nanoseconds (292 years).
    TooLong,
}

impl fmt::Display for ParseSpanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const HINT: &str = "write a duration as 250ms, 2s, 1h30m or 7d";
        match self {
            Self::Empty => write!(f, "empty duration: {HINT}"),
            Self::ExpectedNumber { at } => write!(f, "expected a number at byte {at}: {HINT}"),
            Self::MissingUnit { number } => {
                write!(f, "{number} has no unit: write {number}ms for milliseconds or {number}s for seconds")
            }
            Self::UnknownUnit { unit } => {
                write!(f, "unknown unit {unit:?}: use ns, us, ms, s, m, h, d or w, as in 1h30m")
            }
            Self::TooLong => write!(f, "duration too long: the longest is 106751d (292 years)"),
        }
    }
}

impl core::error::Error for ParseSpanError {}

fn unit_ns(unit: &str) -> Option<i128> {
    const SEC: i128 = 1_000_000_000;
    Some(match unit {
        "ns" | "nanosecond" | "nanoseconds" => 1,
        "us" | "µs" | "μs" | "microsecond" | "microseconds" => 1_000,
        "ms" | "millisecond" | "milliseconds" => 1_000_000,
        "s" | "sec" | "secs" | "second" | "seconds" => SEC,
        "m" | "min" | "mins" | "minute" | "minutes" => 60 * SEC,
        "h" | "hr" | "hrs" | "hour" | "hours" => 3_600 * SEC,
        "d" | "day" | "days" => 86_400 * SEC,
        "w" | "week" | "weeks" => 604_800 * SEC,
        _ => return None,
    })
}

/// Reads a duration text; see the module for the grammar. Digits past a nanosecond are cut off.
pub fn parse_span(text: &str) -> Result<Span, ParseSpanError> {
    let trimmed = text.trim();
    if trimmed.is_empty() {
        return Err(ParseSpanError::Empty);
    }
    let lead = text.len() - text.trim_start().len();
    let (negative, mut rest) = match trimmed.strip_prefix('-') {
        Some(r) => (true, r),
        None => (false, trimmed.strip_prefix('+').unwrap_or(trimmed)),
    };
    let mut total: i128 = 0;
    loop {
        rest = rest.trim_start();
        let at = lead + trimmed.len() - rest.len();
        let number_len = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(number_len);
        let (whole, fraction) = match number.split_once('.') {
            Some((w, f)) => (w, f),
            None => (number, ""),
        };
        if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
            return Err(ParseSpanError::ExpectedNumber { at });
        }
        let after = after.trim_start();
        let unit_len = after.find(|c: char| !c.is_alphabetic()).unwrap_or(after.len());
        let (unit, next) = after.split_at(unit_len);
        if unit.is_empty() {
            return Err(ParseSpanError::MissingUnit { number: number.to_string() });
        }
        let per = unit_ns(&unit.to_lowercase())
            .ok_or_else(|| ParseSpanError::UnknownUnit { unit: unit.to_string() })?;
        total = part_ns(whole, fraction, per)
            .and_then(|ns| total.checked_add(ns))
            .filter(|&t| t <= i64::MAX as i128)
            .ok_or(ParseSpanError::TooLong)?;
        rest = next;
        if rest.trim_start().is_empty() {
            break;
        }
    }
    let ns = total as i64;
    Ok(Span::from_ns(if negative { -ns } else { ns }))
}

/// `whole.fraction` of a unit, in nanoseconds, exactly; `None` on overflow.
fn part_ns(whole: &str, fraction: &str, per: i128) -> Option<i128> {
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut ns = whole.checked_mul(per)?;
    let mut scale = per;
    // A week is 6e14 ns: fifteen digits reach below a nanosecond for every unit.
    for digit in fraction.bytes().take(15) {
        ns += scale * i128::from(digit - b'0') / 10;
        scale /= 10;
        if scale == 0 {
            break;
        }
    }
    Some(ns)
}

/// Prints a span in the largest units that divide it: `1h30m`, `1s500ms`, `0s`. [`parse_span`] reads it back exactly.
pub fn format_span(span: Span) -> String {
    const UNITS: [(&str, u64); 7] = [
        ("d", 86_400_000_000_000),
        ("h", 3_600_000_000_000),
        ("m", 60_000_000_000),
        ("s", 1_000_000_000),
        ("ms", 1_000_000),
        ("us", 1_000),
        ("ns", 1),
    ];
    let mut rest = span.as_ns().unsigned_abs();
    if rest == 0 {
        return "0s".to_string();
    }
    let mut out = String::from(if span.is_negative() { "-" } else { "" });
    for (name, per) in UNITS {
        if rest >= per {
            out.push_str(&format!("{}{name}", rest / per));
            rest %= per;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_people_write() {
        let check = |text: &str, ns: i64| assert_eq!(parse_span(text), Ok(Span::from_ns(ns)), "{text:?}");
        check("2s", 2_000_000_000);
        check("250ms", 250_000_000);
        check(" 1h30m ", 5_400_000_000_000);
        check("1h 30 m", 5_400_000_000_000);
        check("1.5h", 5_400_000_000_000);
        check("0.1s", 100_000_000);
        check(".5s", 500_000_000);
        check("10 minutes", 600_000_000_000);
        check("7D", 604_800_000_000_000);
        check("-3us", -3_000);
        check("5µs", 5_000);
        check("0s", 0);
        check("0.123456789s", 123_456_789);
    }

    #[test]
    fn bad_durations_say_what_to_write() {
        let check = |text: &str, want: &str| {
            let message = parse_span(text).expect_err(text).to_string();
            assert!(message.contains(want), "{text:?}: {message}");
        };
        check("", "empty duration");
        check("   ", "empty duration");
        check("soon", "expected a number at byte 0");
        check("2s later", "expected a number at byte 3");
        check("5", "5ms for milliseconds or 5s");
        check("1.2.3s", "expected a number");
        check("3 fortnights", "unknown unit \"fortnights\"");
        check("999999999999d", "too long");
        check("99999999999999999999999999999999999999999999d", "too long");
        check("1h-3m", "expected a number at byte 2");
    }

    proptest! {
        #[test]
        fn printed_spans_read_back_exactly(ns in (i64::MIN + 1)..=i64::MAX) {
            let span = Span::from_ns(ns);
            prop_assert_eq!(parse_span(&format_span(span)), Ok(span));
        }

        #[test]
        fn any_text_is_answered_without_a_panic(text in "\\PC{0,40}") {
            let _ = parse_span(&text);
        }
    }
}
