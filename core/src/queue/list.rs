//! Lists of timers: their numbers, in the order in which they came, in blocks of one cache line.
//!
//! A timer that is cancelled leaves a hole, so one line is written and no neighbour is looked for. A block with
//! nothing but holes goes back to the pool at once: a list has no empty block, and at most as many blocks as timers.
//! A timer that is the only one from the start needs no block: the list names it.

use super::Due;
use super::slab::{Chunks, NIL, Slab};
use alloc::vec::Vec;

/// Lists up to this long are sorted where they are; longer ones are split by time.
pub(super) const SHORT: usize = 64;

/// Numbers in a block.
pub(super) const BLOCK: usize = 12;

const BLOCKS_IN_CHUNK: usize = 1 << 12;

#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
struct Block {
    /// The first `len` are used; those that were taken out since are `NIL`.
    numbers: [u32; BLOCK],
    next: u32,
    prev: u32,
    len: u32,
    /// How many of the numbers are not `NIL`.
    live: u32,
}

const _: () = assert!(size_of::<Block>() == 64);

/// The blocks of all lists of a queue.
#[derive(Debug)]
pub(super) struct Blocks {
    chunks: Chunks<Block, BLOCKS_IN_CHUNK>,
    /// The blocks in use have numbers below this.
    reached: u32,
    /// The first free block; the others follow by `next`.
    free: u32,
}

impl Blocks {
    pub(super) const fn new() -> Self {
        Self { chunks: Chunks::new(), reached: 0, free: NIL }
    }

    /// How many blocks there is memory for, but for the end of the last chunk.
    #[cfg(test)]
    pub(super) fn reached(&self) -> usize {
        self.reached as usize
    }

    /// How many timers are in a block; 0 for `NIL`.
    #[inline]
    pub(super) fn live(&self, block: u32) -> u32 {
        self.chunks.get(block).map_or(0, |b| b.live)
    }

    /// Takes a timer out of its block without its list. False when that cannot be: the block is now empty and the
    /// first or last of the list, or there is no block. Then [`List::unlink`] has to follow.
    #[inline]
    pub(super) fn strike(&mut self, block: u32, number: u32) -> bool {
        let Some(b) = self.chunks.get_mut(block) else { return false };
        for n in &mut b.numbers {
            *n = if *n == number { NIL } else { *n };
        }
        b.live -= 1;
        if b.live > 0 {
            return true;
        }
        let Block { prev, next, .. } = *b;
        if prev == NIL || next == NIL {
            return false;
        }
        self.chunks.at_mut(prev).next = next;
        self.chunks.at_mut(next).prev = prev;
        self.give(block);
        true
    }

    /// A block with one timer, after `prev`.
    fn take(&mut self, prev: u32, first: u32) -> u32 {
        let mut block = Block { numbers: [NIL; BLOCK], next: NIL, prev, len: 1, live: 1 };
        block.numbers[0] = first;
        let number = self.free;
        if number != NIL {
            let b = self.chunks.at_mut(number);
            self.free = b.next;
            *b = block;
            return number;
        }
        // Each block in use has a timer, so there are fewer than 2^32 - 1 of them.
        let number = self.reached;
        self.reached += 1;
        self.chunks.set_next(number, block, block);
        number
    }

    #[inline]
    fn give(&mut self, block: u32) {
        self.chunks.at_mut(block).next = self.free;
        self.free = block;
    }
}

/// The numbers of timers that were at the front of a list: the first `len`.
pub(super) struct Front {
    pub(super) numbers: [u32; BLOCK],
    pub(super) len: usize,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    /// The first block; the number of the timer when it is alone and in no block.
    first: u32,
    /// The last block; `NIL` when there is none.
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NIL, last: NIL };

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.first == NIL
    }

    /// True when there is one timer and no block.
    #[inline]
    fn is_one(self) -> bool {
        self.last == NIL && self.first != NIL
    }

    #[inline]
    pub(super) fn push_back<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32) {
        if self.last == NIL {
            if self.first == NIL {
                self.first = number;
                slab.node_mut(number).block = NIL;
                return;
            }
            self.last = slab.blocks.take(NIL, self.first);
            slab.node_mut(self.first).block = self.last;
            self.first = self.last;
        }
        let b = slab.blocks.chunks.at_mut(self.last);
        if let Some(place) = b.numbers.get_mut(b.len as usize) {
            *place = number;
            b.len += 1;
            b.live += 1;
        } else {
            let next = slab.blocks.take(self.last, number);
            slab.blocks.chunks.at_mut(self.last).next = next;
            self.last = next;
        }
        slab.node_mut(number).block = self.last;
    }

    /// True when the block is the first or the last here, or when the timer is here alone and in no block.
    #[inline]
    pub(super) fn ends_with(self, block: u32, number: u32) -> bool {
        if self.last == NIL { self.first == number } else { self.first == block || self.last == block }
    }

    /// Takes out a block that is in this list, or, with `NIL`, the timer that is alone.
    #[inline]
    pub(super) fn unlink(&mut self, blocks: &mut Blocks, block: u32) {
        if block == NIL {
            *self = Self::EMPTY;
            return;
        }
        let Block { prev, next, .. } = *blocks.chunks.at(block);
        if prev == NIL {
            self.first = next;
        } else {
            blocks.chunks.at_mut(prev).next = next;
        }
        if next == NIL {
            self.last = prev;
        } else {
            blocks.chunks.at_mut(next).prev = prev;
        }
        blocks.give(block);
    }

    /// The timer at the front.
    pub(super) fn first<T: Copy>(self, slab: &Slab<T>) -> Option<u32> {
        if self.last == NIL {
            return self.is_one().then_some(self.first);
        }
        slab.blocks.chunks.at(self.first).numbers.iter().copied().find(|n| *n != NIL)
    }

    /// Takes at most `limit` timers from the front, all of one block. The caller puts them into another list.
    #[inline]
    pub(super) fn take_front(&mut self, blocks: &mut Blocks, limit: usize) -> Front {
        let mut front = Front { numbers: [NIL; BLOCK], len: 0 };
        if self.last == NIL {
            (front.numbers[0], front.len) = (self.first, usize::from(self.is_one()));
            *self = Self::EMPTY;
            return front;
        }
        let b = blocks.chunks.at_mut(self.first);
        for place in b.numbers.iter_mut().take(b.len as usize).filter(|n| **n != NIL) {
            if front.len == limit {
                break;
            }
            front.numbers[front.len] = *place;
            front.len += 1;
            *place = NIL;
        }
        b.live -= front.len as u32;
        if b.live == 0 {
            self.unlink(blocks, self.first);
        }
        front
    }

    /// True when there are more than [`SHORT`] timers. Looks at no more blocks than that.
    pub(super) fn is_long(self, blocks: &Blocks) -> bool {
        if self.is_one() {
            return false;
        }
        let mut live = 0;
        let mut block = self.first;
        while block != NIL && live <= SHORT {
            let b = blocks.chunks.at(block);
            live += b.live as usize;
            block = b.next;
        }
        live > SHORT
    }

    /// Sorts a list of at most [`SHORT`] timers by due time, those with equal times in the order in which they came;
    /// leaves a longer list alone and returns false.
    #[inline]
    pub(super) fn sort_short<T: Copy>(&mut self, slab: &mut Slab<T>) -> bool {
        if self.last == NIL {
            return true;
        }
        self.sort_blocks(slab)
    }

    fn sort_blocks<T: Copy>(&mut self, slab: &mut Slab<T>) -> bool {
        let mut sorted = [(0i64, NIL); SHORT];
        let mut len = 0;
        let mut is_sorted = true;
        let mut block = self.first;
        while block != NIL {
            let b = slab.blocks.chunks.at(block);
            if len + b.live as usize > SHORT {
                return false;
            }
            for &number in b.numbers.iter().take(b.len as usize).filter(|n| **n != NIL) {
                let due_ns = slab.due_ns(number);
                // Insertion sort, from the end: lists are mostly short and often in order.
                let mut place = len;
                while place > 0 && sorted[place - 1].0 > due_ns {
                    sorted[place] = sorted[place - 1];
                    place -= 1;
                    is_sorted = false;
                }
                sorted[place] = (due_ns, number);
                len += 1;
            }
            block = b.next;
        }
        if !is_sorted {
            while !self.is_empty() {
                self.unlink(&mut slab.blocks, self.first);
            }
            for &(_, number) in &sorted[..len] {
                self.push_back(slab, number);
            }
        }
        true
    }

    /// Moves at most `limit` timers due by `now_ns` from the front of a sorted list to `out`.
    #[inline]
    pub(super) fn take_due<T: Copy>(
        &mut self,
        slab: &mut Slab<T>,
        now_ns: i64,
        limit: usize,
        out: &mut Vec<Due<T>>,
    ) -> usize {
        if self.is_one() {
            let number = self.first;
            if limit == 0 || slab.due_ns(number) > now_ns {
                return 0;
            }
            out.push(slab.fire(number));
            *self = Self::EMPTY;
            return 1;
        }
        let mut taken = 0;
        while !self.is_empty() {
            let Block { mut numbers, len, live, .. } = *slab.blocks.chunks.at(self.first);
            let before = taken;
            for place in numbers.iter_mut().take(len as usize).filter(|n| **n != NIL) {
                if taken == limit || slab.due_ns(*place) > now_ns {
                    break;
                }
                out.push(slab.fire(*place));
                *place = NIL;
                taken += 1;
            }
            let live = live - (taken - before) as u32;
            if live > 0 {
                let b = slab.blocks.chunks.at_mut(self.first);
                (b.numbers, b.live) = (numbers, live);
                break;
            }
            self.unlink(&mut slab.blocks, self.first);
        }
        taken
    }
}
