//! The near: a stretch of time cut into equal slots, each with a list of timers.
//!
//! The slots of a bucket are about 1 ms. Only the first slot that has timers is in order, and only when that is asked
//! for: a short list is sorted, and a long one is spread over a stretch of finer slots, down to 1 ns, where timers in
//! the order of insertion are sorted. So the cost for a timer does not depend on how the due times are distributed.

use super::Due;
use super::bits::Bits;
use super::list::{BLOCK, Blocks, Front, List};
use super::slab::{NIL, Slab};
use alloc::vec;
use alloc::vec::Vec;

/// A long slot is cut into two to this power.
const FINER_BITS: u32 = 10;

#[derive(Debug)]
pub(super) struct Stretch {
    /// A slot is two to this power nanoseconds long.
    slot_bits: u32,
    lists: Vec<List>,
    /// The slots that have timers.
    used: Bits,
    /// The slot whose list is known to be sorted, or `NIL`.
    sorted: u32,
    /// Slots that were too long to sort, by number; their timers are here, not in `lists`.
    finer: Vec<(u32, Stretch)>,
}

impl Stretch {
    /// Two to the power `bits` nanoseconds, in slots of two to the power `slot_bits`.
    pub(super) fn new(bits: u32, slot_bits: u32) -> Self {
        let slots = 1 << (bits - slot_bits);
        Self {
            slot_bits,
            lists: vec![List::EMPTY; slots],
            used: Bits::new(slots),
            sorted: NIL,
            finer: Vec::new(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.used.is_empty()
    }

    #[inline]
    fn slot_of(&self, due_ns: i64) -> usize {
        (due_ns >> self.slot_bits) as usize & (self.lists.len() - 1)
    }

    #[inline]
    fn finer_at(&self, slot: usize) -> Option<usize> {
        if self.finer.is_empty() {
            return None;
        }
        self.finer.iter().position(|f| f.0 as usize == slot)
    }

    #[inline]
    pub(super) fn insert<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32, due_ns: i64) {
        let slot = self.slot_of(due_ns);
        if let Some(f) = self.finer_at(slot) {
            return self.finer[f].1.insert(slab, number, due_ns);
        }
        if self.sorted as usize == slot {
            self.sorted = NIL;
        }
        self.lists[slot].push_back(slab, number);
        self.used.insert(slot);
    }

    /// Takes at most `limit` timers of this stretch's time from the front of a list; returns how many.
    pub(super) fn take_from<T: Copy>(&mut self, slab: &mut Slab<T>, list: &mut List, limit: usize) -> usize {
        let mut taken = 0;
        while taken < limit && !list.is_empty() {
            let Front { numbers, len } = list.take_front(&mut slab.blocks, limit - taken);
            // All loads first: they do not depend on one another, so the processor waits for them together.
            let (mut dues_ns, mut sum) = ([0; BLOCK], 0);
            for (due_ns, &number) in dues_ns.iter_mut().zip(&numbers[..len]) {
                *due_ns = slab.due_ns(number);
                // The node will be written.
                sum ^= slab.generation(number);
            }
            core::hint::black_box(sum);
            for (&due_ns, &number) in dues_ns.iter().zip(&numbers[..len]) {
                self.insert(slab, number, due_ns);
            }
            taken += len;
        }
        taken
    }

    /// Takes out a block that is first or last in its list, or `NIL` for a timer that is alone, due at `due_ns`.
    pub(super) fn unlink_end(&mut self, blocks: &mut Blocks, block: u32, due_ns: i64) {
        let slot = self.slot_of(due_ns);
        if let Some(f) = self.finer_at(slot) {
            self.finer[f].1.unlink_end(blocks, block, due_ns);
            if self.finer[f].1.is_empty() {
                self.finer.swap_remove(f);
                self.used.remove(slot);
            }
            return;
        }
        self.lists[slot].unlink(blocks, block);
        if self.lists[slot].is_empty() {
            self.used.remove(slot);
        }
    }

    /// The timer that is due first, having put its slot in order.
    pub(super) fn first<T: Copy>(&mut self, slab: &mut Slab<T>) -> Option<u32> {
        let slot = self.used.first()?;
        match self.put_in_order(slab, slot) {
            Some(f) => self.finer[f].1.first(slab),
            None => self.lists[slot].first(slab),
        }
    }

    /// Moves at most `limit` timers due by `now_ns` to `out`, in order.
    pub(super) fn take_due<T: Copy>(
        &mut self,
        slab: &mut Slab<T>,
        now_ns: i64,
        limit: usize,
        out: &mut Vec<Due<T>>,
    ) -> usize {
        let mut taken = 0;
        while taken < limit
            && let Some(slot) = self.used.first()
        {
            let is_empty = match self.put_in_order(slab, slot) {
                Some(f) => {
                    let finer = &mut self.finer[f].1;
                    taken += finer.take_due(slab, now_ns, limit - taken, out);
                    let is_empty = finer.is_empty();
                    if is_empty {
                        self.finer.swap_remove(f);
                    }
                    is_empty
                }
                None => {
                    taken += self.lists[slot].take_due(slab, now_ns, limit - taken, out);
                    self.lists[slot].is_empty()
                }
            };
            if !is_empty {
                break;
            }
            self.used.remove(slot);
        }
        taken
    }

    /// Puts the timers of a slot in order: `None` when they are in its list, else where they are in `finer`.
    #[inline]
    fn put_in_order<T: Copy>(&mut self, slab: &mut Slab<T>, slot: usize) -> Option<usize> {
        if let Some(f) = self.finer_at(slot) {
            return Some(f);
        }
        if self.sorted as usize == slot || self.slot_bits == 0 {
            return None;
        }
        if self.lists[slot].sort_short(slab) {
            self.sorted = slot as u32;
            return None;
        }
        let mut finer = Self::new(self.slot_bits, self.slot_bits.saturating_sub(FINER_BITS));
        finer.take_from(slab, &mut self.lists[slot], usize::MAX);
        self.finer.push((slot as u32, finer));
        Some(self.finer.len() - 1)
    }
}
