//! The ledger of a timer as the API shows it.

use super::words::ENDS;
use super::{FiredClockView, rfc3339};
use minoots_kernel::{FiringId, LedgerEntry, LedgerOutcome, TimerId};
use serde::Serialize;

/// One line of the ledger. Every field is always there; what does not apply is `null`.
#[derive(Debug, Default, Serialize)]
pub struct HistoryEntryView {
    nominal_at: String,
    outcome: &'static str,
    firing_id: String,
    sequence: Option<u64>,
    due_at: Option<String>,
    armed_at: Option<String>,
    fired_at: Option<String>,
    lateness_ns: Option<i64>,
    clock: Option<FiredClockView>,
    by_hand: bool,
    delivered_at: Option<String>,
    end: Option<&'static str>,
    buffered_at: Option<String>,
    skipped_at: Option<String>,
    reason: Option<&'static str>,
    count: u64,
    last_nominal_at: String,
}

impl HistoryEntryView {
    /// The line of a timer.
    pub fn new(timer: TimerId, entry: &LedgerEntry) -> Self {
        let nominal_at = rfc3339(entry.nominal_ns);
        let line = Self {
            firing_id: FiringId { timer, nominal_ns: entry.nominal_ns }.to_string(),
            last_nominal_at: nominal_at.clone(),
            nominal_at,
            count: 1,
            delivered_at: entry.delivery.map(|d| rfc3339(d.at_ns)),
            end: entry.delivery.map(|d| ENDS.of(d.end)),
            ..Self::default()
        };
        match &entry.outcome {
            LedgerOutcome::Fired(fired) => Self {
                outcome: "fired",
                sequence: Some(fired.sequence),
                due_at: Some(rfc3339(fired.due_ns)),
                armed_at: fired.armed_ns.map(rfc3339),
                fired_at: Some(rfc3339(fired.fired_ns)),
                lateness_ns: Some(fired.fired_ns.saturating_sub(fired.due_ns)),
                clock: Some(FiredClockView {
                    source: Some(fired.clock.as_str()),
                    max_error_ns: fired.max_error_ns,
                }),
                by_hand: fired.is_extra,
                ..line
            },
            LedgerOutcome::Skipped(skipped) => Self {
                outcome: "skipped",
                sequence: Some(skipped.sequence),
                skipped_at: Some(rfc3339(skipped.at_ns)),
                reason: Some(skipped.reason.as_str()),
                count: skipped.count,
                last_nominal_at: rfc3339(skipped.last_nominal_ns),
                ..line
            },
            LedgerOutcome::Buffered { at_ns } => {
                Self { outcome: "buffered", buffered_at: Some(rfc3339(*at_ns)), ..line }
            }
        }
    }
}
