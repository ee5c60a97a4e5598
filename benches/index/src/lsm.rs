//! The index on fjall, a log-structured merge tree.

use crate::engine::{Engine, Result, Tuning, View};
use crate::load::{APPLIED, Batch, DEFINITION, SPACES, STATE};
use fjall::compaction::Leveled;
use fjall::config::{
    BlockSizePolicy, BloomConstructionPolicy, CompressionPolicy, FilterPolicy, FilterPolicyEntry,
    PartitioningPolicy, PinningPolicy,
};
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode, Readable,
    Snapshot,
};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) struct Fjall {
    database: Database,
    spaces: Vec<Keyspace>,
    /// Bytes written since all memtables were rotated, and after how many that is done.
    unrotated: AtomicU64,
    rotate_bytes: u64,
}

impl Fjall {
    pub(crate) fn open(directory: &Path, tuning: &Tuning) -> Result<Self> {
        let database = Database::builder(directory)
            .cache_size(tuning.cache_mb << 20)
            .worker_threads(tuning.workers)
            .max_journaling_size(tuning.journal_mb << 20)
            .max_cached_files(Some(256))
            .journal_compression(CompressionType::None)
            .open()?;
        let mut spaces = Vec::new();
        for (space, name) in SPACES.iter().enumerate() {
            spaces.push(database.keyspace(name, || options(space as u8, tuning))?);
        }
        Ok(Self { database, spaces, unrotated: AtomicU64::new(0), rotate_bytes: tuning.rotate_mb << 20 })
    }
}

fn options(space: u8, tuning: &Tuning) -> KeyspaceCreateOptions {
    // Definition and state are asked by key and are nearly always there; the other keyspaces are only scanned.
    let point = matches!(space, DEFINITION | STATE);
    let filter = if point {
        FilterPolicy::all(FilterPolicyEntry::Bloom(BloomConstructionPolicy::BitsPerKey(10.0)))
    } else {
        FilterPolicy::disabled()
    };
    let lz4 = CompressionType::Lz4;
    // At all levels: what comes in the order of its keys is moved down as it was flushed, never written again.
    let compression = if (space == DEFINITION && !tuning.blobs) || space == STATE {
        CompressionPolicy::all(lz4)
    } else {
        CompressionPolicy::new([CompressionType::None, CompressionType::None, lz4])
    };
    let block = match space {
        DEFINITION => 8 << 10,
        STATE => 4 << 10,
        _ => 16 << 10,
    };
    let mut options = KeyspaceCreateOptions::default()
        .max_memtable_size(tuning.memtable_mb << 20)
        .filter_policy(filter)
        .expect_point_read_hits(true)
        .data_block_size_policy(BlockSizePolicy::all(block))
        .data_block_compression_policy(compression)
        .index_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
        .filter_block_partitioning_policy(PartitioningPolicy::new([false, false, true]))
        .index_block_pinning_policy(PinningPolicy::new([true, true, false]))
        .filter_block_pinning_policy(PinningPolicy::new([true, false]))
        .compaction_strategy(Arc::new(
            Leveled::default().with_l0_threshold(tuning.l0).with_table_target_size(tuning.table_mb << 20),
        ));
    if space == DEFINITION && tuning.blobs {
        let blobs = KvSeparationOptions::default().separation_threshold(128).file_target_size(128 << 20);
        options = options.with_kv_separation(Some(blobs.compression(lz4)));
    }
    options
}

impl Engine for Fjall {
    fn write(&self, batch: &mut Batch, applied: u64, durable: bool) -> Result<()> {
        batch.sort();
        // Without a durability of its own: the journal reaches the operating system (PersistMode::Buffer) with each batch.
        let mut writes = fjall::OwnedWriteBatch::with_capacity(self.database.clone(), batch.len() + 1)
            .durability(Some(if durable { PersistMode::SyncData } else { PersistMode::Buffer }));
        for change in batch.changes() {
            let space = &self.spaces[usize::from(change.space)];
            match batch.value(change) {
                Some(value) => writes.insert(space, batch.key(change), value),
                None => writes.remove(space, batch.key(change)),
            }
        }
        writes.insert(&self.spaces[usize::from(APPLIED.0)], APPLIED.1, applied.to_be_bytes());
        writes.commit()?;
        let bytes = batch.bytes() as u64;
        if self.rotate_bytes > 0
            && self.unrotated.fetch_add(bytes, Ordering::Relaxed) + bytes > self.rotate_bytes
        {
            self.unrotated.store(0, Ordering::Relaxed);
            for space in &self.spaces {
                space.rotate_memtable()?;
            }
        }
        Ok(())
    }

    fn view(&self) -> Result<Box<dyn View + '_>> {
        Ok(Box::new(FjallView { spaces: &self.spaces, snapshot: self.database.snapshot() }))
    }

    fn describe(&self) -> String {
        let mut text = format!(
            "write buffers {} MB, journals {} ({} MB), cache {} MB, compacting {:.1} s;",
            self.database.write_buffer_size() >> 20,
            self.database.journal_count(),
            self.database.journal_disk_space().unwrap_or(0) >> 20,
            self.database.cache_size() >> 20,
            self.database.time_compacting().as_secs_f64(),
        );
        for (name, space) in SPACES.iter().zip(&self.spaces) {
            text += &format!(
                " {name} {} MB in {} tables, {} in L0;",
                space.disk_space() >> 20,
                space.table_count(),
                space.l0_table_count()
            );
        }
        text
    }
}

struct FjallView<'a> {
    spaces: &'a [Keyspace],
    snapshot: Snapshot,
}

impl View for FjallView<'_> {
    fn get(&self, space: u8, key: &[u8]) -> Result<Option<Vec<u8>>> {
        Ok(self.snapshot.get(&self.spaces[usize::from(space)], key)?.map(|value| value.to_vec()))
    }

    fn scan(
        &self,
        space: u8,
        from: &[u8],
        limit: usize,
        each: &mut dyn FnMut(&[u8], &[u8]),
    ) -> Result<usize> {
        let mut count = 0;
        for entry in self.snapshot.range(&self.spaces[usize::from(space)], from..).take(limit) {
            let (key, value) = entry.into_inner()?;
            each(&key, &value);
            count += 1;
        }
        Ok(count)
    }
}
