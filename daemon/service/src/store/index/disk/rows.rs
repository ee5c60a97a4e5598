//! What a change of a timer, or of a ledger, is in rows.

use super::super::super::StoreError;
use super::batch::Batch;
use super::database::{Space, View};
use super::meta::Meta;
use super::{keys, values};
use minoots_kernel::{Delivery, LedgerEntry, LedgerOutcome, TenantId, TimerId, TimerInstance, TimerState};
use std::collections::HashMap;

/// The numbers of tenants. The default tenant has 0 and is not among them; the others have 1, 2, 3, ...
pub(super) type Tenants = HashMap<TenantId, u32>;

/// The number of a tenant, if it ever had a timer.
pub(super) fn number_of(tenants: &Tenants, tenant: &TenantId) -> Option<u32> {
    if *tenant == TenantId::default() { Some(0) } else { tenants.get(tenant).copied() }
}

/// What a write knows and changes beside the rows.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    pub(super) meta: Meta,
    /// Nothing that is kept ended before this time. Only known since the start.
    pub(super) ended_floor_ns: i64,
    /// No line that is kept was settled before this time. Only known since the start.
    pub(super) settled_floor_ns: i64,
}

/// One write that is being put together.
pub(super) struct Pending<'a> {
    pub(super) batch: &'a mut Batch,
    pub(super) state: State,
    pub(super) tenants: &'a Tenants,
    /// Tenants that have their first timer in this write.
    pub(super) new_tenants: Tenants,
    /// The default tenant, made once.
    pub(super) default_tenant: TenantId,
}

/// The states that few timers are in, so that a listing of them need not look at all the others. `firing` is one too, and
/// has the same rows as fires under way.
pub(super) const fn is_rare(state: TimerState) -> bool {
    matches!(state, TimerState::Waiting | TimerState::Paused | TimerState::Failed)
}

fn is_open(timer: &TimerInstance) -> bool {
    !timer.status.flights.is_empty() || timer.status.state == TimerState::Firing
}

impl Pending<'_> {
    fn tenant(&mut self, tenant: &TenantId) -> u32 {
        if *tenant == self.default_tenant {
            return 0;
        }
        if let Some(number) = self.tenants.get(tenant).or_else(|| self.new_tenants.get(tenant)) {
            return *number;
        }
        let number = (self.tenants.len() + self.new_tenants.len() + 1) as u32;
        self.batch.insert(Space::Misc, &keys::tenant_name(tenant.as_str()), &number.to_be_bytes());
        self.new_tenants.insert(tenant.clone(), number);
        number
    }

    /// Puts a timer in the place of what it was before.
    pub(super) fn change(
        &mut self,
        before: Option<&TimerInstance>,
        after: &TimerInstance,
    ) -> Result<(), StoreError> {
        let (id, key) = (after.id, keys::id(after.id));
        let tenant = self.tenant(after.tenant());
        if before.is_none() {
            self.create(tenant, after)?;
        }
        // A timer that was only created is what its creation says.
        if after.status.version > 1 {
            self.put(Space::State, &key, id, |out| values::put_state(out, &after.status))?;
        }
        let (old, new) = (before.and_then(TimerInstance::due_key), after.due_key());
        if old != new {
            if let Some(old) = old {
                self.batch.remove(Space::Due, &keys::due(old));
            }
            if let Some(new) = new.map(keys::due) {
                self.batch.insert(Space::Due, &new, &[]);
                let floor = &mut self.state.meta.due_floor;
                *floor = new.min(*floor);
            }
        }
        match (before.is_some_and(is_open), is_open(after)) {
            (false, true) => self.batch.insert(Space::Misc, &keys::open(id), &[]),
            (true, false) => self.batch.remove(Space::Misc, &keys::open(id)),
            _ => {}
        }
        let (old, new) = (before.map(|b| b.status.state), after.status.state);
        if old != Some(new) {
            if let Some(old) = old {
                self.state.meta.counts.take(old);
                if is_rare(old) {
                    self.batch.remove(Space::Misc, &keys::rare(old, tenant, id));
                }
            }
            self.state.meta.counts.add(new);
            if is_rare(new) {
                self.batch.insert(Space::Misc, &keys::rare(new, tenant, id), &[]);
            }
        }
        if let Some(ended_ns) = after.status.ended_ns
            && before.and_then(|b| b.status.ended_ns).is_none()
        {
            self.batch.insert(Space::Misc, &keys::ended(ended_ns, id), &[]);
            self.state.ended_floor_ns = self.state.ended_floor_ns.min(ended_ns);
        }
        Ok(())
    }

    fn create(&mut self, tenant: u32, timer: &TimerInstance) -> Result<(), StoreError> {
        let (id, key) = (timer.id, keys::id(timer.id));
        self.put(Space::Timer, &key, id, |out| values::put_creation(out, tenant, timer))?;
        for (name, value) in &timer.definition.labels {
            let mut label = keys::label(tenant, name, value);
            label.extend_from_slice(&key);
            self.batch.insert(Space::Label, &label, &[]);
        }
        if tenant != 0 {
            self.batch.insert(Space::Misc, &keys::tenant(tenant, id), &[]);
        }
        if let Some(name) = &timer.definition.idempotency_key {
            self.batch.insert(Space::Misc, &keys::key(tenant, name), &key);
        }
        Ok(())
    }

    /// Removes a timer that ended, all but its ledger.
    pub(super) fn forget(&mut self, timer: &TimerInstance, view: &View<'_>) -> Result<(), StoreError> {
        let (id, key) = (timer.id, keys::id(timer.id));
        let tenant = self.tenant(timer.tenant());
        self.batch.remove(Space::Timer, &key);
        self.batch.remove(Space::State, &key);
        for (name, value) in &timer.definition.labels {
            let mut label = keys::label(tenant, name, value);
            label.extend_from_slice(&key);
            self.batch.remove(Space::Label, &label);
        }
        if tenant != 0 {
            self.batch.remove(Space::Misc, &keys::tenant(tenant, id));
        }
        if let Some(name) = &timer.definition.idempotency_key {
            let name = keys::key(tenant, name);
            // A later timer may have the key by now.
            if view.get(Space::Misc, &name)?.is_some_and(|owner| *owner == key) {
                self.batch.remove(Space::Misc, &name);
            }
        }
        let state = timer.status.state;
        self.state.meta.counts.take(state);
        if is_rare(state) {
            self.batch.remove(Space::Misc, &keys::rare(state, tenant, id));
        }
        if let Some(ended_ns) = timer.status.ended_ns {
            self.batch.remove(Space::Misc, &keys::ended(ended_ns, id));
        }
        Ok(())
    }

    /// A line of a ledger begins, or is written over: an earlier delivery of it counts no more, since it is of an
    /// earlier event.
    pub(super) fn outcome(
        &mut self,
        timer: TimerId,
        nominal_ns: i64,
        sequence: u64,
        outcome: &LedgerOutcome,
    ) -> Result<(), StoreError> {
        let key = keys::line(timer, nominal_ns, keys::OUTCOME);
        self.put(Space::Ledger, &key, timer, |out| values::put_outcome(out, sequence, outcome))
    }

    /// A line of a ledger ends.
    pub(super) fn delivery(
        &mut self,
        timer: TimerId,
        nominal_ns: i64,
        sequence: u64,
        delivery: &Delivery,
    ) -> Result<(), StoreError> {
        let key = keys::line(timer, nominal_ns, keys::DELIVERY);
        self.put(Space::Ledger, &key, timer, |out| values::put_delivery(out, sequence, delivery))
    }

    /// Notes when a line of a recurring timer was settled. Those of a one-shot go with it.
    pub(super) fn settled(&mut self, timer: TimerId, nominal_ns: i64, at_ns: i64) {
        self.batch.insert(Space::Misc, &keys::settled(at_ns, timer, nominal_ns), &[]);
        self.state.settled_floor_ns = self.state.settled_floor_ns.min(at_ns);
    }

    /// Removes a line.
    pub(super) fn forget_line(&mut self, timer: TimerId, entry: &LedgerEntry) {
        for part in [keys::OUTCOME, keys::DELIVERY] {
            self.batch.remove(Space::Ledger, &keys::line(timer, entry.nominal_ns, part));
        }
    }

    fn put(
        &mut self,
        space: Space,
        key: &[u8],
        timer: TimerId,
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        self.batch
            .insert_with(space, key, encode)
            .map_err(|why| StoreError::Failed { reason: format!("timer {timer}: {why}") })
    }
}
