//! How many timers of each tenant have not ended, exactly as the log has it.
//!
//! The index cannot be asked for this at each create: it lags behind the log, and an answer that lags lets a burst of
//! creates past a quota. So the numbers are taken from the index once, at the start, when it has just been brought up to
//! the log; from then on the thread of the partition keeps them, with each batch that became durable and before anybody
//! is told so. What an index without room lacks at the start is counted from the batches that wait for it.
//!
//! The start reads the timers of all tenants but the default one; what the index counts without them is the default
//! tenant's. With one tenant nothing is read.

use crate::store::{StateCounts, StoreError, TimerIndex, TimerQuery};
use minoots_kernel::{Committed, TenantId, TimerState};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How many timers are read at once at the start.
const PAGE: usize = 1000;

/// The numbers of one partition; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Census(Arc<Mutex<HashMap<TenantId, u64>>>);

impl Census {
    /// Takes the numbers from an index, and from what it lacks.
    pub(super) fn take(index: &dyn TimerIndex, backlog: &[Committed]) -> Result<Self, StoreError> {
        let census = Self::default();
        let mut others = 0;
        for tenant in index.tenants()?.into_iter().filter(|t| *t != TenantId::default()) {
            let pending = count(index, tenant.clone())?;
            others += pending;
            census.set(tenant, pending);
        }
        census.set(TenantId::default(), pending_of(&index.counts()).saturating_sub(others));
        backlog.iter().for_each(|committed| census.note(committed));
        Ok(census)
    }

    fn numbers(&self) -> MutexGuard<'_, HashMap<TenantId, u64>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set(&self, tenant: TenantId, pending: u64) {
        if pending > 0 {
            self.numbers().insert(tenant, pending);
        }
    }

    /// Counts what a batch began and ended.
    pub(super) fn note(&self, committed: &Committed) {
        let mut numbers = None;
        for change in &committed.changes {
            let was = change.before.as_ref().is_some_and(|t| !t.status.state.is_ended());
            let is = !change.after.status.state.is_ended();
            if was == is {
                continue;
            }
            let numbers = numbers.get_or_insert_with(|| self.numbers());
            let tenant = change.after.tenant();
            if is {
                *numbers.entry(tenant.clone()).or_default() += 1;
            } else if let Some(pending) = numbers.get_mut(tenant) {
                *pending = pending.saturating_sub(1);
                if *pending == 0 {
                    numbers.remove(tenant);
                }
            }
        }
    }

    /// How many timers of a tenant have not ended.
    pub fn pending(&self, tenant: &TenantId) -> u64 {
        self.numbers().get(tenant).copied().unwrap_or(0)
    }
}

fn pending_of(counts: &StateCounts) -> u64 {
    TimerState::ALL.iter().filter(|s| !s.is_ended()).map(|s| counts.of(*s)).sum()
}

fn count(index: &dyn TimerIndex, tenant: TenantId) -> Result<u64, StoreError> {
    let mut query = TimerQuery { tenant, limit: PAGE, ..TimerQuery::default() };
    let mut pending = 0;
    loop {
        let page = index.list(&query)?;
        pending += page.timers.iter().filter(|t| !t.status.state.is_ended()).count() as u64;
        query.after = page.next;
        if query.after.is_none() {
            return Ok(pending);
        }
    }
}
