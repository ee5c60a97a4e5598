//! What the rest of the service may ask of the engine: an async handle over the partitions' request channels.

use super::census::Census;
use super::query;
use crate::store::{LedgerQuery, StateCounts, StoreError, TimerIndex, TimerQuery};
use crossbeam_channel::Sender;
use minoots_kernel::id::partition_of;
use minoots_kernel::{
    ActionResult, Change, ClockSource, Command, CommandError, FiringId, LedgerEntry, Outcome, TenantId,
    TimerDefinition, TimerId, TimerInstance,
};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::{oneshot, watch};

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

impl From<StoreError> for EngineError {
    fn from(error: StoreError) -> Self {
        Self::StoreFailed { reason: error.to_string() }
    }
}

/// One page of a listing, in order of id (which is the order of creation).
#[derive(Clone, Debug, Default)]
pub struct TimerPage {
    /// The timers.
    pub timers: Vec<Arc<TimerInstance>>,
    /// Where the next page starts; `None` at the end.
    pub next: Option<TimerId>,
}

/// A fire that is in the log and whose actions are now to be carried out.
#[derive(Clone, Debug)]
pub struct FireOrder {
    /// Its name: the idempotency key of every action.
    pub firing: FiringId,
    /// The timer as it stands.
    pub timer: Arc<TimerInstance>,
    /// When it fired; `None` when it is handed over again and another fire has followed it.
    pub times: Option<FireTimes>,
    /// True when it is handed over again after a restart.
    pub replayed: bool,
    /// The nominal times of earlier fires of the timer that are given up for this one.
    pub supersedes: Vec<i64>,
}

/// When a fire was due and when it happened. Unix nanoseconds on corrected time.
#[derive(Clone, Copy, Debug)]
pub struct FireTimes {
    /// When it was to fire.
    pub due_ns: i64,
    /// When it fired.
    pub fired_ns: i64,
    /// Which clock said so.
    pub clock: ClockSource,
    /// Half the width of that clock's bound.
    pub max_error_ns: Option<i64>,
}

impl FireOrder {
    /// The fires of a timer that have not ended, each with when it fired.
    pub(super) fn open(timer: &Arc<TimerInstance>) -> impl Iterator<Item = (i64, Self)> {
        timer.status.flights.iter().map(|flight| {
            let last = timer.status.last.as_ref().filter(|l| l.nominal_ns == flight.nominal_ns);
            let times = last.map(|l| FireTimes {
                due_ns: l.due_ns,
                fired_ns: l.fired_ns,
                clock: l.clock,
                max_error_ns: l.max_error_ns,
            });
            let firing = FiringId { timer: timer.id, nominal_ns: flight.nominal_ns };
            let order = Self { firing, timer: timer.clone(), times, replayed: false, supersedes: Vec::new() };
            (flight.fired_ns, order)
        })
    }
}

impl FireTimes {
    /// Fired minus due.
    pub const fn lateness_ns(&self) -> i64 {
        self.fired_ns.saturating_sub(self.due_ns)
    }
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
    /// How many timers there are in each state; a moment behind the log.
    pub counts: StateCounts,
    /// How many timers are in memory.
    pub in_memory: u64,
    /// Each partition's last durable event, in order of the partitions.
    pub last_sequences: Vec<u64>,
    /// Why changes are refused, while the disk is full or after it has failed.
    pub refusal: Option<EngineError>,
}

impl EngineStatus {
    /// False while the disk is full or has failed.
    pub fn accepts_changes(&self) -> bool {
        self.refusal.is_none()
    }
}

/// How one partition is doing.
#[derive(Clone, Debug)]
pub struct PartitionStatus {
    /// Which clock it runs on.
    pub clock: ClockSource,
    /// The status word of the clock page, or why there is none.
    pub clock_detail: String,
    /// Half the width of the clock's bound.
    pub clock_max_error_ns: Option<i64>,
    /// How many timers are in memory.
    pub in_memory: u64,
    /// The last durable event.
    pub last_sequence: u64,
    /// Why changes are refused.
    pub refusal: Option<EngineError>,
}

/// The answer to one command.
pub type Answer = Result<Outcome, EngineError>;

/// What a partition's thread receives. Replies go out after the events are durable.
#[derive(Debug)]
pub enum Request {
    /// Carry out commands in one batch; one answer for each.
    Commands(Vec<Command>, oneshot::Sender<Vec<Answer>>),
    /// The answer to a create whose idempotency key is known; `None` for any other.
    Replay(Arc<TimerDefinition>, oneshot::Sender<Option<Answer>>),
    /// Read one timer; `None` when it is not in memory.
    Get(TenantId, TimerId, oneshot::Sender<Option<Arc<TimerInstance>>>),
    /// Read the timers whose latest change the index may not have; one may come more than once.
    Recent(oneshot::Sender<Vec<Arc<TimerInstance>>>),
    /// Read the last durable sequence.
    LastSequence(oneshot::Sender<u64>),
    /// Read how the partition is doing.
    Status(oneshot::Sender<PartitionStatus>),
    /// Stop after what was received before.
    Shutdown,
}

/// Makes timer ids. Injected, so that a test or a simulation repeats them.
pub type IdSource = Arc<dyn Fn() -> TimerId + Send + Sync>;

/// One partition, as the handle sees it.
#[derive(Clone)]
pub struct PartitionLink {
    /// To its thread.
    pub requests: Sender<Request>,
    /// Its index, for reads.
    pub index: Arc<dyn TimerIndex>,
    /// How far the index has come.
    pub applied: watch::Receiver<Applied>,
    /// Names the store in errors.
    pub place: String,
    /// How many timers each tenant has pending.
    pub census: Census,
}

/// How far an index has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Applied {
    /// The last event that it has.
    pub sequence: u64,
    /// It has no room for more.
    pub is_full: bool,
}

impl PartitionLink {
    async fn ask<T>(&self, make: impl FnOnce(oneshot::Sender<T>) -> Request) -> Result<T, EngineError> {
        let (reply, answer) = oneshot::channel();
        self.requests.send(make(reply)).map_err(|_| EngineError::ShuttingDown)?;
        answer.await.map_err(|_| EngineError::ShuttingDown)
    }

    /// Waits until the index has everything that was durable when this was called.
    async fn caught_up(&self) -> Result<(), EngineError> {
        let last = self.ask(Request::LastSequence).await?;
        let mut applied = self.applied.clone();
        let applied = applied.wait_for(|a| a.sequence >= last || a.is_full).await;
        match applied.map_err(|_| EngineError::ShuttingDown)? {
            applied if applied.sequence >= last => Ok(()),
            // A listing that lacks what was acknowledged would be wrong, and the wait could be long.
            _ => Err(EngineError::StoreFull { path: self.place.clone() }),
        }
    }

    /// Reads the index where a wait for the disk holds nobody up.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&dyn TimerIndex) -> Result<T, StoreError> + Send + 'static,
    ) -> Result<T, EngineError> {
        let index = self.index.clone();
        let task = tokio::task::spawn_blocking(move || read(&*index));
        Ok(task.await.map_err(|_| EngineError::ShuttingDown)??)
    }
}

/// A cheap handle on the engine; clone it freely.
#[derive(Clone)]
pub struct EngineHandle {
    partitions: Arc<[PartitionLink]>,
    ids: IdSource,
}

impl EngineHandle {
    /// Over the partitions, in their order.
    pub fn new(partitions: Vec<PartitionLink>, ids: IdSource) -> Self {
        Self { partitions: partitions.into(), ids }
    }

    fn count(&self) -> u32 {
        self.partitions.len() as u32
    }

    /// The partition of a timer.
    pub(crate) fn place(&self, tenant: &TenantId, id: TimerId) -> usize {
        partition_of(tenant, &id.as_u128().to_be_bytes(), self.count()) as usize
    }

    /// An id for a new timer. One with an idempotency key goes where the key is looked up.
    fn new_id(&self, definition: &TimerDefinition) -> TimerId {
        let Some(key) = definition.idempotency_key.as_ref().filter(|_| self.count() > 1) else {
            return (self.ids)();
        };
        let wanted = partition_of(&definition.tenant, key.as_bytes(), self.count()) as usize;
        loop {
            let id = (self.ids)();
            if self.place(&definition.tenant, id) == wanted {
                return id;
            }
        }
    }

    /// Carries out commands, each where its timer is; the answers in the order of the commands.
    async fn carry_out(&self, commands: Vec<(usize, Command)>) -> Result<Vec<Answer>, EngineError> {
        if let [only] = &*self.partitions {
            let commands = commands.into_iter().map(|(_, command)| command).collect();
            return only.ask(|reply| Request::Commands(commands, reply)).await;
        }
        let total = commands.len();
        let mut parts: Vec<(Vec<usize>, Vec<Command>)> = vec![Default::default(); self.partitions.len()];
        for (order, (place, command)) in commands.into_iter().enumerate() {
            parts[place].0.push(order);
            parts[place].1.push(command);
        }
        let asked = parts.into_iter().zip(&*self.partitions).filter(|((orders, _), _)| !orders.is_empty());
        let asked = asked.map(|((orders, commands), partition)| async move {
            let answers = partition.ask(|reply| Request::Commands(commands, reply)).await?;
            Ok::<_, EngineError>((orders, answers))
        });
        let mut answers: Vec<Answer> = (0..total).map(|_| Err(EngineError::ShuttingDown)).collect();
        for (orders, part) in futures::future::try_join_all(asked).await? {
            for (order, answer) in orders.into_iter().zip(part) {
                answers[order] = answer;
            }
        }
        Ok(answers)
    }

    async fn carry_out_one(&self, place: usize, command: Command) -> Answer {
        let mut answers = self.carry_out(vec![(place, command)]).await?;
        answers.pop().unwrap_or(Err(EngineError::ShuttingDown))
    }

    /// Creates timers in one batch. When the answer arrives, every `Ok` in it is durable.
    pub async fn create_many(&self, definitions: Vec<TimerDefinition>) -> Result<Vec<Answer>, EngineError> {
        let mut commands = Vec::with_capacity(definitions.len());
        let mut refused = Vec::new();
        for (order, definition) in definitions.into_iter().enumerate() {
            if let Err(error) = self.check_upstreams(&definition).await {
                refused.push((order, error));
                continue;
            }
            let id = self.new_id(&definition);
            let place = self.place(&definition.tenant, id);
            commands.push((place, Command::Create { id, definition: Arc::new(definition) }));
        }
        let mut answers = self.carry_out(commands).await?;
        for (order, error) in refused {
            answers.insert(order, Err(error));
        }
        Ok(answers)
    }

    /// The answer to a create whose idempotency key is known; `None` for any other, which is to be created.
    pub async fn replay_of(&self, definition: &TimerDefinition) -> Result<Option<Answer>, EngineError> {
        let Some(key) = &definition.idempotency_key else { return Ok(None) };
        let place = partition_of(&definition.tenant, key.as_bytes(), self.count()) as usize;
        let asked = Arc::new(definition.clone());
        self.partitions[place].ask(|reply| Request::Replay(asked, reply)).await
    }

    /// Creates one timer; durable when the answer arrives.
    pub async fn create(&self, definition: TimerDefinition) -> Answer {
        let mut answers = self.create_many(vec![definition]).await?;
        answers.pop().unwrap_or(Err(EngineError::ShuttingDown))
    }

    /// Refuses a timer that waits for timers that are not there.
    async fn check_upstreams(&self, definition: &TimerDefinition) -> Result<(), EngineError> {
        let Some(after) = &definition.start_after else { return Ok(()) };
        for upstream in &after.upstreams {
            self.get(definition.tenant.clone(), upstream.timer).await?;
        }
        Ok(())
    }

    /// Changes a timer; durable when the answer arrives.
    pub async fn change(
        &self,
        tenant: TenantId,
        id: TimerId,
        expected_version: Option<u64>,
        change: Change,
    ) -> Answer {
        let place = self.place(&tenant, id);
        self.carry_out_one(place, Command::Change { tenant, id, expected_version, change }).await
    }

    /// Changes many timers of a tenant in the same way, in one batch; the answers in the order of the ids.
    pub async fn change_many(
        &self,
        tenant: &TenantId,
        ids: &[TimerId],
        change: &Change,
    ) -> Result<Vec<Answer>, EngineError> {
        let command = |&id: &TimerId| {
            let (tenant, change) = (tenant.clone(), change.clone());
            (self.place(&tenant, id), Command::Change { tenant, id, expected_version: None, change })
        };
        self.carry_out(ids.iter().map(command).collect()).await
    }

    /// Changes every timer that a query finds, however many, and returns how many were changed. Those that cannot be
    /// changed so (any more) are passed over.
    pub async fn change_all(&self, mut query: TimerQuery, change: &Change) -> Result<u64, EngineError> {
        let mut changed = 0;
        loop {
            let page = self.list(query.clone()).await?;
            let ids: Vec<_> = page.timers.iter().map(|t| t.id).collect();
            for answer in self.change_many(&query.tenant, &ids, change).await? {
                match answer {
                    Ok(_) => changed += 1,
                    Err(EngineError::Refused(_)) => {}
                    Err(error) => return Err(error),
                }
            }
            query.after = page.next;
            if query.after.is_none() {
                return Ok(changed);
            }
        }
    }

    /// Cancels a timer; durable when the answer arrives.
    pub async fn cancel(&self, tenant: TenantId, id: TimerId, reason: Option<String>) -> Answer {
        self.change(tenant, id, None, Change::Cancel { reason }).await
    }

    /// Records that whoever a fire woke has answered.
    pub async fn acknowledge(
        &self,
        tenant: TenantId,
        firing: FiringId,
        by: Option<String>,
        note: Option<String>,
    ) -> Answer {
        let place = self.place(&tenant, firing.timer);
        self.carry_out_one(place, Command::Acknowledge { tenant, firing, by, note }).await
    }

    /// Records how the actions of a fire ended; durable when the answer arrives.
    pub async fn finish(&self, tenant: TenantId, firing: FiringId, results: Vec<ActionResult>) -> Answer {
        let place = self.place(&tenant, firing.timer);
        self.carry_out_one(place, Command::Finish { tenant, firing, results }).await
    }

    /// Tells a timer that waits what was seen of one that it waits for.
    pub(super) async fn resolve(
        &self,
        tenant: &TenantId,
        waiting: TimerId,
        upstream: &TimerInstance,
    ) -> Answer {
        let place = self.place(tenant, waiting);
        let (tenant, seen) = (tenant.clone(), upstream.seen());
        let command = Command::Resolve { tenant, id: waiting, upstream: upstream.id, seen };
        self.carry_out_one(place, command).await
    }

    /// One timer, as of a moment after the call.
    pub async fn get(&self, tenant: TenantId, id: TimerId) -> Result<Arc<TimerInstance>, EngineError> {
        let partition = &self.partitions[self.place(&tenant, id)];
        let asker = tenant.clone();
        if let Some(timer) = partition.ask(|reply| Request::Get(asker, id, reply)).await? {
            return Ok(timer);
        }
        // What is not in memory is in the index, as new as it gets.
        let found = partition.read(move |index| index.timer(&tenant, id)).await?;
        found.ok_or_else(|| CommandError::NotFound(id).into())
    }

    /// A page of timers; it shows everything that was acknowledged before the call.
    pub async fn list(&self, query: TimerQuery) -> Result<TimerPage, EngineError> {
        let pages = self.partitions.iter().map(|partition| {
            let query = query.clone();
            async move {
                match partition.caught_up().await {
                    Ok(()) => partition.read(move |index| index.list(&query)).await,
                    // The index may have no room for long: what it lacks is in memory.
                    Err(EngineError::StoreFull { .. }) => {
                        let recent = partition.ask(Request::Recent).await?;
                        let asked = query.clone();
                        let page = partition.read(move |index| index.list(&asked)).await?;
                        Ok(query::overlay(page, &query, recent))
                    }
                    Err(error) => Err(error),
                }
            }
        });
        let pages = futures::future::try_join_all(pages).await?;
        Ok(query::merge(pages, query.limit.max(1)))
    }

    /// What became of the occurrences of a timer, in order of their nominal times.
    pub async fn ledger(&self, ask: LedgerQuery) -> Result<Vec<LedgerEntry>, EngineError> {
        let partition = &self.partitions[self.place(&ask.tenant, ask.id)];
        partition.caught_up().await?;
        let (tenant, id) = (ask.tenant.clone(), ask.id);
        if partition.read(move |index| index.timer(&tenant, id)).await?.is_none() {
            return Err(CommandError::NotFound(ask.id).into());
        }
        partition.read(move |index| index.ledger(&ask.tenant, ask.id, ask.after_nominal_ns, ask.limit)).await
    }

    /// The tenants that have a timer, in order; some that have none may be among them. It knows every one that had a
    /// timer acknowledged before the call.
    pub async fn tenants(&self) -> Result<Vec<TenantId>, EngineError> {
        let mut all = BTreeSet::new();
        for partition in &*self.partitions {
            match partition.caught_up().await {
                Ok(()) => {}
                // The index may have no room for long: what it lacks is in memory.
                Err(EngineError::StoreFull { .. }) => {
                    let recent = partition.ask(Request::Recent).await?;
                    all.extend(recent.iter().map(|timer| timer.tenant().clone()));
                }
                Err(error) => return Err(error),
            }
            all.extend(partition.read(|index| index.tenants()).await?);
        }
        Ok(all.into_iter().collect())
    }

    /// The fires of a tenant that have not ended, as of a moment after the call, in the order in which they fired.
    pub async fn open_fires(&self, tenant: &TenantId) -> Result<Vec<FireOrder>, EngineError> {
        let mut all = Vec::new();
        for partition in &*self.partitions {
            partition.caught_up().await?;
            let tenant = tenant.clone();
            let timers = partition.read(move |index| {
                let mut timers = index.with_flights()?;
                timers.retain(|timer| *timer.tenant() == tenant);
                Ok(timers)
            });
            all.extend(timers.await?.iter().flat_map(FireOrder::open));
        }
        all.sort_by_key(|(fired_ns, order)| (*fired_ns, order.firing));
        Ok(all.into_iter().map(|(_, order)| order).collect())
    }

    /// How many timers of a tenant have not ended; exact as of what is durable.
    pub fn pending(&self, tenant: &TenantId) -> u64 {
        self.partitions.iter().map(|p| p.census.pending(tenant)).sum()
    }

    /// How the engine is doing.
    pub async fn status(&self) -> Result<EngineStatus, EngineError> {
        let asked = self.partitions.iter().map(|p| p.ask(Request::Status));
        let all = futures::future::try_join_all(asked).await?;
        let mut counts = StateCounts::default();
        self.partitions.iter().for_each(|p| counts.add_all(&p.index.counts()));
        let first = all.first().ok_or(EngineError::ShuttingDown)?;
        Ok(EngineStatus {
            clock: first.clock,
            clock_detail: first.clock_detail.clone(),
            clock_max_error_ns: first.clock_max_error_ns,
            counts,
            in_memory: all.iter().map(|p| p.in_memory).sum(),
            last_sequences: all.iter().map(|p| p.last_sequence).collect(),
            refusal: all.iter().find_map(|p| p.refusal.clone()),
        })
    }

    /// Asks the engine to stop after what it has received so far.
    pub fn shutdown(&self) {
        for partition in &*self.partitions {
            // A partition that is gone has stopped already.
            let _ = partition.requests.send(Request::Shutdown);
        }
    }
}
