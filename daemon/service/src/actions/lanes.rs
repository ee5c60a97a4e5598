//! The fires whose actions have not begun, in lanes by tenant: what is queued, what is known, what is to be fetched.

use super::fair::{FairQueue, LaneStatus, Next, Rate, Taken};
use crate::access::quota::Quotas;
use crate::engine::FireOrder;
use chronotick::os_clock::boottime;
use minoots_kernel::{FiringId, TenantId};
use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio_util::sync::CancellationToken;

/// Tells the time to the rates: nanoseconds since the boot. Injected.
type Ticks = Arc<dyn Fn() -> u64 + Send + Sync>;

/// A fire in a lane.
pub(super) struct Queued {
    pub(super) order: FireOrder,
    /// What gives it up for a later fire.
    pub(super) stop: Option<CancellationToken>,
}

/// The lanes; clones share them.
#[derive(Clone)]
pub struct FireLanes {
    state: Arc<Mutex<State>>,
    quotas: Arc<Quotas>,
    ticks: Ticks,
}

struct State {
    queue: FairQueue<Queued>,
    /// In a lane or under way.
    known: HashSet<FiringId>,
    /// While fires are fetched: those that have ended since, which the fetched page may still have.
    ended: Option<HashSet<FiringId>>,
}

impl FireLanes {
    /// With at most so many fires open at once, and so many queued in memory.
    pub(super) fn new(open_max: usize, queued_max: usize, quotas: Arc<Quotas>) -> Self {
        let queue = FairQueue::new(open_max, queued_max);
        let state = State { queue, known: HashSet::new(), ended: None };
        let ticks: Ticks = Arc::new(|| boottime().as_ns().unsigned_abs());
        Self { state: Arc::new(Mutex::new(state)), quotas, ticks }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn now_ns(&self) -> u64 {
        (self.ticks)()
    }

    fn rate(&self, tenant: &TenantId) -> Option<Rate> {
        self.quotas.limits(tenant).fire_rate()
    }

    /// How the lane of a tenant stands.
    pub fn status(&self, tenant: &TenantId) -> LaneStatus {
        self.state().queue.status(tenant, self.rate(tenant), self.now_ns())
    }

    /// Queues a fire. False where it was left behind: [`FireLanes::to_fetch`] will ask for it.
    pub(super) fn push(&self, queued: Queued) -> bool {
        let (tenant, firing, now_ns) =
            (queued.order.timer.tenant().clone(), queued.order.firing, self.now_ns());
        let mut state = self.state();
        let fits = state.queue.push(&tenant, queued, now_ns).is_ok();
        if fits {
            state.known.insert(firing);
        }
        fits
    }

    /// What comes next.
    pub(super) fn next(&self) -> Next<Queued> {
        let now_ns = self.now_ns();
        self.state().queue.next(now_ns, |tenant| self.rate(tenant))
    }

    /// A fire that was taken has ended.
    pub(super) fn done(&self, tenant: &TenantId, firing: FiringId) {
        let mut state = self.state();
        state.queue.done(tenant);
        state.known.remove(&firing);
        if let Some(ended) = &mut state.ended {
            ended.insert(firing);
        }
    }

    /// A fire was given up for a later one.
    pub(super) fn given_up(&self, firing: FiringId) {
        if let Some(ended) = &mut self.state().ended {
            ended.insert(firing);
        }
    }

    /// A tenant whose fires are to be fetched, with how many; [`FireLanes::fetched`] follows.
    pub(super) fn to_fetch(&self) -> Option<(TenantId, usize)> {
        let mut state = self.state();
        if state.ended.is_some() {
            return None;
        }
        let asked = state.queue.to_refill()?;
        state.ended = Some(HashSet::new());
        Some(asked)
    }

    /// The open fires of a tenant, in order: those that nobody knows are queued, at most `room` of them. `None` where
    /// they could not be read. Makes what stops a fire for those that are queued.
    pub(super) fn fetched(
        &self,
        tenant: &TenantId,
        room: usize,
        orders: Option<Vec<FireOrder>>,
        stop_of: impl Fn(&FireOrder) -> Option<CancellationToken>,
    ) {
        let now_ns = self.now_ns();
        let mut state = self.state();
        let ended = state.ended.take().unwrap_or_default();
        let Some(mut orders) = orders else {
            // They are still left behind.
            state.queue.refill(tenant, [], 1, now_ns);
            return;
        };
        orders.retain(|order| !state.known.contains(&order.firing) && !ended.contains(&order.firing));
        let left_behind = orders.len().saturating_sub(room) as u64;
        orders.truncate(room);
        state.known.extend(orders.iter().map(|order| order.firing));
        let queued = orders.into_iter().map(|order| Queued { stop: stop_of(&order), order });
        let queued: Vec<_> = queued.collect();
        state.queue.refill(tenant, queued, left_behind, now_ns);
    }
}

/// What the actions of a fire are told of its wait, in their results.
pub(super) fn throttled_words(taken: &Taken<Queued>) -> Option<String> {
    taken.throttled.then(|| {
        format!("throttled: waited {:.3} s for the tenant's fires_per_s; ", taken.waited_ns as f64 / 1e9)
    })
}
