//! The state machine: commands become events, and the state is the fold of those events.
//!
//! A change is made in two steps, so that the shell can make it durable in between: [`Kernel::handle`] and
//! [`Kernel::fire_due`] stage events and apply them at once; [`Kernel::commit`] keeps them, [`Kernel::rollback`] takes
//! back everything since the last commit. Live changes and [`Kernel::replay`] go through the same fold, so that the
//! state after a restart is the state before it.

use crate::clock::ClockStamp;
use crate::command::{Command, CommandError};
use crate::definition::{DETAIL_MAX_BYTES, REASON_MAX_BYTES, TimerDefinition};
use crate::event::{ActionResult, Event, EventRecord};
use crate::id::{FiringId, TenantId, TimerId};
use crate::instance::{TimerInstance, TimerState};
use crate::validate;
use chronotick_core::Timestamp;
use chronotick_core::queue::{Due, TimerKey, TimerQueue};
use chronotick_core::schedule::Schedule;
use core::fmt;
use core::ops::Bound;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// The state of one partition. Two kernels are equal when their timers, keys and next sequence are.
#[derive(Debug, Default)]
pub struct Kernel {
    timers: BTreeMap<TimerId, Entry>,
    /// Every timer in `Scheduled`, by due time.
    queue: TimerQueue<TimerId>,
    /// Every timer in `Firing`.
    firing: BTreeSet<TimerId>,
    /// Idempotency key to timer, for each tenant.
    keys: BTreeMap<TenantId, BTreeMap<String, TimerId>>,
    last_sequence: u64,
    staged: Vec<EventRecord>,
    /// What each staged event changed, in the same order.
    undo: Vec<Undo>,
    /// Scratch space of `fire_due`.
    due: Vec<Due<TimerId>>,
}

#[derive(Debug)]
struct Entry {
    timer: TimerInstance,
    /// Its place in the queue while it is `Scheduled`.
    key: Option<TimerKey>,
}

#[derive(Debug)]
enum Undo {
    Created(TimerId),
    Changed(Box<TimerInstance>),
}

/// What a command did. Its events are staged.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// A timer was made, or the idempotency key had made it before (then nothing is staged).
    Created {
        /// The timer.
        timer: TimerInstance,
        /// True when the key had made it before.
        replayed: bool,
    },
    /// A timer was cancelled.
    Cancelled(TimerInstance),
    /// The end of a fire was recorded, or had been before (then nothing is staged).
    Finished(TimerInstance),
}

/// Why an event does not continue the state: the log is not one that this kernel wrote.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum ReplayError {
    /// The sequence has a gap or a repeat.
    Sequence {
        /// The one that continues.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// The event names a timer that is not there, or cannot happen in its state.
    Impossible {
        /// The event.
        sequence: u64,
        /// Its timer.
        timer: TimerId,
        /// What does not fit.
        why: &'static str,
    },
}

impl fmt::Display for ReplayError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sequence { expected, found } => {
                write!(f, "event {found} came where event {expected} was expected")
            }
            Self::Impossible { sequence, timer, why } => {
                write!(f, "event {sequence} cannot happen to timer {timer}: {why}")
            }
        }
    }
}

impl std::error::Error for ReplayError {}

impl Kernel {
    /// No timers, no events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Carries out one command: its events are staged and the state shows them. A refused command changes nothing.
    pub fn handle(&mut self, command: Command, stamp: &ClockStamp) -> Result<Outcome, CommandError> {
        match command {
            Command::Create { id, definition } => self.create(id, definition, stamp),
            Command::Cancel { tenant, id, reason } => self.cancel(&tenant, id, reason, stamp),
            Command::Finish { firing, results } => self.finish(firing, results, stamp),
        }
    }

    /// Fires at most `limit` timers that are due, and returns how many; call again while it returns `limit`. Within
    /// one call they fire in order of due time, then of id.
    pub fn fire_due(&mut self, stamp: &ClockStamp, limit: usize) -> usize {
        let mut due = core::mem::take(&mut self.due);
        due.clear();
        self.queue.advance(stamp.now, limit, &mut due);
        // The queue orders equal deadlines by insertion, which a rollback changes; ids never change.
        due.sort_unstable_by_key(|d| (d.due, d.token));
        for d in &due {
            // `advance` took the timer out of the queue, so its key is spent.
            let Some(entry) = self.timers.get_mut(&d.token) else { continue };
            entry.key = None;
            let tenant = entry.timer.definition.tenant.clone();
            let event = Event::Firing {
                firing: FiringId { timer: d.token, nominal_ns: d.due.as_ns() },
                lateness_ns: (stamp.now - d.due).as_ns(),
                max_error_ns: stamp.max_error_ns(),
            };
            self.stage(tenant, event, stamp);
        }
        let fired = due.len();
        self.due = due;
        fired
    }

    /// Moves at most `budget` timers nearer to their turn, ahead of time, and returns how many; 0 means nothing is left to
    /// do. For moments with nothing else to do: it changes no answer, only how long later steps take.
    pub fn prepare(&mut self, now: Timestamp, budget: usize) -> usize {
        self.queue.prepare(now, budget)
    }

    /// The events since the last commit.
    pub fn staged(&self) -> &[EventRecord] {
        &self.staged
    }

    /// Keeps the staged events and hands them out. They must be durable by now.
    pub fn commit(&mut self) -> Vec<EventRecord> {
        self.undo.clear();
        core::mem::take(&mut self.staged)
    }

    /// Takes back every staged event, as if it had not been.
    pub fn rollback(&mut self) {
        self.last_sequence -= self.staged.len() as u64;
        self.staged.clear();
        while let Some(undo) = self.undo.pop() {
            match undo {
                Undo::Created(id) => self.remove(id),
                Undo::Changed(timer) => self.put(*timer),
            }
        }
    }

    /// Applies an event from the log. What was staged before must have been committed.
    pub fn replay(&mut self, record: &EventRecord) -> Result<(), ReplayError> {
        let expected = self.last_sequence + 1;
        if record.sequence != expected {
            return Err(ReplayError::Sequence { expected, found: record.sequence });
        }
        self.fold(record)?;
        self.last_sequence = record.sequence;
        self.undo.clear();
        Ok(())
    }

    /// When the next timer is due.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.queue.next_deadline()
    }

    /// The sequence of the last event, staged ones included; 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// How many timers wait.
    pub fn scheduled_count(&self) -> usize {
        self.queue.len()
    }

    /// The timers whose actions are under way, in order of id. After a replay these are to be handed over again.
    pub fn firing(&self) -> impl ExactSizeIterator<Item = TimerId> + '_ {
        self.firing.iter().copied()
    }

    /// One timer, whoever owns it.
    pub fn timer(&self, id: TimerId) -> Option<&TimerInstance> {
        self.timers.get(&id).map(|e| &e.timer)
    }

    /// The timers from a place on, in order of id.
    pub(crate) fn timers_from(&self, start: Bound<TimerId>) -> impl Iterator<Item = &TimerInstance> {
        self.timers.range((start, Bound::Unbounded)).map(|(_, e)| &e.timer)
    }

    fn create(
        &mut self,
        id: TimerId,
        definition: Arc<TimerDefinition>,
        stamp: &ClockStamp,
    ) -> Result<Outcome, CommandError> {
        // Before every other check: a repeated create is answered as the first was, though its moment may have passed.
        if let Some(earlier) = self.timer_of_key(&definition) {
            return if *earlier.definition == *definition {
                Ok(Outcome::Created { timer: earlier.clone(), replayed: true })
            } else {
                Err(CommandError::IdempotencyConflict { id: earlier.id })
            };
        }
        validate::definition(&definition)?;
        let due = Schedule::from(definition.schedule).first_due(stamp.now).map_err(CommandError::Schedule)?;
        if self.timers.contains_key(&id) {
            return Err(CommandError::DuplicateId(id));
        }
        let tenant = definition.tenant.clone();
        self.stage(tenant, Event::Scheduled { timer: id, definition, due_ns: due.as_ns() }, stamp);
        Ok(Outcome::Created { timer: self.timers[&id].timer.clone(), replayed: false })
    }

    fn timer_of_key(&self, definition: &TimerDefinition) -> Option<&TimerInstance> {
        let key = definition.idempotency_key.as_deref()?;
        self.timer(*self.keys.get(&definition.tenant)?.get(key)?)
    }

    fn cancel(
        &mut self,
        tenant: &TenantId,
        id: TimerId,
        reason: Option<String>,
        stamp: &ClockStamp,
    ) -> Result<Outcome, CommandError> {
        let timer = self.get(tenant, id).ok_or(CommandError::NotFound(id))?;
        if timer.state != TimerState::Scheduled {
            return Err(CommandError::WrongState { id, state: timer.state });
        }
        if let Some(reason) = &reason {
            validate::check_length("the reason", reason, 0, REASON_MAX_BYTES)?;
        }
        self.stage(tenant.clone(), Event::Cancelled { timer: id, reason }, stamp);
        Ok(Outcome::Cancelled(self.timers[&id].timer.clone()))
    }

    fn finish(
        &mut self,
        firing: FiringId,
        mut results: Vec<ActionResult>,
        stamp: &ClockStamp,
    ) -> Result<Outcome, CommandError> {
        let id = firing.timer;
        let timer = self.timer(id).ok_or(CommandError::NotFound(id))?;
        if firing.nominal_ns != timer.due_ns {
            return Err(CommandError::NotFound(id));
        }
        match timer.state {
            TimerState::Firing => {}
            // Actions are at-least-once, so their end may be told twice; the first telling stands.
            TimerState::Completed | TimerState::Failed => return Ok(Outcome::Finished(timer.clone())),
            state => return Err(CommandError::WrongState { id, state }),
        }
        for result in &mut results {
            let end = result.detail.floor_char_boundary(DETAIL_MAX_BYTES);
            result.detail.truncate(end);
        }
        let tenant = timer.definition.tenant.clone();
        let event = if results.iter().all(|r| r.ok) {
            Event::Completed { firing, results }
        } else {
            Event::Failed { firing, results }
        };
        self.stage(tenant, event, stamp);
        Ok(Outcome::Finished(self.timers[&id].timer.clone()))
    }

    /// Makes the next event and applies it.
    fn stage(&mut self, tenant: TenantId, event: Event, stamp: &ClockStamp) {
        let record = EventRecord {
            sequence: self.last_sequence + 1,
            tenant,
            at_ns: stamp.now.as_ns(),
            clock: stamp.source,
            event,
        };
        self.fold(&record).expect("the command was checked against the state that it changes");
        self.last_sequence = record.sequence;
        self.staged.push(record);
    }

    /// The fold: the one place where an event changes the state. Notes how to undo it.
    fn fold(&mut self, record: &EventRecord) -> Result<(), ReplayError> {
        let id = record.event.timer();
        let impossible = |why| ReplayError::Impossible { sequence: record.sequence, timer: id, why };
        if let Event::Scheduled { definition, due_ns, .. } = &record.event {
            if self.timers.contains_key(&id) {
                return Err(impossible("it exists already"));
            }
            self.put(TimerInstance {
                id,
                definition: definition.clone(),
                state: TimerState::Scheduled,
                created_ns: record.at_ns,
                created_clock: record.clock,
                due_ns: *due_ns,
                fired_ns: None,
                fired_clock: None,
                fired_max_error_ns: None,
                lateness_ns: None,
                ended_ns: None,
                cancel_reason: None,
                results: Vec::new(),
                version: 1,
            });
            self.undo.push(Undo::Created(id));
            return Ok(());
        }
        let before = self.timer(id).ok_or_else(|| impossible("it was never created"))?.clone();
        let mut timer = before.clone();
        let needs = match &record.event {
            Event::Scheduled { .. } | Event::Cancelled { .. } | Event::Firing { .. } => TimerState::Scheduled,
            Event::Completed { .. } | Event::Failed { .. } => TimerState::Firing,
        };
        if timer.state != needs {
            return Err(impossible("it is in another state"));
        }
        match &record.event {
            Event::Scheduled { .. } => {}
            Event::Cancelled { reason, .. } => {
                timer.state = TimerState::Cancelled;
                timer.ended_ns = Some(record.at_ns);
                timer.cancel_reason.clone_from(reason);
            }
            Event::Firing { lateness_ns, max_error_ns, .. } => {
                timer.state = TimerState::Firing;
                timer.fired_ns = Some(record.at_ns);
                timer.fired_clock = Some(record.clock);
                timer.fired_max_error_ns = *max_error_ns;
                timer.lateness_ns = Some(*lateness_ns);
            }
            Event::Completed { results, .. } | Event::Failed { results, .. } => {
                timer.state = if matches!(record.event, Event::Completed { .. }) {
                    TimerState::Completed
                } else {
                    TimerState::Failed
                };
                timer.ended_ns = Some(record.at_ns);
                timer.results.clone_from(results);
            }
        }
        timer.version += 1;
        self.put(timer);
        self.undo.push(Undo::Changed(Box::new(before)));
        Ok(())
    }

    /// Stores a timer, and makes the queue, the firing set and the keys agree with it.
    fn put(&mut self, timer: TimerInstance) {
        let id = timer.id;
        let mut key = self.timers.get_mut(&id).and_then(|e| e.key.take());
        if timer.state == TimerState::Scheduled {
            key = key.or_else(|| Some(self.queue.insert(Timestamp::from_ns(timer.due_ns), id)));
        } else if let Some(key) = key.take() {
            self.queue.cancel(key);
        }
        if timer.state == TimerState::Firing {
            self.firing.insert(id);
        } else {
            self.firing.remove(&id);
        }
        if let Some(name) = &timer.definition.idempotency_key
            && timer.version == 1
        {
            self.keys.entry(timer.definition.tenant.clone()).or_default().insert(name.clone(), id);
        }
        self.timers.insert(id, Entry { timer, key });
    }

    /// Takes back a creation.
    fn remove(&mut self, id: TimerId) {
        let Some(Entry { timer, key }) = self.timers.remove(&id) else { return };
        if let Some(key) = key {
            self.queue.cancel(key);
        }
        let definition = &timer.definition;
        if let Some(name) = &definition.idempotency_key
            && let Some(keys) = self.keys.get_mut(&definition.tenant)
        {
            keys.remove(name);
            if keys.is_empty() {
                self.keys.remove(&definition.tenant);
            }
        }
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        // The queue's keys name slots, which depend on the history; what is in the queue is what must agree.
        let entry = |e: &Entry| (e.timer.clone(), e.key.is_some());
        self.last_sequence == other.last_sequence
            && self.staged == other.staged
            && self.keys == other.keys
            && self.firing == other.firing
            && self.queue.len() == other.queue.len()
            && self.queue.next_deadline() == other.queue.next_deadline()
            && self.timers.values().map(entry).eq(other.timers.values().map(entry))
    }
}
