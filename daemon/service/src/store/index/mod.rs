//! The index: the state of a partition's timers, ordered for every question, beside the log that it is made from.
//!
//! The log is the truth. The index may lag behind it, and may lose its latest changes in a crash: it says how far it has
//! come ([`TimerIndex::applied`]), and the engine replays the log from there. If it is lost it is made again.

#[cfg(test)]
mod conformance;
mod disk;
mod memory;

pub use disk::{DiskIndex, IndexOptions};
pub use memory::MemoryIndex;

use super::StoreError;
use minoots_kernel::{
    ColdError, ColdState, Committed, DueKey, LedgerEntry, TenantId, TimerId, TimerInstance, TimerState,
};
use std::sync::Arc;

/// Takes a timer with its ledger, and the last event that they know of.
pub type EachTimer<'a> = dyn FnMut(u64, &TimerInstance, &[LedgerEntry]) -> Result<(), StoreError> + 'a;

/// How far the threads of an index stand back behind the timing thread, as `nice` counts.
pub(crate) const INDEX_NICE: i32 = 10;

/// The index of one partition. One thread writes; any thread reads, and sees each write whole or not at all.
pub trait TimerIndex: Send + Sync {
    /// The last event whose changes are in it.
    fn applied(&self) -> u64;

    /// Takes in what was committed, in order; all of it becomes visible at once. Not durable until [`Self::checkpoint`].
    fn apply(&self, batches: &[Committed]) -> Result<(), StoreError>;

    /// [`StoreError::Full`] where there may be no room for changes of so many bytes: they must not be acknowledged then,
    /// since the index could not take them in.
    fn check_room(&self, bytes: u64) -> Result<(), StoreError>;

    /// Makes durable what was applied.
    fn checkpoint(&self) -> Result<(), StoreError>;

    /// One timer.
    fn timer(&self, tenant: &TenantId, id: TimerId) -> Result<Option<Arc<TimerInstance>>, StoreError>;

    /// The timer that an idempotency key made.
    fn timer_of_key(&self, tenant: &TenantId, key: &str) -> Result<Option<TimerId>, StoreError>;

    /// At most `limit` timers that wait for their time and come at or after `from`, in the order in which they fire.
    fn due(&self, from: DueKey, limit: usize) -> Result<Vec<Arc<TimerInstance>>, StoreError>;

    /// The timers that have a fire under way.
    fn with_flights(&self) -> Result<Vec<Arc<TimerInstance>>, StoreError>;

    /// One page of timers in order of id.
    fn list(&self, query: &TimerQuery) -> Result<IndexPage, StoreError>;

    /// What became of the occurrences of a timer after `after_nominal_ns`, in order, at most `limit` lines.
    fn ledger(
        &self,
        tenant: &TenantId,
        id: TimerId,
        after_nominal_ns: Option<i64>,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError>;

    /// How many timers there are in each state.
    fn counts(&self) -> StateCounts;

    /// Forgets timers that ended before `before_ns`, with their ledgers, and lines of the ledgers of others that are
    /// settled and older; at most `limit` in all. Returns how many.
    fn drop_history(&self, before_ns: i64, limit: usize) -> Result<usize, StoreError>;

    /// Hands out everything in it at one moment, as the last event of that moment and then each timer with its ledger.
    fn dump(&self, each: &mut EachTimer<'_>) -> Result<u64, StoreError>;

    /// Fills an empty index with timers from a snapshot; `applied` is the last event that they know of.
    fn restore(&self, applied: u64, timers: &[(TimerInstance, Vec<LedgerEntry>)]) -> Result<(), StoreError>;
}

/// Which timers to list, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct TimerQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only those in this state. The index knows where those in the rarer states are.
    pub state: Option<TimerState>,
    /// Only those in one of these states, where there are any here.
    pub states: Vec<TimerState>,
    /// Only those that carry all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only those that are, or were, due at or after this time, Unix nanoseconds.
    pub due_from_ns: Option<i64>,
    /// Only those that are, or were, due before this time, Unix nanoseconds.
    pub due_until_ns: Option<i64>,
    /// Only those after this id, in order of id; the cursor of the page before.
    pub after: Option<TimerId>,
    /// At most so many; 0 is taken as 1.
    pub limit: usize,
}

/// How many timers one page looks at. What matches may be rare; a page that ends here is short, it may be empty, and its
/// `next` goes on.
pub const LIST_SCAN_MAX: usize = 20_000;

impl TimerQuery {
    /// Asks for the timers in one of these states; in any, where there are none.
    pub fn in_states(&mut self, mut states: Vec<TimerState>) {
        states.sort_unstable_by_key(|s| *s as u8);
        states.dedup();
        (self.state, self.states) = match states[..] {
            [only] => (Some(only), Vec::new()),
            _ => (None, states),
        };
    }

    /// Whether a timer is one of those asked for; its id is not looked at.
    pub fn matches(&self, timer: &TimerInstance) -> bool {
        let is_due_within = || {
            let due = timer.due_ns();
            self.due_from_ns.is_none_or(|from| due.is_some_and(|d| d >= from))
                && self.due_until_ns.is_none_or(|until| due.is_some_and(|d| d < until))
        };
        *timer.tenant() == self.tenant
            && self.state.is_none_or(|s| s == timer.status.state)
            && (self.states.is_empty() || self.states.contains(&timer.status.state))
            && self.labels.iter().all(|(k, v)| timer.definition.labels.get(k) == Some(v))
            && is_due_within()
    }
}

/// One page of a listing, in order of id, which is the order of creation.
#[derive(Clone, Debug, Default)]
pub struct IndexPage {
    /// The timers; fewer than asked for, even none, when they are rare.
    pub timers: Vec<Arc<TimerInstance>>,
    /// Where the next page starts; `None` only at the end.
    pub next: Option<TimerId>,
}

/// How many timers there are in each state.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct StateCounts([u64; TimerState::ALL.len()]);

impl StateCounts {
    /// Those in one state.
    pub fn of(&self, state: TimerState) -> u64 {
        self.0[state as usize]
    }

    /// All of them.
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }

    /// Adds those of another partition.
    pub fn add_all(&mut self, other: &Self) {
        self.0.iter_mut().zip(other.0).for_each(|(mine, theirs)| *mine += theirs);
    }

    /// One more in a state.
    pub fn add(&mut self, state: TimerState) {
        self.0[state as usize] += 1;
    }

    /// One less in a state.
    pub fn take(&mut self, state: TimerState) {
        let count = &mut self.0[state as usize];
        *count = count.saturating_sub(1);
    }

    /// As they are stored: one number for each of [`TimerState::ALL`].
    pub fn as_numbers(&self) -> &[u64] {
        &self.0
    }

    /// From what was stored; numbers of states that came later are zero.
    pub fn from_numbers(numbers: &[u64]) -> Self {
        let mut counts = Self::default();
        counts.0.iter_mut().zip(numbers).for_each(|(mine, stored)| *mine = *stored);
        counts
    }
}

/// An index as the kernel reads it.
pub struct Cold<'a>(pub &'a dyn TimerIndex);

impl ColdState for Cold<'_> {
    fn timer(&self, tenant: &TenantId, id: TimerId) -> Result<Option<Arc<TimerInstance>>, ColdError> {
        self.0.timer(tenant, id).map_err(|e| ColdError(e.to_string()))
    }

    fn timer_of_key(&self, tenant: &TenantId, key: &str) -> Result<Option<TimerId>, ColdError> {
        self.0.timer_of_key(tenant, key).map_err(|e| ColdError(e.to_string()))
    }
}

/// Which lines of a timer's ledger to read.
#[derive(Clone, Debug)]
pub struct LedgerQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Which timer.
    pub id: TimerId,
    /// Only lines after this nominal time, Unix nanoseconds.
    pub after_nominal_ns: Option<i64>,
    /// At most so many.
    pub limit: usize,
}
