//! A stream of events that survives a lost connection.

use super::client::{Transport, pause};
use super::times::span_to_wire;
use super::{TimerClient, TimerEvent, TimersError};
use futures::Stream;
use minoots_proto::v2;
use std::collections::BTreeMap;
use std::time::Duration;

/// How often an idle stream tells its place, so that a reconnect need not read far.
const KEEP_ALIVE: Duration = Duration::from_secs(15);

/// A service that restarts is given half a minute (with the waits of the default settings): a watch is there to last.
const REOPEN_ATTEMPTS: u32 = 12;

/// Where a watch begins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum From {
    /// Only what happens from now.
    #[default]
    Now,
    /// At the beginning of the log.
    Beginning,
    /// After the place that a cursor names.
    Cursor(String),
}

/// Which events are wanted, and from where.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct WatchQuery {
    /// Where to begin.
    pub from: From,
    /// Only these kinds, as `timer.fired`; all, where it is empty.
    pub kinds: Vec<String>,
    /// Only these timers, at most 100; all, where it is empty.
    pub timer_ids: Vec<String>,
    /// Only timers with all of these labels.
    pub labels: BTreeMap<String, String>,
    /// Only timers with all of these tags.
    pub tags: Vec<String>,
}

/// What a watch gives.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum WatchItem {
    /// Something happened.
    Event(Box<TimerEvent>),
    /// This side had fallen behind by so many events; nothing is lost.
    Lag {
        /// How many events are still to come.
        behind: u64,
    },
}

/// A running watch.
#[derive(Debug)]
pub struct Watch<T> {
    client: TimerClient<T>,
    query: WatchQuery,
    stream: Option<tonic::Streaming<v2::WatchEventsResponse>>,
    failed: u32,
}

impl<T: Transport> Watch<T> {
    pub(super) async fn open(client: TimerClient<T>, query: WatchQuery) -> Result<Self, TimersError> {
        let mut watch = Self { client, query, stream: None, failed: 0 };
        watch.reconnect().await?;
        Ok(watch)
    }

    async fn reconnect(&mut self) -> Result<(), TimersError> {
        let (after_sequence, cursor) = match &self.query.from {
            From::Now => (None, String::new()),
            From::Beginning => (Some(0), String::new()),
            From::Cursor(cursor) => (None, cursor.clone()),
        };
        let message = v2::WatchEventsRequest {
            after_sequence,
            cursor,
            types: self.query.kinds.clone(),
            timer_ids: self.query.timer_ids.clone(),
            labels: self.query.labels.clone().into_iter().collect(),
            tags: self.query.tags.clone(),
            keep_alive: Some(span_to_wire(KEEP_ALIVE)),
        };
        let (stream, cursor) = self.client.open_events(message).await?;
        self.stream = Some(stream);
        // From here on a reconnect begins where this stream began, not at whatever is "now" then.
        self.advance(cursor);
        Ok(())
    }

    fn advance(&mut self, cursor: Option<String>) {
        if let Some(cursor) = cursor.filter(|c| !c.is_empty()) {
            self.query.from = From::Cursor(cursor);
        }
    }

    /// The place after what was given last, for [`From::Cursor`].
    pub fn cursor(&self) -> Option<&str> {
        match &self.query.from {
            From::Cursor(cursor) => Some(cursor),
            _ => None,
        }
    }

    /// What comes next. A connection that ends is made again, from the place after the last event; an error is given
    /// when that fails twelve times (or as often as the settings say, if that is more), when the settings allow no second
    /// attempt, or when the service refuses.
    pub async fn next(&mut self) -> Result<WatchItem, TimersError> {
        loop {
            let lost = match &mut self.stream {
                Some(stream) => match stream.message().await {
                    Ok(Some(message)) => {
                        self.failed = 0;
                        if let Some(item) = self.take(message)? {
                            return Ok(item);
                        }
                        continue;
                    }
                    Ok(None) => TimersError::Unreachable("the stream ended".into()),
                    Err(status) => status.into(),
                },
                None => match self.reconnect().await {
                    Ok(()) => continue,
                    Err(e) => e,
                },
            };
            self.stream = None;
            self.failed += 1;
            let has_attempts = self.client.may_retry(self.failed) || self.failed < REOPEN_ATTEMPTS;
            if !lost.is_transient() || !self.client.may_retry(1) || !has_attempts {
                return Err(lost);
            }
            pause(self.client.retry_wait(self.failed, lost.retry_after())).await;
        }
    }

    fn take(&mut self, message: v2::WatchEventsResponse) -> Result<Option<WatchItem>, TimersError> {
        if let Some(event) = message.event {
            let event = TimerEvent::from_wire(event)?;
            self.advance(Some(event.cursor.clone()));
            return Ok(Some(WatchItem::Event(Box::new(event))));
        }
        if let Some(place) = message.keep_alive {
            self.advance(Some(place.cursor));
        }
        // A lag names a place that this side has yet to reach by events: the cursor stays.
        Ok(message.lag.map(|place| WatchItem::Lag { behind: place.behind }))
    }

    /// The same as a stream; it ends after an error.
    pub fn into_stream(self) -> impl Stream<Item = Result<WatchItem, TimersError>> + Send {
        futures::stream::unfold(Some(self), |watch| async {
            let mut watch = watch?;
            match watch.next().await {
                Ok(item) => Some((Ok(item), Some(watch))),
                Err(e) => Some((Err(e), None)),
            }
        })
    }
}
