//! The thread that owns one partition: it waits for the next deadline or request, and works in rounds.
//!
//! A round takes the requests that are waiting, decides them and the timers that are due, appends all their events as
//! one batch, and only then answers and hands over the fires. Nothing that is not durable is ever shown.

use super::feed::FeedWriter;
use super::handle::{EngineError, EngineStatus, FireOrder, Request};
use super::round::{self, Answer};
use crate::clock::KernelClock;
use crate::store::{EventLog, StoreError};
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use crossbeam_channel::{Receiver, RecvTimeoutError};
use minoots_kernel::{ClockStamp, CommandError, Event, EventRecord, FiringId, Kernel};
use std::num::NonZeroU64;
use tokio::sync::mpsc::UnboundedSender;

/// A round ends at so many commands, so that timers that fall due meanwhile wait no longer than their decision takes.
const COMMANDS_MAX: usize = 1024;
/// A round fires at most so many timers before the requests, and as many after them.
const FIRES_MAX: usize = 1024;
/// So many timers are moved ahead of time between two looks at what else is to be done.
const PREPARE_TIMERS: usize = 256;
/// The longest wait: a step of the clock is noticed within it.
const WAIT_MAX: Span = Span::from_ms(250);
/// How often room is looked for while the disk is full.
const ROOM_RETRY: Span = Span::from_ms(100);

/// Whether events can be stored.
enum Health {
    Sound,
    Full { retry_at: MonoTime },
    Failed { reason: String },
}

/// One partition with everything it runs on.
pub(super) struct Partition {
    kernel: Kernel,
    log: Box<dyn EventLog>,
    /// Names the store in errors.
    place: String,
    clock: Box<dyn KernelClock>,
    requests: Receiver<Request>,
    fires: UnboundedSender<Vec<FireOrder>>,
    feed: FeedWriter,
    health: Health,
}

impl Partition {
    pub(super) fn new(
        kernel: Kernel,
        log: Box<dyn EventLog>,
        place: String,
        clock: Box<dyn KernelClock>,
        requests: Receiver<Request>,
        fires: UnboundedSender<Vec<FireOrder>>,
        feed: FeedWriter,
    ) -> Self {
        Self { kernel, log, place, clock, requests, fires, feed, health: Health::Sound }
    }

    /// Runs until it is asked to stop, or nobody can ask any more.
    pub(super) fn run(mut self) {
        // The kernel rounds sleeps up by 50 us by default, to save power. Without the right to change that we are later.
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        self.hand_over_unfinished();
        let mut taken = Vec::new();
        loop {
            self.prepare();
            let wait = self.time_to_wait();
            match self.requests.recv_timeout(wait.to_duration()) {
                Ok(request) => taken.push(request),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.take_waiting(&mut taken);
            let stop = matches!(taken.last(), Some(Request::Shutdown));
            self.round(&mut taken);
            if stop {
                return;
            }
        }
    }

    /// Hands over the fires that were under way when the process last stopped.
    fn hand_over_unfinished(&self) {
        let unfinished = self.kernel.firing().filter_map(|id| {
            let timer = self.kernel.timer(id)?.clone();
            Some(FireOrder {
                firing: FiringId { timer: id, nominal_ns: timer.due_ns },
                timer,
                replayed: true,
            })
        });
        let unfinished: Vec<_> = unfinished.collect();
        if !unfinished.is_empty() {
            tracing::info!(count = unfinished.len(), "handing over again the fires that had not ended");
            self.send_fires(unfinished);
        }
    }

    /// Moves far timers nearer while nothing else is to be done.
    fn prepare(&mut self) {
        while self.requests.is_empty() && self.time_to_wait() > Span::ZERO {
            let now = self.clock.stamp().now;
            if self.kernel.prepare(now, PREPARE_TIMERS) == 0 {
                break;
            }
        }
    }

    /// How long nothing is to be done, if no request comes.
    fn time_to_wait(&mut self) -> Span {
        let wait = match &self.health {
            Health::Sound => match self.kernel.next_deadline() {
                Some(due) => due - self.clock.stamp().now,
                None => WAIT_MAX,
            },
            Health::Full { retry_at } => *retry_at - boottime(),
            Health::Failed { .. } => WAIT_MAX,
        };
        wait.clamp(Span::ZERO, WAIT_MAX)
    }

    /// Takes the requests that are waiting, up to the limit of a round or a shutdown.
    fn take_waiting(&self, taken: &mut Vec<Request>) {
        let mut commands: usize = taken.iter().map(round::weight).sum();
        while commands < COMMANDS_MAX && !matches!(taken.last(), Some(Request::Shutdown)) {
            let Ok(request) = self.requests.try_recv() else { break };
            commands += round::weight(&request);
            taken.push(request);
        }
    }

    fn round(&mut self, taken: &mut Vec<Request>) {
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
            answers.extend(taken.iter().map(|r| round::decide(&mut self.kernel, r, &stamp)));
            // Again, for the timers that the requests made with no delay: they need not wait for another sync.
            self.kernel.fire_due(&stamp, FIRES_MAX);
            if !self.store() {
                answers.clear();
            }
        }
        if answers.is_empty() {
            let refusal = self.refusal();
            let decide = |r| round::decide_without_store(&mut self.kernel, r, &stamp, &refusal);
            answers.extend(taken.iter().map(decide));
        }
        for (request, answer) in taken.drain(..).zip(answers) {
            self.reply(request, answer, &stamp);
        }
    }

    /// Makes the staged events durable and tells of them, or takes them back.
    fn store(&mut self) -> bool {
        match self.log.append(self.kernel.staged()) {
            Ok(()) => {
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
        let records = self.kernel.commit();
        let orders: Vec<_> = records.iter().filter_map(|r| self.order(r)).collect();
        if !orders.is_empty() {
            self.send_fires(orders);
        }
        self.feed.publish(records);
    }

    fn order(&self, record: &EventRecord) -> Option<FireOrder> {
        let Event::Firing { firing, .. } = record.event else { return None };
        let timer = self.kernel.timer(firing.timer)?.clone();
        Some(FireOrder { firing, timer, replayed: false })
    }

    fn send_fires(&self, orders: Vec<FireOrder>) {
        // Nobody carries them out any more when the service stops; they are handed over at the next start.
        let _ = self.fires.send(orders);
    }

    /// While the disk is full: sees, now and then, whether there is room again. True when there is.
    fn look_for_room(&mut self) -> bool {
        let Health::Full { retry_at } = self.health else { return false };
        if boottime() < retry_at {
            return false;
        }
        match self.log.check_room() {
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
            Health::Full { retry_at: boottime() + ROOM_RETRY }
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
    fn reply(&self, request: Request, answer: Answer, stamp: &ClockStamp) {
        match (request, answer) {
            (Request::Create(_, reply), Answer::Created(answer)) => drop(reply.send(answer)),
            (Request::Cancel(.., reply), Answer::Cancelled(answer)) => drop(reply.send(answer)),
            (Request::Finish(.., reply), Answer::Finished(answer)) => drop(reply.send(answer)),
            (Request::Get(tenant, id, reply), _) => {
                let timer = self.kernel.get(&tenant, id).cloned();
                drop(reply.send(timer.ok_or(CommandError::NotFound(id).into())));
            }
            (Request::List(query, reply), _) => drop(reply.send(round::list(&self.kernel, &query))),
            (Request::Status(reply), _) => drop(reply.send(self.status(stamp))),
            // A shutdown has no answer, and `decide` gives each of the others its own kind.
            _ => {}
        }
    }

    fn status(&self, stamp: &ClockStamp) -> EngineStatus {
        EngineStatus {
            clock: stamp.source,
            clock_detail: self.clock.detail(),
            clock_max_error_ns: stamp.max_error_ns(),
            scheduled: self.kernel.scheduled_count() as u64,
            firing: self.kernel.firing().len() as u64,
            last_sequence: self.kernel.last_sequence(),
            refusal: (!matches!(self.health, Health::Sound)).then(self.refusal()),
        }
    }
}
