//! The live stream of events: the past from the logs, then what happens, without a gap or a repeat in any partition.
//!
//! A partition's thread only notes each durable batch in a ring of recent batches; it never waits for a consumer. One that
//! falls behind the ring reads the log until it has caught up, and can say how far behind it is.

use crate::store::{LogReader, StoreError};
use minoots_kernel::{Committed, EventRecord, TimerDefinition, TimerId};
use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::watch;

/// How many recent events are kept in memory, about.
const RING_EVENTS: usize = 8192;
/// How many events a subscription fetches at once.
const PAGE_EVENTS: usize = 256;

/// A place in the stream: each partition's last event that was seen. Printed with dots between the numbers.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cursor(pub Vec<u64>);

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, sequence) in self.0.iter().enumerate() {
            write!(f, "{}{sequence}", if n == 0 { "" } else { "." })?;
        }
        Ok(())
    }
}

impl FromStr for Cursor {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        text.split('.').map(|part| part.parse().map_err(|_| ())).collect::<Result<_, _>>().map(Self)
    }
}

/// Where to subscribe; clone it freely.
#[derive(Clone)]
pub struct Feed {
    partitions: Arc<[Source]>,
}

/// One partition's events.
#[derive(Clone)]
pub(super) struct Source {
    shared: Arc<Shared>,
    last: watch::Receiver<u64>,
}

struct Shared {
    ring: Mutex<Ring>,
    log: Arc<dyn LogReader>,
}

#[derive(Default)]
struct Ring {
    batches: VecDeque<Arc<Committed>>,
    events: usize,
}

impl Shared {
    fn ring(&self) -> MutexGuard<'_, Ring> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Some events from `next` on, if the ring still has the first of them.
    fn recent(&self, next: u64, with_definitions: bool) -> Option<VecDeque<Fetched>> {
        let batches: Vec<_> = {
            let ring = self.ring();
            let first = ring.batches.front()?.records.first()?.sequence;
            if next < first {
                return None;
            }
            let from = ring.batches.partition_point(|b| b.records.last().is_some_and(|r| r.sequence < next));
            let mut room = PAGE_EVENTS;
            // The first batch may have been read in part, so it is not counted.
            let is_wanted = |(n, b): &(usize, &Arc<Committed>)| {
                let fits = *n == 0 || room > 0;
                room = room.saturating_sub(if *n == 0 { 0 } else { b.records.len() });
                fits
            };
            ring.batches.range(from..).enumerate().take_while(is_wanted).map(|(_, b)| b.clone()).collect()
        };
        let mut fetched = VecDeque::new();
        for batch in &batches {
            let from = batch.records.partition_point(|r| r.sequence < next);
            let records =
                &batch.records[from..][..(batch.records.len() - from).min(PAGE_EVENTS - fetched.len())];
            let definitions: HashMap<TimerId, _> = if with_definitions {
                batch.changes.iter().map(|c| (c.after.id, &c.after.definition)).collect()
            } else {
                HashMap::new()
            };
            let definition = |r: &EventRecord| definitions.get(&r.event.timer()).map(|d| Arc::clone(d));
            fetched.extend(records.iter().map(|r| Fetched { record: r.clone(), definition: definition(r) }));
        }
        Some(fetched)
    }
}

/// A partition's end of the feed.
pub(super) struct FeedWriter {
    shared: Arc<Shared>,
    last: watch::Sender<u64>,
}

/// A partition's feed over a log whose last durable event is `last_sequence`.
pub(super) fn source(log: Arc<dyn LogReader>, last_sequence: u64) -> (FeedWriter, Source) {
    let shared = Arc::new(Shared { ring: Mutex::default(), log });
    let (sender, last) = watch::channel(last_sequence);
    (FeedWriter { shared: shared.clone(), last: sender }, Source { shared, last })
}

impl FeedWriter {
    /// Tells of a batch that is durable.
    pub(super) fn publish(&self, committed: &Arc<Committed>) {
        let Some(last) = committed.records.last().map(|r| r.sequence) else { return };
        let mut ring = self.shared.ring();
        ring.events += committed.records.len();
        ring.batches.push_back(committed.clone());
        while ring.events > RING_EVENTS
            && ring.batches.len() > 1
            && let Some(oldest) = ring.batches.pop_front()
        {
            ring.events -= oldest.records.len();
        }
        drop(ring);
        self.last.send_replace(last);
    }
}

impl Feed {
    /// Over the partitions, in their order.
    pub(super) fn new(partitions: Vec<Source>) -> Self {
        Self { partitions: partitions.into() }
    }

    /// Events after a place, or only those to come. A place past the end counts as the end. [`StoreError::Gone`] where
    /// events after it are no longer kept.
    pub fn subscribe(&self, after: Option<&Cursor>) -> Result<Subscription, StoreError> {
        let mut parts = Vec::with_capacity(self.partitions.len());
        for (number, source) in self.partitions.iter().enumerate() {
            let last = source.last.clone();
            let newest = *last.borrow();
            // A cursor of another number of partitions begins the others at their beginning.
            let after = after.map_or(newest, |c| c.0.get(number).copied().unwrap_or(0).min(newest));
            if let Some(oldest) = source.shared.log.oldest_sequence()
                && after + 1 < oldest
                && after < newest
            {
                return Err(StoreError::Gone { sequence: after + 1, oldest });
            }
            let (fetched, shared) = (VecDeque::new(), source.shared.clone());
            parts.push(Part { shared, last, next: after + 1, fetched, kept_up: after >= newest });
        }
        let seen = parts.iter().map(|p| p.next - 1).collect();
        Ok(Subscription { seen, parts, with_definitions: false, has_lagged: false })
    }

    /// The place after the newest event of each partition.
    pub fn newest(&self) -> Cursor {
        Cursor(self.partitions.iter().map(|s| *s.last.borrow()).collect())
    }

    /// The place before the oldest event that each partition keeps.
    pub fn oldest(&self) -> Cursor {
        let before = |s: &Source| s.shared.log.oldest_sequence().map_or(0, |oldest| oldest - 1);
        Cursor(self.partitions.iter().map(before).collect())
    }
}

/// An event as it is delivered.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct FeedEvent {
    /// In which partition it happened.
    pub partition: u32,
    /// What happened.
    pub record: EventRecord,
    /// What the timer was asked to do, where the subscription wants it and the event is recent.
    pub definition: Option<Arc<TimerDefinition>>,
    /// Where to go on after it.
    pub cursor: Cursor,
    /// How many events there are after it that this consumer has not had.
    pub behind: u64,
}

/// Why there are no more events.
#[derive(Debug)]
pub enum FeedEnd {
    /// The engine has stopped, and everything was delivered.
    Stopped,
    /// The next event cannot be read; [`StoreError::Gone`] where it is no longer kept.
    Unreadable(StoreError),
}

/// One consumer's place in the stream.
pub struct Subscription {
    parts: Vec<Part>,
    /// The last event handed out, for each partition.
    seen: Vec<u64>,
    with_definitions: bool,
    has_lagged: bool,
}

struct Part {
    shared: Arc<Shared>,
    last: watch::Receiver<u64>,
    /// The sequence after the last one that is in `fetched` or was handed out.
    next: u64,
    fetched: VecDeque<Fetched>,
    /// The last events came from memory: this consumer had caught up.
    kept_up: bool,
}

struct Fetched {
    record: EventRecord,
    definition: Option<Arc<TimerDefinition>>,
}

impl From<EventRecord> for Fetched {
    fn from(record: EventRecord) -> Self {
        Self { record, definition: None }
    }
}

impl Subscription {
    /// Has the definitions of the timers handed out with recent events.
    #[must_use]
    pub fn with_definitions(self) -> Self {
        Self { with_definitions: true, ..self }
    }

    /// The next event; waits for it. `None` when the engine has stopped and everything was delivered, or when the log
    /// cannot be read (which is logged). Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<FeedEvent> {
        match self.next_or_end().await {
            Ok(event) => Some(event),
            Err(FeedEnd::Stopped) => None,
            Err(FeedEnd::Unreadable(error)) => {
                tracing::error!(%error, "an event stream ended: the event log cannot be read");
                None
            }
        }
    }

    /// The next event, or why there are no more; waits for it. Dropping the future loses nothing.
    pub async fn next_or_end(&mut self) -> Result<FeedEvent, FeedEnd> {
        loop {
            let mut ended = 0;
            for number in 0..self.parts.len() {
                let part = &mut self.parts[number];
                if part.fetched.is_empty() {
                    let kept_up = part.kept_up;
                    if !part.fetch(self.with_definitions).await? && part.has_ended() {
                        ended += 1;
                    }
                    self.has_lagged |= kept_up && !part.kept_up;
                }
                if let Some(Fetched { record, definition }) = part.fetched.pop_front() {
                    self.seen[number] = record.sequence;
                    let (partition, cursor) = (number as u32, self.place());
                    return Ok(FeedEvent { partition, record, definition, cursor, behind: self.behind() });
                }
            }
            if ended == self.parts.len() {
                return Err(FeedEnd::Stopped);
            }
            let open = self.parts.iter_mut().filter(|p| !p.has_ended());
            let changes: Vec<_> = open.map(|p| Box::pin(p.last.changed())).collect();
            if !changes.is_empty() {
                // Which one it was does not matter, nor whether it has ended: the next look tells.
                let _ = futures::future::select_all(changes).await;
            }
        }
    }

    /// How many events this consumer has not had.
    pub fn behind(&self) -> u64 {
        self.parts.iter().zip(&self.seen).map(|(p, seen)| p.last.borrow().saturating_sub(*seen)).sum()
    }

    /// The place after the last event that was handed out.
    pub fn place(&self) -> Cursor {
        Cursor(self.seen.clone())
    }

    /// Whether this consumer had caught up and has since fallen behind what is in memory; asking forgets it.
    pub fn take_lag(&mut self) -> bool {
        std::mem::take(&mut self.has_lagged)
    }
}

impl Part {
    /// Gets what there is; false when there is nothing.
    async fn fetch(&mut self, with_definitions: bool) -> Result<bool, FeedEnd> {
        if self.next > *self.last.borrow_and_update() {
            self.kept_up = true;
            return Ok(false);
        }
        let recent = self.shared.recent(self.next, with_definitions);
        self.kept_up = recent.is_some();
        self.fetched = match recent {
            Some(records) => records,
            None => self.read_log().await?,
        };
        self.next = self.fetched.back().ok_or(FeedEnd::Stopped)?.record.sequence + 1;
        Ok(true)
    }

    fn has_ended(&self) -> bool {
        self.last.has_changed().is_err() && self.next > *self.last.borrow()
    }

    async fn read_log(&self) -> Result<VecDeque<Fetched>, FeedEnd> {
        let (shared, next) = (self.shared.clone(), self.next);
        let read = tokio::task::spawn_blocking(move || shared.log.read(next, PAGE_EVENTS));
        // The task ends early only where the runtime does.
        let records = read.await.map_err(|_| FeedEnd::Stopped)?.map_err(FeedEnd::Unreadable)?;
        Ok(records.into_iter().map(Fetched::from).collect())
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
        writer.publish(&Arc::new(Committed { records, changes: Vec::new() }));
    }

    fn feed(log: Arc<dyn LogReader>, last_sequence: u64) -> (FeedWriter, Feed) {
        let (writer, source) = source(log, last_sequence);
        (writer, Feed::new(vec![source]))
    }

    fn at(sequence: u64) -> Option<Cursor> {
        Some(Cursor(vec![sequence]))
    }

    async fn take(subscription: &mut Subscription, count: usize) -> Vec<u64> {
        let mut taken = Vec::new();
        while taken.len() < count {
            taken.push(subscription.next().await.unwrap().record.sequence);
        }
        taken
    }

    #[tokio::test]
    async fn the_past_then_the_present_then_the_end() {
        let mut log = MemoryLog::new();
        log.append(&records(1..=1000)).unwrap();
        let (writer, feed) = feed(log.reader(), 1000);
        let mut all = feed.subscribe(at(0).as_ref()).unwrap();
        let mut some = feed.subscribe(at(998).as_ref()).unwrap();
        let mut live = feed.subscribe(None).unwrap();
        let mut beyond = feed.subscribe(at(5000).as_ref()).unwrap();
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
        let mut slow = feed.subscribe(None).unwrap();
        let last = RING_EVENTS as u64 * 2 + 17;
        for start in (1..=last).step_by(100) {
            publish(&mut log, &writer, start..=(start + 99).min(last));
        }
        assert!(writer.shared.ring().events <= RING_EVENTS);
        assert_eq!(slow.behind(), last);
        assert!(!slow.take_lag());
        assert_eq!(take(&mut slow, last as usize).await, (1..=last).collect::<Vec<_>>());
        assert!(slow.take_lag() && !slow.take_lag(), "told once");
        for start in (last + 1..=2 * last).step_by(100) {
            publish(&mut log, &writer, start..=(start + 99).min(2 * last));
        }
        assert_eq!(take(&mut slow, last as usize).await, (last + 1..=2 * last).collect::<Vec<_>>());
        assert!(slow.take_lag() && !slow.take_lag(), "told once for each time");
        let mut late = feed.subscribe(at(0).as_ref()).unwrap();
        take(&mut late, RING_EVENTS).await;
        assert!(!late.take_lag(), "it began behind");
    }

    #[tokio::test]
    async fn a_waiting_consumer_is_woken() {
        let mut log = MemoryLog::new();
        let (writer, feed) = feed(log.reader(), 0);
        let mut live = feed.subscribe(None).unwrap();
        let waiting = tokio::spawn(async move { live.next().await.map(|e| e.record.sequence) });
        tokio::task::yield_now().await;
        publish(&mut log, &writer, 1..=1);
        assert_eq!(waiting.await.unwrap(), Some(1));
    }
}
