//! The embedded store: a directory with the log, the index and the snapshot of each partition.
//!
//! docs/formats/event-log.md says what is where. How many partitions there are is decided when the directory is made.

use super::disk::OsDisk;
use super::index::{DiskIndex, INDEX_NICE, IndexOptions};
use super::{LogOptions, PartitionStore, SegmentLog, Snapshots, StoreError};
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The most partitions a directory may have.
pub const PARTITIONS_MAX: u32 = 256;

/// What `layout.json` says.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Layout {
    partitions: u32,
}

/// Opens a data directory, or makes it with so many partitions.
pub fn open(
    data: &Path,
    new_partitions: u32,
    options: LogOptions,
) -> Result<Vec<PartitionStore>, StoreError> {
    let partitions = layout(data, new_partitions)?;
    let index = IndexOptions::default().shared_by(partitions);
    (0..partitions).map(|number| open_partition(data, number, options, index)).collect()
}

fn open_partition(
    data: &Path,
    number: u32,
    options: LogOptions,
    index: IndexOptions,
) -> Result<PartitionStore, StoreError> {
    let directory = partition_directory(data, number);
    // The log first: it holds the directory against other processes.
    let log = SegmentLog::open(&directory, number, options)?;
    let index = open_index(directory.join("index"), index)?;
    let snapshots = Snapshots::new(Arc::new(OsDisk), &directory, number, log.trimmer());
    Ok(PartitionStore {
        log: Box::new(log),
        index: Arc::new(index),
        snapshots: Some(snapshots),
        place: data.display().to_string(),
    })
}

/// Opens an index on a thread that stands back behind the timing thread: those that the storage engine starts, for its
/// merges and flushes, stand back with it.
fn open_index(directory: PathBuf, options: IndexOptions) -> Result<DiskIndex, StoreError> {
    let at = directory.clone();
    let open = move || {
        let _ = rustix::process::nice(INDEX_NICE);
        DiskIndex::open_with(&directory, options)
    };
    let thread = std::thread::Builder::new().name("minoots-open".to_string()).spawn(open);
    let thread = thread.map_err(StoreError::io("start a thread for", &at))?;
    thread.join().unwrap_or_else(|_panic| {
        let why = "opening it panicked".to_string();
        Err(StoreError::Index { path: at, why })
    })
}

/// Where a partition is. The first one is where the only one of version 1 was.
fn partition_directory(data: &Path, number: u32) -> PathBuf {
    if number == 0 { data.to_path_buf() } else { data.join(format!("partition-{number:04}")) }
}

/// How many partitions the directory has; a new one gets `new_partitions`.
fn layout(data: &Path, new_partitions: u32) -> Result<u32, StoreError> {
    let path = data.join("layout.json");
    match std::fs::read(&path) {
        Ok(bytes) => {
            let layout: Layout = serde_json::from_slice(&bytes)
                .map_err(|e| StoreError::damaged(&path, 0, format!("it is no layout ({e})")))?;
            if !(1..=PARTITIONS_MAX).contains(&layout.partitions) {
                let why = format!("it names {} partitions", layout.partitions);
                return Err(StoreError::damaged(&path, 0, why));
            }
            return Ok(layout.partitions);
        }
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
        Err(e) => return Err(StoreError::io("read", &path)(e)),
    }
    if partition_directory(data, 1).exists() {
        let why = "it is missing, and there are several partitions: write {\"partitions\":N} with their number into it";
        return Err(StoreError::damaged(&path, 0, why));
    }
    // A directory from before there were partitions has one.
    let partitions = if data.join("log").exists() { 1 } else { new_partitions.clamp(1, PARTITIONS_MAX) };
    std::fs::create_dir_all(data).map_err(StoreError::io("make the directory", data))?;
    let text = serde_json::json!(Layout { partitions }).to_string();
    let unfinished = data.join("layout.new");
    let write = || {
        std::fs::write(&unfinished, text + "\n")?;
        std::fs::File::open(&unfinished)?.sync_all()?;
        std::fs::rename(&unfinished, &path)?;
        std::fs::File::open(data)?.sync_all()
    };
    write().map_err(StoreError::io("write", &path))?;
    Ok(partitions)
}
