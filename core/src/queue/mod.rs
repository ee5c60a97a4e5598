//! What is due next: a queue of deadlines, stepped by an explicit `now`.
//!
//! The queue holds no payload, only a small `Copy` token for each timer. Timers that are due come out in order of
//! `(due, order of insertion)`. A key names one insertion for ever: cancelling a timer that has fired or was already
//! cancelled is a defined answer (`None`), even when its slot has been used again.

use crate::time::Timestamp;
use alloc::collections::BTreeMap;
use alloc::vec::Vec;

/// Names one insertion into a [`TimerQueue`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct TimerKey {
    slot: u32,
    generation: u32,
}

/// A timer that [`TimerQueue::advance`] found to be due.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Due<T> {
    /// When it was to fire.
    pub due: Timestamp,
    /// What was inserted with it.
    pub token: T,
}

#[derive(Debug)]
struct Slot<T> {
    generation: u32,
    /// The key in `order`; `None` while the slot is free.
    entry: Option<(Timestamp, u64, T)>,
}

/// Deadlines in order; see the module.
///
/// Insert, cancel and each expiry cost O(log n).
#[derive(Debug)]
pub struct TimerQueue<T> {
    /// `(due, insertion number)` to slot.
    order: BTreeMap<(Timestamp, u64), u32>,
    slots: Vec<Slot<T>>,
    free: Vec<u32>,
    inserted: u64,
}

impl<T: Copy> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> TimerQueue<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self { order: BTreeMap::new(), slots: Vec::new(), free: Vec::new(), inserted: 0 }
    }

    /// How many timers are pending.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True when nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Adds a timer; one that is already due comes out of the next [`advance`](Self::advance).
    ///
    /// # Panics
    /// With more than 2^32 pending timers, which memory does not allow.
    pub fn insert(&mut self, due: Timestamp, token: T) -> TimerKey {
        let number = self.inserted;
        self.inserted += 1;
        let slot = match self.free.pop() {
            Some(slot) => slot,
            None => {
                let slot = u32::try_from(self.slots.len()).expect("fewer than 2^32 pending timers");
                self.slots.push(Slot { generation: 0, entry: None });
                slot
            }
        };
        let s = &mut self.slots[slot as usize];
        s.entry = Some((due, number, token));
        self.order.insert((due, number), slot);
        TimerKey { slot, generation: s.generation }
    }

    /// Takes a timer out before it fires. `None` when it has fired or was cancelled.
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let s = self.slots.get(key.slot as usize).filter(|s| s.generation == key.generation)?;
        let (due, number, _) = s.entry?;
        self.order.remove(&(due, number));
        Some(self.release(key.slot))
    }

    /// The earliest pending deadline.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.order.first_key_value().map(|((due, _), _)| *due)
    }

    /// Moves at most `limit` timers with `due <= now` into `out`, earliest first, and returns how many. Call again
    /// while it returns `limit`.
    pub fn advance(&mut self, now: Timestamp, limit: usize, out: &mut Vec<Due<T>>) -> usize {
        let mut moved = 0;
        while moved < limit {
            let Some(first) = self.order.first_entry().filter(|e| e.key().0 <= now) else { break };
            let ((due, _), slot) = first.remove_entry();
            out.push(Due { due, token: self.release(slot) });
            moved += 1;
        }
        moved
    }

    /// Frees a slot that is in use; the next user of the slot gets another generation.
    fn release(&mut self, slot: u32) -> T {
        let s = &mut self.slots[slot as usize];
        let (_, _, token) = s.entry.take().expect("a slot named in `order` or by a live key is in use");
        s.generation = s.generation.wrapping_add(1);
        self.free.push(slot);
        token
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn at(ns: i64) -> Timestamp {
        Timestamp::from_ns(ns)
    }

    #[test]
    fn due_timers_come_out_in_order_and_once() {
        let mut q = TimerQueue::new();
        q.insert(at(30), 'c');
        q.insert(at(10), 'a');
        q.insert(at(10), 'b');
        q.insert(at(99), 'd');
        assert_eq!(q.next_deadline(), Some(at(10)));
        let mut out = Vec::new();
        assert_eq!(q.advance(at(30), 2, &mut out), 2);
        assert_eq!(q.advance(at(30), 2, &mut out), 1);
        assert_eq!(out.iter().map(|d| d.token).collect::<Vec<_>>(), ['a', 'b', 'c']);
        assert_eq!(q.len(), 1);
    }

    #[test]
    fn a_stale_key_never_cancels_the_next_user_of_its_slot() {
        let mut q = TimerQueue::new();
        let first = q.insert(at(1), 1);
        assert_eq!(q.cancel(first), Some(1));
        let second = q.insert(at(2), 2);
        assert_eq!(q.cancel(first), None);
        assert_eq!(q.cancel(second), Some(2));
        assert!(q.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(i64),
        Cancel(usize),
        Advance(i64),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (0..1_000i64).prop_map(Op::Insert),
            (0..64usize).prop_map(Op::Cancel),
            (0..1_000i64).prop_map(Op::Advance),
        ]
    }

    proptest! {
        #[test]
        fn behaves_as_a_sorted_list(ops in proptest::collection::vec(op(), 0..200)) {
            let mut q = TimerQueue::new();
            let mut keys = Vec::new();
            let mut model: Vec<(Timestamp, usize)> = Vec::new();
            for op in ops {
                match op {
                    Op::Insert(due) => {
                        let token = keys.len();
                        keys.push(q.insert(at(due), token));
                        model.push((at(due), token));
                    }
                    Op::Cancel(i) if i < keys.len() => {
                        let pending = model.iter().position(|&(_, t)| t == i);
                        prop_assert_eq!(q.cancel(keys[i]), pending.map(|_| i));
                        if let Some(p) = pending {
                            model.remove(p);
                        }
                    }
                    Op::Cancel(_) => {}
                    Op::Advance(now) => {
                        let mut out = Vec::new();
                        q.advance(at(now), usize::MAX, &mut out);
                        model.sort();
                        let n = model.iter().take_while(|&&(d, _)| d <= at(now)).count();
                        let want: Vec<_> = model.drain(..n).collect();
                        prop_assert_eq!(out.iter().map(|d| (d.due, d.token)).collect::<Vec<_>>(), want);
                    }
                }
                prop_assert_eq!(q.len(), model.len());
                prop_assert_eq!(q.next_deadline(), model.iter().map(|m| m.0).min());
            }
        }
    }
}
