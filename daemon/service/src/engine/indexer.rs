//! The index's side of a partition: takes in what was committed, reads pages of timers that will be due, and keeps the
//! history for its time.

use super::handle::Applied;
use crate::store::index::INDEX_NICE;
use crate::store::{Snapshots, StoreError, TimerIndex};
use chronotick_core::{Span, Timestamp};
use crossbeam_channel::{Receiver, RecvTimeoutError, Sender};
use minoots_kernel::{Committed, DueKey, TimerInstance};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::watch;

/// At most so many events are applied at once.
const EVENTS_MAX: usize = 4096;
/// How often the index is made durable, and old history is looked for.
const TURN: Duration = Duration::from_secs(1);
/// How often a full disk is tried again.
const RETRY: Duration = Duration::from_millis(100);
/// At most so many timers and lines are forgotten in one turn.
const FORGET_MAX: usize = 20_000;

/// Work for the index.
#[derive(Debug)]
pub enum Job {
    /// Take in what was committed.
    Apply(Arc<Committed>),
    /// Read timers that wait for a time from `from` to before `until`, at most `limit`.
    Load {
        /// The first place.
        from: DueKey,
        /// The place after the last.
        until: DueKey,
        /// At most so many.
        limit: usize,
    },
}

/// What the partition is told.
#[derive(Debug)]
pub enum Progress {
    /// The index has everything up to this event.
    Applied(u64),
    /// Every timer that comes before `horizon` has been read.
    Loaded {
        /// The timers that were asked for, in order.
        timers: Vec<Arc<TimerInstance>>,
        /// How far they go.
        horizon: DueKey,
    },
    /// The page could not be read; ask again.
    LoadFailed,
    /// The index cannot take in what was committed. It tries again while the disk is full.
    Stuck(StoreError),
}

/// What becomes of history.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Retention {
    /// How long ended timers, their ledgers and their events are kept.
    pub keep: Span,
}

impl Default for Retention {
    fn default() -> Self {
        Self { keep: Span::from_secs(7 * 86_400) }
    }
}

/// One partition's index with its work.
pub struct Indexer {
    index: Arc<dyn TimerIndex>,
    applied: watch::Sender<Applied>,
    progress: Sender<Progress>,
    /// What was committed and could not be taken in.
    waiting: Vec<Committed>,
    is_dirty: bool,
    snapshots: Option<Arc<Snapshots>>,
    /// Snapshots are written on a thread of their own, one at a time; else at once, for a simulation.
    in_background: bool,
    trimming: Option<JoinHandle<()>>,
    retention: Retention,
}

impl Indexer {
    /// Over an index; `snapshots` trims the log, where there is one that can be trimmed.
    pub fn new(
        index: Arc<dyn TimerIndex>,
        progress: Sender<Progress>,
        snapshots: Option<Snapshots>,
        retention: Retention,
    ) -> (Self, watch::Receiver<Applied>) {
        let (applied, receiver) = watch::channel(Applied { sequence: index.applied(), is_full: false });
        let indexer = Self {
            index,
            applied,
            progress,
            waiting: Vec::new(),
            is_dirty: false,
            snapshots: snapshots.map(Arc::new),
            in_background: false,
            trimming: None,
            retention,
        };
        (indexer, receiver)
    }

    /// Works until there is nobody to ask it. `now` tells the time for the retention.
    pub(super) fn run(mut self, jobs: &Receiver<Job>, mut now: impl FnMut() -> Timestamp) {
        // Behind the timing thread in the queue for the processor, where the system lets a thread be.
        let _ = rustix::process::nice(INDEX_NICE);
        self.in_background = true;
        let mut next_turn = now();
        loop {
            let wait = if self.waiting.is_empty() { TURN } else { RETRY };
            let mut load = None;
            match jobs.recv_timeout(wait) {
                Ok(job) => load = self.take(job, jobs),
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            self.apply();
            if let Some(job) = load {
                self.load(job);
            }
            if now() >= next_turn {
                self.maintain(now());
                next_turn = now() + Span::from_duration(TURN);
            }
        }
        self.apply();
        self.checkpoint();
        if let Some(Err(_panic)) = self.trimming.take().map(JoinHandle::join) {
            tracing::error!("the thread of a snapshot had panicked: see its message above");
        }
    }

    /// Takes a job and those that wait behind it, up to the first that is no change.
    fn take(&mut self, first: Job, jobs: &Receiver<Job>) -> Option<Job> {
        let mut job = first;
        let mut events = 0;
        loop {
            match job {
                Job::Apply(committed) => {
                    events += committed.records.len();
                    self.push(committed);
                }
                load @ Job::Load { .. } => return Some(load),
            }
            if events >= EVENTS_MAX {
                return None;
            }
            job = jobs.try_recv().ok()?;
        }
    }

    fn push(&mut self, committed: Arc<Committed>) {
        // The feed lets go of it soon; mostly it has by now.
        self.waiting.push(Arc::try_unwrap(committed).unwrap_or_else(|shared| Committed::clone(&shared)));
    }

    /// Does one job.
    pub fn work(&mut self, job: Job) {
        match job {
            Job::Apply(committed) => {
                self.push(committed);
                self.apply();
            }
            load @ Job::Load { .. } => self.load(load),
        }
    }

    /// Takes in what waits.
    fn apply(&mut self) {
        let Some(last) = self.waiting.iter().rev().find_map(|c| c.records.last()) else { return };
        let last = last.sequence;
        match self.index.apply(&self.waiting) {
            Ok(()) => {
                self.waiting.clear();
                self.is_dirty = true;
                self.applied.send_replace(Applied { sequence: last, is_full: false });
                // The partition may have ended before.
                let _ = self.progress.send(Progress::Applied(last));
            }
            Err(error) => {
                self.applied.send_modify(|applied| applied.is_full = true);
                let _ = self.progress.send(Progress::Stuck(error));
            }
        }
    }

    fn load(&self, job: Job) {
        let Job::Load { from, until, limit } = job else { return };
        let message = match self.index.due(from, limit) {
            Ok(mut timers) => {
                let is_full = timers.len() == limit;
                let keys = timers.iter().map(|t| t.due_key());
                let within = keys.take_while(|key| key.is_some_and(|k| k < until)).count();
                let horizon = if within == timers.len() && is_full {
                    after(timers.last().and_then(|t| t.due_key()).unwrap_or(until))
                } else {
                    until
                };
                timers.truncate(within);
                Progress::Loaded { timers, horizon }
            }
            Err(error) => {
                tracing::error!(%error, "the timers that will be due cannot be read");
                Progress::LoadFailed
            }
        };
        let _ = self.progress.send(message);
    }

    /// Makes the index durable, forgets old history, and trims the log.
    pub fn maintain(&mut self, now: Timestamp) {
        self.checkpoint();
        let before_ns = now.as_ns().saturating_sub(self.retention.keep.as_ns());
        match self.index.drop_history(before_ns, FORGET_MAX) {
            Ok(0) => {}
            Ok(count) => {
                self.is_dirty = true;
                tracing::debug!(count, "forgot history that was kept for its time");
            }
            Err(error) => tracing::warn!(%error, "old history cannot be removed"),
        }
        self.trim(before_ns);
    }

    /// Trims the log; a snapshot of many timers takes its time, and must hold up neither changes nor fires.
    fn trim(&mut self, before_ns: i64) {
        if self.trimming.as_ref().is_some_and(|t| !t.is_finished()) {
            return;
        }
        let Some(snapshots) = self.snapshots.clone() else { return };
        let index = self.index.clone();
        let work = move || {
            if let Err(error) = snapshots.trim(&*index, before_ns) {
                tracing::warn!(%error, "the event log cannot be trimmed");
            }
        };
        if !self.in_background {
            return work();
        }
        match std::thread::Builder::new().name("minoots-snapshot".to_string()).spawn(work) {
            Ok(thread) => self.trimming = Some(thread),
            Err(error) => tracing::warn!(%error, "no thread for a snapshot: tried again in a moment"),
        }
    }

    fn checkpoint(&mut self) {
        if self.is_dirty {
            match self.index.checkpoint() {
                Ok(()) => self.is_dirty = false,
                Err(error) => {
                    tracing::warn!(%error, "the index cannot be made durable: a restart reads more of the log")
                }
            }
        }
    }
}

/// The place right after another.
fn after(key: DueKey) -> DueKey {
    DueKey { id: minoots_kernel::TimerId::from_u128(key.id.as_u128().saturating_add(1)), ..key }
}
