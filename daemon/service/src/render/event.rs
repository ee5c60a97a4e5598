//! An event as the stream tells it.

use super::timer::WaitsForView;
use super::{ClockView, OccurrenceView, ResultView, rfc3339, to_text};
use crate::engine::FeedEvent;
use minoots_kernel::{Event, FiringId, Occurrence};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct EventView<'a> {
    partition: u32,
    sequence: u64,
    cursor: String,
    behind: u64,
    r#type: &'static str,
    timer_id: String,
    at: String,
    clock: ClockView,
    #[serde(flatten)]
    details: DetailsView<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DetailsView<'a> {
    Scheduled {
        name: &'a str,
        nominal_at: String,
        due_at: String,
        labels: &'a BTreeMap<String, String>,
    },
    Held {
        name: &'a str,
        labels: &'a BTreeMap<String, String>,
        waits_for: Option<WaitsForView>,
    },
    Resolved {
        upstream_id: String,
        counts: bool,
        next: Option<OccurrenceView>,
    },
    Rescheduled {
        next: OccurrenceView,
    },
    /// Paused or cancelled.
    Stopped {
        reason: Option<&'a str>,
    },
    Resumed {},
    Fired {
        firing_id: String,
        nominal_at: String,
        due_at: String,
        armed_at: Option<String>,
        lateness_ns: i64,
        max_error_ns: Option<i64>,
        by_hand: bool,
        supersedes: Vec<String>,
        next: Option<OccurrenceView>,
    },
    Buffered {
        nominal_at: String,
        due_at: String,
        next: Option<OccurrenceView>,
    },
    Skipped {
        nominal_at: String,
        last_nominal_at: String,
        count: u64,
        reason: &'static str,
        next: Option<OccurrenceView>,
    },
    Ended {
        firing_id: String,
        results: Vec<ResultView<'a>>,
        next: Option<OccurrenceView>,
    },
    Acknowledged {
        firing_id: String,
        by: Option<&'a str>,
        note: Option<&'a str>,
    },
}

/// An event as one line of JSON.
pub fn event(event: &FeedEvent) -> String {
    let record = &event.record;
    to_text(&EventView {
        partition: event.partition,
        sequence: record.sequence,
        cursor: event.cursor.to_string(),
        behind: event.behind,
        r#type: record.event.kind(),
        timer_id: record.event.timer().to_string(),
        at: rfc3339(record.at_ns),
        clock: ClockView { source: record.clock.as_str() },
        details: details(&record.event, record.at_ns),
    })
}

fn details(event: &Event, at_ns: i64) -> DetailsView<'_> {
    let next = |next: &Option<Occurrence>| next.map(OccurrenceView::from);
    match event {
        Event::Scheduled { definition, due_ns, nominal_ns, .. } => DetailsView::Scheduled {
            name: &definition.name,
            nominal_at: rfc3339(nominal_ns.unwrap_or(*due_ns)),
            due_at: rfc3339(*due_ns),
            labels: &definition.labels,
        },
        Event::Held { definition, .. } => DetailsView::Held {
            name: &definition.name,
            labels: &definition.labels,
            waits_for: definition.start_after.as_ref().map(|after| WaitsForView::new(after, None)),
        },
        Event::Resolved { upstream, counts, next: then, .. } => {
            DetailsView::Resolved { upstream_id: upstream.to_string(), counts: *counts, next: next(then) }
        }
        Event::Rescheduled { next, .. } => DetailsView::Rescheduled { next: (*next).into() },
        Event::Paused { reason, .. } | Event::Cancelled { reason, .. } => {
            DetailsView::Stopped { reason: reason.as_deref() }
        }
        Event::Resumed { .. } => DetailsView::Resumed {},
        Event::Firing {
            firing,
            lateness_ns,
            max_error_ns,
            armed_ns,
            is_extra,
            supersedes,
            next: then,
            ..
        } => DetailsView::Fired {
            firing_id: firing.to_string(),
            nominal_at: rfc3339(firing.nominal_ns),
            due_at: rfc3339(at_ns.saturating_sub(*lateness_ns)),
            armed_at: armed_ns.map(rfc3339),
            lateness_ns: *lateness_ns,
            max_error_ns: *max_error_ns,
            by_hand: *is_extra,
            supersedes: superseded(*firing, supersedes),
            next: next(then),
        },
        Event::Buffered { occurrence, next: then, .. } => DetailsView::Buffered {
            nominal_at: rfc3339(occurrence.nominal_ns),
            due_at: rfc3339(occurrence.due_ns),
            next: next(then),
        },
        Event::Skipped { nominal_ns, last_nominal_ns, count, reason, next: then, .. } => {
            DetailsView::Skipped {
                nominal_at: rfc3339(*nominal_ns),
                last_nominal_at: rfc3339(last_nominal_ns.unwrap_or(*nominal_ns)),
                count: *count,
                reason: reason.as_str(),
                next: next(then),
            }
        }
        Event::Completed { firing, results, next: then } | Event::Failed { firing, results, next: then } => {
            DetailsView::Ended {
                firing_id: firing.to_string(),
                results: results.iter().map(ResultView::from).collect(),
                next: next(then),
            }
        }
        Event::Acknowledged { firing, by, note } => DetailsView::Acknowledged {
            firing_id: firing.to_string(),
            by: by.as_deref(),
            note: note.as_deref(),
        },
    }
}

/// The names of the fires that are given up for another.
pub(crate) fn superseded(firing: FiringId, nominal: &[i64]) -> Vec<String> {
    nominal.iter().map(|&nominal_ns| FiringId { nominal_ns, ..firing }.to_string()).collect()
}
