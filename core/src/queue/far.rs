//! The far: buckets of about four seconds, each a list of timers in no order until their time is near.
//!
//! A ring has the buckets of the next day and a half; a tree has all others. As a bucket comes near, its timers are
//! spread over a [`Stretch`] of 1 ms slots: a few in each step, from eight buckets by turns, so that the memory
//! accesses of one do not wait for those of another.

use super::Due;
use super::bits::Bits;
use super::near::Stretch;
use super::slab::{List, NIL, Slab};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// A bucket is two to this power nanoseconds long: 4.3 s.
const BUCKET_BITS: u32 = 32;
/// A slot is two to this power nanoseconds long: 1.05 ms.
const SLOT_BITS: u32 = 20;
/// Buckets in the ring: 39 hours.
const RING: i64 = 1 << (47 - BUCKET_BITS);
/// How many buckets are spread by turns, all before the time of the first of them: a power of two.
const LANES: usize = 8;
/// At most so many buckets go from the tree to the ring in one step.
const MOVES_MAX: usize = 256;
/// Empty stretches kept for the next bucket.
const SPARE_MAX: usize = 2 * LANES;
/// The earliest due time is not known: the timer that had it was cancelled.
const UNKNOWN: i64 = i64::MIN;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The earliest due time of all that came, or `UNKNOWN`. Says nothing once all the timers are in a stretch.
    first_due_ns: i64,
    /// The timers that are not in a stretch.
    list: List,
}

impl Bucket {
    const EMPTY: Self = Self { first_due_ns: i64::MAX, list: List::EMPTY };
}

#[derive(Debug)]
pub(super) struct Far {
    /// The ring has the buckets `base .. base + RING`, made at the first insertion.
    base: i64,
    ring: Vec<Bucket>,
    /// Which buckets of the ring, by place, have timers.
    used: Bits,
    /// The buckets outside the ring that have timers.
    tree: BTreeMap<i64, Bucket>,
    /// The buckets whose timers are, at least in part, spread over a stretch; by number. A timer that comes while
    /// some are still in the list goes to the end of the list, so that timers with equal due times stay in order.
    stretches: Vec<(i64, Stretch)>,
    spare: Vec<Stretch>,
    /// The bucket with a short list that is known to be sorted.
    sorted: Option<i64>,
    /// No bucket up to this one has a long list.
    spread_to: i64,
}

#[inline]
fn bucket_of(due_ns: i64) -> i64 {
    due_ns >> BUCKET_BITS
}

#[inline]
fn place_of(bucket: i64) -> usize {
    (bucket & (RING - 1)) as usize
}

impl Far {
    pub(super) const fn new() -> Self {
        Self {
            base: 0,
            ring: Vec::new(),
            used: Bits::EMPTY,
            tree: BTreeMap::new(),
            stretches: Vec::new(),
            spare: Vec::new(),
            sorted: None,
            spread_to: i64::MIN,
        }
    }

    #[inline]
    fn is_in_ring(&self, bucket: i64) -> bool {
        (self.base..self.base + RING).contains(&bucket)
    }

    #[inline]
    fn stretch_at(&self, bucket: i64) -> Option<usize> {
        if self.stretches.last().is_none_or(|s| s.0 < bucket) {
            return None;
        }
        self.stretches.binary_search_by_key(&bucket, |s| s.0).ok()
    }

    /// The bucket, which must have timers if it is in the tree.
    #[inline]
    fn bucket_mut(&mut self, bucket: i64) -> &mut Bucket {
        if self.is_in_ring(bucket) {
            &mut self.ring[place_of(bucket)]
        } else {
            self.tree.entry(bucket).or_insert(Bucket::EMPTY)
        }
    }

    fn list_of(&self, bucket: i64) -> List {
        if self.is_in_ring(bucket) {
            self.ring[place_of(bucket)].list
        } else {
            self.tree.get(&bucket).map_or(List::EMPTY, |b| b.list)
        }
    }

    #[inline]
    pub(super) fn insert<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32, due_ns: i64) {
        let bucket = bucket_of(due_ns);
        if self.ring.is_empty() {
            // Nothing has said what time it is: a guess, which `follow` puts right.
            self.start(bucket - RING / 2);
        }
        let stretch = self.stretch_at(bucket);
        let b = if self.is_in_ring(bucket) {
            self.used.insert(place_of(bucket));
            &mut self.ring[place_of(bucket)]
        } else {
            self.tree.entry(bucket).or_insert(Bucket::EMPTY)
        };
        b.first_due_ns = b.first_due_ns.min(due_ns);
        if let Some(s) = stretch
            && b.list.is_empty()
        {
            return self.stretches[s].1.insert(slab, number, due_ns);
        }
        b.list.push_back(slab, number);
        if bucket <= self.spread_to {
            self.spread_to = bucket - 1;
        }
        if self.sorted == Some(bucket) {
            self.sorted = None;
        }
    }

    /// Takes out a node.
    #[inline]
    pub(super) fn unlink<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32) {
        let node = slab.node(number);
        let (due_ns, prev, next) = (node.due_ns, node.prev, node.next);
        let bucket = bucket_of(due_ns);
        let b = self.bucket_mut(bucket);
        if b.first_due_ns == due_ns {
            b.first_due_ns = UNKNOWN;
        }
        if prev != NIL && next != NIL {
            return slab.unlink_between(prev, next);
        }
        if b.list.ends_with(number) {
            b.list.unlink(slab, number);
        } else if let Some(s) = self.stretch_at(bucket) {
            self.stretches[s].1.unlink_end(slab, number, due_ns);
        }
        self.drop_if_empty(bucket);
    }

    fn drop_if_empty(&mut self, bucket: i64) {
        let stretch = self.stretch_at(bucket);
        if !self.list_of(bucket).is_empty() || stretch.is_some_and(|s| !self.stretches[s].1.is_empty()) {
            return;
        }
        if self.is_in_ring(bucket) {
            self.ring[place_of(bucket)] = Bucket::EMPTY;
            self.used.remove(place_of(bucket));
        } else {
            self.tree.remove(&bucket);
        }
        if let Some(s) = stretch {
            let (_, stretch) = self.stretches.remove(s);
            if self.spare.len() < SPARE_MAX {
                self.spare.push(stretch);
            }
        }
        if self.sorted == Some(bucket) {
            self.sorted = None;
        }
    }

    /// The first bucket that has timers.
    #[inline]
    fn first(&self) -> Option<i64> {
        self.first_from(i64::MIN)
    }

    /// The first bucket from this one on that has timers.
    fn first_from(&self, bucket: i64) -> Option<i64> {
        let ring = self.first_in_ring_from(bucket.max(self.base));
        let tree =
            if self.tree.is_empty() { None } else { self.tree.range(bucket..).next().map(|(b, _)| *b) };
        match (ring, tree) {
            (Some(r), Some(t)) => Some(r.min(t)),
            (r, t) => r.or(t),
        }
    }

    fn first_in_ring_from(&self, bucket: i64) -> Option<i64> {
        if bucket >= self.base + RING {
            return None;
        }
        let place = self.used.first_from(place_of(bucket)).or_else(|| self.used.first())?;
        let found = self.base + ((place as i64 - self.base) & (RING - 1));
        (found >= bucket).then_some(found)
    }

    /// The earliest due time. Finds it without putting anything in order where that is possible.
    pub(super) fn first_due_ns<T: Copy>(&mut self, slab: &mut Slab<T>) -> Option<i64> {
        let bucket = self.first()?;
        if let Some(known) = self.known_first_due_ns(bucket) {
            return Some(known);
        }
        match self.put_in_order(slab, bucket) {
            Some(s) => self.stretches[s].1.first_due_ns(slab),
            None => Some(slab.node(self.list_of(bucket).first).due_ns),
        }
    }

    fn known_first_due_ns(&mut self, bucket: i64) -> Option<i64> {
        let Bucket { first_due_ns, list } = *self.bucket_mut(bucket);
        (!list.is_empty() && first_due_ns != UNKNOWN).then_some(first_due_ns)
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
            && let Some(bucket) = self.first()
        {
            if bucket > bucket_of(now_ns) || self.known_first_due_ns(bucket).is_some_and(|due| due > now_ns) {
                break;
            }
            let is_empty = match self.put_in_order(slab, bucket) {
                Some(s) => {
                    let stretch = &mut self.stretches[s].1;
                    taken += stretch.take_due(slab, now_ns, limit - taken, out);
                    stretch.is_empty()
                }
                None => {
                    let b = self.bucket_mut(bucket);
                    taken += b.list.take_due(slab, now_ns, limit - taken, out);
                    let is_empty = b.list.is_empty();
                    if !is_empty {
                        b.first_due_ns = slab.node(b.list.first).due_ns;
                    }
                    is_empty
                }
            };
            if !is_empty {
                break;
            }
            self.drop_if_empty(bucket);
        }
        taken
    }

    /// Puts the timers of a bucket in order: `None` when they are in its list, else the stretch they are in.
    fn put_in_order<T: Copy>(&mut self, slab: &mut Slab<T>, bucket: i64) -> Option<usize> {
        let stretch = match self.stretch_at(bucket) {
            Some(s) => s,
            None if self.sorted == Some(bucket) => return None,
            None => {
                let b = self.bucket_mut(bucket);
                if b.list.sort_short(slab) {
                    b.first_due_ns = slab.node(b.list.first).due_ns;
                    self.sorted = Some(bucket);
                    return None;
                }
                self.open(bucket)
            }
        };
        let b = self.bucket_mut(bucket);
        let mut number = core::mem::replace(&mut b.list, List::EMPTY).first;
        let stretch_of = &mut self.stretches[stretch].1;
        while number != NIL {
            let node = slab.node(number);
            let (next, due_ns) = (node.next, node.due_ns);
            stretch_of.insert(slab, number, due_ns);
            number = next;
        }
        Some(stretch)
    }

    /// Gives a bucket a stretch and says where it is.
    fn open(&mut self, bucket: i64) -> usize {
        let stretch = self.spare.pop().unwrap_or_else(|| Stretch::new(BUCKET_BITS, SLOT_BITS));
        let place = self.stretches.partition_point(|s| s.0 < bucket);
        self.stretches.insert(place, (bucket, stretch));
        place
    }

    /// Spreads at most about `budget` timers of the buckets that come next over their stretches; returns how many.
    pub(super) fn spread_ahead<T: Copy>(&mut self, slab: &mut Slab<T>, now_ns: i64, budget: usize) -> usize {
        let end = (bucket_of(now_ns) | (LANES as i64 - 1)) + LANES as i64;
        let mut moved = 0;
        while moved < budget && self.spread_to < end {
            let mut lanes = [0i64; LANES];
            let mut count = 0;
            let mut from = self.spread_to.saturating_add(1);
            while count < LANES
                && let Some(bucket) = self.first_from(from).filter(|b| *b <= end)
            {
                let list = self.list_of(bucket);
                if !list.is_empty() && (self.stretch_at(bucket).is_some() || list.is_long(slab)) {
                    lanes[count] = bucket;
                    count += 1;
                }
                from = bucket + 1;
            }
            self.spread_to = if count == 0 { end } else { lanes[0] - 1 };
            moved += self.spread_lanes(slab, &lanes[..count], budget - moved);
        }
        moved
    }

    /// Spreads timers of these buckets by turns until the budget is used or one of them has no more.
    fn spread_lanes<T: Copy>(&mut self, slab: &mut Slab<T>, lanes: &[i64], budget: usize) -> usize {
        for &bucket in lanes {
            if self.stretch_at(bucket).is_none() {
                self.open(bucket);
            }
        }
        let mut heads = [NIL; LANES];
        let mut stretches = [0; LANES];
        for (k, &bucket) in lanes.iter().enumerate() {
            heads[k] = self.list_of(bucket).first;
            stretches[k] = self.stretch_at(bucket).unwrap_or_default();
        }
        let mut moved = 0;
        while moved < budget && !lanes.is_empty() && !heads[..lanes.len()].contains(&NIL) {
            // All loads first: they do not depend on one another, so the processor waits for them together.
            let mut nodes = [(0, NIL); LANES];
            for (node, &head) in nodes.iter_mut().zip(&heads[..lanes.len()]) {
                let n = slab.node(head);
                *node = (n.due_ns, n.next);
            }
            for k in 0..lanes.len() {
                self.stretches[stretches[k]].1.insert(slab, heads[k], nodes[k].0);
                heads[k] = nodes[k].1;
            }
            moved += lanes.len();
        }
        for (&bucket, &head) in lanes.iter().zip(&heads) {
            self.bucket_mut(bucket).list.start_at(slab, head);
        }
        moved
    }

    /// Lets the ring follow the time. A bucket that still has timers stays in it.
    pub(super) fn follow(&mut self, now_ns: i64) {
        let now = bucket_of(now_ns);
        if self.ring.is_empty() {
            self.start(now);
            return;
        }
        let target = self.first().map_or(now, |first| first.min(now));
        if target > self.base {
            let mut next = self.base + RING;
            self.base = target;
            for _ in 0..MOVES_MAX {
                let Some((&bucket, &b)) = self.tree.range(next..target + RING).next() else { return };
                self.move_to_ring(bucket, b);
                next = bucket + 1;
            }
            // The rest in later steps: the ring ends before the first bucket that is still in the tree.
            if let Some((&bucket, _)) = self.tree.range(next..target + RING).next() {
                self.base = bucket - RING;
            }
        } else if now + RING / 2 < self.base {
            self.go_back(now);
        }
    }

    fn move_to_ring(&mut self, bucket: i64, b: Bucket) {
        self.tree.remove(&bucket);
        self.ring[place_of(bucket)] = b;
        self.used.insert(place_of(bucket));
    }

    /// Moves the ring to an earlier time: once, when the guess at the start was wrong, or after the clock was set
    /// back by most of a day.
    fn go_back(&mut self, base: i64) {
        while let Some(bucket) = self.first_in_ring_from(self.base.max(base + RING)) {
            let b = core::mem::replace(&mut self.ring[place_of(bucket)], Bucket::EMPTY);
            self.used.remove(place_of(bucket));
            self.tree.insert(bucket, b);
        }
        let end = self.base.min(base + RING);
        self.base = base;
        while let Some((&bucket, &b)) = self.tree.range(base..end).next() {
            self.move_to_ring(bucket, b);
        }
    }

    fn start(&mut self, base: i64) {
        self.base = base;
        self.ring = vec![Bucket::EMPTY; RING as usize];
        self.used = Bits::new(RING as usize);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_where_the_time_is() {
        let (mut far, mut slab) = (Far::new(), Slab::new());
        let mut check = |now_ns: i64| {
            let (number, _) = slab.take(now_ns, ());
            far.insert(&mut slab, number, now_ns);
            far.follow(now_ns);
            assert!(far.is_in_ring(bucket_of(now_ns)), "{now_ns}");
            assert_eq!(
                far.tree.keys().filter(|b| far.is_in_ring(**b)).count(),
                0,
                "a bucket is in one place"
            );
            slab.retire(number);
            far.unlink(&mut slab, number);
        };
        let day_ns = 86_400_000_000_000;
        for day in [20_000, 20_001, 30_000, 0, 0, 3, -40_000, 106_000] {
            check(day * day_ns);
        }
    }
}
