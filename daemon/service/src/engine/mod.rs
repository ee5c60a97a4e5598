//! The kernel's shell: one thread that owns the state, makes events durable, and fires timers on time.

pub mod feed;
pub mod handle;
mod partition;
mod round;

pub use feed::{Feed, Subscription};
pub use handle::{
    Created, EngineError, EngineHandle, EngineStatus, FireOrder, IdSource, ListQuery, TimerPage,
};

use crate::clock::KernelClock;
use crate::store::{EventLog, LogOptions, Recovery, SegmentLog, StoreError};
use minoots_kernel::Kernel;
use partition::Partition;
use std::path::PathBuf;
use std::thread::JoinHandle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

/// What an engine runs on.
pub struct EngineConfig {
    /// The directory that it keeps its log in; made where there is none.
    pub data_dir: PathBuf,
    /// The time.
    pub clock: Box<dyn KernelClock>,
    /// Makes timer ids.
    pub ids: IdSource,
    /// Sizes of the log's files.
    pub log: LogOptions,
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
    /// Ends after [`EngineHandle::shutdown`], or when the last handle is gone.
    pub thread: JoinHandle<()>,
    /// What was found in the log.
    pub recovery: Recovery,
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
    /// Opens the log of a data directory, replays it, and starts the timing thread.
    pub fn start(config: EngineConfig) -> Result<Started, StartError> {
        let log = SegmentLog::open(&config.data_dir, config.log)?;
        let place = config.data_dir.display().to_string();
        Self::start_on(Box::new(log), place, config.clock, config.ids)
    }

    /// The same over any store; `place` names it in errors.
    pub fn start_on(
        mut log: Box<dyn EventLog>,
        place: String,
        mut clock: Box<dyn KernelClock>,
        ids: IdSource,
    ) -> Result<Started, StartError> {
        let mut kernel = Kernel::new();
        // The queue sorts by distance from now: without this the replay would pile every timer up far from 1970.
        kernel.prepare(clock.stamp().now, 0);
        let recovery = log.recover(&mut |record| kernel.replay(&record).map_err(|e| e.to_string()))?;
        tracing::info!(
            last_sequence = recovery.last_sequence,
            scheduled = kernel.scheduled_count(),
            firing = kernel.firing().len(),
            "the event log is replayed"
        );
        let (feed_writer, feed) = feed::feed(log.reader(), recovery.last_sequence);
        let (request_sender, requests) = crossbeam_channel::unbounded();
        let (fire_sender, fires) = unbounded_channel();
        let partition = Partition::new(kernel, log, place, clock, requests, fire_sender, feed_writer);
        let thread =
            std::thread::Builder::new().name("minoots-kernel".to_string()).spawn(move || partition.run())?;
        Ok(Started { handle: EngineHandle::new(request_sender, ids), fires, feed, thread, recovery })
    }
}
