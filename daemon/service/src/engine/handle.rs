//! What the rest of the service may ask of the engine: an async handle over the kernel thread's request channel.

use crossbeam_channel::Sender;
use minoots_kernel::{
    ActionResult, ClockSource, CommandError, FiringId, TenantId, TimerDefinition, TimerId, TimerInstance,
    TimerState,
};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Why a request was not carried out. What was refused has changed nothing.
#[derive(Clone, Debug, thiserror::Error)]
pub enum EngineError {
    /// The kernel refused it.
    #[error(transparent)]
    Refused(#[from] CommandError),
    /// There is no room on the disk. Nothing was acknowledged; the engine tries again by itself.
    #[error("no room to store the timer in {path}: free some space, then try again")]
    StoreFull {
        /// The data directory.
        path: String,
    },
    /// The disk failed, so nothing more can be promised until a restart.
    #[error("the store failed ({reason}): the service accepts no changes until it is restarted")]
    StoreFailed {
        /// What the operating system said.
        reason: String,
    },
    /// The engine has stopped.
    #[error("the service is shutting down: try again in a moment")]
    ShuttingDown,
}

/// The answer to a create.
#[derive(Clone, Debug)]
pub struct Created {
    /// The timer.
    pub timer: TimerInstance,
    /// True when the idempotency key had made it before.
    pub replayed: bool,
}

/// Which timers to list, and where to go on.
#[derive(Clone, Debug, Default)]
pub struct ListQuery {
    /// Whose.
    pub tenant: TenantId,
    /// Only those in this state.
    pub state: Option<TimerState>,
    /// Only those that carry all of these labels.
    pub labels: Vec<(String, String)>,
    /// Only those after this id, in order of id; the cursor of the page before.
    pub after: Option<TimerId>,
    /// At most so many.
    pub limit: usize,
}

/// One page of a listing, in order of id (which is the order of creation).
#[derive(Clone, Debug)]
pub struct TimerPage {
    /// The timers.
    pub timers: Vec<TimerInstance>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<TimerId>,
}

/// A fire that is in the log and whose actions are now to be carried out.
#[derive(Clone, Debug)]
pub struct FireOrder {
    /// Its name: the idempotency key of every action.
    pub firing: FiringId,
    /// The timer as it stands.
    pub timer: TimerInstance,
    /// True when it is handed over again after a restart.
    pub replayed: bool,
}

/// How the engine is doing.
#[derive(Clone, Debug)]
pub struct EngineStatus {
    /// Which clock it runs on.
    pub clock: ClockSource,
    /// The status word of the clock page, or why there is none.
    pub clock_detail: String,
    /// Half the width of the clock's bound.
    pub clock_max_error_ns: Option<i64>,
    /// Timers that wait.
    pub scheduled: u64,
    /// Fires whose actions are under way.
    pub firing: u64,
    /// The last durable event.
    pub last_sequence: u64,
    /// Why changes are refused, while the disk is full or after it has failed.
    pub refusal: Option<EngineError>,
}

impl EngineStatus {
    /// False while the disk is full or has failed.
    pub fn accepts_changes(&self) -> bool {
        self.refusal.is_none()
    }
}

/// What the kernel thread receives. Replies go out after the events are durable.
#[derive(Debug)]
pub enum Request {
    /// Create timers in one batch; one answer for each.
    Create(Vec<(TimerId, Arc<TimerDefinition>)>, oneshot::Sender<Vec<Result<Created, EngineError>>>),
    /// Cancel a timer.
    Cancel(TenantId, TimerId, Option<String>, oneshot::Sender<Result<TimerInstance, EngineError>>),
    /// The actions of a fire have ended.
    Finish(FiringId, Vec<ActionResult>, oneshot::Sender<Result<(), EngineError>>),
    /// Read one timer.
    Get(TenantId, TimerId, oneshot::Sender<Result<TimerInstance, EngineError>>),
    /// Read a page of timers.
    List(ListQuery, oneshot::Sender<TimerPage>),
    /// Read how the engine is doing.
    Status(oneshot::Sender<EngineStatus>),
    /// Stop after what was received before.
    Shutdown,
}

/// Makes timer ids. Injected, so that a test or a simulation repeats them.
pub type IdSource = Arc<dyn Fn() -> TimerId + Send + Sync>;

/// A cheap handle on the engine; clone it freely.
#[derive(Clone)]
pub struct EngineHandle {
    requests: Sender<Request>,
    ids: IdSource,
}

impl EngineHandle {
    /// Over the kernel thread's request channel.
    pub fn new(requests: Sender<Request>, ids: IdSource) -> Self {
        Self { requests, ids }
    }

    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).map_err(|_| EngineError::ShuttingDown)?;
        answer.await.map_err(|_| EngineError::ShuttingDown)
    }

    /// Creates timers in one batch. When the answer arrives, every `Ok` in it is durable.
    pub async fn create_many(
        &self,
        definitions: Vec<TimerDefinition>,
    ) -> Result<Vec<Result<Created, EngineError>>, EngineError> {
        let batch = definitions.into_iter().map(|d| ((self.ids)(), Arc::new(d))).collect();
        self.ask(|reply| Request::Create(batch, reply)).await
    }

    /// Creates one timer; durable when the answer arrives.
    pub async fn create(&self, definition: TimerDefinition) -> Result<Created, EngineError> {
        let mut answers = self.create_many(vec![definition]).await?;
        answers.pop().unwrap_or(Err(EngineError::ShuttingDown))
    }

    /// Cancels a scheduled timer; durable when the answer arrives.
    pub async fn cancel(
        &self,
        tenant: TenantId,
        id: TimerId,
        reason: Option<String>,
    ) -> Result<TimerInstance, EngineError> {
        self.ask(|reply| Request::Cancel(tenant, id, reason, reply)).await?
    }

    /// Records how the actions of a fire ended; durable when the answer arrives.
    pub async fn finish(&self, firing: FiringId, results: Vec<ActionResult>) -> Result<(), EngineError> {
        self.ask(|reply| Request::Finish(firing, results, reply)).await?
    }

    /// One timer.
    pub async fn get(&self, tenant: TenantId, id: TimerId) -> Result<TimerInstance, EngineError> {
        self.ask(|reply| Request::Get(tenant, id, reply)).await?
    }

    /// A page of timers.
    pub async fn list(&self, query: ListQuery) -> Result<TimerPage, EngineError> {
        self.ask(|reply| Request::List(query, reply)).await
    }

    /// How the engine is doing.
    pub async fn status(&self) -> Result<EngineStatus, EngineError> {
        self.ask(Request::Status).await
    }

    /// Asks the engine to stop after what it has received so far.
    pub fn shutdown(&self) {
        // An engine that is gone has stopped already.
        let _ = self.requests.send(Request::Shutdown);
    }
}
