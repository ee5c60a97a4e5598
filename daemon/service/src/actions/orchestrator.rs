//! Takes fires from the engine, runs their actions in order, and tells the engine how they ended.

use super::{Attempt, Connectors, Outcome, RetryPolicy};
use crate::engine::{EngineError, EngineHandle, FireOrder};
use crate::telemetry::Metrics;
use minoots_kernel::{ActionResult, ActionSpec, FiringId, OverlapPolicy};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::UnboundedReceiver;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How many fires may be open at once; those that wait for a retry count, so it is far above the attempts in flight.
const OPEN_FIRES_MAX: usize = 16_384;
/// How long to wait before the end of a fire is told again to a store that was full.
const FINISH_RETRY_WAIT: Duration = Duration::from_millis(500);

/// The task that carries out actions.
pub struct Orchestrator {
    shared: Arc<Shared>,
    open_fires: Arc<Semaphore>,
}

struct Shared {
    engine: EngineHandle,
    connectors: Connectors,
    retry: RetryPolicy,
    metrics: Arc<Metrics>,
    /// Held during an attempt and not during a backoff: receivers that are down must not stop those that are up.
    attempts: Semaphore,
    shutdown: CancellationToken,
    /// For each fire under way that a later fire of its timer would give up: what stops it.
    stops: Mutex<HashMap<FiringId, CancellationToken>>,
}

/// The service stops before the fire has ended; it is handed over again after the restart.
struct Stopped;

impl Orchestrator {
    /// At most `max_in_flight` attempts run at once. `shutdown` ends the backoffs; attempts under way are waited for.
    pub fn new(
        engine: EngineHandle,
        connectors: Connectors,
        retry: RetryPolicy,
        max_in_flight: usize,
        metrics: Arc<Metrics>,
        shutdown: CancellationToken,
    ) -> Self {
        let attempts = Semaphore::new(max_in_flight);
        Self {
            shared: Arc::new(Shared {
                engine,
                connectors,
                retry,
                metrics,
                attempts,
                shutdown,
                stops: Mutex::default(),
            }),
            open_fires: Arc::new(Semaphore::new(OPEN_FIRES_MAX)),
        }
    }

    /// Runs until shutdown, or until the engine is gone; returns when every attempt under way has ended.
    pub async fn run(self, mut orders: UnboundedReceiver<Vec<FireOrder>>) {
        let tasks = TaskTracker::new();
        let shutdown = self.shared.shutdown.clone();
        let _ = shutdown
            .run_until_cancelled(async {
                while let Some(batch) = orders.recv().await {
                    // First of all, so that a fire which is given up in its own batch does not begin.
                    let stops: Vec<_> = batch.iter().map(|order| self.shared.take_note(order)).collect();
                    for (order, stop) in batch.into_iter().zip(stops) {
                        // The semaphore is never closed.
                        let Ok(permit) = self.open_fires.clone().acquire_owned().await else { return };
                        let shared = self.shared.clone();
                        tasks.spawn(async move {
                            shared.carry_out(order, stop).await;
                            drop(permit);
                        });
                    }
                }
            })
            .await;
        tasks.close();
        tasks.wait().await;
    }
}

impl Shared {
    /// Counts a fire, stops the fires that are given up for it, and makes what stops it in its turn.
    fn take_note(&self, order: &FireOrder) -> Option<CancellationToken> {
        self.metrics.fired(order);
        if order.timer.definition.overlap != OverlapPolicy::CancelPrevious {
            return None;
        }
        let mut stops = self.stops();
        for &nominal_ns in &order.supersedes {
            let firing = FiringId { nominal_ns, ..order.firing };
            if let Some(stop) = stops.remove(&firing) {
                tracing::debug!(%firing, by = %order.firing, "given up for a later fire");
                stop.cancel();
            }
        }
        let stop = CancellationToken::new();
        stops.insert(order.firing, stop.clone());
        Some(stop)
    }

    fn stops(&self) -> MutexGuard<'_, HashMap<FiringId, CancellationToken>> {
        self.stops.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn carry_out(&self, order: FireOrder, stop: Option<CancellationToken>) {
        let Some(stop) = stop else {
            if let Ok(results) = self.run_actions(&order).await {
                self.finish(&order, results).await;
            }
            self.metrics.ended(false);
            return;
        };
        // A fire that was given up has ended in the log already, so its end is not told.
        let outcome = stop.run_until_cancelled(self.run_actions(&order)).await;
        if let Some(Ok(results)) = &outcome {
            self.finish(&order, results.clone()).await;
        }
        self.stops().remove(&order.firing);
        self.metrics.ended(outcome.is_none());
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
                let permit = self.shutdown.run_until_cancelled(self.attempts.acquire()).await;
                let Some(Ok(_permit)) = permit else { return Err(Stopped) };
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
