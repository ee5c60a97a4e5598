//! The ledger for the wire.

use super::time::timestamp;
use super::word;
use crate::api::grpc::v2;
use minoots_kernel::{FiringId, LedgerEntry, LedgerOutcome, TimerId};
use v2::history_entry::Outcome;

/// One line of a timer's ledger.
pub(in crate::api::grpc) fn entry(timer: TimerId, entry: &LedgerEntry) -> v2::HistoryEntry {
    v2::HistoryEntry {
        nominal_at: Some(timestamp(entry.nominal_ns)),
        firing_id: FiringId { timer, nominal_ns: entry.nominal_ns }.to_string(),
        outcome: Some(match &entry.outcome {
            LedgerOutcome::Fired(f) => Outcome::Fired(v2::HistoryFired {
                sequence: f.sequence,
                due_at: Some(timestamp(f.due_ns)),
                armed_at: f.armed_ns.map(timestamp),
                fired_at: Some(timestamp(f.fired_ns)),
                clock: word::clock(f.clock),
                lateness_ns: f.fired_ns.saturating_sub(f.due_ns),
                max_error_ns: f.max_error_ns,
                by_hand: f.is_extra,
            }),
            LedgerOutcome::Skipped(s) => Outcome::Skipped(v2::HistorySkipped {
                sequence: s.sequence,
                last_nominal_at: Some(timestamp(s.last_nominal_ns)),
                count: s.count,
                reason: word::skip_reason(s.reason),
                decided_at: Some(timestamp(s.at_ns)),
            }),
            LedgerOutcome::Buffered { at_ns } => {
                Outcome::Buffered(v2::HistoryBuffered { since: Some(timestamp(*at_ns)) })
            }
        }),
        end: entry.delivery.map(|d| word::end(d.end)).unwrap_or_default(),
        delivered_at: entry.delivery.map(|d| timestamp(d.at_ns)),
    }
}
