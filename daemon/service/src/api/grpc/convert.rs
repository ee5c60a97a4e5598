//! Between the wire types and the kernel's.

use super::v2;
use crate::actions::Connectors;
use crate::api::definition::{check_actions, no_schedule, too_far};
use crate::api::error::{
    ApiError, INVALID_DURATION, INVALID_FIELD, INVALID_JSON, INVALID_TIME, MISSING_FIELD,
};
use crate::render;
use minoots_kernel::{
    ActionResult, ActionSpec, ClockSource, Event, EventRecord, ScheduleSpec, TenantId, TimerDefinition,
    TimerInstance, TimerState,
};
use prost_types::{Duration, Timestamp};
use serde_json::value::RawValue;

const NS_PER_SEC: i64 = 1_000_000_000;

/// A definition from the wire, checked as one from JSON is.
pub(super) fn definition(
    sent: Option<v2::TimerDefinition>,
    connectors: &Connectors,
) -> Result<TimerDefinition, ApiError> {
    let sent = sent.ok_or_else(|| ApiError::new(&MISSING_FIELD, "missing field `definition`"))?;
    let schedule = match sent.schedule {
        Some(v2::timer_definition::Schedule::After(d)) => ScheduleSpec::AfterNs(duration_ns(d)?),
        Some(v2::timer_definition::Schedule::At(t)) => ScheduleSpec::AtNs(timestamp_ns(t)?),
        None => return Err(no_schedule("neither")),
    };
    let mut actions = Vec::with_capacity(sent.actions.len());
    for (i, action) in sent.actions.into_iter().enumerate() {
        let text = if action.parameters_json.is_empty() { "{}".to_string() } else { action.parameters_json };
        let parameters_json = json_text(&format!("actions[{i}].parameters_json"), text)?;
        actions.push(ActionSpec { id: action.id, kind: action.kind, parameters_json });
    }
    check_actions(&actions, connectors)?;
    Ok(TimerDefinition {
        tenant: TenantId::default(),
        name: sent.name,
        schedule,
        actions,
        labels: sent.labels.into_iter().collect(),
        metadata_json: sent.metadata_json.map(|text| json_text("metadata_json", text)).transpose()?,
        idempotency_key: sent.idempotency_key,
        ..TimerDefinition::default()
    })
}

fn json_text(field: &str, text: String) -> Result<String, ApiError> {
    let raw = RawValue::from_string(text)
        .map_err(|e| ApiError::new(&INVALID_JSON, format!("{field} is not valid JSON: {e}")))?;
    Ok(render::compact(&raw))
}

fn duration_ns(d: Duration) -> Result<i64, ApiError> {
    let nanos = i64::from(d.nanos);
    let signs_agree = nanos == 0 || d.seconds == 0 || (nanos < 0) == (d.seconds < 0);
    if nanos.abs() >= NS_PER_SEC || !signs_agree {
        let detail = "after: nanos must be under one second and have the sign of seconds";
        return Err(ApiError::new(&INVALID_DURATION, detail));
    }
    d.seconds.checked_mul(NS_PER_SEC).and_then(|ns| ns.checked_add(nanos)).ok_or_else(|| {
        ApiError::new(&INVALID_DURATION, "after: duration too long: the longest is 106751d (292 years)")
    })
}

fn timestamp_ns(t: Timestamp) -> Result<i64, ApiError> {
    if !(0..NS_PER_SEC).contains(&i64::from(t.nanos)) {
        return Err(ApiError::new(&INVALID_TIME, "at: nanos must be from 0 to 999999999"));
    }
    let ns = i128::from(t.seconds) * i128::from(NS_PER_SEC) + i128::from(t.nanos);
    // Too far back has passed, whatever the year.
    i64::try_from(ns).or_else(|_| if ns < 0 { Ok(i64::MIN) } else { Err(too_far()) })
}

fn timestamp(ns: i64) -> Timestamp {
    Timestamp { seconds: ns.div_euclid(NS_PER_SEC), nanos: ns.rem_euclid(NS_PER_SEC) as i32 }
}

fn duration(ns: i64) -> Duration {
    Duration { seconds: ns / NS_PER_SEC, nanos: (ns % NS_PER_SEC) as i32 }
}

fn clock(source: ClockSource) -> v2::ClockSource {
    match source {
        ClockSource::Page => v2::ClockSource::Page,
        ClockSource::PageHoldover => v2::ClockSource::PageHoldover,
        ClockSource::Os => v2::ClockSource::Os,
    }
}

fn state(state: TimerState) -> v2::TimerState {
    match state {
        TimerState::Scheduled => v2::TimerState::Scheduled,
        TimerState::Firing => v2::TimerState::Firing,
        TimerState::Completed => v2::TimerState::Completed,
        TimerState::Failed => v2::TimerState::Failed,
        TimerState::Cancelled => v2::TimerState::Cancelled,
        TimerState::Waiting => v2::TimerState::Waiting,
        TimerState::Paused => v2::TimerState::Paused,
        TimerState::Expired => v2::TimerState::Expired,
    }
}

/// The state to filter by; none where it is unspecified.
pub(super) fn state_filter(number: i32) -> Result<Option<TimerState>, ApiError> {
    Ok(match v2::TimerState::try_from(number) {
        Ok(v2::TimerState::Unspecified) => None,
        Ok(v2::TimerState::Scheduled) => Some(TimerState::Scheduled),
        Ok(v2::TimerState::Firing) => Some(TimerState::Firing),
        Ok(v2::TimerState::Completed) => Some(TimerState::Completed),
        Ok(v2::TimerState::Failed) => Some(TimerState::Failed),
        Ok(v2::TimerState::Cancelled) => Some(TimerState::Cancelled),
        Ok(v2::TimerState::Waiting) => Some(TimerState::Waiting),
        Ok(v2::TimerState::Paused) => Some(TimerState::Paused),
        Ok(v2::TimerState::Expired) => Some(TimerState::Expired),
        Err(_) => {
            return Err(ApiError::new(
                &INVALID_FIELD,
                format!("state is {number}: use a value of TimerState"),
            ));
        }
    })
}

fn sent_definition(d: &TimerDefinition) -> v2::TimerDefinition {
    v2::TimerDefinition {
        name: d.name.clone(),
        schedule: match &d.schedule {
            ScheduleSpec::AfterNs(ns) => Some(v2::timer_definition::Schedule::After(duration(*ns))),
            ScheduleSpec::AtNs(ns) => Some(v2::timer_definition::Schedule::At(timestamp(*ns))),
            _ => None,
        },
        actions: d
            .actions
            .iter()
            .map(|a| v2::Action {
                id: a.id.clone(),
                kind: a.kind.clone(),
                parameters_json: a.parameters_json.clone(),
            })
            .collect(),
        labels: d.labels.clone().into_iter().collect(),
        metadata_json: d.metadata_json.clone(),
        idempotency_key: d.idempotency_key.clone(),
    }
}

fn results(results: &[ActionResult]) -> Vec<v2::ActionResult> {
    let one = |r: &ActionResult| v2::ActionResult {
        action: r.action.clone(),
        ok: r.ok,
        attempts: r.attempts,
        detail: r.detail.clone(),
    };
    results.iter().map(one).collect()
}

/// A timer for the wire.
pub(super) fn timer(t: &TimerInstance) -> v2::Timer {
    let (status, last) = (&t.status, t.status.last.as_ref());
    v2::Timer {
        id: t.id.to_string(),
        definition: Some(sent_definition(&t.definition)),
        state: state(status.state).into(),
        created_at: Some(timestamp(status.created_ns)),
        created_clock: clock(status.created_clock).into(),
        due_at: t.due_ns().map(timestamp),
        fired_at: last.map(|l| timestamp(l.fired_ns)),
        lateness: last.map(|l| duration(l.lateness_ns())),
        ended_at: status.ended_ns.map(timestamp),
        cancel_reason: status.reason.clone(),
        results: last.map(|l| results(&l.results)).unwrap_or_default(),
        version: status.version,
    }
}

/// An event for the wire.
pub(super) fn event(record: &EventRecord) -> v2::Event {
    use v2::event::Kind;
    let ended = |firing_id: String, of: &[ActionResult]| v2::Ended { firing_id, results: results(of) };
    let kind = Some(match &record.event {
        Event::Scheduled { definition, due_ns, .. } => Kind::Scheduled(v2::Scheduled {
            definition: Some(sent_definition(definition)),
            due_at: Some(timestamp(*due_ns)),
        }),
        Event::Cancelled { reason, .. } => Kind::Cancelled(v2::Cancelled { reason: reason.clone() }),
        Event::Firing { firing, lateness_ns, max_error_ns, .. } => Kind::Fired(v2::Fired {
            firing_id: firing.to_string(),
            due_at: Some(timestamp(firing.nominal_ns)),
            lateness_ns: *lateness_ns,
            max_error_ns: *max_error_ns,
        }),
        Event::Completed { firing, results, .. } => Kind::Completed(ended(firing.to_string(), results)),
        Event::Failed { firing, results, .. } => Kind::Failed(ended(firing.to_string(), results)),
        _ => return v2::Event::default(),
    });
    v2::Event {
        sequence: record.sequence,
        timer_id: record.event.timer().to_string(),
        at: Some(timestamp(record.at_ns)),
        clock: clock(record.clock).into(),
        kind,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_and_times_are_exact_or_refused() {
        fn check(got: Result<i64, ApiError>, want: Result<i64, &str>) {
            assert_eq!(got.map_err(|e| e.code.code), want);
        }
        let d = |seconds, nanos| duration_ns(Duration { seconds, nanos });
        check(d(2, 5), Ok(2_000_000_005));
        check(d(-2, -5), Ok(-2_000_000_005));
        check(d(0, -5), Ok(-5));
        check(d(1, -5), Err("invalid_duration"));
        check(d(1, 1_000_000_000), Err("invalid_duration"));
        check(d(i64::MAX, 0), Err("invalid_duration"));
        let t = |seconds, nanos| timestamp_ns(Timestamp { seconds, nanos });
        check(t(-1, 999_999_999), Ok(-1));
        check(t(1, -1), Err("invalid_time"));
        check(t(i64::MAX, 0), Err("time_too_far"));
        check(t(i64::MIN, 0), Ok(i64::MIN));
        for ns in [0, -1, 1_999_999_999, i64::MIN, i64::MAX] {
            check(timestamp_ns(timestamp(ns)), Ok(ns));
            check(duration_ns(duration(ns)), Ok(ns));
        }
    }
}
