//! Durable events: what the engine asks of a store, whichever keeps them.

mod ahead;
pub mod control;
pub mod disk;
pub mod embedded;
mod format;
pub mod index;
mod lock;
mod log;
mod memory;
mod reader;
mod scan;
mod snapshot;

#[cfg(test)]
mod conformance;

pub use control::{ControlStore, DiskControl, MemoryControl};
pub use index::{IndexPage, LedgerQuery, MemoryIndex, StateCounts, TimerIndex, TimerQuery};
pub use log::{LogOptions, LogTrimmer, SegmentLog};
pub use memory::{MemoryFault, MemoryLog};
pub use snapshot::Snapshots;

use minoots_kernel::EventRecord;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The append-only log of one partition.
pub trait EventLog: Send {
    /// Hands every stored event after `after` to `each`, oldest first, and makes the log ready for appends. Called
    /// once, first. An error of `each` stops it: the log holds events that do not fit together.
    fn recover(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<Recovery, StoreError>;

    /// Appends a batch that continues the sequence; all of it is durable on `Ok`. After [`StoreError::Full`] none of it
    /// is kept and the next append may succeed; after any other error the log takes no more.
    fn append(&mut self, records: &[EventRecord]) -> Result<(), StoreError>;

    /// Reserves room for later appends, so that a full disk is noticed without writing anything.
    fn check_room(&mut self) -> Result<(), StoreError>;

    /// Reads what is durable, from any thread.
    fn reader(&self) -> Arc<dyn LogReader>;
}

/// Everything that one partition stores.
pub struct PartitionStore {
    /// The truth.
    pub log: Box<dyn EventLog>,
    /// The state, made from the log.
    pub index: Arc<dyn TimerIndex>,
    /// What lets the log be trimmed; without it the log only grows.
    pub snapshots: Option<Snapshots>,
    /// Names the store in errors.
    pub place: String,
}

/// Reads durable events.
pub trait LogReader: Send + Sync {
    /// The oldest event that is kept, or would be; `None` in an empty log.
    fn oldest_sequence(&self) -> Option<u64>;

    /// At most `limit` events from sequence `from` on, in order; empty past the end. [`StoreError::Gone`] where that
    /// event is no longer kept.
    fn read(&self, from: u64, limit: usize) -> Result<Vec<EventRecord>, StoreError>;
}

/// What a recovery found.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Recovery {
    /// The last event; 0 where there is none.
    pub last_sequence: u64,
    /// The unfinished batch that a crash left at the end and that was cut off; nobody had been told of it.
    pub cut: Option<Cut>,
}

/// A torn tail that was cut off.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Cut {
    /// Which file.
    pub path: PathBuf,
    /// Where the file ends now.
    pub offset: u64,
    /// How many bytes were written past it.
    pub bytes: u64,
}

/// Why the store could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// There is no room. Nothing was kept.
    #[error("no room in {}: free some space there", path.display())]
    Full {
        /// Where there is no room.
        path: PathBuf,
    },
    /// The disk failed, so what is durable is not known; the log takes nothing more until it is opened again.
    #[error("the event log failed: {reason}; check the disk, then restart the service")]
    Failed {
        /// What happened.
        reason: String,
    },
    /// Another process has the directory.
    #[error("{} is in use by {holder}: stop that process, or choose another --data directory", path.display())]
    Locked {
        /// The data directory.
        path: PathBuf,
        /// `process 123`, or `another process`.
        holder: String,
    },
    /// The file does not hold what was written to it.
    #[error("{} is damaged at byte {offset}: {why}; restore the file from a backup", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where.
        offset: u64,
        /// What was found.
        why: String,
    },
    /// The file is of a version that this program does not know.
    #[error(
        "{} has format {found}, this program reads up to {newest}: use a newer program",
        path.display()
    )]
    NewerFormat {
        /// Which file.
        path: PathBuf,
        /// Its version.
        found: u32,
        /// The newest known here.
        newest: u32,
    },
    /// The event was kept for its time and is gone.
    #[error("event {sequence} is no longer kept: start with event {oldest}, or with the present state")]
    Gone {
        /// The one asked for.
        sequence: u64,
        /// The oldest that is kept.
        oldest: u64,
    },
    /// The index does not hold what it should.
    #[error("the index in {} is unusable ({why}): remove that directory, it is made again from the log", path.display())]
    Index {
        /// The directory of the index.
        path: PathBuf,
        /// What was found.
        why: String,
    },
    /// The operating system refused something while the log was opened or read.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which path.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
}

impl StoreError {
    fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.to_path_buf();
        move |source| Self::Io { what, path, source }
    }

    fn damaged(path: &Path, offset: u64, why: impl Into<String>) -> Self {
        Self::Damaged { path: path.to_path_buf(), offset, why: why.into() }
    }
}
