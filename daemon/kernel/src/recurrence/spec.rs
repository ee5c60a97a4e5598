//! What the user asks for: an interval or a cron expression, and the bounds of both.

use serde::{Deserialize, Serialize};

/// The longest cron expression, in bytes.
pub const EXPRESSION_MAX_BYTES: usize = 256;
/// The longest name of a time zone, in bytes.
pub const ZONE_MAX_BYTES: usize = 64;
/// The most dates a cron recurrence may exclude.
pub const EXCLUDE_DATES_MAX: usize = 1000;
/// The shortest interval, in nanoseconds: one millisecond.
pub const EVERY_MIN_NS: i64 = 1_000_000;

/// A recurrence at a fixed distance.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct IntervalSpec {
    /// The distance from one occurrence to the next; at least [`EVERY_MIN_NS`].
    pub every_ns: i64,
    /// What the distance is counted from.
    #[serde(default)]
    pub mode: IntervalMode,
    /// For `fixed_rate`: a moment of the grid, in nanoseconds since the epoch; it may lie in the past. Without it the
    /// grid starts at the timer's creation. `fixed_delay` has no grid and refuses it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anchor_ns: Option<i64>,
}

/// What the distance of an interval is counted from.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum IntervalMode {
    /// From a grid that nothing moves: `anchor + k * every`. With an anchor, `k` is any integer and the first
    /// occurrence is the first one at or after creation; without, the anchor is the creation and `k` starts at 1.
    #[default]
    FixedRate,
    /// From the end of the previous fire. The first occurrence is one distance after creation.
    FixedDelay,
}

/// A recurrence at the civil times that a cron expression matches.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct CronSpec {
    /// Five fields (minute, hour, day of month, month, day of week) or six, with the second first. `L`, `W`, `#`,
    /// names of months and days, and `@hourly` to `@yearly` are understood. At most [`EXPRESSION_MAX_BYTES`].
    pub expression: String,
    /// The time zone, by its name in the IANA database: `Europe/Paris`.
    #[serde(default = "utc")]
    pub zone: String,
    /// What becomes of a local time that the clocks leave out. When absent: `skip` where the hour field holds a `*`
    /// (`*` or `*/n`), so that an hourly job has no extra run in spring; `run_at_end` where hours are named, so that a
    /// daily job runs every day.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gap: Option<GapPolicy>,
    /// What becomes of a local time that occurs twice. When absent: `both` where the hour field holds a `*` (`*` or
    /// `*/n`), so that a job of every minute does not pause for an hour in autumn; `first` where hours are named, so
    /// that a daily job runs once.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub overlap: Option<FoldPolicy>,
    /// Civil dates in the zone, `YYYY-MM-DD`, on which nothing fires. A time that a gap moves is dropped when either
    /// the date it was meant for or the date it moved to is excluded. At most [`EXCLUDE_DATES_MAX`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_dates: Vec<String>,
}

fn utc() -> String {
    "UTC".into()
}

/// What becomes of a matching local time that no moment has, since the clocks jumped over it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum GapPolicy {
    /// It does not fire.
    Skip,
    /// It fires later by the length of the gap: 02:30 becomes 03:30 where an hour is left out.
    Shift,
    /// It fires at the first moment after the gap; several times of one gap fire once.
    RunAtEnd,
}

/// Which pass counts of a matching local time that occurs twice, since the clocks were set back.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FoldPolicy {
    /// The earlier one.
    First,
    /// The later one.
    Second,
    /// Each of them.
    Both,
}

/// The limits of a recurrence, of either kind.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Debug, Serialize, Deserialize)]
pub struct Bounds {
    /// Nothing fires before this moment (inclusive: an occurrence at it fires).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start_ns: Option<i64>,
    /// Nothing fires at this moment or after it (exclusive).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end_ns: Option<i64>,
    /// How many occurrences there are at most; at least 1. Only checked here: the kernel counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serde_leaves_out_what_is_absent_and_fills_in_the_defaults() {
        /// Compares by value: the field order of JSON is not ours to choose.
        fn check<T>(short: &str, want: &T, full: &str)
        where
            T: Serialize + for<'a> Deserialize<'a> + PartialEq + std::fmt::Debug,
        {
            assert_eq!(&serde_json::from_str::<T>(short).unwrap(), want, "{short}");
            assert_eq!(serde_json::to_string(want).unwrap(), full);
            assert_eq!(&serde_json::from_str::<T>(full).unwrap(), want, "{full}");
        }
        let interval = IntervalSpec { every_ns: 5, mode: IntervalMode::FixedRate, anchor_ns: None };
        check(r#"{"every_ns":5}"#, &interval, r#"{"every_ns":5,"mode":"fixed_rate"}"#);
        let cron = CronSpec {
            expression: "@daily".into(),
            zone: "UTC".into(),
            gap: None,
            overlap: None,
            exclude_dates: Vec::new(),
        };
        check(r#"{"expression":"@daily"}"#, &cron, r#"{"expression":"@daily","zone":"UTC"}"#);
        let cron = CronSpec {
            gap: Some(GapPolicy::RunAtEnd),
            overlap: Some(FoldPolicy::Second),
            exclude_dates: vec!["2026-12-25".into()],
            ..cron
        };
        let full = r#"{"expression":"@daily","zone":"UTC","gap":"run_at_end","overlap":"second","exclude_dates":["2026-12-25"]}"#;
        check(full, &cron, full);
        check("{}", &Bounds::default(), "{}");
        let bounds = Bounds { start_ns: Some(1), end_ns: Some(2), count: Some(3) };
        check(r#"{"end_ns":2,"start_ns":1,"count":3}"#, &bounds, r#"{"start_ns":1,"end_ns":2,"count":3}"#);
    }
}
