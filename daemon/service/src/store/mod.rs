//! Durable events: what the engine asks of a store, whichever keeps them.

mod format;
mod lock;
mod log;
mod memory;
mod reader;
mod scan;

#[cfg(test)]
mod conformance;

pub use log::{LogOptions, SegmentLog};
pub use memory::{MemoryFault, MemoryLog};

use minoots_kernel::EventRecord;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The append-only log of one partition.
pub trait EventLog: Send {
    /// Hands every stored event to `each`, oldest first, and makes the log ready for appends. Called once, first.
    /// An error of `each` stops it: the log holds events that do not fit together.
    fn recover(
        &mut self,
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

/// Reads durable events.
pub trait LogReader: Send + Sync {
    /// At most `limit` events from sequence `from` on, in order; empty past the end.
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
        "{} has event log format {found}, this program reads up to {newest}: use a newer program",
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
