//! Times and spans between the wire and this crate's types.

use crate::Timestamp;
use std::time::Duration;

const SECOND_NS: i64 = 1_000_000_000;

pub(super) fn to_wire(t: Timestamp) -> prost_types::Timestamp {
    let ns = t.as_ns();
    prost_types::Timestamp { seconds: ns.div_euclid(SECOND_NS), nanos: ns.rem_euclid(SECOND_NS) as i32 }
}

pub(super) fn from_wire(t: prost_types::Timestamp) -> Timestamp {
    Timestamp::from_ns(t.seconds.saturating_mul(SECOND_NS).saturating_add(i64::from(t.nanos)))
}

pub(super) fn span_to_wire(d: Duration) -> prost_types::Duration {
    let seconds = i64::try_from(d.as_secs()).unwrap_or(i64::MAX);
    prost_types::Duration { seconds, nanos: d.subsec_nanos() as i32 }
}

/// The nanoseconds of a span, which may be negative.
pub(super) fn span_ns(d: prost_types::Duration) -> i64 {
    d.seconds.saturating_mul(SECOND_NS).saturating_add(i64::from(d.nanos))
}

/// RFC 3339 in UTC with nine digits after the second.
pub fn rfc3339(t: Timestamp) -> String {
    // The civil date from the day number, by the algorithm of days in 400-year eras.
    let (seconds, nanos) = (t.as_ns().div_euclid(SECOND_NS), t.as_ns().rem_euclid(SECOND_NS));
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let z = days + 719_468;
    let (era, day_of_era) = (z.div_euclid(146_097), z.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 { shifted_month + 3 } else { shifted_month - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{nanos:09}Z")
}

pub(super) fn serialize<S: serde::Serializer>(t: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
    to.serialize_str(&rfc3339(*t))
}

pub(super) fn serialize_option<S: serde::Serializer>(
    t: &Option<Timestamp>,
    to: S,
) -> Result<S::Ok, S::Error> {
    match t {
        Some(t) => serialize(t, to),
        None => to.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_utc() {
        for (ns, want) in [
            (0, "1970-01-01T00:00:00.000000000Z"),
            (-1, "1969-12-31T23:59:59.999999999Z"),
            (951_782_400_000_000_000, "2000-02-29T00:00:00.000000000Z"),
            (1_796_169_600_000_000_001, "2026-12-02T00:00:00.000000001Z"),
        ] {
            let t = Timestamp::from_ns(ns);
            assert_eq!(rfc3339(t), want);
            assert_eq!(from_wire(to_wire(t)), t);
        }
    }
}
