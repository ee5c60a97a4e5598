//! Events for the wire.

use super::definition::sent_definition;
use super::time::timestamp;
use super::timer::{occurrence, results};
use super::word;
use crate::api::grpc::v2;
use crate::engine::FeedEvent;
use crate::render::superseded;
use minoots_kernel::Event;
use v2::event::Kind;

/// An event for the wire.
pub(in crate::api::grpc) fn event(event: &FeedEvent) -> v2::Event {
    let record = &event.record;
    v2::Event {
        sequence: record.sequence,
        timer_id: record.event.timer().to_string(),
        at: Some(timestamp(record.at_ns)),
        clock: word::clock(record.clock),
        partition: event.partition,
        cursor: event.cursor.to_string(),
        behind: event.behind,
        kind: Some(kind(&record.event, record.at_ns)),
    }
}

fn kind(event: &Event, at_ns: i64) -> Kind {
    match event {
        Event::Scheduled { definition, due_ns, nominal_ns, .. } => Kind::Scheduled(v2::Scheduled {
            definition: Some(sent_definition(definition)),
            due_at: Some(timestamp(*due_ns)),
            nominal_at: Some(timestamp(nominal_ns.unwrap_or(*due_ns))),
        }),
        Event::Held { definition, .. } => {
            Kind::Held(v2::Held { definition: Some(sent_definition(definition)) })
        }
        Event::Resolved { upstream, counts, next, .. } => Kind::Resolved(v2::Resolved {
            upstream_id: upstream.to_string(),
            counts: *counts,
            next: next.map(occurrence),
        }),
        Event::Rescheduled { next, .. } => {
            Kind::Rescheduled(v2::Rescheduled { next: Some(occurrence(*next)) })
        }
        Event::Paused { reason, .. } => Kind::Paused(v2::Paused { reason: reason.clone() }),
        Event::Resumed { .. } => Kind::Resumed(v2::Resumed {}),
        Event::Cancelled { reason, .. } => Kind::Cancelled(v2::Cancelled { reason: reason.clone() }),
        Event::Firing { firing, lateness_ns, max_error_ns, armed_ns, is_extra, supersedes, next, .. } => {
            Kind::Fired(v2::Fired {
                firing_id: firing.to_string(),
                due_at: Some(timestamp(at_ns.saturating_sub(*lateness_ns))),
                lateness_ns: *lateness_ns,
                max_error_ns: *max_error_ns,
                nominal_at: Some(timestamp(firing.nominal_ns)),
                armed_at: armed_ns.map(timestamp),
                by_hand: *is_extra,
                supersedes: superseded(*firing, supersedes),
                next: next.map(occurrence),
            })
        }
        Event::Buffered { occurrence: waits, next, .. } => {
            Kind::Buffered(v2::Buffered { occurrence: Some(occurrence(*waits)), next: next.map(occurrence) })
        }
        Event::Skipped { nominal_ns, last_nominal_ns, count, reason, next, .. } => {
            Kind::Skipped(v2::Skipped {
                nominal_at: Some(timestamp(*nominal_ns)),
                last_nominal_at: Some(timestamp(last_nominal_ns.unwrap_or(*nominal_ns))),
                count: *count,
                reason: word::skip_reason(*reason),
                next: next.map(occurrence),
            })
        }
        Event::Completed { firing, results: of, next } | Event::Failed { firing, results: of, next } => {
            let ended =
                v2::Ended { firing_id: firing.to_string(), results: results(of), next: next.map(occurrence) };
            let is_ok = matches!(event, Event::Completed { .. });
            if is_ok { Kind::Completed(ended) } else { Kind::Failed(ended) }
        }
        Event::Acknowledged { firing, by, note } => Kind::Acknowledged(v2::Acknowledged {
            firing_id: firing.to_string(),
            by: by.clone(),
            note: note.clone(),
        }),
    }
}
