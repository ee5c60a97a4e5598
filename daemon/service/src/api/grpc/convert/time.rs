//! Durations and times, exact or refused.

use crate::api::error::{ApiError, INVALID_DURATION, INVALID_TIME};
use crate::api::values::too_far;
use prost_types::{Duration, Timestamp};

const NS_PER_SEC: i64 = 1_000_000_000;

pub(super) fn duration_ns(field: &str, d: &Duration) -> Result<i64, ApiError> {
    let nanos = i64::from(d.nanos);
    let signs_agree = nanos == 0 || d.seconds == 0 || (nanos < 0) == (d.seconds < 0);
    if nanos.abs() >= NS_PER_SEC || !signs_agree {
        let detail = format!("{field}: nanos must be under one second and have the sign of seconds");
        return Err(ApiError::new(&INVALID_DURATION, detail));
    }
    d.seconds.checked_mul(NS_PER_SEC).and_then(|ns| ns.checked_add(nanos)).ok_or_else(|| {
        let detail = format!("{field}: duration too long: the longest is 106751d (292 years)");
        ApiError::new(&INVALID_DURATION, detail)
    })
}

pub(super) fn timestamp_ns(field: &str, t: &Timestamp) -> Result<i64, ApiError> {
    if !(0..NS_PER_SEC).contains(&i64::from(t.nanos)) {
        return Err(ApiError::new(&INVALID_TIME, format!("{field}: nanos must be from 0 to 999999999")));
    }
    let ns = i128::from(t.seconds) * i128::from(NS_PER_SEC) + i128::from(t.nanos);
    // Too far back has passed, whatever the year.
    i64::try_from(ns).or_else(|_| if ns < 0 { Ok(i64::MIN) } else { Err(too_far()) })
}

/// A time that may be unset.
pub(super) fn timestamp_ns_if(field: &str, t: Option<&Timestamp>) -> Result<Option<i64>, ApiError> {
    t.map(|t| timestamp_ns(field, t)).transpose()
}

/// A duration that may be unset.
pub(super) fn duration_ns_if(field: &str, d: Option<&Duration>) -> Result<Option<i64>, ApiError> {
    d.map(|d| duration_ns(field, d)).transpose()
}

/// A time for the wire.
pub(in crate::api::grpc) fn timestamp(ns: i64) -> Timestamp {
    Timestamp { seconds: ns.div_euclid(NS_PER_SEC), nanos: ns.rem_euclid(NS_PER_SEC) as i32 }
}

/// A duration for the wire.
pub(super) fn duration(ns: i64) -> Duration {
    Duration { seconds: ns / NS_PER_SEC, nanos: (ns % NS_PER_SEC) as i32 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_exact_or_refused() {
        fn check(got: Result<i64, ApiError>, want: Result<i64, &str>) {
            assert_eq!(got.map_err(|e| e.code.code), want);
        }
        let d = |seconds, nanos| duration_ns("after", &Duration { seconds, nanos });
        check(d(2, 5), Ok(2_000_000_005));
        check(d(-2, -5), Ok(-2_000_000_005));
        check(d(0, -5), Ok(-5));
        check(d(1, -5), Err("invalid_duration"));
        check(d(1, 1_000_000_000), Err("invalid_duration"));
        check(d(i64::MAX, 0), Err("invalid_duration"));
        let t = |seconds, nanos| timestamp_ns("at", &Timestamp { seconds, nanos });
        check(t(-1, 999_999_999), Ok(-1));
        check(t(1, -1), Err("invalid_time"));
        check(t(i64::MAX, 0), Err("time_too_far"));
        check(t(i64::MIN, 0), Ok(i64::MIN));
        for ns in [0, -1, 1_999_999_999, i64::MIN, i64::MAX] {
            check(timestamp_ns("at", &timestamp(ns)), Ok(ns));
            check(duration_ns("after", &duration(ns)), Ok(ns));
        }
    }
}
