//! The timers that are in memory: which ones, by when they are due, and which may be forgotten.

use crate::id::{TenantId, TimerId};
use crate::instance::{DueKey, TimerInstance};
use crate::kernel::is_open;
use chronotick_core::Timestamp;
use chronotick_core::queue::{Due, TimerKey, TimerQueue};
use core::hash::{BuildHasherDefault, Hasher};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

/// Timers by id, with the queue of those that wait for their time.
#[derive(Debug)]
pub(crate) struct Memory {
    timers: HashMap<TimerId, Entry, BuildHasherDefault<IdHasher>>,
    queue: TimerQueue<TimerId>,
    /// Idempotency keys of timers that were created or changed lately; older ones are in the index.
    keys: BTreeMap<TenantId, BTreeMap<String, TimerId>>,
    /// Every timer of the index that is due before it is in memory.
    horizon: DueKey,
    /// `(sequence, timer)` of the changes that the index may not have, oldest first.
    recent: VecDeque<(u64, TimerId)>,
}

#[derive(Debug)]
struct Entry {
    timer: Arc<TimerInstance>,
    /// Its place in the queue while it is there.
    key: Option<TimerKey>,
    /// When it came into the queue.
    armed_ns: i64,
    /// The sequence of its last change; the index may lack it.
    touched: u64,
}

impl Default for Memory {
    fn default() -> Self {
        Self {
            timers: HashMap::default(),
            queue: TimerQueue::new(),
            keys: BTreeMap::new(),
            horizon: DueKey::start_of(i64::MIN),
            recent: VecDeque::new(),
        }
    }
}

impl Memory {
    pub(crate) fn len(&self) -> usize {
        self.timers.len()
    }

    pub(crate) fn armed_count(&self) -> usize {
        self.queue.len()
    }

    pub(crate) fn timer(&self, id: TimerId) -> Option<&Arc<TimerInstance>> {
        self.timers.get(&id).map(|e| &e.timer)
    }

    /// A timer, the sequence of its last change, and when it came into the queue.
    pub(crate) fn entry(&self, id: TimerId) -> Option<(&Arc<TimerInstance>, u64, i64)> {
        self.timers.get(&id).map(|e| (&e.timer, e.touched, e.armed_ns))
    }

    pub(crate) fn armed_ns(&self, id: TimerId) -> Option<i64> {
        self.timers.get(&id).map(|e| e.armed_ns)
    }

    pub(crate) fn timers(&self) -> impl Iterator<Item = &Arc<TimerInstance>> {
        self.timers.values().map(|e| &e.timer)
    }

    pub(crate) fn timer_of_key(&self, tenant: &TenantId, key: &str) -> Option<TimerId> {
        self.keys.get(tenant)?.get(key).copied()
    }

    pub(crate) fn horizon(&self) -> DueKey {
        self.horizon
    }

    pub(crate) fn set_horizon(&mut self, horizon: DueKey) {
        self.horizon = horizon;
    }

    pub(crate) fn next_deadline(&self) -> Option<Timestamp> {
        self.queue.next_deadline()
    }

    pub(crate) fn prepare(&mut self, now: Timestamp, budget: usize) -> usize {
        self.queue.prepare(now, budget)
    }

    /// Takes the timers that are due out of the queue.
    pub(crate) fn take_due(&mut self, now: Timestamp, due: &mut Vec<Due<TimerId>>) {
        self.queue.advance(now, usize::MAX, due);
        for d in due {
            if let Some(entry) = self.timers.get_mut(&d.token) {
                entry.key = None;
            }
        }
    }

    /// True when the timer still waits for this, and is not in the queue again.
    pub(crate) fn is_ready(&self, key: &DueKey) -> bool {
        self.timers.get(&key.id).is_some_and(|e| e.key.is_none() && e.timer.due_key() == Some(*key))
    }

    /// Puts a timer as event `sequence` has left it.
    pub(crate) fn put(&mut self, timer: Arc<TimerInstance>, sequence: u64, now: Timestamp) {
        let id = timer.id;
        self.recent.push_back((sequence, id));
        if timer.status.version == 1
            && let Some(key) = &timer.definition.idempotency_key
        {
            self.keys.entry(timer.tenant().clone()).or_default().insert(key.clone(), id);
        }
        self.place(timer, sequence, now.as_ns());
    }

    /// Puts a timer back as it was before its last change.
    pub(crate) fn restore(
        &mut self,
        id: TimerId,
        before: Option<Arc<TimerInstance>>,
        touched: u64,
        armed_ns: i64,
    ) {
        match before {
            Some(timer) => {
                // Out of the queue first: what it waits for may not be in the queue, though its time is the same.
                self.unqueue(id);
                self.place(timer, touched, armed_ns);
            }
            None => self.forget(id),
        }
    }

    /// Takes in a timer of the index that is due soon or has a fire under way.
    pub(crate) fn admit(&mut self, timer: Arc<TimerInstance>, now: Timestamp) {
        if !self.timers.contains_key(&timer.id) {
            self.place(timer, 0, now.as_ns());
        }
    }

    /// Takes in a timer of the index for one command.
    pub(crate) fn admit_for_a_while(&mut self, timer: Arc<TimerInstance>, last_sequence: u64) {
        let now_ns = timer.status.created_ns;
        self.recent.push_back((last_sequence, timer.id));
        self.place(timer, 0, now_ns);
    }

    /// The timers whose latest change the index may not have; one may come more than once.
    pub(crate) fn recent(&self) -> impl Iterator<Item = &Arc<TimerInstance>> {
        self.recent.iter().filter_map(|(_, id)| self.timer(*id))
    }

    pub(crate) fn unsettled(&self) -> usize {
        self.recent.len()
    }

    pub(crate) fn settle(&mut self, applied: u64, budget: usize) -> usize {
        let mut looked_at = 0;
        while looked_at < budget
            && let Some(&(sequence, id)) = self.recent.front()
            && sequence <= applied
        {
            self.recent.pop_front();
            looked_at += 1;
            let horizon = self.horizon;
            let is_cold = self.timers.get(&id).is_some_and(|e| {
                e.touched <= sequence
                    && !is_open(&e.timer)
                    && e.timer.due_key().is_none_or(|key| key >= horizon)
            });
            if is_cold {
                self.forget(id);
            }
        }
        if self.recent.is_empty() && self.recent.capacity() > 1 << 16 {
            self.recent = VecDeque::new();
        }
        looked_at
    }

    /// Stores a timer, and makes the queue agree with it.
    fn place(&mut self, timer: Arc<TimerInstance>, touched: u64, now_ns: i64) {
        use std::collections::hash_map::Entry as Slot;
        let due_ns = timer.due_key().map(|k| k.due_ns);
        let id = timer.id;
        let queue = &mut self.queue;
        let mut arm = || due_ns.map(|due| queue.insert(Timestamp::from_ns(due), id));
        match self.timers.entry(id) {
            Slot::Vacant(slot) => {
                let key = arm();
                slot.insert(Entry { timer, key, armed_ns: now_ns, touched });
            }
            Slot::Occupied(slot) => {
                let entry = slot.into_mut();
                let is_queued_right =
                    entry.key.is_some() && entry.timer.due_key().map(|k| k.due_ns) == due_ns;
                if !is_queued_right {
                    if let Some(key) = entry.key.take() {
                        queue.cancel(key);
                    }
                    entry.key = due_ns.map(|due| queue.insert(Timestamp::from_ns(due), id));
                    entry.armed_ns = now_ns;
                }
                entry.timer = timer;
                entry.touched = touched;
            }
        }
    }

    fn unqueue(&mut self, id: TimerId) {
        if let Some(key) = self.timers.get_mut(&id).and_then(|e| e.key.take()) {
            self.queue.cancel(key);
        }
    }

    fn forget(&mut self, id: TimerId) {
        let Some(entry) = self.timers.remove(&id) else { return };
        if let Some(key) = entry.key {
            self.queue.cancel(key);
        }
        let definition = &entry.timer.definition;
        if let Some(name) = &definition.idempotency_key
            && let Some(keys) = self.keys.get_mut(&definition.tenant)
            && keys.get(name) == Some(&id)
        {
            keys.remove(name);
            if keys.is_empty() {
                self.keys.remove(&definition.tenant);
            }
        }
    }
}

/// Ids are spread well enough by their random bits, which stand last; one multiplication mixes those counted up.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct IdHasher(u64);

impl Hasher for IdHasher {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_be_bytes(word));
        }
    }

    fn write_u64(&mut self, word: u64) {
        self.0 = (self.0.rotate_left(23) ^ word).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn write_usize(&mut self, _length: usize) {
        // The length of an id is always the same.
    }
}
