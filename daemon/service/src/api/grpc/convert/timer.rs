//! Timers for the wire.

use super::definition::sent_definition;
use super::time::{duration, timestamp};
use super::word;
use crate::api::grpc::v2;
use minoots_kernel::{ActionResult, FiringId, LastFire, Occurrence, TimerInstance, TimerState};

/// A timer for the wire.
pub(in crate::api::grpc) fn timer(t: &TimerInstance) -> v2::Timer {
    let (status, last) = (&t.status, t.status.last.as_ref());
    let reason_in = |state| status.reason.clone().filter(|_| status.state == state);
    v2::Timer {
        id: t.id.to_string(),
        definition: Some(sent_definition(&t.definition)),
        state: word::state(status.state),
        created_at: Some(timestamp(status.created_ns)),
        created_clock: word::clock(status.created_clock),
        due_at: t.due_ns().map(timestamp),
        fired_at: last.map(|l| timestamp(l.fired_ns)),
        lateness: last.map(|l| duration(l.lateness_ns())),
        ended_at: status.ended_ns.map(timestamp),
        cancel_reason: reason_in(TimerState::Cancelled),
        results: last.map(|l| results(&l.results)).unwrap_or_default(),
        version: status.version,
        next: status.next.map(occurrence),
        occurrences: status.occurrences,
        fires: status.fires,
        completions: status.completions,
        failures: status.failures,
        in_flight: status
            .flights
            .iter()
            .map(|f| FiringId { timer: t.id, nominal_ns: f.nominal_ns }.to_string())
            .collect(),
        buffered: status.buffered.map(occurrence),
        last_fire: last.map(|l| last_fire(t, l)),
        resolutions: status
            .resolutions
            .iter()
            .map(|r| v2::Resolution { id: r.upstream.to_string(), counts: r.counts })
            .collect(),
        pause_reason: reason_in(TimerState::Paused),
        created_by: t.definition.created_by.clone(),
    }
}

fn last_fire(timer: &TimerInstance, l: &LastFire) -> v2::LastFire {
    v2::LastFire {
        firing_id: FiringId { timer: timer.id, nominal_ns: l.nominal_ns }.to_string(),
        nominal_at: Some(timestamp(l.nominal_ns)),
        due_at: Some(timestamp(l.due_ns)),
        armed_at: l.armed_ns.map(timestamp),
        fired_at: Some(timestamp(l.fired_ns)),
        clock: word::clock(l.clock),
        lateness_ns: l.lateness_ns(),
        max_error_ns: l.max_error_ns,
        delivered_at: l.delivered_ns.map(timestamp),
        acknowledged_at: l.acknowledged_ns.map(timestamp),
    }
}

pub(super) fn occurrence(o: Occurrence) -> v2::Occurrence {
    v2::Occurrence { nominal_at: Some(timestamp(o.nominal_ns)), due_at: Some(timestamp(o.due_ns)) }
}

pub(super) fn results(results: &[ActionResult]) -> Vec<v2::ActionResult> {
    let one = |r: &ActionResult| v2::ActionResult {
        action: r.action.clone(),
        ok: r.ok,
        attempts: r.attempts,
        detail: r.detail.clone(),
    };
    results.iter().map(one).collect()
}
