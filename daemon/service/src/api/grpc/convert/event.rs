//! Events for the wire.

use super::definition::sent_definition;
use super::time::{duration_ns, timestamp};
use super::timer::{occurrence, results};
use super::word;
use crate::api::error::{ApiError, INVALID_FIELD};
use crate::api::grpc::v2;
use crate::api::watch::{Ended, EventFilter, HEARTBEAT_MAX, HEARTBEAT_MIN, Reached, Told};
use crate::engine::{Cursor, FeedEvent};
use crate::render::superseded;
use minoots_kernel::Event;
use std::time::Duration;
use tonic::Status;
use v2::event::Kind;

/// What a stream tells besides its end.
pub(in crate::api::grpc) fn told(told: &Told) -> v2::WatchEventsResponse {
    let place = |reached: &Reached| v2::Place { cursor: reached.cursor.to_string(), behind: reached.behind };
    match told {
        Told::Event(happened) => {
            v2::WatchEventsResponse { event: Some(event(happened)), ..Default::default() }
        }
        Told::Lag(reached) => v2::WatchEventsResponse { lag: Some(place(reached)), ..Default::default() },
        Told::Place(reached) => {
            v2::WatchEventsResponse { keep_alive: Some(place(reached)), ..Default::default() }
        }
        Told::End(_) => v2::WatchEventsResponse::default(),
    }
}

/// Why a stream ends, with the places in its metadata.
pub(in crate::api::grpc) fn ended(ended: Ended) -> Status {
    let Ended { error, cursor, oldest } = ended;
    let mut status = Status::from(error);
    let mut note = |name: &'static str, cursor: &Cursor| {
        // Digits and dots are a value of metadata.
        if let Ok(value) = cursor.to_string().parse() {
            status.metadata_mut().insert(name, value);
        }
    };
    note("minoots-cursor", &cursor);
    if let Some(oldest) = &oldest {
        note("minoots-oldest", oldest);
    }
    status
}

/// Which events are asked for, and how often to say where an idle stream is.
pub(in crate::api::grpc) fn event_filter(
    asked: &v2::WatchEventsRequest,
) -> Result<(EventFilter, Option<Duration>), ApiError> {
    let mut filter = EventFilter::default();
    asked.types.iter().try_for_each(|kind| filter.add_kind(&INVALID_FIELD, kind))?;
    asked.timer_ids.iter().try_for_each(|id| filter.add_timer(id))?;
    asked.labels.iter().try_for_each(|(name, value)| filter.add_label(&INVALID_FIELD, name, value))?;
    asked.tags.iter().try_for_each(|tag| filter.add_label(&INVALID_FIELD, tag, ""))?;
    filter.check(&INVALID_FIELD)?;
    let Some(wanted) = &asked.keep_alive else { return Ok((filter, None)) };
    let wanted = u64::try_from(duration_ns("keep_alive", wanted)?).map(Duration::from_nanos).ok();
    let wanted = wanted.filter(|w| (HEARTBEAT_MIN..=HEARTBEAT_MAX).contains(w));
    let refused = || ApiError::new(&INVALID_FIELD, "keep_alive: give a duration from 1 s to 5 min");
    Ok((filter, Some(wanted.ok_or_else(refused)?)))
}

fn event(event: &FeedEvent) -> v2::Event {
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
