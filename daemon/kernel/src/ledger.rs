//! The ledger: what became of each nominal occurrence of a timer, drawn from its events.

use crate::clock::ClockSource;
use crate::event::{Event, EventRecord, SkipReason};
use crate::id::TimerId;
use serde::{Deserialize, Serialize};

/// One line of the ledger: an occurrence, or several skipped in a row. Times are Unix nanoseconds on corrected time.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// The time that the schedule named; with the timer it is the firing id.
    pub nominal_ns: i64,
    /// What became of it.
    pub outcome: LedgerOutcome,
    /// How its actions ended, once they have.
    pub delivery: Option<Delivery>,
}

impl LedgerEntry {
    /// When the last thing was said of it; `None` while something is to come.
    pub fn settled_ns(&self) -> Option<i64> {
        match (&self.outcome, self.delivery) {
            (_, Some(delivery)) => Some(delivery.at_ns),
            (LedgerOutcome::Skipped(skipped), None) => Some(skipped.at_ns),
            (LedgerOutcome::Fired(_) | LedgerOutcome::Buffered { .. }, None) => None,
        }
    }
}

/// What became of an occurrence.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LedgerOutcome {
    /// It fired.
    Fired(Fired),
    /// It did not fire and will not.
    Skipped(Skipped),
    /// It waits until an earlier fire has ended.
    Buffered {
        /// Since when.
        at_ns: i64,
    },
}

/// A fire, as it was logged.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Fired {
    /// The event's sequence in its partition.
    pub sequence: u64,
    /// When it was to fire.
    pub due_ns: i64,
    /// When the timer came into the timing queue for it.
    pub armed_ns: Option<i64>,
    /// When it fired.
    pub fired_ns: i64,
    /// Which clock said so.
    pub clock: ClockSource,
    /// Half the width of that clock's bound; `None` where it had none.
    pub max_error_ns: Option<i64>,
    /// It was fired by hand, beside its schedule.
    pub is_extra: bool,
}

/// One occurrence or more that did not fire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Skipped {
    /// The event's sequence in its partition.
    pub sequence: u64,
    /// The nominal time of the last of them.
    pub last_nominal_ns: i64,
    /// How many.
    pub count: u64,
    /// Why.
    pub reason: SkipReason,
    /// When that was decided.
    pub at_ns: i64,
}

/// How the actions of a fire ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Delivery {
    /// When.
    pub at_ns: i64,
    /// How.
    pub end: DeliveryEnd,
}

/// The end of a fire.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryEnd {
    /// Every action succeeded.
    Completed,
    /// An action failed for good.
    Failed,
    /// It was given up for a later fire.
    Superseded,
}

/// A change of the ledger.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum LedgerChange {
    /// The line of this nominal time begins, or is written over.
    Outcome {
        /// Whose.
        timer: TimerId,
        /// Which line.
        nominal_ns: i64,
        /// What it says.
        outcome: LedgerOutcome,
    },
    /// The line of this nominal time is ended.
    Delivery {
        /// Whose.
        timer: TimerId,
        /// Which line.
        nominal_ns: i64,
        /// How.
        delivery: Delivery,
    },
}

/// Calls `each` with what an event changes in the ledger.
pub fn changes(record: &EventRecord, mut each: impl FnMut(LedgerChange)) {
    let (sequence, at_ns) = (record.sequence, record.at_ns);
    match &record.event {
        Event::Firing { firing, lateness_ns, max_error_ns, armed_ns, is_extra, supersedes, .. } => {
            let fired = Fired {
                sequence,
                due_ns: at_ns.saturating_sub(*lateness_ns),
                armed_ns: *armed_ns,
                fired_ns: at_ns,
                clock: record.clock,
                max_error_ns: *max_error_ns,
                is_extra: *is_extra,
            };
            let timer = firing.timer;
            for &nominal_ns in supersedes {
                let delivery = Delivery { at_ns, end: DeliveryEnd::Superseded };
                each(LedgerChange::Delivery { timer, nominal_ns, delivery });
            }
            let outcome = LedgerOutcome::Fired(fired);
            each(LedgerChange::Outcome { timer, nominal_ns: firing.nominal_ns, outcome });
        }
        Event::Buffered { timer, occurrence, .. } => {
            let outcome = LedgerOutcome::Buffered { at_ns };
            each(LedgerChange::Outcome { timer: *timer, nominal_ns: occurrence.nominal_ns, outcome });
        }
        Event::Skipped { timer, nominal_ns, last_nominal_ns, count, reason, .. } => {
            let outcome = LedgerOutcome::Skipped(Skipped {
                sequence,
                last_nominal_ns: last_nominal_ns.unwrap_or(*nominal_ns),
                count: *count,
                reason: *reason,
                at_ns,
            });
            each(LedgerChange::Outcome { timer: *timer, nominal_ns: *nominal_ns, outcome });
        }
        Event::Completed { firing, .. } | Event::Failed { firing, .. } => {
            let is_ok = matches!(record.event, Event::Completed { .. });
            let end = if is_ok { DeliveryEnd::Completed } else { DeliveryEnd::Failed };
            let delivery = Delivery { at_ns, end };
            each(LedgerChange::Delivery { timer: firing.timer, nominal_ns: firing.nominal_ns, delivery });
        }
        Event::Scheduled { .. }
        | Event::Held { .. }
        | Event::Resolved { .. }
        | Event::Rescheduled { .. }
        | Event::Paused { .. }
        | Event::Resumed { .. }
        | Event::Cancelled { .. }
        | Event::Acknowledged { .. } => {}
    }
}
