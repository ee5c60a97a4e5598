//! The live stream of events: the past from the log, then what happens, without a gap or a repeat.
//!
//! The kernel thread only notes each durable batch in a ring of recent events; it never waits for a consumer. One that
//! falls behind the ring reads the log until it has caught up.

use crate::store::LogReader;
use minoots_kernel::EventRecord;
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many recent events are kept in memory.
const RING_EVENTS: usize = 8192;
/// How many events a subscription fetches at once.
const PAGE_EVENTS: usize = 256;

/// Where to subscribe; clone it freely.
#[derive(Clone)]
pub struct Feed {
    shared: Arc<Shared>,
    last: watch::Receiver<u64>,
}

struct Shared {
    ring: Mutex<VecDeque<Arc<EventRecord>>>,
    log: Arc<dyn LogReader>,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, VecDeque<Arc<EventRecord>>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some events from `next` on, if the ring still has the first of them.
    fn recent(&self, next: u64) -> Option<VecDeque<Arc<EventRecord>>> {
        let ring = self.ring();
        let skip = next.checked_sub(ring.front()?.sequence)?;
        Some(ring.iter().skip(usize::try_from(skip).ok()?).take(PAGE_EVENTS).cloned().collect())
    }
}

/// The engine's end of the feed.
pub(super) struct FeedWriter {
    shared: Arc<Shared>,
    last: watch::Sender<u64>,
}

/// A feed over a log whose last durable event is `last_sequence`.
pub(super) fn feed(log: Arc<dyn LogReader>, last_sequence: u64) -> (FeedWriter, Feed) {
    let shared = Arc::new(Shared { ring: Mutex::default(), log });
    let (sender, last) = watch::channel(last_sequence);
    (FeedWriter { shared: shared.clone(), last: sender }, Feed { shared, last })
}

impl FeedWriter {
    /// Tells of a batch that is durable.
    pub(super) fn publish(&self, records: Vec<EventRecord>) {
        let Some(last) = records.last().map(|r| r.sequence) else { return };
        let mut ring = self.shared.ring();
        ring.extend(records.into_iter().map(Arc::new));
        let excess = ring.len().saturating_sub(RING_EVENTS);
        ring.drain(..excess);
        drop(ring);
        self.last.send_replace(last);
    }
}

impl Feed {
    /// Events after sequence `after`, or only those to come. A sequence past the end counts as the end.
    pub fn subscribe(&self, after: Option<u64>) -> Subscription {
        let last = self.last.clone();
        let newest = *last.borrow();
        Subscription {
            shared: self.shared.clone(),
            last,
            next: after.map_or(newest, |a| a.min(newest)) + 1,
            fetched: VecDeque::new(),
        }
    }

    /// The last durable event.
    pub fn last_sequence(&self) -> u64 {
        *self.last.borrow()
    }
}

/// One consumer's place in the stream.
pub struct Subscription {
    shared: Arc<Shared>,
    last: watch::Receiver<u64>,
    /// The sequence after the last one that is in `fetched` or was handed out.
    next: u64,
    fetched: VecDeque<Arc<EventRecord>>,
}

impl Subscription {
    /// The next event; waits for it. `None` when the engine has stopped and everything was delivered, or when the log
    /// cannot be read (which is logged). Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Arc<EventRecord>> {
        loop {
            if let Some(record) = self.fetched.pop_front() {
                return Some(record);
            }
            if self.next <= *self.last.borrow_and_update() {
                self.fetched = match self.shared.recent(self.next) {
                    Some(records) => records,
                    None => self.read_log().await?,
                };
                self.next = self.fetched.back()?.sequence + 1;
            } else if self.last.changed().await.is_err() && self.next > *self.last.borrow() {
                return None;
            }
        }
    }

    async fn read_log(&self) -> Option<VecDeque<Arc<EventRecord>>> {
        let (shared, next) = (self.shared.clone(), self.next);
        let read = tokio::task::spawn_blocking(move || shared.log.read(next, PAGE_EVENTS)).await.ok()?;
        match read {
            Ok(records) => Some(records.into_iter().map(Arc::new).collect()),
            Err(error) => {
                tracing::error!(%error, sequence = next, "an event stream ended: the event log cannot be read");
                None
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::{EventLog, MemoryLog};
    use minoots_kernel::{ClockSource, Event, TenantId, TimerId};

    fn records(range: std::ops::RangeInclusive<u64>) -> Vec<EventRecord> {
        range
            .map(|sequence| EventRecord {
                sequence,
                tenant: TenantId::default(),
                at_ns: 0,
                clock: ClockSource::Os,
                event: Event::Cancelled { timer: TimerId::from_u128(1), reason: None },
            })
            .collect()
    }

    fn publish(log: &mut MemoryLog, writer: &FeedWriter, range: std::ops::RangeInclusive<u64>) {
        let records = records(range);
        log.append(&records).unwrap();
        writer.publish(records);
    }

    async fn take(subscription: &mut Subscription, count: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(subscription.next().await.unwrap().sequence);
        }
        taken
    }

    #[tokio::test]
    async fn the_past_then_the_present_then_the_end() {
        let mut log = MemoryLog::new();
        log.append(&records(1..=1000)).unwrap();
        let (writer, feed) = feed(log.reader(), 1000);
        let mut all = feed.subscribe(Some(0));
        let mut some = feed.subscribe(Some(998));
        let mut live = feed.subscribe(None);
        let mut beyond = feed.subscribe(Some(5000));
        assert_eq!(take(&mut all, 400).await, (1..=400).collect::<Vec<_>>());
        publish(&mut log, &writer, 1001..=1003);
        assert_eq!(take(&mut all, 603).await, (401..=1003).collect::<Vec<_>>());
        assert_eq!(take(&mut some, 5).await, (999..=1003).collect::<Vec<_>>());
        assert_eq!(take(&mut live, 3).await, [1001, 1002, 1003]);
        assert_eq!(take(&mut beyond, 3).await, [1001, 1002, 1003]);
        publish(&mut log, &writer, 1004..=1004);
        drop(writer);
        assert_eq!(take(&mut live, 1).await, [1004]);
        assert!(live.next().await.is_none());
    }

    #[tokio::test]
    async fn a_slow_consumer_catches_up_from_the_log() {
        let mut log = MemoryLog::new();
        let (writer, feed) = feed(log.reader(), 0);
        let mut slow = feed.subscribe(None);
        let last = RING_EVENTS as u64 * 2 + 17;
        for start in (1..=last).step_by(100) {
            publish(&mut log, &writer, start..=(start + 99).min(last));
        }
        assert_eq!(writer.shared.ring().len(), RING_EVENTS);
        assert_eq!(take(&mut slow, last as usize).await, (1..=last).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_waiting_consumer_is_woken() {
        let mut log = MemoryLog::new();
        let (writer, feed) = feed(log.reader(), 0);
        let mut live = feed.subscribe(None);
        let waiting = tokio::spawn(async move { live.next().await.map(|r| r.sequence) });
        tokio::task::yield_now().await;
        publish(&mut log, &writer, 1..=1);
        assert_eq!(waiting.await.unwrap(), Some(1));
    }
}
