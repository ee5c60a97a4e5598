//! A time as people and log collectors read it: RFC 3339, in UTC.

use chronotick_core::Timestamp;

/// `2026-11-25T02:40:11.123456Z`.
pub(crate) fn rfc3339(time: Timestamp) -> String {
    let us = time.as_ns().div_euclid(1_000);
    let (s, us) = (us.div_euclid(1_000_000), us.rem_euclid(1_000_000));
    let (days, s) = (s.div_euclid(86_400), s.rem_euclid(86_400));
    let (year, month, day) = civil(days);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{us:06}Z", s / 3600, s / 60 % 60, s % 60)
}

/// The date so many days after 1970-01-01. Years are counted from March, so that the leap day is their last.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (era * 400 + year + i64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_times() {
        let check = |ns: i64, want: &str| assert_eq!(rfc3339(Timestamp::from_ns(ns)), want);
        check(0, "1970-01-01T00:00:00.000000Z");
        check(-1_000, "1969-12-31T23:59:59.999999Z");
        check(1_709_210_096_789_012_345, "2024-02-29T12:34:56.789012Z");
        check(951_782_400_000_000_000, "2000-02-29T00:00:00.000000Z");
        check(4_102_444_800_000_000_000, "2100-01-01T00:00:00.000000Z");
        check(1_735_689_599_999_999_999, "2024-12-31T23:59:59.999999Z");
    }
}
