//! The storage engine under the index: its keyspaces, how they are tuned, and what its errors mean.
//!
//! docs/decisions/index-engine.md has the measurements behind each setting.

use super::super::super::StoreError;
use super::batch::Batch;
use super::{IndexOptions, keys};
use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    PartitioningPolicy, PinningPolicy,
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, OwnedWriteBatch, PersistMode, Readable,
    Slice, Snapshot,
};
use std::io;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// An ordered map from bytes to bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Space {
    /// What each timer was at its creation.
    Timer,
    /// The states of those that have changed since.
    State,
    /// Those that wait for their time, in the order in which they fire.
    Due,
    /// Those that carry a label.
    Label,
    /// What became of occurrences.
    Ledger,
    /// Everything that is little, told apart by its first byte.
    Misc,
}

/// How many keyspaces there are.
pub(super) const SPACES: usize = 6;

const ALL: [(Space, &str); SPACES] = [
    (Space::Timer, "timer"),
    (Space::State, "state"),
    (Space::Due, "due"),
    (Space::Label, "label"),
    (Space::Ledger, "ledger"),
    (Space::Misc, "misc"),
];

/// A keyspace is flushed by itself only when it alone has this many times its share; mostly all are flushed together.
const JOURNAL_BYTES_MAX: u64 = 256 << 20;
/// Two: one of them is kept free for flushes.
const WORKERS: usize = 2;
/// The size of one table file.
const TABLE_BYTES: u64 = 32 << 20;
/// So many runs are merged at once.
const RUNS: u8 = 8;
/// Room that is left to the engine's own work, at most; less on a small file system.
const ROOM_BYTES_MAX: u64 = 256 << 20;

/// The open engine.
pub(super) struct Engine {
    directory: PathBuf,
    database: Database,
    spaces: Vec<Keyspace>,
    /// Changes are flushed after so many bytes.
    memtable_bytes: u64,
}

/// Why a directory cannot be used.
#[derive(Debug)]
pub(super) enum Unusable {
    /// It does not hold what it should: start again with an empty one.
    Damaged(String),
    /// It may be sound, and cannot be opened.
    Refused(StoreError),
}

impl Engine {
    /// Opens what is in a directory, or, if `is_new`, makes it.
    pub(super) fn open(directory: &Path, options: &IndexOptions, is_new: bool) -> Result<Self, Unusable> {
        let open = || -> fjall::Result<Option<Self>> {
            let database = Database::builder(directory)
                .cache_size(options.cache_bytes)
                .worker_threads(WORKERS)
                .max_journaling_size(JOURNAL_BYTES_MAX)
                .max_cached_files(Some(options.open_files))
                .journal_compression(CompressionType::None)
                .open()?;
            // One that is not there would be made, empty.
            if !is_new && database.keyspace_count() != SPACES {
                return Ok(None);
            }
            let mut spaces = Vec::with_capacity(SPACES);
            for (space, name) in ALL {
                spaces.push(database.keyspace(name, || tuned(space, options))?);
            }
            let directory = directory.to_path_buf();
            Ok(Some(Self { directory, database, spaces, memtable_bytes: options.memtable_bytes }))
        };
        // The engine takes some things for granted of its files that damage can break.
        match std::panic::catch_unwind(open) {
            Ok(Ok(Some(engine))) => Ok(engine),
            Ok(Ok(None)) => Err(Unusable::Damaged("a part of it is missing".to_string())),
            Ok(Err(error)) => Err(sort_open_error(directory, error)),
            Err(_) => Err(Unusable::Damaged("the storage engine cannot make sense of it".to_string())),
        }
    }

    /// What is in it at this moment.
    pub(super) fn view(&self) -> View<'_> {
        View { engine: self, snapshot: self.database.snapshot() }
    }

    /// Writes a batch, whole or not at all. It reaches the operating system, not yet the disk.
    pub(super) fn write(&self, batch: &mut Batch) -> Result<(), StoreError> {
        let mut writes = OwnedWriteBatch::with_capacity(self.database.clone(), batch.len())
            .durability(Some(PersistMode::Buffer));
        batch.sorted(|space, key, value| match value {
            Some(value) => writes.insert(&self.spaces[space], key, value),
            None => writes.remove(&self.spaces[space], key),
        });
        writes.commit().map_err(|e| self.error("write the index in", e))
    }

    /// Makes durable what was written.
    pub(super) fn sync(&self) -> Result<(), StoreError> {
        self.database.persist(PersistMode::SyncData).map_err(|e| self.error("make durable the index in", e))
    }

    /// Flushes all keyspaces when there is enough to flush; alone, one with small entries would keep old journals alive.
    pub(super) fn rotate(&self, unflushed_bytes: &mut u64) -> Result<(), StoreError> {
        if *unflushed_bytes > self.memtable_bytes {
            *unflushed_bytes = 0;
            for space in &self.spaces {
                space.rotate_memtable().map_err(|e| self.error("write the index in", e))?;
            }
        }
        Ok(())
    }

    /// [`StoreError::Full`] where a write of so many bytes, and the engine's work after it, may not find room. The engine
    /// stops for good at the first write that finds none, and it may wait for ever for one in the background, so that is
    /// not tried.
    pub(super) fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        check_room(&self.directory, self.database.write_buffer_size() + 2 * bytes)
    }

    fn error(&self, what: &'static str, error: fjall::Error) -> StoreError {
        sort_error(&self.directory, what, error)
    }
}

/// [`StoreError::Full`] where there is not so much room beside what is left to the engine's own work.
pub(super) fn check_room(directory: &Path, bytes: u64) -> Result<(), StoreError> {
    // A file system that cannot say how full it is says at the write.
    let Ok(disk) = rustix::fs::statvfs(directory) else { return Ok(()) };
    let (free, total) = (disk.f_bavail * disk.f_frsize, disk.f_blocks * disk.f_frsize);
    let reserve = ROOM_BYTES_MAX.min(total / 32);
    if free < reserve + bytes { Err(StoreError::Full { path: directory.to_path_buf() }) } else { Ok(()) }
}

/// The operating system's answer behind an error of the engine.
fn io_of(error: &fjall::Error) -> Option<&io::Error> {
    match error {
        fjall::Error::Io(e) | fjall::Error::Storage(fjall::LsmError::Io(e)) => Some(e),
        _ => None,
    }
}

fn sort_error(directory: &Path, what: &'static str, error: fjall::Error) -> StoreError {
    let path = directory.to_path_buf();
    if let Some(source) = io_of(&error) {
        return match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => StoreError::Full { path },
            kind => StoreError::Io { what, path, source: io::Error::new(kind, error.to_string()) },
        };
    }
    match error {
        fjall::Error::Poisoned => {
            let why = "an earlier write in the background failed; it is opened again at the next change";
            StoreError::Io { what, path, source: io::Error::other(why) }
        }
        other => StoreError::Index { path, why: other.to_string() },
    }
}

/// Tells damage, which a new start mends, from what another has to mend.
fn sort_open_error(directory: &Path, error: fjall::Error) -> Unusable {
    use io::ErrorKind as Kind;
    let path = directory.to_path_buf();
    if matches!(error, fjall::Error::Locked) {
        return Unusable::Refused(StoreError::Locked { path, holder: "another process".to_string() });
    }
    let is_damage = io_of(&error).is_none_or(|e| {
        let of_content = [
            Kind::NotFound,
            Kind::AlreadyExists,
            Kind::NotADirectory,
            Kind::IsADirectory,
            Kind::InvalidData,
            Kind::UnexpectedEof,
        ];
        of_content.contains(&e.kind())
    });
    if is_damage {
        Unusable::Damaged(error.to_string())
    } else {
        Unusable::Refused(sort_error(directory, "open the index in", error))
    }
}

fn tuned(space: Space, options: &IndexOptions) -> KeyspaceCreateOptions {
    let is_asked_by_key = matches!(space, Space::Timer | Space::State | Space::Misc);
    let filter = if is_asked_by_key {
        FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)))
    } else {
        FilterPolicy::disabled()
    };
    let lz4 = CompressionType::Lz4;
    let compression = match space {
        // At all levels: what comes in the order of its keys is moved down as it was flushed, never written again.
        Space::Timer | Space::State | Space::Ledger => CompressionPolicy::all(lz4),
        Space::Due | Space::Label | Space::Misc => {
            CompressionPolicy::new([CompressionType::None, CompressionType::None, lz4])
        }
    };
    let block_bytes = match space {
        Space::Timer => 8 << 10,
        Space::State | Space::Misc => 4 << 10,
        Space::Due | Space::Label | Space::Ledger => 16 << 10,
    };
    KeyspaceCreateOptions::default()
        .max_memtable_size(options.memtable_bytes * 2 / 3)
        .filter_policy(filter)
        // A state, or an idempotency key, is mostly asked for in vain.
        .expect_point_read_hits(space == Space::Timer)
        .data_block_size_policy(BlockSizePolicy::all(block_bytes))
        .data_block_compression_policy(compression)
        .index_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
        .index_block_pinning_policy(PinningPolicy::new([true, true, false]))
        .filter_block_pinning_policy(PinningPolicy::new([true, false]))
        .compaction_strategy(Arc::new(
            Leveled::default().with_l0_threshold(RUNS).with_table_target_size(TABLE_BYTES),
        ))
}

/// Everything as it was at one moment.
pub(super) struct View<'a> {
    engine: &'a Engine,
    snapshot: Snapshot,
}

/// A key and its value.
pub(super) type Row = (Slice, Slice);

impl<'e> View<'e> {
    pub(super) fn get(&self, space: Space, key: &[u8]) -> Result<Option<Slice>, StoreError> {
        self.snapshot.get(&self.engine.spaces[space as usize], key).map_err(|e| self.error(e))
    }

    /// The rows from `from` on, to before `to` where there is one.
    pub(super) fn range<'v>(
        &'v self,
        space: Space,
        from: Bound<&[u8]>,
        to: Option<&[u8]>,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<'v, 'e> {
        let to = to.map_or(Bound::Unbounded, Bound::Excluded);
        let rows = self.snapshot.range::<&[u8], _>(&self.engine.spaces[space as usize], (from, to));
        rows.map(|row| row.into_inner().map_err(|e| self.error(e)))
    }

    /// The rows in `misc` of a tag and a time from `from_ns` on, to before `to_ns`, which comes after it.
    pub(super) fn range_of_times<'v>(
        &'v self,
        tag: u8,
        from_ns: i64,
        to_ns: i64,
    ) -> impl Iterator<Item = Result<Row, StoreError>> + use<'v, 'e> {
        let (from, to) = (keys::from_time(tag, from_ns), keys::from_time(tag, to_ns));
        self.range(Space::Misc, Bound::Included(&from), Some(&to))
    }

    /// What a value that does not make sense means.
    pub(super) fn damaged(&self, why: impl Into<String>) -> StoreError {
        StoreError::Index { path: self.engine.directory.clone(), why: why.into() }
    }

    fn error(&self, error: fjall::Error) -> StoreError {
        self.engine.error("read the index in", error)
    }
}
