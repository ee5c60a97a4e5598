//! What is due next: a queue of deadlines, stepped by an explicit `now`.
//!
//! The queue holds no payload, only a small `Copy` token for each timer. Timers that are due come out in order of
//! `(due, order of insertion)`. A key names one insertion: cancelling a timer that has fired or was already
//! cancelled is a defined answer (`None`), even when its slot has been used again (a slot tells 2^31 uses apart).
//!
//! Made for tens of millions of timers. The due time itself says where a timer is, so nothing depends on what time it
//! is now except how much is put in order ahead of it: far timers lie in buckets of seconds, and each step spreads a
//! bounded number of those that come next over slots of 1 ms. A jump of `now`, either way, is harmless.

mod bits;
mod far;
mod list;
mod near;
mod slab;
#[cfg(test)]
mod tests;

use crate::time::Timestamp;
use alloc::vec::Vec;
use far::Far;
use slab::{NIL, Slab};

/// How many timers an [`advance`](TimerQueue::advance) spreads ahead of their time, beside two for each it takes out.
const AHEAD_IN_ADVANCE: usize = 256;

/// Cancelled timers are taken out of their lists so many at a time.
const CANCELLED_MAX: usize = 64;

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

/// Deadlines in order; see the module.
///
/// Insert, cancel and expiry cost O(1) for timers of the next day and a half, and O(log n) beyond. A timer takes 22
/// bytes and its token, and at most 80 where most of those inserted beside it were cancelled; the queue takes 1 to 2 MB
/// more once it has had a timer. Memory for timers is used again and not given back before the queue is dropped.
#[derive(Debug)]
pub struct TimerQueue<T> {
    slab: Slab<T>,
    far: Far,
    /// Timers that were cancelled but are still in their lists: the first `cancelled_len`. The blocks they are in are
    /// mostly not in the cache, and the waits for those of many timers overlap.
    cancelled: [u32; CANCELLED_MAX],
    cancelled_len: usize,
    /// The earliest pending deadline, always right.
    next: Option<Timestamp>,
    /// The slot of a pending timer that has it, or `NIL`.
    next_slot: u32,
}

impl<T: Copy> Default for TimerQueue<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: Copy> TimerQueue<T> {
    /// An empty queue.
    pub const fn new() -> Self {
        Self {
            slab: Slab::new(),
            far: Far::new(),
            cancelled: [NIL; CANCELLED_MAX],
            cancelled_len: 0,
            next: None,
            next_slot: NIL,
        }
    }

    /// How many timers are pending.
    pub fn len(&self) -> usize {
        self.slab.len() - self.cancelled_len
    }

    /// True when nothing is pending.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Adds a timer; one that is already due comes out of the next [`advance`](Self::advance).
    ///
    /// # Panics
    /// With 2^32 - 1 pending timers.
    pub fn insert(&mut self, due: Timestamp, token: T) -> TimerKey {
        let (slot, generation) = self.slab.take(due.as_ns(), token);
        self.far.insert(&mut self.slab, slot, due.as_ns());
        if self.next.is_none_or(|next| due < next) {
            self.next = Some(due);
            self.next_slot = slot;
        }
        TimerKey { slot, generation }
    }

    /// Takes a timer out before it fires. `None` when it has fired or was cancelled.
    // Short, and inlined: of a row of cancels the processor then waits for many nodes together.
    #[inline]
    pub fn cancel(&mut self, key: TimerKey) -> Option<T> {
        let token = self.slab.retire(key.slot, key.generation)?;
        self.cancelled[self.cancelled_len] = key.slot;
        self.cancelled_len += 1;
        if self.cancelled_len == CANCELLED_MAX {
            self.unlink_cancelled();
        }
        if self.next_slot == key.slot {
            self.find_next();
        }
        Some(token)
    }

    /// The earliest pending deadline.
    pub fn next_deadline(&self) -> Option<Timestamp> {
        self.next
    }

    /// Moves at most `limit` timers with `due <= now` into `out`, earliest first, and returns how many. Call again
    /// while it returns `limit`.
    pub fn advance(&mut self, now: Timestamp, limit: usize, out: &mut Vec<Due<T>>) -> usize {
        self.unlink_cancelled();
        self.far.follow(now.as_ns());
        let taken = self.far.take_due(&mut self.slab, now.as_ns(), limit, out);
        let budget = AHEAD_IN_ADVANCE.saturating_add(taken.saturating_mul(2));
        self.far.spread_ahead(&mut self.slab, now.as_ns(), budget);
        if taken > 0 {
            self.find_next();
        }
        taken
    }

    /// Spreads at most `budget` of the timers that come in the next half minute, and returns how many it found; 0 says
    /// that nothing is left to do. [`advance`](Self::advance) does enough of this where it is called often. A thread
    /// that is about to wait does well to call this first, until it returns 0: then a crowd of millions of timers
    /// with nothing before it is in order before its time comes. It also tells an empty queue what time it is.
    pub fn prepare(&mut self, now: Timestamp, budget: usize) -> usize {
        self.unlink_cancelled();
        self.far.follow(now.as_ns());
        self.far.spread_ahead(&mut self.slab, now.as_ns(), budget)
    }

    #[inline(never)]
    fn unlink_cancelled(&mut self) {
        let cancelled = &self.cancelled[..self.cancelled_len];
        self.slab.touch_blocks(cancelled);
        for &number in cancelled {
            self.far.unlink(&mut self.slab, number);
            self.slab.free(number);
        }
        self.cancelled_len = 0;
    }

    #[inline(never)]
    fn find_next(&mut self) {
        self.unlink_cancelled();
        let first = self.far.first(&mut self.slab);
        self.next = first.map(|number| Timestamp::from_ns(self.slab.due_ns(number)));
        self.next_slot = first.unwrap_or(NIL);
    }
}
