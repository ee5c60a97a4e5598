//! The far: buckets of about four seconds, each a list of timers in no order until their time is near.
//!
//! A ring has the buckets of the next day and a half; a tree has all others. As a bucket comes near, its timers are
//! spread over a [`Stretch`] of 1 ms slots, a few in each step.

use super::Due;
use super::bits::Bits;
use super::list::List;
use super::near::Stretch;
use super::slab::{NIL, Slab};
use alloc::collections::BTreeMap;
use alloc::vec;
use alloc::vec::Vec;

/// A bucket is two to this power nanoseconds long: 4.3 s.
const BUCKET_BITS: u32 = 32;
/// A slot is two to this power nanoseconds long: 1.05 ms.
const SLOT_BITS: u32 = 20;
/// Buckets in the ring: 39 hours.
const RING: i64 = 1 << (47 - BUCKET_BITS);
/// So many buckets after the present one are spread ahead of their time: 34 s. With more, what is near does not stay in
/// the cache.
const AHEAD: i64 = 8;
/// At most so many buckets go from the tree to the ring in one step.
const MOVES_MAX: usize = 256;
/// Empty stretches kept for the next bucket.
const SPARE_MAX: usize = 16;

#[derive(Clone, Copy, Debug)]
struct Bucket {
    /// The timer that is due first of all that came, and the generation of its node; it may be out of use since.
    first: u32,
    first_generation: u32,
    first_due_ns: i64,
    /// The timers that are not in a stretch.
    list: List,
}

impl Bucket {
    const EMPTY: Self = Self { first: NIL, first_generation: 0, first_due_ns: i64::MAX, list: List::EMPTY };

    fn set_first<T: Copy>(&mut self, slab: &Slab<T>, number: u32, due_ns: i64) {
        (self.first, self.first_generation, self.first_due_ns) = (number, slab.generation(number), due_ns);
    }
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
        if b.first == NIL || due_ns < b.first_due_ns {
            b.set_first(slab, number, due_ns);
        }
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

    /// Takes a node out of its list. Mostly that is to strike it out of its block: where the list is does not matter.
    #[inline]
    pub(super) fn unlink<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32) {
        let block = slab.node(number).block;
        if !slab.blocks.strike(block, number) {
            self.unlink_end(slab, number, block);
        }
    }

    fn unlink_end<T: Copy>(&mut self, slab: &mut Slab<T>, number: u32, block: u32) {
        let due_ns = slab.due_ns(number);
        let bucket = bucket_of(due_ns);
        let b = self.bucket_mut(bucket);
        if b.list.ends_with(block, number) {
            b.list.unlink(&mut slab.blocks, block);
        } else if let Some(s) = self.stretch_at(bucket) {
            self.stretches[s].1.unlink_end(&mut slab.blocks, block, due_ns);
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
    fn first_bucket(&self) -> Option<i64> {
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

    /// The timer that is due first. Finds it without putting anything in order where that is possible.
    pub(super) fn first<T: Copy>(&mut self, slab: &mut Slab<T>) -> Option<u32> {
        let bucket = self.first_bucket()?;
        if let Some(b) = self.with_known_first(slab, bucket) {
            return Some(b.first);
        }
        match self.put_in_order(slab, bucket) {
            Some(s) => self.stretches[s].1.first(slab),
            None => self.list_of(bucket).first(slab),
        }
    }

    /// The bucket, if it is known which of its timers is due first. It is not when that was cancelled, or when the
    /// timers are in a stretch.
    fn with_known_first<T: Copy>(&mut self, slab: &Slab<T>, bucket: i64) -> Option<Bucket> {
        let b = *self.bucket_mut(bucket);
        (!b.list.is_empty() && b.first != NIL && b.first_generation == slab.generation(b.first)).then_some(b)
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
            && let Some(bucket) = self.first_bucket()
        {
            if bucket > bucket_of(now_ns)
                || self.with_known_first(slab, bucket).is_some_and(|b| b.first_due_ns > now_ns)
            {
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
                    if let Some(first) = b.list.first(slab) {
                        b.set_first(slab, first, slab.due_ns(first));
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
                    if let Some(first) = b.list.first(slab) {
                        b.set_first(slab, first, slab.due_ns(first));
                    }
                    self.sorted = Some(bucket);
                    return None;
                }
                self.open(bucket)
            }
        };
        self.spread(slab, bucket, stretch, usize::MAX);
        Some(stretch)
    }

    /// Moves at most `limit` timers from a bucket's list to its stretch, which is at this place; returns how many.
    fn spread<T: Copy>(&mut self, slab: &mut Slab<T>, bucket: i64, stretch: usize, limit: usize) -> usize {
        let mut list = core::mem::replace(&mut self.bucket_mut(bucket).list, List::EMPTY);
        let moved = self.stretches[stretch].1.take_from(slab, &mut list, limit);
        self.bucket_mut(bucket).list = list;
        moved
    }

    /// Gives a bucket a stretch and says where it is.
    fn open(&mut self, bucket: i64) -> usize {
        let stretch = self.spare.pop().unwrap_or_else(|| Stretch::new(BUCKET_BITS, SLOT_BITS));
        let place = self.stretches.partition_point(|s| s.0 < bucket);
        self.stretches.insert(place, (bucket, stretch));
        place
    }

    /// Spreads at most `budget` timers of the buckets that come next over their stretches; returns how many.
    pub(super) fn spread_ahead<T: Copy>(&mut self, slab: &mut Slab<T>, now_ns: i64, budget: usize) -> usize {
        let end = bucket_of(now_ns) + AHEAD;
        let mut moved = 0;
        while moved < budget && self.spread_to < end {
            let from = self.spread_to.saturating_add(1);
            let Some(bucket) = self.first_from(from).filter(|b| *b <= end) else {
                self.spread_to = end;
                break;
            };
            let list = self.list_of(bucket);
            let stretch = self.stretch_at(bucket);
            if !list.is_empty() && (stretch.is_some() || list.is_long(&slab.blocks)) {
                let stretch = stretch.unwrap_or_else(|| self.open(bucket));
                moved += self.spread(slab, bucket, stretch, budget - moved);
                if !self.list_of(bucket).is_empty() {
                    break;
                }
            }
            self.spread_to = bucket;
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
        let target = self.first_bucket().map_or(now, |first| first.min(now));
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
            far.unlink(&mut slab, number);
            slab.fire(number);
        };
        let day_ns = 86_400_000_000_000;
        for day in [20_000, 20_001, 30_000, 0, 0, 3, -40_000, 106_000] {
            check(day * day_ns);
        }
    }
}
