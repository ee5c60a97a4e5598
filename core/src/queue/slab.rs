//! Where the timers are: numbered nodes, each in one doubly linked list.
//!
//! Memory grows by a chunk at a time, since a `Vec` of fifty million nodes that doubles copies gigabytes in one step.
//! It is used again but never given back.

use super::Due;
use crate::time::Timestamp;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// No node.
pub(super) const NIL: u32 = u32::MAX;

/// Lists up to this long are sorted where they are; longer ones are split by time.
pub(super) const SHORT: usize = 64;

const CHUNK_BITS: u32 = 13;
const CHUNK: usize = 1 << CHUNK_BITS;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node<T> {
    pub(super) due_ns: i64,
    pub(super) token: T,
    pub(super) next: u32,
    pub(super) prev: u32,
    /// Odd while the node is in use: each use of a node has a generation of its own.
    generation: u32,
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    /// Arrays, so that a place in a chunk needs no check.
    chunks: Vec<Box<[Node<T>; CHUNK]>>,
    /// The nodes in use have numbers below this.
    reached: u32,
    /// The first free node; the others follow by `next`.
    free: u32,
    len: usize,
}

impl<T: Copy> Slab<T> {
    pub(super) const fn new() -> Self {
        Self { chunks: Vec::new(), reached: 0, free: NIL, len: 0 }
    }

    pub(super) fn len(&self) -> usize {
        self.len
    }

    #[inline]
    pub(super) fn node(&self, number: u32) -> &Node<T> {
        &self.chunks[(number >> CHUNK_BITS) as usize][number as usize % CHUNK]
    }

    #[inline]
    pub(super) fn node_mut(&mut self, number: u32) -> &mut Node<T> {
        &mut self.chunks[(number >> CHUNK_BITS) as usize][number as usize % CHUNK]
    }

    /// Puts a node in use and returns its number and generation.
    #[inline]
    pub(super) fn take(&mut self, due_ns: i64, token: T) -> (u32, u32) {
        self.len += 1;
        let number = self.free;
        if number != NIL {
            let node = self.node_mut(number);
            node.due_ns = due_ns;
            node.token = token;
            node.generation = node.generation.wrapping_add(1);
            let (next, generation) = (node.next, node.generation);
            self.free = next;
            return (number, generation);
        }
        let number = self.reached;
        assert!(number != NIL, "a timer queue holds fewer than 2^32 - 1 timers");
        self.reached += 1;
        let node = Node { due_ns, token, next: NIL, prev: NIL, generation: 1 };
        if (number as usize).is_multiple_of(CHUNK) {
            // The others are out of use, whatever is in them. A vector first: an array would be made on the stack.
            let unused = vec![Node { generation: 0, ..node }; CHUNK].into_boxed_slice();
            self.chunks.extend(<Box<[Node<T>; CHUNK]>>::try_from(unused).ok());
        }
        *self.node_mut(number) = node;
        (number, 1)
    }

    /// Takes a node out of use if `generation` is the one in which it is in use now. It stays in its list.
    #[inline]
    pub(super) fn retire_current(&mut self, number: u32, generation: u32) -> Option<(i64, T)> {
        let node = &mut self.chunks.get_mut((number >> CHUNK_BITS) as usize)?[number as usize % CHUNK];
        // A key's generation is odd, so a node out of use does not match.
        if node.generation != generation {
            return None;
        }
        node.generation = generation.wrapping_add(1);
        self.len -= 1;
        Some((node.due_ns, node.token))
    }

    /// Takes a node out of use; it stays in its list and is not used again before [`free`](Self::free).
    #[inline]
    pub(super) fn retire(&mut self, number: u32) -> (i64, T) {
        self.len -= 1;
        let node = self.node_mut(number);
        node.generation = node.generation.wrapping_add(1);
        (node.due_ns, node.token)
    }

    /// Lets a node that is out of use, out of its list too, be used again.
    #[inline]
    pub(super) fn free(&mut self, number: u32) {
        let free = self.free;
        self.node_mut(number).next = free;
        self.free = number;
    }

    /// Brings the neighbours of these nodes into the cache: loads that do not depend on one another, so that the
    /// processor waits for all of them together.
    pub(super) fn touch_neighbours(&self, numbers: &[u32]) {
        let mut sum = 0u32;
        for &number in numbers {
            let node = self.node(number);
            for neighbour in [node.prev, node.next] {
                // No chunk is found for `NIL`.
                if let Some(chunk) = self.chunks.get((neighbour >> CHUNK_BITS) as usize) {
                    sum = sum.wrapping_add(chunk[neighbour as usize % CHUNK].next);
                }
            }
        }
        core::hint::black_box(sum);
    }

    /// Takes a node that has neighbours on both sides out of its list, which need not be known.
    #[inline]
    pub(super) fn unlink_between(&mut self, prev: u32, next: u32) {
        self.node_mut(prev).next = next;
        self.node_mut(next).prev = prev;
    }
}

/// A list of nodes, in the order in which they came.
#[derive(Clone, Copy, Debug)]
pub(super) struct List {
    pub(super) first: u32,
    last: u32,
}

impl List {
    pub(super) const EMPTY: Self = Self { first: NIL, last: NIL };

    #[inline]
    pub(super) fn is_empty(self) -> bool {
        self.first == NIL
    }

    #[inline]
    pub(super) fn push_back<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32) {
        let node = slab.node_mut(number);
        node.next = NIL;
        node.prev = self.last;
        if self.last == NIL {
            self.first = number;
        } else {
            slab.node_mut(self.last).next = number;
        }
        self.last = number;
    }

    /// True when the node is the first or the last here.
    #[inline]
    pub(super) fn ends_with(self, number: u32) -> bool {
        self.first == number || self.last == number
    }

    /// Takes out a node that is in this list.
    pub(super) fn unlink<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32) {
        let node = slab.node(number);
        let (prev, next) = (node.prev, node.next);
        if prev == NIL {
            self.first = next;
        } else {
            slab.node_mut(prev).next = next;
        }
        if next == NIL {
            self.last = prev;
        } else {
            slab.node_mut(next).prev = prev;
        }
    }

    /// Drops the nodes before `first`, which now belong elsewhere.
    #[inline]
    pub(super) fn start_at<T: Copy>(&mut self, slab: &mut Slab<T>, first: u32) {
        self.first = first;
        if first == NIL {
            self.last = NIL;
        } else {
            slab.node_mut(first).prev = NIL;
        }
    }

    /// True when there are more than [`SHORT`] nodes. Looks at no more than that.
    pub(super) fn is_long<T: Copy>(self, slab: &Slab<T>) -> bool {
        let mut number = self.first;
        for _ in 0..=SHORT {
            if number == NIL {
                return false;
            }
            number = slab.node(number).next;
        }
        true
    }

    /// Sorts a list of at most [`SHORT`] nodes by due time, those with equal times in the order in which they came;
    /// leaves a longer list alone and returns false.
    pub(super) fn sort_short<T: Copy>(&mut self, slab: &mut Slab<T>) -> bool {
        if self.first == self.last {
            return true;
        }
        let mut sorted = [(0i64, NIL); SHORT];
        let mut len = 0;
        let mut is_sorted = true;
        let mut number = self.first;
        while number != NIL {
            if len == SHORT {
                return false;
            }
            let node = slab.node(number);
            // Insertion sort, from the end: lists are mostly short and often in order.
            let mut place = len;
            while place > 0 && sorted[place - 1].0 > node.due_ns {
                sorted[place] = sorted[place - 1];
                place -= 1;
                is_sorted = false;
            }
            sorted[place] = (node.due_ns, number);
            len += 1;
            number = node.next;
        }
        if !is_sorted {
            *self = Self::EMPTY;
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
        let mut taken = 0;
        let mut number = self.first;
        while taken < limit && number != NIL {
            let node = slab.node(number);
            let next = node.next;
            if node.due_ns > now_ns {
                break;
            }
            let (due_ns, token) = slab.retire(number);
            slab.free(number);
            out.push(Due { due: Timestamp::from_ns(due_ns), token });
            taken += 1;
            number = next;
        }
        if taken > 0 {
            self.start_at(slab, number);
        }
        taken
    }
}
