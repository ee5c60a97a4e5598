//! The places of attempts at actions: a bound on how many run at once, shared out fairly between the tenants.

use super::fair::{FairQueue, Next};
use minoots_kernel::TenantId;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::oneshot;

/// Hands out places in turn; clones share them.
#[derive(Clone)]
pub(super) struct Attempts(Arc<Mutex<FairQueue<oneshot::Sender<Place>>>>);

/// A place; given back when it is dropped.
pub(super) struct Place {
    of: Attempts,
    tenant: TenantId,
}

impl Drop for Place {
    fn drop(&mut self) {
        self.of.queue().done(&self.tenant);
        self.of.hand_out();
    }
}

impl Attempts {
    /// So many run at once.
    pub(super) fn new(max: usize) -> Self {
        // Those that wait are open fires, which are bounded.
        Self(Arc::new(Mutex::new(FairQueue::new(max, usize::MAX))))
    }

    fn queue(&self) -> MutexGuard<'_, FairQueue<oneshot::Sender<Place>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for a place. Whoever stops waiting has taken none.
    pub(super) async fn place(&self, tenant: &TenantId) -> Option<Place> {
        let (sender, receiver) = oneshot::channel();
        let queued = self.queue().push(tenant, sender, 0).is_ok();
        debug_assert!(queued, "the queue has no bound");
        self.hand_out();
        receiver.await.ok()
    }

    fn hand_out(&self) {
        loop {
            let taken = {
                let mut queue = self.queue();
                loop {
                    match queue.next(0, |_| None) {
                        Next::Take(taken) if taken.what.is_closed() => queue.done(&taken.tenant),
                        Next::Take(taken) => break taken,
                        Next::Wait(_) | Next::Nothing => return,
                    }
                }
            };
            let place = Place { of: self.clone(), tenant: taken.tenant };
            // Whoever stopped waiting just now gives it back at once.
            let _ = taken.what.send(place);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tenant_whose_attempts_hang_leaves_places_to_others() {
        let attempts = Attempts::new(8);
        let (a, b) = (TenantId::new("a"), TenantId::new("b"));
        let mut hung = Vec::new();
        for _ in 0..6 {
            hung.push(attempts.place(&a).await.unwrap());
        }
        let waiting = tokio::spawn({
            let (attempts, a) = (attempts.clone(), a.clone());
            async move { attempts.place(&a).await.is_some() }
        });
        while attempts.queue().queued() == 0 {
            tokio::task::yield_now().await;
        }
        for _ in 0..100 {
            drop(attempts.place(&b).await.unwrap());
        }
        assert!(!waiting.is_finished());
        hung.pop();
        assert!(waiting.await.unwrap());
    }

    #[tokio::test]
    async fn whoever_stops_waiting_has_taken_none() {
        let attempts = Attempts::new(1);
        let a = TenantId::new("a");
        let held = attempts.place(&a).await.unwrap();
        let stopped: Vec<_> = (0..10_000)
            .map(|_| {
                let (attempts, a) = (attempts.clone(), a.clone());
                tokio::spawn(async move { attempts.place(&a).await.is_some() })
            })
            .collect();
        while attempts.queue().queued() < 10_000 {
            tokio::task::yield_now().await;
        }
        for task in stopped {
            task.abort();
            let _ = task.await;
        }
        drop(held);
        assert!(attempts.place(&a).await.is_some());
    }
}
