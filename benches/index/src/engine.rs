//! What the benchmark asks of an engine: atomic batches by one writer, and reads at a snapshot by anybody.

use crate::load::Batch;
use std::error::Error;
use std::path::Path;

pub(crate) type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// What may be turned; see `main.rs` for the options.
#[derive(Clone, Debug)]
pub(crate) struct Tuning {
    pub(crate) cache_mb: u64,
    pub(crate) workers: usize,
    pub(crate) memtable_mb: u64,
    pub(crate) journal_mb: u64,
    pub(crate) blobs: bool,
    /// All memtables are rotated together after so much journal; 0 leaves it to the engine.
    pub(crate) rotate_mb: u64,
    pub(crate) table_mb: u64,
    /// How many runs of L0 start a compaction.
    pub(crate) l0: u8,
}

/// A consistent view of the whole index.
pub(crate) trait View {
    fn get(&self, space: u8, key: &[u8]) -> Result<Option<Vec<u8>>>;
    /// Up to `limit` entries from this key on; returns how many there were.
    fn scan(&self, space: u8, from: &[u8], limit: usize, each: &mut dyn FnMut(&[u8], &[u8]))
    -> Result<usize>;
}

pub(crate) trait Engine: Send + Sync {
    /// Writes the batch and `applied` atomically; with `durable`, it and all before it survive a loss of power.
    fn write(&self, batch: &mut Batch, applied: u64, durable: bool) -> Result<()>;
    fn view(&self) -> Result<Box<dyn View + '_>>;
    /// A line about what the engine is at, for people.
    fn describe(&self) -> String {
        String::new()
    }
}

pub(crate) fn open(engine: &str, directory: &Path, tuning: &Tuning) -> Result<Box<dyn Engine>> {
    Ok(match engine {
        "fjall" => Box::new(crate::lsm::Fjall::open(directory, tuning)?),
        "redb" => Box::new(crate::btree::Redb::open(directory, tuning)?),
        other => return Err(format!("no engine {other:?}: fjall or redb").into()),
    })
}
