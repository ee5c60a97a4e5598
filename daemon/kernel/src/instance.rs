//! A timer as it stands now, and the fold: the one place where an event changes it.

use crate::clock::ClockSource;
use crate::definition::{ScheduleSpec, TimerDefinition};
use crate::event::{ActionResult, Event, EventRecord, Occurrence, UpstreamSeen};
use crate::id::{TenantId, TimerId};
use crate::recurrence::IntervalMode;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Where a timer is in its life.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TimerState {
    /// Waiting for other timers.
    Waiting,
    /// Waiting for its time. A recurring timer may have fires under way as well.
    Scheduled,
    /// Not waiting until it is resumed.
    Paused,
    /// Fired, and waiting for no time; its actions are being carried out.
    Firing,
    /// Its last fire succeeded.
    Completed,
    /// An action of its last fire failed for good.
    Failed,
    /// Cancelled.
    Cancelled,
    /// It ended without a fire: its policy skipped all it had.
    Expired,
}

impl TimerState {
    /// Every state.
    pub const ALL: [Self; 8] = [
        Self::Waiting,
        Self::Scheduled,
        Self::Paused,
        Self::Firing,
        Self::Completed,
        Self::Failed,
        Self::Cancelled,
        Self::Expired,
    ];

    /// The word used in the API.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Waiting => "waiting",
            Self::Scheduled => "scheduled",
            Self::Paused => "paused",
            Self::Firing => "firing",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
        }
    }

    /// True when nothing more of the timer will fire.
    pub const fn is_ended(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Expired)
    }
}

/// A fire whose actions are under way.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Flight {
    /// The nominal time: with the timer it is the firing id.
    pub nominal_ns: i64,
    /// When it fired.
    pub fired_ns: i64,
}

/// The latest fire.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct LastFire {
    /// The time that the schedule named.
    pub nominal_ns: i64,
    /// When it was to fire.
    pub due_ns: i64,
    /// When the timer came into the timing queue for it.
    pub armed_ns: Option<i64>,
    /// When it fired.
    pub fired_ns: i64,
    /// Which clock said so.
    pub clock: ClockSource,
    /// Half the width of that clock's bound.
    pub max_error_ns: Option<i64>,
    /// When its actions had ended.
    pub delivered_ns: Option<i64>,
    /// How its actions ended.
    pub results: Vec<ActionResult>,
    /// When whoever was woken said so.
    pub acknowledged_ns: Option<i64>,
}

impl LastFire {
    /// Fired minus due.
    pub const fn lateness_ns(&self) -> i64 {
        self.fired_ns.saturating_sub(self.due_ns)
    }
}

/// What is known of a timer that this one waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Resolution {
    /// Which one.
    pub upstream: TimerId,
    /// True when it did what counts; false when it can no longer do it.
    pub counts: bool,
}

/// A timer: its definition and what has become of it. Times are Unix nanoseconds on corrected time.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TimerInstance {
    /// Its name for ever.
    pub id: TimerId,
    /// What was asked.
    pub definition: Arc<TimerDefinition>,
    /// What has become of it.
    pub status: TimerStatus,
}

/// The changing part of a timer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimerStatus {
    /// Where it is in its life.
    pub state: TimerState,
    /// Counts its events; for compare-and-set.
    pub version: u64,
    /// When it was created.
    pub created_ns: i64,
    /// Which clock said so.
    pub created_clock: ClockSource,
    /// From when its schedule counts: its creation, or the end of its waiting.
    pub base_ns: i64,
    /// What it waits for.
    pub next: Option<Occurrence>,
    /// How many occurrences of its schedule have fired or were skipped.
    pub occurrences: u64,
    /// How many fires there were.
    pub fires: u64,
    /// How many fires ended well.
    pub completions: u64,
    /// How many fires failed.
    pub failures: u64,
    /// The fires under way, oldest first.
    pub flights: Vec<Flight>,
    /// An occurrence that waits until the fire under way has ended.
    pub buffered: Option<Occurrence>,
    /// The latest fire.
    pub last: Option<LastFire>,
    /// What is known of the timers it waits for.
    pub resolutions: Vec<Resolution>,
    /// When it ended.
    pub ended_ns: Option<i64>,
    /// Why it was cancelled or paused.
    pub reason: Option<String>,
    /// Set while occurrences that were due before this, when the timer was paused, are yet to be skipped.
    #[serde(default)]
    pub skip_before_ns: Option<i64>,
    /// The latest nominal time that has been fired, buffered or skipped, those of fires by hand included.
    #[serde(default)]
    pub latest_nominal_ns: Option<i64>,
}

impl TimerInstance {
    /// Who owns it.
    pub fn tenant(&self) -> &TenantId {
        &self.definition.tenant
    }

    /// The timer that its first event makes; `None` for any other event.
    pub fn created_by(record: &EventRecord) -> Option<Self> {
        let (id, definition, next) = match &record.event {
            Event::Scheduled { timer, definition, due_ns, nominal_ns } => {
                let nominal_ns = nominal_ns.unwrap_or(*due_ns);
                (*timer, definition, Some(Occurrence { nominal_ns, due_ns: *due_ns }))
            }
            Event::Held { timer, definition } => (*timer, definition, None),
            _ => return None,
        };
        let status = TimerStatus {
            state: if next.is_some() { TimerState::Scheduled } else { TimerState::Waiting },
            version: 1,
            created_ns: record.at_ns,
            created_clock: record.clock,
            base_ns: record.at_ns,
            next,
            occurrences: 0,
            fires: 0,
            completions: 0,
            failures: 0,
            flights: Vec::new(),
            buffered: None,
            last: None,
            resolutions: Vec::new(),
            ended_ns: None,
            reason: None,
            skip_before_ns: None,
            latest_nominal_ns: None,
        };
        Some(Self { id, definition: definition.clone(), status })
    }

    /// When it is, or was, to fire; `None` while it waits for other timers.
    pub fn due_ns(&self) -> Option<i64> {
        let status = &self.status;
        status.next.map(|n| n.due_ns).or_else(|| status.last.as_ref().map(|l| l.due_ns))
    }

    /// Where its place in the order of due timers is, while it waits for its time.
    pub fn due_key(&self) -> Option<DueKey> {
        let next = self.status.next.filter(|_| self.status.state == TimerState::Scheduled)?;
        Some(DueKey::new(next.due_ns, self.definition.priority, self.id))
    }

    /// True while a fire of this name is under way.
    pub(crate) fn is_under_way(&self, nominal_ns: i64) -> bool {
        self.status.flights.iter().any(|f| f.nominal_ns == nominal_ns)
    }

    /// True while a fire is under way after which it is to fire again, though it waits for no time yet.
    pub(crate) fn goes_on_after_its_fire(&self) -> bool {
        let TimerStatus { state, buffered, occurrences, .. } = &self.status;
        let is_counted_out = self.definition.bounds.count.is_some_and(|count| *occurrences >= count);
        let is_fixed_delay = matches!(&self.definition.schedule,
            ScheduleSpec::Interval(i) if i.mode == IntervalMode::FixedDelay);
        *state == TimerState::Firing && (buffered.is_some() || (is_fixed_delay && !is_counted_out))
    }

    /// What timers that wait for this one have to know.
    pub fn seen(&self) -> UpstreamSeen {
        let status = &self.status;
        UpstreamSeen {
            fired: status.fires > 0,
            completed: status.completions > 0,
            failed: status.failures > 0,
            ended: status.state.is_ended() && status.flights.is_empty(),
        }
    }

    /// Applies an event after the first. An error says what does not fit.
    pub fn apply(&mut self, record: &EventRecord) -> Result<(), &'static str> {
        let status = &mut self.status;
        let is_open = !status.state.is_ended();
        let (at_ns, clock) = (record.at_ns, record.clock);
        match &record.event {
            Event::Scheduled { .. } | Event::Held { .. } => return Err("it exists already"),
            Event::Resolved { upstream, counts, next, .. } => {
                expect(status.state == TimerState::Waiting)?;
                status.resolutions.push(Resolution { upstream: *upstream, counts: *counts });
                if next.is_some() {
                    status.next = *next;
                    status.base_ns = at_ns;
                    status.state = TimerState::Scheduled;
                }
            }
            Event::Rescheduled { next, .. } => {
                expect(is_open && status.next.is_some())?;
                status.next = Some(*next);
                status.skip_before_ns = None;
            }
            Event::Paused { reason, .. } => {
                expect(status.state == TimerState::Scheduled)?;
                status.state = TimerState::Paused;
                status.reason.clone_from(reason);
            }
            Event::Resumed { .. } => {
                expect(status.state == TimerState::Paused)?;
                status.state = TimerState::Scheduled;
                status.reason = None;
                status.skip_before_ns = self.definition.schedule.is_recurring().then_some(at_ns);
            }
            Event::Cancelled { reason, .. } => {
                expect(is_open)?;
                status.state = TimerState::Cancelled;
                status.ended_ns = Some(at_ns);
                status.next = None;
                status.buffered = None;
                status.reason.clone_from(reason);
            }
            Event::Firing {
                firing, lateness_ns, max_error_ns, armed_ns, is_extra, supersedes, next, ..
            } => {
                expect(is_open && status.state != TimerState::Waiting)?;
                let nominal_ns = firing.nominal_ns;
                expect(status.flights.iter().all(|f| f.nominal_ns != nominal_ns))?;
                status.flights.retain(|f| !supersedes.contains(&f.nominal_ns));
                if !is_extra {
                    let is_buffered = status.buffered.is_some_and(|b| b.nominal_ns == nominal_ns);
                    if is_buffered {
                        status.buffered = None;
                    } else {
                        expect(status.next.is_some_and(|n| n.nominal_ns == nominal_ns))?;
                        status.occurrences = status.occurrences.saturating_add(1);
                        status.next = *next;
                    }
                }
                status.fires += 1;
                status.flights.push(Flight { nominal_ns, fired_ns: at_ns });
                status.last = Some(LastFire {
                    nominal_ns,
                    due_ns: at_ns.saturating_sub(*lateness_ns),
                    armed_ns: *armed_ns,
                    fired_ns: at_ns,
                    clock,
                    max_error_ns: *max_error_ns,
                    delivered_ns: None,
                    results: Vec::new(),
                    acknowledged_ns: None,
                });
            }
            Event::Buffered { occurrence, next, .. } => {
                expect(is_open && status.buffered.is_none())?;
                expect(status.next.is_some_and(|n| n.nominal_ns == occurrence.nominal_ns))?;
                status.buffered = Some(*occurrence);
                status.occurrences = status.occurrences.saturating_add(1);
                status.next = *next;
            }
            Event::Skipped { nominal_ns, count, next, .. } => {
                if status.buffered.is_some_and(|b| b.nominal_ns == *nominal_ns) {
                    status.buffered = None;
                } else {
                    expect(is_open && status.next.is_some_and(|n| n.nominal_ns == *nominal_ns))?;
                    status.occurrences = status.occurrences.saturating_add(*count);
                    status.next = *next;
                }
                self.end_if_over(at_ns);
            }
            Event::Completed { firing, results, next } | Event::Failed { firing, results, next } => {
                let nominal_ns = firing.nominal_ns;
                expect(status.flights.iter().any(|f| f.nominal_ns == nominal_ns))?;
                status.flights.retain(|f| f.nominal_ns != nominal_ns);
                let is_ok = matches!(record.event, Event::Completed { .. });
                if is_ok {
                    status.completions += 1;
                } else {
                    status.failures += 1;
                }
                if let Some(last) = status.last.as_mut().filter(|l| l.nominal_ns == nominal_ns) {
                    last.delivered_ns = Some(at_ns);
                    last.results.clone_from(results);
                }
                if is_open && next.is_some() {
                    status.next = *next;
                }
                self.end_if_over(at_ns);
            }
            Event::Acknowledged { firing, .. } => {
                let last = status.last.as_mut().filter(|l| l.nominal_ns == firing.nominal_ns);
                let last = last.ok_or("it has another fire since")?;
                last.acknowledged_ns = Some(at_ns);
            }
        }
        let nominal_ns = decided_until_ns(&record.event);
        self.status.latest_nominal_ns = self.status.latest_nominal_ns.max(nominal_ns);
        self.status.version += 1;
        self.settle_state();
        let TimerStatus { next, skip_before_ns, .. } = &mut self.status;
        *skip_before_ns = skip_before_ns.filter(|before_ns| next.is_some_and(|n| n.due_ns < *before_ns));
        Ok(())
    }

    /// Ends a timer that has nothing more to come and nothing under way, as its last fire ended.
    fn end_if_over(&mut self, at_ns: i64) {
        let status = &mut self.status;
        let as_state = match &status.last {
            None => TimerState::Expired,
            Some(last) if last.results.iter().all(|r| r.ok) => TimerState::Completed,
            Some(_) => TimerState::Failed,
        };
        let is_over = status.next.is_none() && status.flights.is_empty() && status.buffered.is_none();
        if is_over && !status.state.is_ended() {
            status.state = as_state;
            status.ended_ns = Some(at_ns);
        }
    }

    /// A timer that is neither ended, paused nor waiting is scheduled while something is to come, else firing.
    fn settle_state(&mut self) {
        let status = &mut self.status;
        if matches!(status.state, TimerState::Scheduled | TimerState::Firing) {
            let is_scheduled = status.next.is_some();
            status.state = if is_scheduled { TimerState::Scheduled } else { TimerState::Firing };
        } else if status.state == TimerState::Paused && status.next.is_none() {
            // Fired by hand.
            status.state = TimerState::Firing;
            status.reason = None;
        }
    }
}

/// The last nominal time that an event decides about.
fn decided_until_ns(event: &Event) -> Option<i64> {
    match event {
        Event::Firing { firing, .. } => Some(firing.nominal_ns),
        Event::Buffered { occurrence, .. } => Some(occurrence.nominal_ns),
        Event::Skipped { nominal_ns, last_nominal_ns, .. } => Some(last_nominal_ns.unwrap_or(*nominal_ns)),
        _ => None,
    }
}

fn expect(holds: bool) -> Result<(), &'static str> {
    if holds { Ok(()) } else { Err("it is in another state") }
}

/// The order in which due timers fire: by due time, then priority, then id.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub struct DueKey {
    /// When it is due.
    pub due_ns: i64,
    /// 127 minus the priority, so that more comes first.
    pub rank: u8,
    /// Which timer.
    pub id: TimerId,
}

impl DueKey {
    /// Before every timer that is due later than `due_ns`, and every one that is due then.
    pub const fn start_of(due_ns: i64) -> Self {
        Self { due_ns, rank: 0, id: TimerId::from_u128(0) }
    }

    /// The place of a timer.
    pub const fn new(due_ns: i64, priority: i8, id: TimerId) -> Self {
        Self { due_ns, rank: (127 - priority as i16) as u8, id }
    }
}
