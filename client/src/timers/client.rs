//! The calls.

use super::connect::ClientBuilder;
use super::times::{from_wire, span_to_wire, to_wire};
use super::view::{HistoryEntry, State, TimerInfo};
use super::watch::{From, Watch, WatchItem, WatchQuery};
use super::{Timer, TimersError};
use crate::Timestamp;
use futures::{Stream, StreamExt, TryStreamExt};
use minoots_proto::v2;
use minoots_proto::v2::timer_service_client::TimerServiceClient;
use std::collections::BTreeMap;
use std::time::Duration;
use tonic::client::GrpcService;
use tonic::codegen::{Body, Bytes, StdError};
use tonic::transport::Channel;

const TIMEOUT: Duration = Duration::from_secs(30);
/// How many timers go into one message of a bulk create.
const BATCH: usize = 500;

/// What carries calls: a tonic channel, or any gRPC service of the same process.
pub trait Transport:
    GrpcService<
        tonic::body::Body,
        ResponseBody: Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
        Error: Into<StdError>,
        Future: Send,
    > + Clone
    + Send
    + Sync
    + 'static
{
}

impl<T> Transport for T where
    T: GrpcService<
            tonic::body::Body,
            ResponseBody: Body<Data = Bytes, Error: Into<StdError> + Send> + Send + 'static,
            Error: Into<StdError>,
            Future: Send,
        > + Clone
        + Send
        + Sync
        + 'static
{
}

/// A client of the timer service. Cheap to clone; one serves many tasks.
#[derive(Clone, Debug)]
pub struct TimerClient<T = Channel> {
    stub: TimerServiceClient<T>,
    options: ClientBuilder,
}

/// Which timers are meant.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Filter {
    /// In one of these states; any, where it is empty.
    pub states: Vec<State>,
    /// With all of these labels.
    pub labels: BTreeMap<String, String>,
    /// With all of these tags.
    pub tags: Vec<String>,
    /// Due at or after this moment.
    pub due_from: Option<Timestamp>,
    /// Due before this moment.
    pub due_until: Option<Timestamp>,
}

/// One page, and where the next one starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<I, N> {
    /// What is on it.
    pub items: Vec<I>,
    /// Where the next one starts; `None` at the end.
    pub next: Option<N>,
}

/// Where a timer is moved to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reschedule {
    /// To this moment.
    At(Timestamp),
    /// So long from now, by the service's clock.
    After(Duration),
    /// So long after its present due time.
    Later(Duration),
    /// So long before its present due time.
    Earlier(Duration),
}

/// What is done to many timers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// They are cancelled.
    Cancel(Option<String>),
    /// They are paused.
    Pause(Option<String>),
    /// They go on.
    Resume,
}

/// Why one of many was not done.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Refused {
    /// The stable word.
    pub code: String,
    /// A sentence for people.
    pub detail: String,
}

impl std::convert::From<v2::Refusal> for Refused {
    fn from(r: v2::Refusal) -> Self {
        Self { code: r.code, detail: r.detail }
    }
}

/// What [`TimerClient::wait`] waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// A fire, or an end without one.
    Fired,
    /// The end of the timer.
    Ended,
}

impl Until {
    fn is_met(self, timer: &TimerInfo) -> bool {
        timer.state.is_end() || (self == Self::Fired && timer.fires > 0)
    }
}

/// Waits without a timer of its own making: the runtime's deadline for something that never comes.
pub(super) async fn pause(span: Duration) {
    let _ = tokio::time::timeout(span, std::future::pending::<()>()).await;
}

/// A random name that no other create has.
fn random_key() -> Option<String> {
    let mut bytes = [0; 16];
    ring::rand::SecureRandom::fill(&ring::rand::SystemRandom::new(), &mut bytes).ok()?;
    Some(format!("{:032x}", u128::from_be_bytes(bytes)))
}

/// A call that may be repeated: again and again, as the settings say, while the failure may pass.
macro_rules! repeat {
    ($self:ident, $method:ident, $message:expr) => {{
        let mut failed = 0;
        loop {
            let mut stub = $self.stub.clone();
            let call = stub.$method($self.request($message.clone()));
            match $self.in_time(call).await {
                Ok(answer) => break Ok(answer),
                Err(e) if e.is_transient() && failed + 1 < $self.options.retry.attempts => {
                    failed += 1;
                    pause($self.options.retry.wait(failed, e.retry_after())).await;
                }
                Err(e) => break Err(e),
            }
        }
    }};
}

/// A call that is made once: to repeat it might do it twice.
macro_rules! once {
    ($self:ident, $method:ident, $message:expr) => {{
        let mut stub = $self.stub.clone();
        $self.in_time(stub.$method($self.request($message))).await
    }};
}

impl TimerClient<Channel> {
    /// Connects to an address as `http://127.0.0.1:7878`, at the first call, with no credential.
    pub fn connect(url: &str) -> Result<Self, TimersError> {
        Self::builder().connect(url)
    }

    /// A client with a credential, a tenant, TLS and so on.
    pub fn builder() -> ClientBuilder {
        ClientBuilder::default()
    }
}

impl<T: Transport> TimerClient<T> {
    pub(super) fn assemble(channel: T, options: ClientBuilder) -> Self {
        Self { stub: TimerServiceClient::new(channel), options }
    }

    fn request<M>(&self, message: M) -> tonic::Request<M> {
        let mut request = tonic::Request::new(message);
        if let Some(value) = &self.options.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        if let Some(value) = &self.options.tenant {
            request.metadata_mut().insert("x-tenant-id", value.clone());
        }
        request
    }

    async fn in_time<M>(
        &self,
        call: impl Future<Output = Result<tonic::Response<M>, tonic::Status>>,
    ) -> Result<M, TimersError> {
        let timeout = self.options.timeout.unwrap_or(TIMEOUT);
        match tokio::time::timeout(timeout, call).await {
            Ok(answer) => Ok(answer?.into_inner()),
            Err(_) => Err(TimersError::Unreachable(format!("no answer within {timeout:?}"))),
        }
    }

    /// Creates a timer. It is durable when the answer is here.
    pub async fn create(&self, timer: Timer) -> Result<TimerInfo, TimersError> {
        Ok(self.create_once(timer).await?.0)
    }

    /// Creates a timer; true beside it where its idempotency key had made it before.
    pub async fn create_once(&self, timer: Timer) -> Result<(TimerInfo, bool), TimersError> {
        let mut definition = timer.0;
        if definition.idempotency_key.is_none() {
            definition.idempotency_key = random_key();
        }
        // Without random bits there is no key, and a repeated call could make a second timer.
        let answer: v2::CreateTimerResponse = if definition.idempotency_key.is_some() {
            let message = v2::CreateTimerRequest { definition: Some(definition) };
            repeat!(self, create_timer, message)?
        } else {
            once!(self, create_timer, v2::CreateTimerRequest { definition: Some(definition) })?
        };
        Ok((TimerInfo::from_wire(answer.timer)?, answer.replayed))
    }

    /// Creates many timers over one stream: one outcome for each, in order. A refused one does not stop the others.
    pub async fn create_many<I>(
        &self,
        timers: I,
    ) -> Result<
        impl Stream<Item = Result<Result<TimerInfo, Refused>, TimersError>> + Send + use<T, I>,
        TimersError,
    >
    where
        I: Stream<Item = Timer> + Send + 'static,
    {
        let messages = timers
            .map(|timer| timer.0)
            .ready_chunks(BATCH)
            .map(|definitions| v2::CreateTimersRequest { definitions });
        let answers = self.stub.clone().create_timers(self.request(messages)).await?.into_inner();
        let outcomes = answers.map_err(TimersError::from).map_ok(|message| {
            futures::stream::iter(message.results.into_iter().map(|result| {
                use v2::create_timer_result::Outcome;
                match result.outcome {
                    Some(Outcome::Created(created)) => TimerInfo::from_wire(created.timer).map(Ok),
                    Some(Outcome::Refused(refused)) => Ok(Err(refused.into())),
                    None => Err(TimersError::missing("outcome")),
                }
            }))
        });
        Ok(outcomes.try_flatten())
    }

    /// Reads a timer.
    pub async fn get(&self, id: &str) -> Result<TimerInfo, TimersError> {
        let message = v2::GetTimerRequest { id: id.into() };
        let answer: v2::GetTimerResponse = repeat!(self, get_timer, message)?;
        TimerInfo::from_wire(answer.timer)
    }

    /// Reads a page of timers in order of creation: at most `limit`, from 1 to 1000.
    pub async fn list(
        &self,
        filter: &Filter,
        limit: u32,
        cursor: Option<&str>,
    ) -> Result<Page<TimerInfo, String>, TimersError> {
        let message = v2::ListTimersRequest {
            states: filter.states.iter().map(|s| s.to_wire() as i32).collect(),
            labels: filter.labels.clone().into_iter().collect(),
            tags: filter.tags.clone(),
            due_from: filter.due_from.map(to_wire),
            due_until: filter.due_until.map(to_wire),
            limit,
            cursor: cursor.unwrap_or_default().into(),
            ..Default::default()
        };
        let answer: v2::ListTimersResponse = repeat!(self, list_timers, message)?;
        let items =
            answer.timers.into_iter().map(|t| TimerInfo::from_wire(Some(t))).collect::<Result<_, _>>()?;
        Ok(Page { items, next: Some(answer.next_cursor).filter(|c| !c.is_empty()) })
    }

    /// Every timer that the filter finds, page by page.
    pub fn list_all(
        &self,
        filter: Filter,
    ) -> impl Stream<Item = Result<TimerInfo, TimersError>> + Send + use<T> {
        let client = self.clone();
        let pages = futures::stream::try_unfold(Some(None), move |at: Option<Option<String>>| {
            let (client, filter) = (client.clone(), filter.clone());
            async move {
                let Some(cursor) = at else { return Ok(None) };
                let page = client.list(&filter, 1_000, cursor.as_deref()).await?;
                let items = futures::stream::iter(page.items.into_iter().map(Ok));
                Ok::<_, TimersError>(Some((items, page.next.map(Some))))
            }
        });
        pages.try_flatten()
    }

    /// Cancels a timer; with a version, only if it still has that one.
    pub async fn cancel(
        &self,
        id: &str,
        reason: Option<&str>,
        version: Option<u64>,
    ) -> Result<TimerInfo, TimersError> {
        let message = v2::CancelTimerRequest {
            id: id.into(),
            reason: reason.map(Into::into),
            expected_version: version,
        };
        TimerInfo::from_wire(once!(self, cancel_timer, message)?.timer)
    }

    /// Moves the next occurrence of a timer; with a version, only if it still has that one.
    pub async fn reschedule(
        &self,
        id: &str,
        to: Reschedule,
        version: Option<u64>,
    ) -> Result<TimerInfo, TimersError> {
        use v2::reschedule_timer_request::To;
        let to = match to {
            Reschedule::At(t) => To::At(to_wire(t)),
            Reschedule::After(d) => To::After(span_to_wire(d)),
            Reschedule::Later(d) => To::ExtendBy(span_to_wire(d)),
            Reschedule::Earlier(d) => {
                let d = span_to_wire(d);
                To::ExtendBy(prost_types::Duration { seconds: -d.seconds, nanos: -d.nanos })
            }
        };
        let message = v2::RescheduleTimerRequest { id: id.into(), to: Some(to), expected_version: version };
        TimerInfo::from_wire(once!(self, reschedule_timer, message)?.timer)
    }

    /// Stops a timer from firing until it is resumed.
    pub async fn pause(
        &self,
        id: &str,
        reason: Option<&str>,
        version: Option<u64>,
    ) -> Result<TimerInfo, TimersError> {
        let message = v2::PauseTimerRequest {
            id: id.into(),
            reason: reason.map(Into::into),
            expected_version: version,
        };
        TimerInfo::from_wire(once!(self, pause_timer, message)?.timer)
    }

    /// Lets a paused timer go on.
    pub async fn resume(&self, id: &str, version: Option<u64>) -> Result<TimerInfo, TimersError> {
        let message = v2::ResumeTimerRequest { id: id.into(), expected_version: version };
        TimerInfo::from_wire(once!(self, resume_timer, message)?.timer)
    }

    /// Fires a timer now.
    pub async fn fire(&self, id: &str, version: Option<u64>) -> Result<TimerInfo, TimersError> {
        let message = v2::FireTimerRequest { id: id.into(), expected_version: version };
        TimerInfo::from_wire(once!(self, fire_timer, message)?.timer)
    }

    /// Records that whoever a fire woke has answered. The first acknowledgement stands, so this may be repeated.
    pub async fn acknowledge(
        &self,
        firing_id: &str,
        by: Option<&str>,
        note: Option<&str>,
    ) -> Result<TimerInfo, TimersError> {
        let message = v2::AcknowledgeFireRequest {
            firing_id: firing_id.into(),
            by: by.map(Into::into),
            note: note.map(Into::into),
        };
        let answer: v2::AcknowledgeFireResponse = repeat!(self, acknowledge_fire, message)?;
        TimerInfo::from_wire(answer.timer)
    }

    /// A page of what became of each occurrence, in order of the nominal times.
    pub async fn history(
        &self,
        id: &str,
        limit: u32,
        after: Option<Timestamp>,
    ) -> Result<Page<HistoryEntry, Timestamp>, TimersError> {
        let message = v2::ListHistoryRequest { id: id.into(), after: after.map(to_wire), limit };
        let answer: v2::ListHistoryResponse = repeat!(self, list_history, message)?;
        let items = answer.entries.into_iter().map(HistoryEntry::from_wire).collect::<Result<_, _>>()?;
        Ok(Page { items, next: answer.next_after.map(from_wire) })
    }

    /// Does the same to at most 1000 timers that are named: one outcome for each, in order.
    pub async fn change_many(
        &self,
        ids: Vec<String>,
        change: Change,
    ) -> Result<Vec<Result<TimerInfo, Refused>>, TimersError> {
        use v2::change_timer_result::Outcome;
        let which = v2::change_timers_request::Which::Ids(v2::TimerIds { ids });
        let outcome = |result: v2::ChangeTimerResult| match result.outcome {
            Some(Outcome::Timer(timer)) => TimerInfo::from_wire(Some(timer)).map(Ok),
            Some(Outcome::Refused(refused)) => Ok(Err(refused.into())),
            None => Err(TimersError::missing("outcome")),
        };
        self.change(which, change).await?.results.into_iter().map(outcome).collect()
    }

    /// Does the same to every timer that the filter finds; an empty filter finds every one. How many were changed.
    pub async fn change_all(&self, filter: &Filter, change: Change) -> Result<u64, TimersError> {
        let which = v2::change_timers_request::Which::Filter(v2::TimerFilter {
            states: filter.states.iter().map(|s| s.to_wire() as i32).collect(),
            labels: filter.labels.clone().into_iter().collect(),
            tags: filter.tags.clone(),
            due_from: filter.due_from.map(to_wire),
            due_until: filter.due_until.map(to_wire),
            ..Default::default()
        });
        Ok(self.change(which, change).await?.changed)
    }

    async fn change(
        &self,
        which: v2::change_timers_request::Which,
        change: Change,
    ) -> Result<v2::ChangeTimersResponse, TimersError> {
        use v2::change_timers_request::Change as W;
        let change = match change {
            Change::Cancel(reason) => W::Cancel(v2::CancelChange { reason }),
            Change::Pause(reason) => W::Pause(v2::PauseChange { reason }),
            Change::Resume => W::Resume(v2::ResumeChange {}),
        };
        once!(self, change_timers, v2::ChangeTimersRequest { which: Some(which), change: Some(change) })
    }

    /// Streams events, and connects again by itself when the connection ends.
    pub async fn watch(&self, query: WatchQuery) -> Result<Watch<T>, TimersError> {
        Watch::open(self.clone(), query).await
    }

    /// One connection of a watch.
    pub(super) async fn open_events(
        &self,
        message: v2::WatchEventsRequest,
    ) -> Result<(tonic::Streaming<v2::WatchEventsResponse>, Option<String>), TimersError> {
        let response = self.stub.clone().watch_events(self.request(message)).await?;
        let cursor =
            response.metadata().get("minoots-cursor").and_then(|v| v.to_str().ok()).map(String::from);
        Ok((response.into_inner(), cursor))
    }

    pub(super) fn may_retry(&self, failed: u32) -> bool {
        failed < self.options.retry.attempts
    }

    pub(super) fn retry_wait(&self, failed: u32, asked: Option<Duration>) -> Duration {
        self.options.retry.wait(failed, asked)
    }

    /// Resolves when a timer has fired or ended. It listens to the timer's events and asks nothing between them.
    pub async fn wait(&self, id: &str, until: Until) -> Result<TimerInfo, TimersError> {
        // Listen first: what happens after the read is then in the stream.
        let query = WatchQuery { from: From::Now, timer_ids: vec![id.into()], ..Default::default() };
        let mut watch = self.watch(query).await?;
        loop {
            let timer = self.get(id).await?;
            if until.is_met(&timer) {
                return Ok(timer);
            }
            while !matches!(watch.next().await?, WatchItem::Event(_)) {}
        }
    }
}
