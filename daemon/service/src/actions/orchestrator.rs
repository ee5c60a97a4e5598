//! Takes fires from the engine, runs their actions in order, and tells the engine how they ended.
//!
//! A fire passes two queues that are fair to the tenants (fair.rs): its tenant's lane, where it waits for the tenant's
//! `fires_per_s`, and before each attempt that of the places. The loop never waits for either, so the engine's channel
//! does not grow; what the lanes have no room for stays in the log, and is fetched from the index when its lane is dry.

use super::attempts::Attempts;
use super::fair::{Next, Taken};
use super::lanes::{FireLanes, Queued, throttled_words};
use super::{Attempt, Connectors, Outcome, RetryPolicy};
use crate::access::quota::Quotas;
use crate::engine::{EngineError, EngineHandle, FireOrder};
use crate::telemetry::Metrics;
use minoots_kernel::{ActionResult, ActionSpec, FiringId, OverlapPolicy, TenantId};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Notify;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many fires may be open at once; those that wait for a retry count, so it is far above the attempts in flight.
const OPEN_FIRES_MAX: usize = 16_384;
/// How many fires wait in memory for their turn. The rest waits in the log.
const QUEUED_FIRES_MAX: usize = 65_536;
/// How long to wait before the end of a fire is told again to a store that was full.
const FINISH_RETRY_WAIT: Duration = Duration::from_millis(500);

/// The task that carries out actions.
pub struct Orchestrator {
    shared: Arc<Shared>,
}

/// What an orchestrator is told.
pub struct OrchestratorConfig {
    /// How attempts are repeated.
    pub retry: RetryPolicy,
    /// So many attempts run at once.
    pub max_in_flight: usize,
    /// How many fires wait in memory for their turn; `None` for as many as usual.
    pub queued_max: Option<usize>,
    /// What each tenant may use.
    pub quotas: Arc<Quotas>,
}

struct Shared {
    engine: EngineHandle,
    connectors: Connectors,
    retry: RetryPolicy,
    metrics: Arc<Metrics>,
    /// Fires whose turn has not come.
    lanes: FireLanes,
    /// Held during an attempt and not during a backoff: receivers that are down must not stop those that are up.
    attempts: Attempts,
    /// Told when a fire has ended.
    room: Notify,
    shutdown: CancellationToken,
    /// For each fire in a lane or under way that a later fire of its timer would give up: what stops it.
    stops: Mutex<HashMap<FiringId, CancellationToken>>,
}

/// The service stops before the fire has ended; it is handed over again after the restart.
struct Stopped;

/// The fires of a tenant that were fetched; `None` where they could not be read.
struct Fetched {
    tenant: TenantId,
    room: usize,
    orders: Option<Vec<FireOrder>>,
}

impl Orchestrator {
    /// `shutdown` ends the backoffs; attempts under way are waited for.
    pub fn new(
        engine: EngineHandle,
        connectors: Connectors,
        config: OrchestratorConfig,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let queued_max = config.queued_max.unwrap_or(QUEUED_FIRES_MAX);
        Self {
            shared: Arc::new(Shared {
                engine,
                connectors,
                retry: config.retry,
                metrics,
                lanes: FireLanes::new(OPEN_FIRES_MAX, queued_max, config.quotas),
                attempts: Attempts::new(config.max_in_flight),
                room: Notify::new(),
                shutdown,
                stops: Mutex::default(),
            }),
        }
    }

    /// The fires that wait for their turn.
    pub fn lanes(&self) -> FireLanes {
        self.shared.lanes.clone()
    }

    /// Runs until shutdown, or until the engine is gone; returns when every attempt under way has ended.
    pub async fn run(self, mut orders: UnboundedReceiver<Vec<FireOrder>>) {
        let tasks = TaskTracker::new();
        let shared = self.shared;
        let (fetched_sender, mut fetched) = unbounded_channel();
        let work = async {
            loop {
                let wait = shared.start_what_may(&tasks);
                shared.fetch_what_is_left(&tasks, &fetched_sender);
                tokio::select! {
                    // New fires first: a page that is fetched may have them too, and is held against what is known.
                    biased;
                    batch = orders.recv() => match batch {
                        Some(batch) => shared.take_in(batch),
                        None => return,
                    },
                    Some(Fetched { tenant, room, orders }) = fetched.recv() => {
                        shared.lanes.fetched(&tenant, room, orders, |order| shared.stop_of(order));
                    }
                    () = shared.room.notified() => {}
                    () = pass(wait) => {}
                }
            }
        };
        let _ = shared.shutdown.run_until_cancelled(work).await;
        tasks.close();
        tasks.wait().await;
    }
}

/// Waits so long; for ever without a time.
async fn pass(wait: Option<Duration>) {
    match wait {
        Some(wait) => {
            let _elapsed = tokio::time::timeout(wait, std::future::pending::<()>()).await;
        }
        None => std::future::pending().await,
    }
}

impl Shared {
    /// Queues fires.
    fn take_in(&self, batch: Vec<FireOrder>) {
        for order in batch {
            self.metrics.fired(&order);
            if order.timer.definition.overlap == OverlapPolicy::CancelPrevious {
                self.give_up(&order);
            }
            let (stop, firing) = (self.stop_of(&order), order.firing);
            if !self.lanes.push(Queued { order, stop }) {
                self.stops().remove(&firing);
            }
        }
    }

    /// Stops the fires that are given up for this one.
    fn give_up(&self, order: &FireOrder) {
        for &nominal_ns in &order.supersedes {
            let firing = FiringId { nominal_ns, ..order.firing };
            tracing::debug!(%firing, by = %order.firing, "given up for a later fire");
            let stop = self.stops().remove(&firing);
            match stop {
                Some(stop) => stop.cancel(),
                None => {
                    // It was left behind in the log, where it has ended now; it may be on its way.
                    self.lanes.given_up(firing);
                    self.metrics.ended(true);
                }
            }
        }
    }

    /// Makes what stops a fire, where a later one can.
    fn stop_of(&self, order: &FireOrder) -> Option<CancellationToken> {
        if order.timer.definition.overlap != OverlapPolicy::CancelPrevious {
            return None;
        }
        let stop = CancellationToken::new();
        self.stops().insert(order.firing, stop.clone());
        Some(stop)
    }

    fn stops(&self) -> MutexGuard<'_, HashMap<FiringId, CancellationToken>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts every fire whose turn it is. How long to wait for the next, where that is known.
    fn start_what_may(self: &Arc<Self>, tasks: &TaskTracker) -> Option<Duration> {
        loop {
            match self.lanes.next() {
                Next::Take(taken) => {
                    if taken.throttled {
                        self.metrics.throttled(taken.waited_ns);
                    }
                    let shared = self.clone();
                    tasks.spawn(async move { shared.carry_out(taken).await });
                }
                Next::Wait(until_ns) => {
                    // To the next millisecond, which is what the runtime's timers go by.
                    let wait_ns = until_ns.saturating_sub(self.lanes.now_ns());
                    return Some(Duration::from_nanos(wait_ns) + Duration::from_millis(1));
                }
                Next::Nothing => return None,
            }
        }
    }

    /// Begins to fetch the fires of a lane that left some behind.
    fn fetch_what_is_left(self: &Arc<Self>, tasks: &TaskTracker, fetched: &UnboundedSender<Fetched>) {
        let Some((tenant, room)) = self.lanes.to_fetch() else { return };
        let (shared, fetched) = (self.clone(), fetched.clone());
        tasks.spawn(async move {
            let orders = shared.shutdown.run_until_cancelled(shared.engine.open_fires(&tenant)).await;
            let orders = match orders {
                Some(Ok(orders)) => Some(orders),
                Some(Err(error)) => {
                    tracing::warn!(%tenant, %error, "the fires that wait in the log cannot be fetched: tried again");
                    let _ = shared.pause(FINISH_RETRY_WAIT).await;
                    None
                }
                None => None,
            };
            // Nobody listens any more when the service stops.
            let _ = fetched.send(Fetched { tenant, room, orders });
        });
    }

    async fn carry_out(&self, taken: Taken<Queued>) {
        let note = throttled_words(&taken);
        let Taken { tenant, what: Queued { order, stop }, .. } = taken;
        let work = async {
            let mut results = self.run_actions(&order).await?;
            // The history says why it was late.
            if let (Some(note), Some(first)) = (note, results.first_mut()) {
                first.detail.insert_str(0, &note);
            }
            Ok(results)
        };
        let is_given_up = match stop {
            None => {
                if let Ok(results) = work.await {
                    self.finish(&order, results).await;
                }
                false
            }
            // A fire that was given up has ended in the log already, so its end is not told.
            Some(stop) => {
                let outcome: Option<Result<_, Stopped>> = stop.run_until_cancelled(work).await;
                let is_given_up = outcome.is_none();
                if let Some(Ok(results)) = outcome {
                    self.finish(&order, results).await;
                }
                self.stops().remove(&order.firing);
                is_given_up
            }
        };
        self.metrics.ended(is_given_up);
        self.lanes.done(&tenant, order.firing);
        self.room.notify_one();
    }

    async fn run_actions(&self, order: &FireOrder) -> Result<Vec<ActionResult>, Stopped> {
        let mut results = Vec::with_capacity(order.timer.definition.actions.len());
        for action in &order.timer.definition.actions {
            let result = self.run_action(order, action).await?;
            let ok = result.ok;
            results.push(result);
            // Later actions may rely on the earlier ones, so the first failure ends the fire.
            if !ok {
                break;
            }
        }
        Ok(results)
    }

    async fn run_action(&self, order: &FireOrder, action: &ActionSpec) -> Result<ActionResult, Stopped> {
        let result = |ok, attempts, detail| ActionResult { action: action.id.clone(), ok, attempts, detail };
        let Some(connector) = self.connectors.get(&action.kind) else {
            // The kind was checked at creation, so the service was restarted without this connector.
            let detail = format!("this service has no connector for {:?}", action.kind);
            return Ok(result(false, 0, detail));
        };
        let mut number = 0;
        loop {
            number += 1;
            let attempt = Attempt { order, action, number };
            let outcome = {
                let place = self.attempts.place(order.timer.tenant());
                let place = self.shutdown.run_until_cancelled(place).await;
                let Some(Some(_place)) = place else { return Err(Stopped) };
                connector.attempt(attempt).await
            };
            self.metrics.attempted(connector.kind(), &outcome);
            tracing::debug!(firing = %order.firing, action = action.id, number, ?outcome, "attempt");
            let (detail, wait) = match outcome {
                Outcome::Done(detail) => return Ok(result(true, number, detail)),
                Outcome::Failed(detail) => return Ok(result(false, number, detail)),
                Outcome::Retry { detail, wait } => {
                    (detail, self.retry.wait_after(number, &attempt.idempotency_key(), wait))
                }
            };
            match wait {
                None => return Ok(result(false, number, detail)),
                Some(wait) => self.pause(wait).await?,
            }
        }
    }

    /// Waits; an error when the service stops first.
    async fn pause(&self, wait: Duration) -> Result<(), Stopped> {
        match tokio::time::timeout(wait, self.shutdown.cancelled()).await {
            Ok(()) => Err(Stopped),
            Err(_elapsed) => Ok(()),
        }
    }

    async fn finish(&self, order: &FireOrder, results: Vec<ActionResult>) {
        loop {
            match self.engine.finish(order.timer.tenant().clone(), order.firing, results.clone()).await {
                Ok(_) => return,
                Err(EngineError::StoreFull { .. }) => {
                    // The actions are done: until their end is on the disk, a restart would repeat them.
                    if self.pause(FINISH_RETRY_WAIT).await.is_err() {
                        return;
                    }
                }
                Err(e @ (EngineError::StoreFailed { .. } | EngineError::ShuttingDown)) => {
                    tracing::warn!(firing = %order.firing, "the end of a fire is not recorded: {e}; its actions run again after a restart");
                    return;
                }
                Err(EngineError::Refused(e)) => {
                    tracing::error!(firing = %order.firing, "the kernel refused the end of a fire: {e}");
                    return;
                }
            }
        }
    }
}
