//! Where the timers are: numbered nodes, and the blocks of which the lists of nodes are made.
//!
//! Memory grows by a chunk at a time, since a `Vec` of fifty million nodes that doubles copies gigabytes in one step.
//! It is used again but never given back.

use super::Due;
use super::list::Blocks;
use crate::time::Timestamp;
use alloc::boxed::Box;
use alloc::vec;
use alloc::vec::Vec;

/// No node, or no block.
pub(super) const NIL: u32 = u32::MAX;

const NODES_IN_CHUNK: usize = 1 << 13;

#[derive(Clone, Copy, Debug)]
pub(super) struct Node<T> {
    pub(super) token: T,
    /// The block whose list has this node; of a free node, the next free one.
    pub(super) block: u32,
    /// Odd while the node is in use: each use of a node has a generation of its own.
    generation: u32,
}

/// Numbered items that never move, in chunks of `N`. Arrays, so that a place in a chunk needs no check.
#[derive(Debug)]
pub(super) struct Chunks<I, const N: usize>(Vec<Box<[I; N]>>);

impl<I: Copy, const N: usize> Chunks<I, N> {
    pub(super) const fn new() -> Self {
        Self(Vec::new())
    }

    #[inline]
    pub(super) fn at(&self, number: u32) -> &I {
        &self.0[number as usize / N][number as usize % N]
    }

    #[inline]
    pub(super) fn at_mut(&mut self, number: u32) -> &mut I {
        &mut self.0[number as usize / N][number as usize % N]
    }

    #[inline]
    pub(super) fn get(&self, number: u32) -> Option<&I> {
        Some(&self.0.get(number as usize / N)?[number as usize % N])
    }

    #[inline]
    pub(super) fn get_mut(&mut self, number: u32) -> Option<&mut I> {
        Some(&mut self.0.get_mut(number as usize / N)?[number as usize % N])
    }

    /// Sets the item with the first number that was never used. The others of a new chunk are `unused`.
    #[inline]
    pub(super) fn set_next(&mut self, number: u32, item: I, unused: I) {
        if (number as usize).is_multiple_of(N) {
            // A vector first: an array would be made on the stack.
            self.0.extend(<Box<[I; N]>>::try_from(vec![unused; N].into_boxed_slice()).ok());
        }
        *self.at_mut(number) = item;
    }
}

#[derive(Debug)]
pub(super) struct Slab<T> {
    nodes: Chunks<Node<T>, NODES_IN_CHUNK>,
    /// When each node is due. Apart from the nodes, since a cancel does not need it.
    dues_ns: Chunks<i64, NODES_IN_CHUNK>,
    pub(super) blocks: Blocks,
    /// The nodes in use have numbers below this.
    reached: u32,
    /// The first free node; the others follow by `block`.
    free: u32,
    len: usize,
}

impl<T: Copy> Slab<T> {
    pub(super) const fn new() -> Self {
        Self {
            nodes: Chunks::new(),
            dues_ns: Chunks::new(),
            blocks: Blocks::new(),
            reached: 0,
            free: NIL,
            len: 0,
        }
    }

    /// How many nodes are in use or not yet free.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many nodes there is memory for, but for the end of the last chunk.
    #[cfg(test)]
    pub(super) fn reached(&self) -> usize {
        self.reached as usize
    }

    #[inline]
    pub(super) fn node(&self, number: u32) -> &Node<T> {
        self.nodes.at(number)
    }

    #[inline]
    pub(super) fn due_ns(&self, number: u32) -> i64 {
        *self.dues_ns.at(number)
    }

    #[inline]
    pub(super) fn generation(&self, number: u32) -> u32 {
        self.node(number).generation
    }

    #[inline]
    pub(super) fn node_mut(&mut self, number: u32) -> &mut Node<T> {
        self.nodes.at_mut(number)
    }

    /// Puts a node in use and returns its number and generation.
    #[inline]
    pub(super) fn take(&mut self, due_ns: i64, token: T) -> (u32, u32) {
        self.len += 1;
        let number = self.free;
        if number != NIL {
            let node = self.node_mut(number);
            let next = node.block;
            let generation = node.generation.wrapping_add(1);
            *node = Node { token, block: NIL, generation };
            *self.dues_ns.at_mut(number) = due_ns;
            self.free = next;
            return (number, generation);
        }
        let number = self.reached;
        assert!(number != NIL, "a timer queue holds fewer than 2^32 - 1 timers");
        self.reached += 1;
        let node = Node { token, block: NIL, generation: 1 };
        // The others are out of use, whatever is in them.
        self.nodes.set_next(number, node, Node { generation: 0, ..node });
        self.dues_ns.set_next(number, due_ns, 0);
        (number, 1)
    }

    /// Takes a node out of use if `generation` is the one in which it is in use now. It stays in its list and counts
    /// until [`free`](Self::free).
    #[inline]
    pub(super) fn retire(&mut self, number: u32, generation: u32) -> Option<T> {
        let node = self.nodes.get_mut(number)?;
        // A key's generation is odd, so a node out of use does not match.
        if node.generation != generation {
            return None;
        }
        node.generation = generation.wrapping_add(1);
        Some(node.token)
    }

    /// Lets a node that is out of use, out of its list too, be used again.
    #[inline]
    pub(super) fn free(&mut self, number: u32) {
        let free = self.free;
        self.node_mut(number).block = free;
        self.free = number;
        self.len -= 1;
    }

    /// Takes a node out of use whose list has let it go.
    #[inline]
    pub(super) fn fire(&mut self, number: u32) -> Due<T> {
        let node = self.node_mut(number);
        node.generation = node.generation.wrapping_add(1);
        let token = node.token;
        self.free(number);
        Due { due: Timestamp::from_ns(self.due_ns(number)), token }
    }

    /// Brings the blocks of these nodes into the cache: loads that do not depend on one another, so that the
    /// processor waits for all of them together.
    pub(super) fn touch_blocks(&self, numbers: &[u32]) {
        let sum = numbers.iter().fold(0u32, |sum, &n| sum.wrapping_add(self.blocks.live(self.node(n).block)));
        core::hint::black_box(sum);
    }
}
