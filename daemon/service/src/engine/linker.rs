//! Chains: tells timers that wait for others what those have done.
//!
//! Nothing of this is stored but what a waiting timer has been told. At the start, and whenever something happens to a
//! timer that is waited for, the waiting one is told how that one stands; to be told twice changes nothing. So a crash at
//! any moment loses nothing, and the two timers may be in different partitions.

use super::feed::{Feed, FeedEvent};
use super::handle::{EngineError, EngineHandle};
use crate::store::TimerQuery;
use minoots_kernel::{Event, TenantId, TimerId, TimerInstance, TimerState};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// How many waiting timers are read at once at the start.
const PAGE: usize = 1000;
/// How long to wait before a store that was full is tried again.
const RETRY: Duration = Duration::from_millis(500);

/// The task that links timers; see the module.
#[derive(Clone)]
pub struct Linker {
    engine: EngineHandle,
    feed: Feed,
    /// The timers that are waited for, each with those that wait for it.
    waited_for: BTreeMap<TimerId, BTreeSet<(TenantId, TimerId)>>,
}

impl Linker {
    pub(super) fn new(engine: EngineHandle, feed: Feed) -> Self {
        Self { engine, feed, waited_for: BTreeMap::new() }
    }

    /// Runs until the engine stops.
    pub async fn run(mut self) {
        // First the subscription, then the state: what happens in between comes twice, which does no harm.
        let Ok(mut events) = self.feed.subscribe(None) else { return };
        if let Err(error) = self.take_up_all().await {
            tracing::error!(%error, "the timers that wait for others cannot be read: they wait until a restart");
            return;
        }
        while let Some(event) = events.next().await {
            self.note(event).await;
        }
    }

    /// Takes up every timer that waited when the process last stopped.
    async fn take_up_all(&mut self) -> Result<(), EngineError> {
        for tenant in self.engine.tenants().await? {
            self.take_up(tenant).await?;
        }
        Ok(())
    }

    async fn take_up(&mut self, tenant: TenantId) -> Result<(), EngineError> {
        let state = Some(TimerState::Waiting);
        let mut query = TimerQuery { tenant, state, limit: PAGE, ..TimerQuery::default() };
        loop {
            let page = self.engine.list(query.clone()).await?;
            for timer in page.timers {
                self.link(&timer).await;
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(());
            }
        }
    }

    async fn note(&mut self, event: FeedEvent) {
        let record = event.record;
        match &record.event {
            Event::Held { timer, .. } => {
                if let Ok(timer) = self.engine.get(record.tenant, *timer).await {
                    self.link(&timer).await;
                }
            }
            Event::Firing { .. }
            | Event::Completed { .. }
            | Event::Failed { .. }
            | Event::Cancelled { .. }
            | Event::Skipped { .. } => {
                let upstream = record.event.timer();
                if self.waited_for.contains_key(&upstream) {
                    self.tell_all(record.tenant, upstream).await;
                }
            }
            _ => {}
        }
    }

    /// Remembers what a timer waits for, and tells it how that stands.
    async fn link(&mut self, waiting: &Arc<TimerInstance>) {
        if waiting.status.state != TimerState::Waiting {
            return;
        }
        let Some(after) = &waiting.definition.start_after else { return };
        for upstream in &after.upstreams {
            if waiting.status.resolutions.iter().any(|r| r.upstream == upstream.timer) {
                continue;
            }
            let who = (waiting.tenant().clone(), waiting.id);
            self.waited_for.entry(upstream.timer).or_default().insert(who);
            if let Ok(upstream) = self.engine.get(waiting.tenant().clone(), upstream.timer).await {
                self.tell(waiting.id, &upstream).await;
            }
        }
    }

    /// Tells everyone who waits for a timer how it stands.
    async fn tell_all(&mut self, tenant: TenantId, upstream: TimerId) {
        let Ok(upstream) = self.engine.get(tenant.clone(), upstream).await else { return };
        let waiting = self.waited_for.get(&upstream.id).cloned().unwrap_or_default();
        // A timer waits for timers of its own tenant only.
        for (_, id) in waiting.into_iter().filter(|(owner, _)| *owner == tenant) {
            self.tell(id, &upstream).await;
        }
    }

    /// Tells one timer, and forgets the link when nothing more can come of it.
    async fn tell(&mut self, waiting: TimerId, upstream: &Arc<TimerInstance>) {
        let tenant = upstream.tenant().clone();
        let is_settled = loop {
            match self.engine.resolve(&tenant, waiting, upstream).await {
                Ok(outcome) => {
                    let status = &outcome.timer.status;
                    break status.state != TimerState::Waiting
                        || status.resolutions.iter().any(|r| r.upstream == upstream.id);
                }
                Err(EngineError::Refused(_)) => break true,
                Err(EngineError::StoreFull { .. }) => {
                    let _elapsed = tokio::time::timeout(RETRY, std::future::pending::<()>()).await;
                }
                Err(EngineError::StoreFailed { .. } | EngineError::ShuttingDown) => break false,
            }
        };
        if is_settled && let Some(all) = self.waited_for.get_mut(&upstream.id) {
            all.remove(&(tenant, waiting));
            if all.is_empty() {
                self.waited_for.remove(&upstream.id);
            }
        }
    }
}
