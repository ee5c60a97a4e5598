//! An index that forgets: for tests and simulations of what stands on an index, and the model that others are held to.

use super::super::StoreError;
use super::{EachTimer, IndexPage, LIST_SCAN_MAX, StateCounts, TimerIndex, TimerQuery};
use minoots_kernel::ledger::{self, LedgerChange};
use minoots_kernel::{Committed, DueKey, LedgerEntry, TenantId, TimerId, TimerInstance};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Timers in maps; clones share them.
#[derive(Clone, Debug, Default)]
pub struct MemoryIndex(Arc<Mutex<State>>);

#[derive(Clone, Debug, Default)]
struct State {
    applied: u64,
    timers: BTreeMap<TimerId, Arc<TimerInstance>>,
    keys: BTreeMap<(TenantId, String), TimerId>,
    due: BTreeMap<DueKey, TimerId>,
    ledger: BTreeMap<(TimerId, i64), LedgerEntry>,
    ended: BTreeMap<(i64, TimerId), ()>,
    counts: StateCounts,
    /// What a crash leaves.
    durable: Option<Box<State>>,
}

impl MemoryIndex {
    /// Empty.
    pub fn new() -> Self {
        Self::default()
    }

    /// What a crash leaves: the state of the last checkpoint.
    pub fn crash(&self) {
        let mut state = self.state();
        let durable = state.durable.take().map(|d| *d).unwrap_or_default();
        *state = State { durable: Some(Box::new(durable.clone())), ..durable };
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn put(&mut self, timer: Arc<TimerInstance>) {
        let id = timer.id;
        if let Some(before) = self.timers.insert(id, timer.clone()) {
            self.counts.take(before.status.state);
            before.due_key().map(|key| self.due.remove(&key));
        } else if let Some(key) = &timer.definition.idempotency_key {
            self.keys.insert((timer.tenant().clone(), key.clone()), id);
        }
        self.counts.add(timer.status.state);
        if let Some(key) = timer.due_key() {
            self.due.insert(key, id);
        }
        if let Some(ended_ns) = timer.status.ended_ns {
            self.ended.insert((ended_ns, id), ());
        }
    }

    fn change_ledger(&mut self, change: LedgerChange) {
        match change {
            LedgerChange::Outcome { timer, nominal_ns, outcome } => {
                let delivery = None;
                self.ledger.insert((timer, nominal_ns), LedgerEntry { nominal_ns, outcome, delivery });
            }
            LedgerChange::Delivery { timer, nominal_ns, delivery } => {
                if let Some(entry) = self.ledger.get_mut(&(timer, nominal_ns)) {
                    entry.delivery = Some(delivery);
                }
            }
        }
    }

    fn ledger_of(&self, id: TimerId, after: Bound<i64>) -> impl Iterator<Item = &LedgerEntry> {
        let start = match after {
            Bound::Excluded(ns) => Bound::Excluded((id, ns)),
            _ => Bound::Included((id, i64::MIN)),
        };
        self.ledger.range((start, Bound::Included((id, i64::MAX)))).map(|(_, entry)| entry)
    }

    fn forget(&mut self, id: TimerId) {
        let Some(timer) = self.timers.remove(&id) else { return };
        self.counts.take(timer.status.state);
        if let Some(key) = &timer.definition.idempotency_key {
            let key = (timer.tenant().clone(), key.clone());
            if self.keys.get(&key) == Some(&id) {
                self.keys.remove(&key);
            }
        }
        let lines: Vec<_> = self.ledger_of(id, Bound::Unbounded).map(|e| (id, e.nominal_ns)).collect();
        for line in &lines {
            self.ledger.remove(line);
        }
    }
}

impl TimerIndex for MemoryIndex {
    fn applied(&self) -> u64 {
        self.state().applied
    }

    fn apply(&self, batches: &[Committed]) -> Result<(), StoreError> {
        let mut state = self.state();
        for batch in batches {
            for change in &batch.changes {
                // One that was there and is not has been forgotten, while the kernel still had it in memory.
                if change.before.is_none() || state.timers.contains_key(&change.after.id) {
                    state.put(change.after.clone());
                }
            }
            batch
                .records
                .iter()
                .for_each(|record| ledger::changes(record, |change| state.change_ledger(change)));
            state.applied = batch.records.last().map_or(state.applied, |r| r.sequence);
        }
        Ok(())
    }

    fn check_room(&self, _bytes: u64) -> Result<(), StoreError> {
        Ok(())
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        let mut state = self.state();
        state.durable = None;
        state.durable = Some(Box::new(state.clone()));
        Ok(())
    }

    fn timer(&self, tenant: &TenantId, id: TimerId) -> Result<Option<Arc<TimerInstance>>, StoreError> {
        Ok(self.state().timers.get(&id).filter(|t| t.tenant() == tenant).cloned())
    }

    fn timer_of_key(&self, tenant: &TenantId, key: &str) -> Result<Option<TimerId>, StoreError> {
        Ok(self.state().keys.get(&(tenant.clone(), key.to_string())).copied())
    }

    fn due(&self, from: DueKey, limit: usize) -> Result<Vec<Arc<TimerInstance>>, StoreError> {
        let state = self.state();
        Ok(state.due.range(from..).take(limit).filter_map(|(_, id)| state.timers.get(id).cloned()).collect())
    }

    fn with_flights(&self) -> Result<Vec<Arc<TimerInstance>>, StoreError> {
        Ok(self.state().timers.values().filter(|t| !t.status.flights.is_empty()).cloned().collect())
    }

    fn list(&self, query: &TimerQuery) -> Result<IndexPage, StoreError> {
        let state = self.state();
        let start = query.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut page = IndexPage::default();
        let mut seen = None;
        for (looked_at, (id, timer)) in state.timers.range((start, Bound::Unbounded)).enumerate() {
            if page.timers.len() == query.limit.max(1) || looked_at == LIST_SCAN_MAX {
                page.next = seen;
                return Ok(page);
            }
            if query.matches(timer) {
                page.timers.push(timer.clone());
            }
            seen = Some(*id);
        }
        Ok(page)
    }

    fn ledger(
        &self,
        tenant: &TenantId,
        id: TimerId,
        after_nominal_ns: Option<i64>,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let state = self.state();
        if state.timers.get(&id).is_none_or(|t| t.tenant() != tenant) {
            return Ok(Vec::new());
        }
        let after = after_nominal_ns.map_or(Bound::Unbounded, Bound::Excluded);
        Ok(state.ledger_of(id, after).take(limit).cloned().collect())
    }

    fn counts(&self) -> StateCounts {
        self.state().counts
    }

    fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let state = self.state();
        let all: BTreeSet<_> = state.timers.values().map(|t| t.tenant().clone()).collect();
        Ok(all.into_iter().collect())
    }

    fn drop_history(&self, before_ns: i64, limit: usize) -> Result<usize, StoreError> {
        let mut state = self.state();
        let ended: Vec<_> =
            state.ended.range(..(before_ns, TimerId::from_u128(0))).map(|(k, ())| *k).collect();
        let is_in_flight = |id: &TimerId| state.timers.get(id).is_some_and(|t| !t.status.flights.is_empty());
        let gone: Vec<_> = ended.into_iter().filter(|(_, id)| !is_in_flight(id)).take(limit).collect();
        for (ended_ns, id) in &gone {
            state.ended.remove(&(*ended_ns, *id));
            state.forget(*id);
        }
        let is_old = |e: &LedgerEntry| e.settled_ns().is_some_and(|at_ns| at_ns < before_ns);
        let old: Vec<_> = state.ledger.iter().filter(|(_, e)| is_old(e)).map(|(k, _)| *k).collect();
        let old: Vec<_> = old.into_iter().take(limit - gone.len()).collect();
        for line in &old {
            state.ledger.remove(line);
        }
        Ok(gone.len() + old.len())
    }

    fn dump(&self, each: &mut EachTimer<'_>) -> Result<u64, StoreError> {
        let state = self.state().clone();
        for (id, timer) in &state.timers {
            let ledger: Vec<_> = state.ledger_of(*id, Bound::Unbounded).cloned().collect();
            each(state.applied, timer, &ledger)?;
        }
        Ok(state.applied)
    }

    fn restore(&self, applied: u64, timers: &[(TimerInstance, Vec<LedgerEntry>)]) -> Result<(), StoreError> {
        let mut state = self.state();
        for (timer, ledger) in timers {
            state.put(Arc::new(timer.clone()));
            for entry in ledger {
                state.ledger.insert((timer.id, entry.nominal_ns), entry.clone());
            }
        }
        state.applied = applied;
        Ok(())
    }
}

/// Two indexes are equal when they hold the same timers and ledgers at the same event.
impl PartialEq for MemoryIndex {
    fn eq(&self, other: &Self) -> bool {
        let (mine, theirs) = (self.state().clone(), other.state().clone());
        mine.applied == theirs.applied && mine.timers == theirs.timers && mine.ledger == theirs.ledger
    }
}
