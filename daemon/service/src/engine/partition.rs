//! The thread that owns one partition: it waits for the next deadline or request, and works in rounds.
//!
//! A round takes the requests that are waiting, decides them and the timers that are due, appends all their events as
//! one batch, and only then answers and hands over the fires. Nothing that is not durable is ever shown. The index
//! follows on its own thread: a change stays in memory until the index has it.

use super::census::Census;
use super::feed::FeedWriter;
use super::handle::{Answer, EngineError, FireOrder, FireTimes, PartitionStatus, Request};
use super::indexer::{Job, Progress};
use crate::clock::KernelClock;
use crate::store::index::Cold;
use crate::store::{EventLog, StoreError, TimerIndex};
use chronotick_core::{MonoTime, Span};
use crossbeam_channel::{Receiver, Sender, never, select_biased};
use minoots_kernel::{ClockStamp, Command, DueKey, Event, EventRecord, Kernel};
use std::collections::VecDeque;
use std::num::NonZeroU64;
use std::sync::Arc;
use tokio::sync::mpsc::UnboundedSender;

/// A round ends at so many commands, so that timers that fall due meanwhile wait no longer than their decision takes.
const COMMANDS_MAX: usize = 1024;
/// A round decides about at most so many due timers before the requests, and as many after them.
const FIRES_MAX: usize = 4096;
/// So many timers are moved ahead of time, or forgotten, between two looks at what else is to be done.
const IDLE_STEP: usize = 256;
/// The longest wait: a step of the clock is noticed within it.
const WAIT_MAX: Span = Span::from_ms(250);
/// How often room is looked for while the disk is full.
const ROOM_RETRY: Span = Span::from_ms(100);
/// Timers that are due within this time are brought into memory.
const ARM_WITHIN: Span = Span::from_secs(120);
/// The horizon is moved when it is nearer than this.
const ARM_AT_LEAST: Span = Span::from_secs(60);
/// The horizon stands still while so many timers in memory wait for their time.
const ARMED_MAX: usize = 1_000_000;
/// How many timers come into memory in one page.
const PAGE_TIMERS: usize = 4096;
/// While the index lags so many changes behind, requests wait, so that memory stays bounded and a restart has no more
/// than that to read again.
const UNSETTLED_MAX: usize = 100_000;

/// The index has to have room for so many times what it lacks: the log takes room meanwhile, and sizes are estimates.
const ROOM_FACTOR: u64 = 4;

/// Whether events can be stored.
enum Health {
    Sound,
    Full { retry_at: MonoTime },
    Failed { reason: String },
}

/// Where a partition's output goes.
pub struct Outputs {
    /// Fires to carry out.
    fires: UnboundedSender<Vec<FireOrder>>,
    /// Events to tell of.
    feed: FeedWriter,
    /// Work for the index.
    jobs: Sender<Job>,
    /// Counts pending timers.
    census: Census,
}

/// One partition with everything it runs on.
pub struct Partition {
    kernel: Kernel,
    log: Box<dyn EventLog>,
    index: Arc<dyn TimerIndex>,
    /// Names the store in errors.
    place: String,
    clock: Box<dyn KernelClock>,
    outputs: Outputs,
    health: Health,
    /// The last event that the index is known to have.
    applied: u64,
    /// A page of timers is on its way from the index.
    is_loading: bool,
    /// The index cannot take what it is given.
    is_index_stuck: bool,
    /// The last event and the size of each batch that the index may not have, oldest first.
    unapplied: VecDeque<(u64, u64)>,
    /// The sum of those sizes.
    unapplied_bytes: u64,
}

impl Outputs {
    pub(super) fn new(
        fires: UnboundedSender<Vec<FireOrder>>,
        feed: FeedWriter,
        jobs: Sender<Job>,
        census: Census,
    ) -> Self {
        Self { fires, feed, jobs, census }
    }

    /// Without anybody who listens to events: for a simulation, which reads them from the log.
    pub fn unheard(
        fires: UnboundedSender<Vec<FireOrder>>,
        jobs: Sender<Job>,
        log: &dyn EventLog,
        last_sequence: u64,
    ) -> Self {
        let (feed, _) = super::feed::source(log.reader(), last_sequence);
        Self::new(fires, feed, jobs, Census::default())
    }
}

impl Partition {
    /// Over a log that was recovered into `kernel`; what the index lacks has been committed and is in `outputs.jobs`.
    pub fn new(
        kernel: Kernel,
        log: Box<dyn EventLog>,
        index: Arc<dyn TimerIndex>,
        place: String,
        clock: Box<dyn KernelClock>,
        outputs: Outputs,
    ) -> Self {
        Self {
            kernel,
            log,
            applied: index.applied(),
            index,
            place,
            clock,
            outputs,
            health: Health::Sound,
            is_loading: false,
            is_index_stuck: false,
            unapplied: VecDeque::new(),
            unapplied_bytes: 0,
        }
    }

    /// Runs until it is asked to stop, or nobody can ask any more.
    pub(super) fn run(mut self, requests: &Receiver<Request>, progress: &Receiver<Progress>) {
        // The kernel rounds sleeps up by 50 us by default, to save power. Without the right to change that we are later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        self.hand_over_unfinished();
        let mut taken = Vec::new();
        let closed = never();
        loop {
            self.look_ahead();
            self.use_idle_time(requests);
            let wait = self.time_to_wait();
            // Requests wait while the index is far behind; its progress and due timers do not.
            let open = if self.takes_requests() { requests } else { &closed };
            select_biased! {
                recv(progress) -> message => match message {
                    Ok(message) => self.note_progress(message),
                    Err(_) => return,
                },
                recv(open) -> message => match message {
                    Ok(request) => taken.push(request),
                    Err(_) => return,
                },
                default(wait.to_duration()) => {}
            }
            progress.try_iter().for_each(|message| self.note_progress(message));
            if self.takes_requests() {
                take_waiting(requests, &mut taken);
            }
            let stop = matches!(taken.last(), Some(Request::Shutdown));
            self.round(&mut taken);
            if stop {
                return;
            }
        }
    }

    /// False while the index has to catch up first. What is only refused, or read, adds nothing to that.
    fn takes_requests(&self) -> bool {
        self.kernel.unsettled() < UNSETTLED_MAX || !matches!(self.health, Health::Sound)
    }

    /// Hands over the fires that were under way when the process last stopped.
    pub fn hand_over_unfinished(&self) {
        let mut unfinished: Vec<_> = self.kernel.timers().flat_map(FireOrder::open).collect();
        if unfinished.is_empty() {
            return;
        }
        unfinished.sort_by_key(|(fired_ns, order)| (*fired_ns, order.firing));
        tracing::info!(count = unfinished.len(), "handing over again the fires that had not ended");
        let orders = unfinished.into_iter().map(|(_, order)| FireOrder { replayed: true, ..order });
        self.send_fires(orders.collect());
    }

    /// Asks the index for the timers that will be due soon.
    pub fn look_ahead(&mut self) {
        let now = self.clock.stamp().now;
        let horizon = self.kernel.horizon();
        let is_near = horizon.due_ns < now.as_ns().saturating_add(ARM_AT_LEAST.as_ns());
        if self.is_loading || self.is_index_stuck || !is_near || self.kernel.armed_count() >= ARMED_MAX {
            return;
        }
        let until = DueKey::start_of(now.as_ns().saturating_add(ARM_WITHIN.as_ns()));
        self.is_loading =
            self.outputs.jobs.send(Job::Load { from: horizon, until, limit: PAGE_TIMERS }).is_ok();
    }

    /// Takes note of what the index's thread says.
    pub fn note_progress(&mut self, message: Progress) {
        match message {
            Progress::Applied(sequence) => {
                self.applied = sequence;
                self.is_index_stuck = false;
                while let Some((_, bytes)) = self.unapplied.pop_front_if(|(last, _)| *last <= sequence) {
                    self.unapplied_bytes -= bytes;
                }
            }
            Progress::Loaded { timers, horizon } => {
                self.is_loading = false;
                let now = self.clock.stamp().now;
                self.kernel.load(timers, horizon, now);
            }
            Progress::LoadFailed => self.is_loading = false,
            Progress::Stuck(error) => {
                self.is_index_stuck = true;
                self.note_store_error(&error);
            }
        }
    }

    /// Moves far timers nearer, and forgets those that the index has, while nothing else is to be done.
    fn use_idle_time(&mut self, requests: &Receiver<Request>) {
        loop {
            self.settle(IDLE_STEP);
            if !requests.is_empty() || self.time_to_wait() == Span::ZERO {
                return;
            }
            let now = self.clock.stamp().now;
            if self.kernel.prepare(now, IDLE_STEP) == 0 && self.settle(IDLE_STEP) == 0 {
                return;
            }
        }
    }

    /// Forgets timers that the index has and that are not near.
    fn settle(&mut self, budget: usize) -> usize {
        // A page that is on its way may be older than the changes that would be forgotten.
        if self.is_loading { 0 } else { self.kernel.settle(self.applied, budget) }
    }

    /// How long nothing is to be done, if no request comes.
    pub fn time_to_wait(&mut self) -> Span {
        let wait = match &self.health {
            Health::Sound => match self.kernel.next_deadline() {
                Some(due) => due - self.clock.stamp().now,
                None => WAIT_MAX,
            },
            Health::Full { retry_at } => *retry_at - self.clock.passing(),
            Health::Failed { .. } => WAIT_MAX,
        };
        wait.clamp(Span::ZERO, WAIT_MAX)
    }

    /// Decides the requests and what is due, makes it durable, and answers.
    pub fn round(&mut self, taken: &mut Vec<Request>) {
        let has_room_again = self.look_for_room();
        let stamp = self.clock.stamp();
        if has_room_again {
            // Alone, so that large requests which still have no room cannot hold up the fires for ever.
            self.kernel.fire_due(&stamp, FIRES_MAX);
            self.store();
        }
        let mut answers = Vec::with_capacity(taken.len());
        if matches!(self.health, Health::Sound) {
            // Due timers first: a cancellation that comes after the due time finds the timer fired.
            self.kernel.fire_due(&stamp, FIRES_MAX);
            let index = self.index.clone();
            for request in taken.iter() {
                answers.push(commands(request, |command| {
                    self.kernel.handle(command, &stamp, &Cold(&*index)).map_err(EngineError::from)
                }));
            }
            // Again, for the timers that the requests made with no delay: they need not wait for another sync.
            self.kernel.fire_due(&stamp, FIRES_MAX);
            if !self.store() {
                answers.clear();
            }
        }
        if answers.is_empty() {
            let refusal = self.refusal();
            for request in taken.iter() {
                answers.push(self.decide_without_store(request, &stamp, &refusal));
            }
        }
        for (request, answer) in taken.drain(..).zip(answers) {
            self.reply(request, answer, &stamp);
        }
        // Mostly there is idle time for it.
        if self.kernel.unsettled() > UNSETTLED_MAX / 2 {
            self.settle(COMMANDS_MAX * 2);
        }
    }

    /// The answers to a request while nothing can be stored: a command that needs no event (a repeated create, a
    /// refusal) is answered as ever, all others with `refusal`.
    fn decide_without_store(
        &mut self,
        request: &Request,
        stamp: &ClockStamp,
        refusal: &dyn Fn() -> EngineError,
    ) -> Vec<Answer> {
        let index = self.index.clone();
        commands(request, |command| {
            let outcome = self.kernel.handle(command, stamp, &Cold(&*index));
            if self.kernel.staged().is_empty() {
                return outcome.map_err(EngineError::from);
            }
            self.kernel.rollback();
            Err(refusal())
        })
    }

    /// Makes the staged events durable and tells of them, or takes them back.
    fn store(&mut self) -> bool {
        let staged = self.kernel.staged();
        let Some(last) = staged.last().map(|r| r.sequence) else { return true };
        let bytes = staged.iter().map(size_of_event).sum();
        // What the index has no room for must not be acknowledged: it could be neither listed nor forgotten.
        let room = self.index.check_room(ROOM_FACTOR * (self.unapplied_bytes + bytes));
        match room.and_then(|()| self.log.append(staged)) {
            Ok(()) => {
                self.unapplied.push_back((last, bytes));
                self.unapplied_bytes += bytes;
                self.publish();
                true
            }
            Err(error) => {
                self.kernel.rollback();
                self.note_store_error(&error);
                false
            }
        }
    }

    /// Tells of the events that have just become durable.
    fn publish(&mut self) {
        let committed = self.kernel.commit();
        let orders: Vec<_> = committed.records.iter().filter_map(|r| self.order(r)).collect();
        if !orders.is_empty() {
            self.send_fires(orders);
        }
        self.outputs.census.note(&committed);
        let committed = Arc::new(committed);
        self.outputs.feed.publish(&committed);
        // The index's thread ends after this one.
        let _ = self.outputs.jobs.send(Job::Apply(committed));
    }

    fn order(&self, record: &EventRecord) -> Option<FireOrder> {
        let Event::Firing { firing, lateness_ns, max_error_ns, supersedes, .. } = &record.event else {
            return None;
        };
        let timer = self.kernel.timer(firing.timer)?.clone();
        let times = Some(FireTimes {
            due_ns: record.at_ns.saturating_sub(*lateness_ns),
            fired_ns: record.at_ns,
            clock: record.clock,
            max_error_ns: *max_error_ns,
        });
        Some(FireOrder { firing: *firing, timer, times, replayed: false, supersedes: supersedes.clone() })
    }

    fn send_fires(&self, orders: Vec<FireOrder>) {
        // Nobody carries them out any more when the service stops; they are handed over at the next start.
        let _ = self.outputs.fires.send(orders);
    }

    /// While the disk is full: sees, now and then, whether there is room again. True when there is.
    fn look_for_room(&mut self) -> bool {
        let Health::Full { retry_at } = self.health else { return false };
        if self.clock.passing() < retry_at || self.is_index_stuck {
            return false;
        }
        let room = self.index.check_room(ROOM_FACTOR * self.unapplied_bytes);
        match room.and_then(|()| self.log.check_room()) {
            Ok(()) => {
                tracing::info!(place = self.place, "there is room again: changes are accepted");
                self.health = Health::Sound;
                true
            }
            Err(error) => {
                self.note_store_error(&error);
                false
            }
        }
    }

    fn note_store_error(&mut self, error: &StoreError) {
        self.health = if let StoreError::Full { .. } = error {
            if matches!(self.health, Health::Sound) {
                tracing::warn!(place = self.place, %error, "changes are refused and fires wait until there is room");
            }
            Health::Full { retry_at: self.clock.passing() + ROOM_RETRY }
        } else {
            tracing::error!(place = self.place, %error, "changes are refused and fires wait until a restart");
            let reason = match error {
                StoreError::Failed { reason } => reason.clone(),
                other => other.to_string(),
            };
            Health::Failed { reason }
        };
    }

    /// Makes the error of a change that cannot be stored now.
    fn refusal(&self) -> impl Fn() -> EngineError + use<> {
        let (path, failed) = (
            self.place.clone(),
            match &self.health {
                Health::Failed { reason } => Some(reason.clone()),
                Health::Sound | Health::Full { .. } => None,
            },
        );
        move || match &failed {
            Some(reason) => EngineError::StoreFailed { reason: reason.clone() },
            None => EngineError::StoreFull { path: path.clone() },
        }
    }

    /// Sends an answer. Who has stopped waiting for it is no concern here.
    fn reply(&self, request: Request, answers: Vec<Answer>, stamp: &ClockStamp) {
        match request {
            Request::Commands(_, reply) => drop(reply.send(answers)),
            Request::Replay(definition, reply) => {
                let known = self.kernel.replay_of(&definition, &Cold(&*self.index));
                drop(reply.send(known.map_err(EngineError::from).transpose()));
            }
            Request::Get(tenant, id, reply) => drop(reply.send(self.kernel.get(&tenant, id).cloned())),
            Request::Recent(reply) => drop(reply.send(self.kernel.recent().cloned().collect())),
            Request::LastSequence(reply) => drop(reply.send(self.kernel.last_sequence())),
            Request::Status(reply) => drop(reply.send(self.status(stamp))),
            Request::Shutdown => {}
        }
    }

    fn status(&self, stamp: &ClockStamp) -> PartitionStatus {
        PartitionStatus {
            clock: stamp.source,
            clock_detail: self.clock.detail(),
            clock_max_error_ns: stamp.max_error_ns(),
            in_memory: self.kernel.in_memory() as u64,
            last_sequence: self.kernel.last_sequence(),
            refusal: (!matches!(self.health, Health::Sound)).then(self.refusal()),
        }
    }

    /// The state machine, for checks.
    pub fn kernel(&self) -> &Kernel {
        &self.kernel
    }
}

/// The commands of a request, each put to `handle`, and the answers.
fn commands(request: &Request, handle: impl FnMut(Command) -> Answer) -> Vec<Answer> {
    match request {
        Request::Commands(commands, _) => commands.iter().cloned().map(handle).collect(),
        Request::Get(..)
        | Request::Replay(..)
        | Request::Recent(_)
        | Request::LastSequence(_)
        | Request::Status(_)
        | Request::Shutdown => Vec::new(),
    }
}

/// About how many bytes an event takes.
fn size_of_event(record: &EventRecord) -> u64 {
    const REST_BYTES: u64 = 512;
    match &record.event {
        Event::Scheduled { definition, .. } | Event::Held { definition, .. } => {
            REST_BYTES + definition.text_bytes() as u64
        }
        _ => REST_BYTES,
    }
}

/// How many commands a request holds: what a round is measured in.
fn weight(request: &Request) -> usize {
    match request {
        Request::Commands(commands, _) => commands.len().max(1),
        _ => 1,
    }
}

/// Takes the requests that are waiting, up to the limit of a round or a shutdown.
fn take_waiting(requests: &Receiver<Request>, taken: &mut Vec<Request>) {
    let mut total: usize = taken.iter().map(weight).sum();
    while total < COMMANDS_MAX && !matches!(taken.last(), Some(Request::Shutdown)) {
        let Ok(request) = requests.try_recv() else { break };
        total += weight(&request);
        taken.push(request);
    }
}
