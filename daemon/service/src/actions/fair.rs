//! A queue that is fair to the tenants: each has a lane, the lanes take turns, and no lane holds up another.
//!
//! Pure: it takes the time and the rates as arguments. Whoever works it off tells it with [`FairQueue::done`] when an
//! item that was taken has ended.
//!
//! - *Turns.* Of the lanes that have something and are allowed to go on, each gives one item in its turn. Within a lane
//!   the order is kept.
//! - *Rates.* A lane with a rate is a bucket of tokens (GCRA). A lane without a token waits and the others do not; it is
//!   looked at again at least every [`RECHECK_NS`], so that a limit which was changed counts soon.
//! - *Shares.* Of the places (under way at once) a lane may have less than three times those that are free: alone it gets
//!   three quarters, two get three sevenths each, and there are always some for a lane that comes anew. So a tenant whose
//!   receivers hang takes its own share and nothing more.
//! - *Memory.* The items that are queued are bounded, and shared out in the same way. What does not fit is refused and
//!   counted as left behind; the lane then refuses everything after it too, so that the order is kept, until whoever has
//!   the rest elsewhere brings it ([`FairQueue::to_refill`], [`FairQueue::refill`]).

use minoots_kernel::TenantId;
use std::collections::{BTreeSet, HashMap, VecDeque};

/// A lane that waits for its rate is looked at again after at most this long.
pub const RECHECK_NS: u64 = 1_000_000_000;
/// A lane's part is so many times what is free.
const SHARE: usize = 3;
/// With fewer lanes than this the idle ones are not looked for.
const SWEEP_LANES_MIN: usize = 1_024;

/// How fast a lane may go.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    /// So many in a second; with 0 the lane stands.
    pub per_s: u32,
    /// So many at once after a quiet time.
    pub burst: u32,
}

impl Rate {
    fn interval_ns(self) -> u64 {
        1_000_000_000_u64.div_ceil(u64::from(self.per_s.max(1)))
    }
}

/// What the tokens of a lane are known by: when the bucket will be full again.
#[derive(Clone, Copy, Default, Debug)]
struct Bucket {
    full_at_ns: u64,
}

impl Bucket {
    /// When the bucket is full again, by a rate that may have been changed since.
    fn full_at_ns(self, rate: Rate, now_ns: u64) -> u64 {
        let at_most = now_ns.saturating_add(rate.interval_ns().saturating_mul(rate.burst.max(1).into()));
        self.full_at_ns.clamp(now_ns, at_most)
    }

    /// Takes a token, or says when there will be one.
    fn take(&mut self, rate: Rate, now_ns: u64) -> Result<(), u64> {
        if rate.per_s == 0 {
            return Err(u64::MAX);
        }
        let depth_ns = rate.interval_ns().saturating_mul(u64::from(rate.burst.max(1)) - 1);
        let full_at_ns = self.full_at_ns(rate, now_ns);
        if full_at_ns - now_ns > depth_ns {
            return Err(full_at_ns - depth_ns);
        }
        self.full_at_ns = full_at_ns.saturating_add(rate.interval_ns());
        Ok(())
    }

    /// How many tokens there are.
    fn left(self, rate: Rate, now_ns: u64) -> u64 {
        if rate.per_s == 0 {
            return 0;
        }
        let missing_ns = self.full_at_ns(rate, now_ns) - now_ns;
        u64::from(rate.burst.max(1)).saturating_sub(missing_ns.div_ceil(rate.interval_ns()))
    }
}

/// Where a lane stands.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// It has nothing to give.
    Idle,
    /// Its turn will come.
    Ring,
    /// It waits for its rate until then.
    Waiting(u64),
}

struct Item<T> {
    what: T,
    since_ns: u64,
}

struct Lane<T> {
    items: VecDeque<Item<T>>,
    running: usize,
    /// How many were refused for want of room.
    left_behind: u64,
    is_refilling: bool,
    /// Room that is kept for what it is brought.
    reserved: usize,
    bucket: Bucket,
    /// When it was last refused for its rate.
    refused_at_ns: Option<u64>,
    place: Place,
}

impl<T> Default for Lane<T> {
    fn default() -> Self {
        Self {
            items: VecDeque::new(),
            running: 0,
            left_behind: 0,
            is_refilling: false,
            reserved: 0,
            bucket: Bucket::default(),
            refused_at_ns: None,
            place: Place::Idle,
        }
    }
}

impl<T> Lane<T> {
    /// Nothing is to be remembered of it.
    fn is_blank(&self, now_ns: u64) -> bool {
        self.items.is_empty()
            && self.running == 0
            && self.left_behind == 0
            && !self.is_refilling
            && self.bucket.full_at_ns <= now_ns
    }
}

/// What was taken.
#[derive(PartialEq, Eq, Debug)]
pub struct Taken<T> {
    /// Whose it is.
    pub tenant: TenantId,
    /// The item.
    pub what: T,
    /// How long it was queued.
    pub waited_ns: u64,
    /// The rate of its lane held it up.
    pub throttled: bool,
}

/// What comes next.
#[derive(PartialEq, Eq, Debug)]
pub enum Next<T> {
    /// This; [`FairQueue::done`] gives its place back.
    Take(Taken<T>),
    /// Nothing before then, unless something is pushed or done.
    Wait(u64),
    /// Nothing, until something is pushed or done.
    Nothing,
}

/// How a lane stands, for people.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct LaneStatus {
    /// Queued, or left behind for want of room.
    pub waiting: u64,
    /// Taken and not done.
    pub running: usize,
    /// Its tokens, where it has a rate.
    pub left: Option<u64>,
}

/// The queue. See the module.
pub struct FairQueue<T> {
    lanes: HashMap<TenantId, Lane<T>>,
    ring: VecDeque<TenantId>,
    waiting: BTreeSet<(u64, TenantId)>,
    /// Lanes that left something behind.
    short: BTreeSet<TenantId>,
    running: usize,
    running_max: usize,
    queued: usize,
    queued_max: usize,
    /// Room that is kept for lanes which are being refilled.
    reserved: usize,
    sweep_at: usize,
}

impl<T> FairQueue<T> {
    /// At most `running_max` are under way, and at most `queued_max` queued.
    pub fn new(running_max: usize, queued_max: usize) -> Self {
        Self {
            lanes: HashMap::new(),
            ring: VecDeque::new(),
            waiting: BTreeSet::new(),
            short: BTreeSet::new(),
            running: 0,
            running_max,
            queued: 0,
            queued_max,
            reserved: 0,
            sweep_at: SWEEP_LANES_MIN,
        }
    }

    /// Queues an item, or gives it back for want of room: then it is to be brought again by [`FairQueue::refill`].
    pub fn push(&mut self, tenant: &TenantId, what: T, now_ns: u64) -> Result<(), T> {
        self.sweep(now_ns);
        let share = SHARE.saturating_mul(self.room());
        let lane = self.lanes.entry(tenant.clone()).or_default();
        if lane.left_behind > 0 || lane.is_refilling || lane.items.len() >= share {
            lane.left_behind += 1;
            self.short.insert(tenant.clone());
            return Err(what);
        }
        self.put(tenant, what, now_ns);
        Ok(())
    }

    /// For how many there is room.
    fn room(&self) -> usize {
        self.queued_max.saturating_sub(self.queued + self.reserved)
    }

    fn put(&mut self, tenant: &TenantId, what: T, now_ns: u64) {
        let lane = self.lanes.entry(tenant.clone()).or_default();
        lane.items.push_back(Item { what, since_ns: now_ns });
        self.queued += 1;
        if lane.place == Place::Idle {
            lane.place = Place::Ring;
            self.ring.push_back(tenant.clone());
        }
    }

    /// A lane that has left something behind and has nothing else any more, and how much it may be brought. It is
    /// being refilled then, until [`FairQueue::refill`].
    pub fn to_refill(&mut self) -> Option<(TenantId, usize)> {
        let room = self.room().div_ceil(2);
        if room == 0 {
            return None;
        }
        let lanes = &self.lanes;
        let is_dry = |t: &&TenantId| lanes.get(*t).is_some_and(|l| l.items.is_empty() && !l.is_refilling);
        let tenant = self.short.iter().find(is_dry)?.clone();
        let lane = self.lanes.get_mut(&tenant)?;
        lane.is_refilling = true;
        lane.left_behind = 0;
        lane.reserved = room;
        self.reserved += room;
        Some((tenant, room))
    }

    /// Queues what was left behind; `left_behind` says how much still is.
    pub fn refill(
        &mut self,
        tenant: &TenantId,
        items: impl IntoIterator<Item = T>,
        left_behind: u64,
        now_ns: u64,
    ) {
        let lane = self.lanes.entry(tenant.clone()).or_default();
        lane.is_refilling = false;
        let room = std::mem::take(&mut lane.reserved);
        self.reserved -= room;
        // What came meanwhile was refused and may be among the rest already: to look once more costs little.
        lane.left_behind += left_behind;
        let mut items = items.into_iter();
        for what in items.by_ref().take(room) {
            self.put(tenant, what, now_ns);
        }
        let lane = self.lanes.entry(tenant.clone()).or_default();
        // More than was asked for is brought again.
        lane.left_behind += items.count() as u64;
        if lane.left_behind == 0 {
            self.short.remove(tenant);
        } else {
            self.short.insert(tenant.clone());
        }
    }

    /// Takes what comes next.
    pub fn next(&mut self, now_ns: u64, rate_of: impl Fn(&TenantId) -> Option<Rate>) -> Next<T> {
        self.wake(now_ns);
        if self.running < self.running_max {
            let share = SHARE.saturating_mul(self.running_max - self.running);
            for _ in 0..self.ring.len() {
                let Some(tenant) = self.ring.pop_front() else { break };
                let Some(lane) = self.lanes.get_mut(&tenant) else { continue };
                if lane.running >= share {
                    self.ring.push_back(tenant);
                    continue;
                }
                if let Some(rate) = rate_of(&tenant)
                    && let Err(ready_ns) = lane.bucket.take(rate, now_ns)
                {
                    let until_ns = ready_ns.min(now_ns.saturating_add(RECHECK_NS));
                    lane.refused_at_ns = Some(now_ns);
                    lane.place = Place::Waiting(until_ns);
                    self.waiting.insert((until_ns, tenant));
                    continue;
                }
                let Some(item) = lane.items.pop_front() else {
                    lane.place = Place::Idle;
                    continue;
                };
                lane.running += 1;
                self.running += 1;
                self.queued -= 1;
                let throttled = lane.refused_at_ns.is_some_and(|at| at >= item.since_ns);
                let waited_ns = now_ns.saturating_sub(item.since_ns);
                if lane.items.is_empty() {
                    lane.place = Place::Idle;
                    if lane.items.capacity() > SWEEP_LANES_MIN {
                        lane.items = VecDeque::new();
                    }
                } else {
                    self.ring.push_back(tenant.clone());
                }
                return Next::Take(Taken { tenant, what: item.what, waited_ns, throttled });
            }
        }
        self.waiting.first().map_or(Next::Nothing, |(until_ns, _)| Next::Wait(*until_ns))
    }

    /// Something of this tenant that was taken has ended.
    pub fn done(&mut self, tenant: &TenantId) {
        if let Some(lane) = self.lanes.get_mut(tenant)
            && lane.running > 0
        {
            lane.running -= 1;
            self.running -= 1;
        }
    }

    /// How a lane stands.
    pub fn status(&self, tenant: &TenantId, rate: Option<Rate>, now_ns: u64) -> LaneStatus {
        let lane = self.lanes.get(tenant);
        let bucket = lane.map(|lane| lane.bucket).unwrap_or_default();
        LaneStatus {
            waiting: lane.map_or(0, |lane| lane.items.len() as u64 + lane.left_behind),
            running: lane.map_or(0, |lane| lane.running),
            left: rate.map(|rate| bucket.left(rate, now_ns)),
        }
    }

    /// How many are queued.
    pub fn queued(&self) -> usize {
        self.queued
    }

    /// Puts the lanes whose wait is over back into the ring.
    fn wake(&mut self, now_ns: u64) {
        while self.waiting.first().is_some_and(|(until_ns, _)| *until_ns <= now_ns)
            && let Some((_, tenant)) = self.waiting.pop_first()
        {
            if let Some(lane) = self.lanes.get_mut(&tenant) {
                lane.place = Place::Ring;
                self.ring.push_back(tenant);
            }
        }
    }

    /// Forgets lanes of which nothing is to be remembered, now and then.
    fn sweep(&mut self, now_ns: u64) {
        if self.lanes.len() < self.sweep_at {
            return;
        }
        // Those in the ring or waiting have items.
        self.lanes.retain(|_, lane| !lane.is_blank(now_ns));
        self.sweep_at = SWEEP_LANES_MIN.max(2 * self.lanes.len());
    }

    #[cfg(test)]
    pub(super) fn lanes(&self) -> usize {
        self.lanes.len()
    }
}
