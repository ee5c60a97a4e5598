//! The time over HTTP: now, bounds of a moment ahead, and waiting for one. Read-only.
//!
//! Nanoseconds since the Unix epoch are strings: not every reader of JSON keeps 19 digits of a number.

use crate::http::{Answer, POSTED_TO, Reply, Request};
use chronotick::os_clock::boottime;
use chronotick::{Client, Reading, Status};
use chronotick_core::{Span, Timestamp};
use chronotick_discipline::PHI;
use serde::{Deserialize, Serialize};
use serde_json::json;

/// The description of the interface, OpenAPI 3.1.
const OPENAPI: &str = include_str!("openapi.json");
/// The furthest moment that is looked at or waited for.
const FURTHEST: Span = Span::from_secs(3600);
/// A wait looks at the clock this often, should it be corrected meanwhile.
const LOOK_AGAIN: Span = Span::from_secs(10);

/// A reading as it is shown.
#[derive(Serialize)]
struct Time {
    corrected_ns: String,
    corrected_seconds: f64,
    system_seconds: f64,
    /// Null where there is no bound.
    earliest_ns: Option<String>,
    latest_ns: Option<String>,
    max_error_seconds: Option<f64>,
    sigma_seconds: f64,
    status: &'static str,
    source: &'static str,
    confidence: f32,
}

impl Time {
    fn new(r: &Reading) -> Self {
        let bounded = !r.bound.is_unbounded();
        let ns = |t: Timestamp| t.as_ns().to_string();
        Self {
            corrected_ns: ns(r.corrected),
            corrected_seconds: r.corrected.as_secs_f64(),
            system_seconds: r.system.as_secs_f64(),
            earliest_ns: bounded.then(|| ns(r.bound.earliest())),
            latest_ns: bounded.then(|| ns(r.bound.latest())),
            max_error_seconds: bounded.then(|| r.max_error().as_secs_f64()),
            sigma_seconds: r.sigma().as_secs_f64(),
            status: r.status.as_str(),
            source: r.source.as_str(),
            confidence: r.confidence,
        }
    }
}

/// What a wait is told.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wait {
    target_ns: Option<String>,
    target_seconds: Option<f64>,
    tolerance_ms: Option<f64>,
}

/// Answers what is under `/v1/`, and `/openapi.json`; `None` for any other path.
pub(crate) fn reply(request: &Request<'_>, client: &Client) -> Option<Reply> {
    Some(match (request.path, request.is_post) {
        ("/openapi.json", false) => {
            Answer { code: 200, kind: "application/json", body: OPENAPI.to_owned() }.into()
        }
        ("/v1/time", false) => with_reading(client.now(), |r| shown(200, &Time::new(&r)).into()),
        ("/v1/bounds", false) => bounds(request.query, client),
        (POSTED_TO, true) => wait(request, client),
        (POSTED_TO, false) => problem(405, "POST to /v1/wait").into(),
        ("/v1/time" | "/v1/bounds", true) => problem(405, "GET this").into(),
        _ => return None,
    })
}

fn shown(code: u16, value: &impl Serialize) -> Answer {
    let body = serde_json::to_string(value).unwrap_or_else(|_| "{}".to_owned()) + "\n";
    Answer { code, kind: "application/json", body }
}

fn problem(code: u16, why: impl Into<String>) -> Answer {
    shown(code, &json!({ "error": why.into() }))
}

/// Goes on with a reading that may be used.
fn with_reading<E: ToString>(reading: Result<Reading, E>, go_on: impl FnOnce(Reading) -> Reply) -> Reply {
    match reading {
        Ok(r) if matches!(r.status, Status::NoData | Status::Expired | Status::Disrupted) => {
            problem(503, format!("the clock is not usable now: {}; ask again later", r.status.as_str()))
                .into()
        }
        Ok(r) => go_on(r),
        Err(e) => problem(503, e.to_string()).into(),
    }
}

fn bounds(query: &str, client: &Client) -> Reply {
    let mut ahead_s = 0.0;
    for part in query.split('&').filter(|p| !p.is_empty()) {
        match part.split_once('=').map(|(name, value)| (name, value.parse::<f64>())) {
            Some(("duration_seconds", Ok(s))) if (0.0..=FURTHEST.as_secs_f64()).contains(&s) => ahead_s = s,
            _ => {
                let why = format!(
                    "{part:?}: give duration_seconds, a number from 0 to {}",
                    FURTHEST.as_ms() / 1000
                );
                return problem(422, why).into();
            }
        }
    }
    with_reading(client.now(), |r| match client.snapshot() {
        Ok(record) => {
            let growth = PHI + 3.0 * record.drift_uncertainty;
            shown(200, &Time::new(&ahead(&r, Span::from_secs_f64(ahead_s), growth))).into()
        }
        Err(e) => problem(503, e.to_string()).into(),
    })
}

/// The reading of a moment ahead, as it is known now: also beyond the validity of this page, since a daemon that runs
/// goes on publishing.
fn ahead(now: &Reading, span: Span, growth: f64) -> Reading {
    let drift = Span::from_secs_f64(span.as_secs_f64() * now.drift_rate);
    Reading {
        corrected: now.corrected + span + drift,
        system: now.system + span,
        bound: now.bound.project(span + drift, (growth * 1e9).ceil() as u32),
        ..*now
    }
}

/// The moment and the tolerance that are asked for; the error is for the user.
fn target(body: &[u8]) -> Result<(Timestamp, Span), String> {
    let asked: Wait = serde_json::from_slice(body).map_err(|e| {
        format!("{e}; send {{\"target_ns\": \"...\"}} or {{\"target_seconds\": ...}}, with tolerance_ms if you like")
    })?;
    let tolerance_ms = asked.tolerance_ms.unwrap_or(1.0);
    if !(0.0..=1e6).contains(&tolerance_ms) {
        return Err("tolerance_ms: give a number from 0 to 1000000".to_owned());
    }
    let at = match (asked.target_ns, asked.target_seconds) {
        (Some(ns), None) => ns.parse().map(Timestamp::from_ns).map_err(|e| format!("target_ns: {e}"))?,
        (None, Some(s)) if s.is_finite() && s.abs() < 9e9 => Timestamp::from_ns((s * 1e9).round() as i64),
        (None, Some(_)) => return Err("target_seconds: give seconds since 1970".to_owned()),
        _ => return Err("give either target_ns or target_seconds".to_owned()),
    };
    Ok((at, Span::from_secs_f64(tolerance_ms / 1e3)))
}

fn wait(request: &Request<'_>, client: &Client) -> Reply {
    let (at, tolerance) = match target(request.body) {
        Ok(asked) => asked,
        Err(why) => return problem(422, why).into(),
    };
    with_reading(client.now(), |r| {
        let late = r.corrected - at;
        if late.is_negative() {
            let left = Span::ZERO - late;
            if left > FURTHEST {
                return problem(422, format!("that is {left} ahead; wait at most {FURTHEST} at a time"))
                    .into();
            }
            return Reply::Later(boottime() + left.min(LOOK_AGAIN));
        }
        if !request.waited && late > tolerance {
            return problem(422, format!("corrected time was there {late} ago, more than the tolerance"))
                .into();
        }
        let answer = json!({
            "target_ns": at.as_ns().to_string(),
            "late_by_seconds": late.as_secs_f64(),
            "within_tolerance": late <= tolerance,
            "time": Time::new(&r),
        });
        shown(200, &answer).into()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_wait_says_what_is_wrong_with_it() {
        let check = |body: &str, want: Result<i64, &str>| match (target(body.as_bytes()), want) {
            (Ok((at, _)), Ok(ns)) => assert_eq!(at.as_ns(), ns, "{body}"),
            (Err(why), Err(part)) => assert!(why.contains(part), "{body}: {why}"),
            (got, _) => panic!("{body}: {got:?}"),
        };
        check(r#"{"target_ns": "1790000000000000001"}"#, Ok(1_790_000_000_000_000_001));
        check(r#"{"target_seconds": 1.5, "tolerance_ms": 0}"#, Ok(1_500_000_000));
        check("", Err("target_seconds"));
        check("{}", Err("either"));
        check(r#"{"target_ns": "x"}"#, Err("target_ns"));
        check(r#"{"target_ns": "1", "target_seconds": 1}"#, Err("either"));
        check(r#"{"target_seconds": 1e300}"#, Err("since 1970"));
        check(r#"{"target_seconds": 1, "tolerance_ms": -1}"#, Err("tolerance_ms"));
        check(r#"{"target": 1}"#, Err("unknown field"));
    }

    #[test]
    fn a_moment_ahead_is_known_less_well() {
        let at = Timestamp::from_secs(1_790_000_000);
        let record = chronotick_core::page::Record { sequence: 2, ..Default::default() };
        let bound = chronotick_core::TimeBound::around(at, Span::from_us(50));
        let now =
            Reading { corrected: at, system: at, bound, drift_rate: 10e-6, ..record.read_at(Span::ZERO) };
        let later = ahead(&now, Span::from_secs(60), 20e-6);
        assert_eq!(later.corrected - at, Span::from_secs(60) + Span::from_us(600));
        assert!(later.bound.contains(later.corrected));
        let error = later.max_error();
        assert!(error >= Span::from_us(1_250) && error < Span::from_us(1_252), "{error}");
    }

    #[test]
    fn the_description_names_every_path() {
        let openapi: serde_json::Value = serde_json::from_str(OPENAPI).unwrap();
        assert_eq!(openapi["openapi"], "3.1.0");
        for path in ["/v1/time", "/v1/bounds", "/v1/wait", "/v1/status", "/metrics", "/healthz"] {
            assert!(openapi["paths"][path].is_object(), "{path}");
        }
    }
}
