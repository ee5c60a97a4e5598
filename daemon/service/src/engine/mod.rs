//! The kernel's shell: one thread for each partition, which owns its state, makes events durable, and fires timers on
//! time; beside it one that keeps the partition's index.

pub mod census;
pub mod feed;
pub mod handle;
pub mod indexer;
pub mod linker;
pub mod partition;
mod query;
mod recovery;
mod topics;

use census::Census;
pub use feed::{Cursor, Feed, FeedEnd, FeedEvent, Subscription};
pub use handle::{
    Answer, EngineError, EngineHandle, EngineStatus, FireOrder, FireTimes, IdSource, Request, TimerPage,
};
pub use indexer::{Indexer, Job, Progress, Retention};
pub use linker::Linker;
pub use partition::{Outputs, Partition};
pub use recovery::{Recovered, recover};
pub use topics::Topic;

use crate::clock::KernelClock;
use crate::store::{PartitionStore, Recovery, StoreError};
use handle::PartitionLink;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// What an engine runs on.
pub struct EngineConfig {
    /// The store of each partition, in their order.
    pub stores: Vec<PartitionStore>,
    /// Makes the clock of each partition; all tell the same time.
    pub clock: Box<dyn Fn() -> Box<dyn KernelClock>>,
    /// Makes timer ids.
    pub ids: IdSource,
    /// How long history is kept.
    pub retention: Retention,
}

/// A running engine.
pub struct Started {
    /// For requests.
    pub handle: EngineHandle,
    /// The fires to carry out, in batches. Whoever carries them out calls [`EngineHandle::finish`] for each. Fires
    /// that a restart found unfinished come first, marked as replayed.
    pub fires: UnboundedReceiver<Vec<FireOrder>>,
    /// For live events.
    pub feed: Feed,
    /// Tells timers that wait for others; to be run beside the engine.
    pub linker: Linker,
    /// Ends after [`EngineHandle::shutdown`], or when the last handle is gone.
    pub threads: Threads,
    /// What was found in each partition's log.
    pub recoveries: Vec<Recovery>,
}

/// The engine's threads.
pub struct Threads(Vec<JoinHandle<()>>);

impl Threads {
    /// Waits until all have ended; an error when one of them had panicked.
    pub fn join(self) -> std::thread::Result<()> {
        self.0.into_iter().try_for_each(JoinHandle::join)
    }
}

/// Why an engine could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The store could not be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The operating system gave no thread.
    #[error("cannot start the timing thread: {0}")]
    Thread(#[from] std::io::Error),
}

/// Starts engines.
pub struct Engine;

impl Engine {
    /// Recovers every partition and starts its threads.
    pub fn start(config: EngineConfig) -> Result<Started, StartError> {
        let (fire_sender, fires) = unbounded_channel();
        let (mut links, mut sources, mut threads, mut recoveries) = (vec![], vec![], vec![], vec![]);
        for (number, store) in config.stores.into_iter().enumerate() {
            let started =
                start_partition(number, store, &*config.clock, fire_sender.clone(), config.retention)?;
            links.push(started.link);
            sources.push(started.source);
            threads.extend(started.threads);
            recoveries.push(started.recovery);
        }
        let handle = EngineHandle::new(links, config.ids);
        let feed = Feed::new(sources);
        let linker = Linker::new(handle.clone(), feed.clone());
        Ok(Started { handle, fires, feed, linker, threads: Threads(threads), recoveries })
    }
}

struct StartedPartition {
    link: PartitionLink,
    source: feed::Source,
    threads: [JoinHandle<()>; 2],
    recovery: Recovery,
}

fn start_partition(
    number: usize,
    store: PartitionStore,
    clock: &dyn Fn() -> Box<dyn KernelClock>,
    fires: UnboundedSender<Vec<FireOrder>>,
    retention: Retention,
) -> Result<StartedPartition, StartError> {
    let PartitionStore { mut log, index, snapshots, place } = store;
    let (mut own_clock, mut index_clock) = (clock(), clock());
    let now = own_clock.stamp().now;
    let Recovered { kernel, recovery, backlog } = recover(&mut *log, &*index, snapshots.as_ref(), now)?;
    let (writer, source) = feed::source(log.reader(), recovery.last_sequence);
    let (request_sender, requests) = crossbeam_channel::unbounded();
    let (job_sender, jobs) = crossbeam_channel::unbounded();
    let (progress_sender, progress) = crossbeam_channel::unbounded();
    let census = Census::take(&*index, &backlog)?;
    for committed in backlog {
        // The receiver is right here.
        let _ = job_sender.send(Job::Apply(Arc::new(committed)));
    }
    let (indexer, applied) = Indexer::new(index.clone(), progress_sender, snapshots, retention);
    let link = PartitionLink {
        requests: request_sender,
        index: index.clone(),
        applied,
        place: place.clone(),
        census: census.clone(),
    };
    let outputs = Outputs::new(fires, writer, job_sender, census);
    let partition = Partition::new(kernel, log, index, place, own_clock, outputs);
    let spawn =
        |name: String, work: Box<dyn FnOnce() + Send>| std::thread::Builder::new().name(name).spawn(work);
    let threads = [
        spawn(format!("minoots-kernel-{number}"), Box::new(move || partition.run(&requests, &progress)))?,
        spawn(
            format!("minoots-index-{number}"),
            Box::new(move || indexer.run(&jobs, move || index_clock.stamp().now)),
        )?,
    ];
    Ok(StartedPartition { link, source, threads, recovery })
}
