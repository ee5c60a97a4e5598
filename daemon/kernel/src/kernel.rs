//! The state machine: commands become events, and the state is the fold of those events.
//!
//! A change is made in two steps, so that the shell can make it durable in between: [`Kernel::handle`] and
//! [`Kernel::fire_due`] stage events and apply them at once; [`Kernel::commit`] keeps them, [`Kernel::rollback`] takes
//! back everything since the last commit. Live changes and [`Kernel::replay`] go through the same fold, so that the
//! state after a restart is the state before it.
//!
//! In memory are only the timers that are due before the *horizon*, those with a fire under way, and those whose latest
//! change is not in the index yet. All others are in the index ([`ColdState`]), so memory does not grow with timers
//! that are far away. The shell moves the horizon with [`Kernel::load`] and says with [`Kernel::settle`] how far the
//! index has come.

use crate::clock::ClockStamp;
use crate::event::{Event, EventRecord};
use crate::id::{TenantId, TimerId};
use crate::instance::{DueKey, TimerInstance, TimerState};
use crate::memory::Memory;
use crate::recurrence::RecurrenceCache;
use crate::view::{ColdError, ColdState};
use chronotick_core::Timestamp;
use chronotick_core::queue::Due;
use core::cmp::Reverse;
use core::fmt;
use std::sync::Arc;

/// So many due timers are put in their places one by one.
const FEW: usize = 8;

/// The state of one partition. Two kernels are equal when the timers in their memories, and their next sequences, are.
#[derive(Default)]
pub struct Kernel {
    pub(crate) memory: Memory,
    /// Timers that are due, the one that fires first last. One that was changed since it came here is passed over.
    ready: Vec<DueKey>,
    pub(crate) recurrences: RecurrenceCache,
    last_sequence: u64,
    staged: Vec<EventRecord>,
    /// What each staged event changed, in the same order.
    undo: Vec<Undo>,
    /// Scratch space of `fire_due`.
    due: Vec<Due<TimerId>>,
}

#[derive(Debug)]
struct Undo {
    id: TimerId,
    /// `None` for a creation.
    before: Option<Arc<TimerInstance>>,
    /// The sequence of its last change before.
    touched: u64,
    /// When it came into the queue.
    armed_ns: i64,
}

/// What a commit hands out.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Committed {
    /// The events, in order.
    pub records: Vec<EventRecord>,
    /// Each timer that they changed, once.
    pub changes: Vec<Changed>,
}

/// A timer before and after a batch of events: what the index has to change.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Changed {
    /// As the index has it; `None` for a new timer.
    pub before: Option<Arc<TimerInstance>>,
    /// As it is now.
    pub after: Arc<TimerInstance>,
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
    /// The index cannot be read.
    Cold(ColdError),
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
            Self::Cold(e) => e.fmt(f),
        }
    }
}

impl std::error::Error for ReplayError {}

impl Kernel {
    /// No timers, no events.
    pub fn new() -> Self {
        Self::default()
    }

    /// Goes on after the event `applied`, with the state up to it in the index.
    pub fn starting_after(applied: u64) -> Self {
        Self { last_sequence: applied, ..Self::default() }
    }

    /// Fires, or skips with a reason, at most `limit` occurrences that are due, and returns how many; call again while it
    /// returns `limit`. They come in order of due time, then priority, then id.
    pub fn fire_due(&mut self, stamp: &ClockStamp, limit: usize) -> usize {
        self.take_due(stamp.now);
        let mut decided = 0;
        while decided < limit {
            // A timer whose next occurrence is due as well is in the queue again, and that has its place in the order.
            if self.memory.next_deadline().is_some_and(|due| due <= stamp.now) {
                self.take_due(stamp.now);
            }
            let Some(&key) = self.ready.last() else { break };
            if key.due_ns > stamp.now.as_ns() {
                // The clock was set back since.
                break;
            }
            self.ready.pop();
            if self.memory.is_ready(&key) {
                self.decide_due(key.id, stamp);
                decided += 1;
            }
        }
        decided
    }

    /// Brings the timers that are due into the order in which they fire.
    fn take_due(&mut self, now: Timestamp) {
        let mut due = core::mem::take(&mut self.due);
        due.clear();
        self.memory.take_due(now, &mut due);
        let (memory, ready) = (&self.memory, &mut self.ready);
        let keys = due.iter().filter_map(|d| memory.timer(d.token)?.due_key());
        if due.len() > FEW {
            ready.extend(keys);
            // A stable sort finds what is in order already, which most of it is.
            ready.sort_by_key(|key| Reverse(*key));
        } else {
            keys.for_each(|key| {
                let place = ready.partition_point(|other| *other > key);
                ready.insert(place, key);
            });
        }
        self.due = due;
    }

    /// Moves at most `budget` timers nearer to their turn, ahead of time, and returns how many; 0 means nothing is left to
    /// do. For moments with nothing else to do: it changes no answer, only how long later steps take.
    pub fn prepare(&mut self, now: Timestamp, budget: usize) -> usize {
        self.memory.prepare(now, budget)
    }

    /// The events since the last commit.
    pub fn staged(&self) -> &[EventRecord] {
        &self.staged
    }

    /// Keeps the staged events and hands them out, with the timers that they changed. They must be durable by now.
    pub fn commit(&mut self) -> Committed {
        let records = core::mem::take(&mut self.staged);
        let first = records.first().map_or(u64::MAX, |r| r.sequence);
        let mut changes = Vec::with_capacity(self.undo.len());
        for undo in self.undo.drain(..) {
            // A timer that changed twice has the sequence of this batch's first change in its second undo.
            if undo.touched < first
                && let Some(after) = self.memory.timer(undo.id)
            {
                changes.push(Changed { before: undo.before, after: after.clone() });
            }
        }
        Committed { records, changes }
    }

    /// Takes back every staged event, as if it had not been.
    pub fn rollback(&mut self) {
        self.last_sequence -= self.staged.len() as u64;
        self.staged.clear();
        while let Some(Undo { id, before, touched, armed_ns }) = self.undo.pop() {
            self.memory.restore(id, before, touched, armed_ns);
        }
    }

    /// Applies an event from the log. What was staged before must have been committed; [`Kernel::commit`] then hands
    /// out the timers that it changed.
    pub fn replay(&mut self, record: EventRecord, cold: &dyn ColdState) -> Result<(), ReplayError> {
        let expected = self.last_sequence.saturating_add(1);
        if record.sequence != expected || expected == self.last_sequence {
            return Err(ReplayError::Sequence { expected, found: record.sequence });
        }
        self.recall(&record.tenant, record.event.timer(), cold).map_err(ReplayError::Cold)?;
        self.fold(&record).map_err(|why| ReplayError::Impossible {
            sequence: record.sequence,
            timer: record.event.timer(),
            why,
        })?;
        self.last_sequence = record.sequence;
        self.staged.push(record);
        Ok(())
    }

    /// Takes in the timers of the index that are due before `horizon` and not before the earlier one, as they were at
    /// some moment since the last [`Kernel::settle`]. A timer that is in memory already is newer, and stays.
    pub fn load(&mut self, timers: Vec<Arc<TimerInstance>>, horizon: DueKey, now: Timestamp) {
        for timer in timers {
            self.memory.admit(timer, now);
        }
        self.memory.set_horizon(horizon);
    }

    /// Takes in timers that stay in memory for another reason than their due time: those with a fire under way.
    pub fn load_open(&mut self, timers: Vec<Arc<TimerInstance>>, now: Timestamp) {
        for timer in timers {
            self.memory.admit(timer, now);
        }
    }

    /// Every timer that is due before it is in memory.
    pub fn horizon(&self) -> DueKey {
        self.memory.horizon()
    }

    /// Forgets at most `budget` timers that need not be in memory: the index has all changes up to `applied`. Not to
    /// be called between a read for [`Kernel::load`] and that call. Returns how many it looked at.
    pub fn settle(&mut self, applied: u64, budget: usize) -> usize {
        self.memory.settle(applied, budget)
    }

    /// The timers whose latest change the index may not have; one may come more than once.
    pub fn recent(&self) -> impl Iterator<Item = &Arc<TimerInstance>> {
        self.memory.recent()
    }

    /// How many changes the kernel keeps in memory until the index has them.
    pub fn unsettled(&self) -> usize {
        self.memory.unsettled()
    }

    /// When the next timer in memory is due.
    pub fn next_deadline(&mut self) -> Option<Timestamp> {
        while self.ready.last().is_some_and(|key| !self.memory.is_ready(key)) {
            self.ready.pop();
        }
        let ready = self.ready.last().map(|key| Timestamp::from_ns(key.due_ns));
        match (ready, self.memory.next_deadline()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The sequence of the last event, staged ones included; 0 before the first.
    pub fn last_sequence(&self) -> u64 {
        self.last_sequence
    }

    /// How many timers in memory wait for their time.
    pub fn armed_count(&self) -> usize {
        self.memory.armed_count()
    }

    /// How many timers are in memory.
    pub fn in_memory(&self) -> usize {
        self.memory.len()
    }

    /// A timer that is in memory, whoever owns it.
    pub fn timer(&self, id: TimerId) -> Option<&Arc<TimerInstance>> {
        self.memory.timer(id)
    }

    /// The timers in memory, in no particular order.
    pub fn timers(&self) -> impl Iterator<Item = &Arc<TimerInstance>> {
        self.memory.timers()
    }

    /// A timer that is in memory and this tenant's.
    pub fn get(&self, tenant: &TenantId, id: TimerId) -> Option<&Arc<TimerInstance>> {
        self.timer(id).filter(|t| t.tenant() == tenant)
    }

    /// Brings a timer into memory if the index has it.
    pub(crate) fn recall(
        &mut self,
        tenant: &TenantId,
        id: TimerId,
        cold: &dyn ColdState,
    ) -> Result<(), ColdError> {
        if self.memory.timer(id).is_none()
            && let Some(timer) = cold.timer(tenant, id)?
        {
            self.memory.admit_for_a_while(timer, self.last_sequence);
        }
        Ok(())
    }

    /// Makes the next event and applies it. The caller has checked that it can happen.
    pub(crate) fn stage(&mut self, tenant: TenantId, event: Event, stamp: &ClockStamp) {
        let record = EventRecord {
            sequence: self.last_sequence + 1,
            tenant,
            at_ns: stamp.now.as_ns(),
            clock: stamp.source,
            event,
        };
        if let Err(why) = self.fold(&record) {
            unreachable!("the command was checked against the state that it changes: {why}: {record:?}");
        }
        self.last_sequence = record.sequence;
        self.staged.push(record);
    }

    /// Applies an event to its timer, and notes how to undo it.
    fn fold(&mut self, record: &EventRecord) -> Result<(), &'static str> {
        let id = record.event.timer();
        let now = Timestamp::from_ns(record.at_ns);
        let (before, touched, armed_ns) = match self.memory.entry(id) {
            Some((timer, touched, armed_ns)) => (Some(timer.clone()), touched, armed_ns),
            None => (None, 0, 0),
        };
        let after = match (&before, TimerInstance::created_by(record)) {
            (None, Some(timer)) => timer,
            (None, None) => return Err("it was never created"),
            (Some(timer), _) => {
                let mut timer = TimerInstance::clone(timer);
                timer.apply(record)?;
                timer
            }
        };
        if *after.tenant() != record.tenant {
            return Err("it belongs to another tenant");
        }
        self.memory.put(Arc::new(after), record.sequence, now);
        self.undo.push(Undo { id, before, touched, armed_ns });
        Ok(())
    }
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel")
            .field("last_sequence", &self.last_sequence)
            .field("staged", &self.staged)
            .field("timers", &self.memory.timers().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        self.last_sequence == other.last_sequence
            && self.staged == other.staged
            && self.memory.len() == other.memory.len()
            && self.memory.timers().all(|t| other.memory.timer(t.id) == Some(t))
    }
}

/// True for a timer that has to stay in memory whatever its due time.
pub(crate) fn is_open(timer: &TimerInstance) -> bool {
    !timer.status.flights.is_empty() || timer.status.state == TimerState::Firing
}
