//! The live stream of events: the past from the logs, then what happens, without a gap or a repeat in any partition.
//!
//! A partition's thread only notes each durable batch in a ring of recent batches; it never waits for a consumer. One that
//! falls behind the ring reads the log until it has caught up, and can say how far behind it is. One that wants only some
//! topics sleeps through everything else.

use super::topics::{Heard, Topic, Topics};
use crate::store::{LogReader, StoreError};
use futures::FutureExt;
use futures::future::BoxFuture;
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
    topics: Arc<Topics>,
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
    fn recent(&self, next: u64, wanted: Wanted<'_>) -> Option<Page> {
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
        let mut page = Page { fetched: VecDeque::new(), next };
        let mut room = PAGE_EVENTS;
        for batch in &batches {
            let from = batch.records.partition_point(|r| r.sequence < next);
            let records = &batch.records[from..][..(batch.records.len() - from).min(room)];
            room -= records.len();
            page.next = records.last().map_or(page.next, |r| r.sequence + 1);
            let mut chosen = records.iter().filter(|r| wanted.has(r)).peekable();
            if chosen.peek().is_none() {
                continue;
            }
            let definitions: HashMap<TimerId, _> = if wanted.with_definitions {
                batch.changes.iter().map(|c| (c.after.id, &c.after.definition)).collect()
            } else {
                HashMap::new()
            };
            let definition = |r: &EventRecord| definitions.get(&r.event.timer()).map(|d| Arc::clone(d));
            page.fetched.extend(chosen.map(|r| Fetched { record: r.clone(), definition: definition(r) }));
        }
        Some(page)
    }
}

/// What of a page is wanted.
#[derive(Clone, Copy)]
struct Wanted<'a> {
    /// All of them, where none is named.
    topics: &'a [Heard],
    with_definitions: bool,
}

impl Wanted<'_> {
    fn has(&self, record: &EventRecord) -> bool {
        self.topics.is_empty() || self.topics.iter().any(|heard| heard.topic().has(record))
    }
}

/// Some events, and where to go on after them.
struct Page {
    fetched: VecDeque<Fetched>,
    next: u64,
}

/// A partition's end of the feed.
pub(super) struct FeedWriter {
    shared: Arc<Shared>,
    last: watch::Sender<u64>,
    /// Dropped after `last`: who is woken by it finds that there is no more.
    _closes: ClosesTopics,
}

struct ClosesTopics(Arc<Topics>);

impl Drop for ClosesTopics {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// A partition's feed over a log whose last durable event is `last_sequence`.
pub(super) fn source(log: Arc<dyn LogReader>, last_sequence: u64) -> (FeedWriter, Source) {
    let topics = Arc::new(Topics::default());
    let shared = Arc::new(Shared { ring: Mutex::default(), log, topics: topics.clone() });
    let (sender, last) = watch::channel(last_sequence);
    (
        FeedWriter { shared: shared.clone(), last: sender, _closes: ClosesTopics(topics) },
        Source { shared, last },
    )
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
        self.shared.topics.publish(&committed.records, || {
            self.last.send_replace(last);
        });
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
            let (topics, kept_up) = (Vec::new(), after >= newest);
            parts.push(Part { shared, last, topics, next: after + 1, fetched, kept_up });
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
    /// What is wanted; none is everything.
    topics: Vec<Heard>,
    /// The sequence after the last one that is in `fetched`, was handed out or is not wanted.
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

    /// Only events of these topics. Others are neither handed out nor waited for.
    #[must_use]
    pub fn only(mut self, topics: &[Topic]) -> Self {
        for part in &mut self.parts {
            let newest = || *part.last.borrow();
            part.topics = topics.iter().map(|t| part.shared.topics.hear(t.clone(), newest)).collect();
        }
        self
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
                    if !part.fetch(self.with_definitions).await? {
                        self.seen[number] = part.next - 1;
                        ended += usize::from(part.has_ended());
                    }
                    self.has_lagged |= kept_up && !part.kept_up;
                }
                if let Some(Fetched { record, definition }) = part.fetched.pop_front() {
                    self.seen[number] = record.sequence;
                    let (partition, cursor) = (number as u32, Cursor(self.seen.clone()));
                    return Ok(FeedEvent {
                        partition,
                        record,
                        definition,
                        cursor,
                        behind: self.count_behind(),
                    });
                }
            }
            if ended == self.parts.len() {
                return Err(FeedEnd::Stopped);
            }
            let open = self.parts.iter_mut().filter(|p| !p.has_ended());
            let changes: Vec<_> = open.flat_map(Part::changes).collect();
            if !changes.is_empty() {
                // Which one it was does not matter, nor whether it has ended: the next look tells.
                let _ = futures::future::select_all(changes).await;
            }
        }
    }

    /// How many events this consumer has not had.
    pub fn behind(&mut self) -> u64 {
        self.pass_over();
        self.count_behind()
    }

    fn count_behind(&self) -> u64 {
        self.parts.iter().zip(&self.seen).map(|(p, seen)| p.last.borrow().saturating_sub(*seen)).sum()
    }

    /// The place up to which everything was handed out, or is not wanted.
    pub fn place(&mut self) -> Cursor {
        self.pass_over();
        Cursor(self.seen.clone())
    }

    /// Takes note of what has happened since and is not wanted.
    fn pass_over(&mut self) {
        for (part, seen) in self.parts.iter_mut().zip(&mut self.seen) {
            if part.fetched.is_empty() && !part.topics.is_empty() {
                part.pass_over();
                *seen = part.next - 1;
            }
        }
    }

    /// Whether this consumer had caught up and has since fallen behind what is in memory; asking forgets it.
    pub fn take_lag(&mut self) -> bool {
        std::mem::take(&mut self.has_lagged)
    }
}

impl Part {
    /// Gets what there is; false when there is nothing.
    async fn fetch(&mut self, with_definitions: bool) -> Result<bool, FeedEnd> {
        loop {
            let newest = self.pass_over();
            if self.next > newest {
                self.kept_up = true;
                // What it held may have been much.
                self.fetched = VecDeque::new();
                return Ok(false);
            }
            let recent = self.shared.recent(self.next, Wanted { topics: &self.topics, with_definitions });
            self.kept_up = recent.is_some();
            let page = match recent {
                Some(page) => page,
                None => self.read_log().await?,
            };
            if page.next == self.next {
                return Err(FeedEnd::Stopped);
            }
            Page { fetched: self.fetched, next: self.next } = page;
            if !self.fetched.is_empty() {
                return Ok(true);
            }
            // One that wants little may have much to pass over; others have their turn meanwhile.
            tokio::task::consume_budget().await;
        }
    }

    /// Goes on to the next event that may be wanted; gives the newest one that there is.
    fn pass_over(&mut self) -> u64 {
        // In this order: the topics are told first, so all up to `newest` is in them.
        let newest = *self.last.borrow_and_update();
        let wanted = self.topics.iter_mut().filter_map(|heard| heard.first_from(self.next, newest)).min();
        if !self.topics.is_empty() {
            self.next = self.next.max(wanted.unwrap_or(u64::MAX).min(newest + 1));
        }
        newest
    }

    /// What ends a wait for more.
    fn changes(&mut self) -> Vec<BoxFuture<'_, ()>> {
        if self.topics.is_empty() {
            return vec![self.last.changed().map(drop).boxed()];
        }
        self.topics.iter_mut().map(|heard| heard.changed().boxed()).collect()
    }

    fn has_ended(&self) -> bool {
        self.last.has_changed().is_err() && self.next > *self.last.borrow()
    }

    async fn read_log(&self) -> Result<Page, FeedEnd> {
        let (shared, next) = (self.shared.clone(), self.next);
        let read = tokio::task::spawn_blocking(move || shared.log.read(next, PAGE_EVENTS));
        // The task ends early only where the runtime does.
        let records = read.await.map_err(|_| FeedEnd::Stopped)?.map_err(FeedEnd::Unreadable)?;
        let after = records.last().map_or(next, |r| r.sequence + 1);
        let wanted = Wanted { topics: &self.topics, with_definitions: false };
        let fetched = records.into_iter().filter(|r| wanted.has(r)).map(Fetched::from).collect();
        Ok(Page { fetched, next: after })
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

    fn of_timer(timer: u128, sequence: u64) -> EventRecord {
        let event = Event::Cancelled { timer: TimerId::from_u128(timer), reason: None };
        EventRecord { event, ..records(sequence..=sequence).remove(0) }
    }

    #[tokio::test]
    async fn a_topic_has_its_events_and_the_place_of_all() {
        let mut log = MemoryLog::new();
        let (writer, feed) = feed(log.reader(), 0);
        let mut put = |range: std::ops::RangeInclusive<u64>, own: &[u64]| {
            let timer = |n: &u64| if own.contains(n) { 7 } else { 1 };
            let records: Vec<_> = range.map(|n| of_timer(timer(&n), n)).collect();
            log.append(&records).unwrap();
            writer.publish(&Arc::new(Committed { records, changes: Vec::new() }));
        };
        put(1..=20, &[3, 20]);
        let topics = [Topic::Timer(TimerId::from_u128(7))];
        let mut past = feed.subscribe(at(0).as_ref()).unwrap().only(&topics);
        let mut live = feed.subscribe(None).unwrap().only(&topics);
        assert_eq!((live.place(), live.behind()), (Cursor(vec![20]), 0));
        put(21..=40, &[]);
        assert_eq!((live.place(), live.behind()), (Cursor(vec![40]), 0), "nothing of it was wanted");
        put(41..=60, &[41, 42, 60]);
        assert_eq!(take(&mut live, 2).await, [41, 42]);
        assert_eq!(live.place(), Cursor(vec![42]));
        assert_eq!(take(&mut past, 5).await, [3, 20, 41, 42, 60]);
        // Past what is in memory, and more often than is remembered.
        for start in (61..=20_060).step_by(100) {
            put(start..=start + 99, &[start, start + 99]);
        }
        let expected: Vec<_> =
            [60].into_iter().chain((61..=20_060).filter(|n| n % 100 == 61 || n % 100 == 60)).collect();
        assert_eq!(take(&mut live, expected.len()).await, expected);
        assert_eq!(live.place(), Cursor(vec![20_060]));
        drop((past, live));
        assert!(feed.partitions[0].shared.topics.is_empty(), "nobody hears of it any more");
    }

    #[tokio::test]
    async fn a_topic_ends_with_the_engine() {
        let mut log = MemoryLog::new();
        let (writer, feed) = feed(log.reader(), 0);
        let mut live = feed.subscribe(None).unwrap().only(&[Topic::Tenant(TenantId::default())]);
        let mut other = feed.subscribe(None).unwrap().only(&[Topic::Timer(TimerId::from_u128(9))]);
        let waiting = tokio::spawn(async move { (other.next().await, other.place()) });
        tokio::task::yield_now().await;
        publish(&mut log, &writer, 1..=1);
        assert_eq!(take(&mut live, 1).await, [1]);
        drop(writer);
        assert!(live.next().await.is_none());
        assert_eq!(waiting.await.unwrap(), (None, Cursor(vec![1])));
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
