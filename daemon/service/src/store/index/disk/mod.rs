//! The index on disk, which survives a restart and may be larger than the memory.
//!
//! docs/formats/index.md says what it is in keys and values, docs/decisions/index-engine.md why it stands on this engine.

mod batch;
mod database;
mod keys;
mod meta;
mod read;
mod rows;
#[cfg(test)]
mod tests;
mod values;
mod write;

use super::super::StoreError;
use super::{EachTimer, IndexPage, StateCounts, TimerIndex, TimerQuery};
use batch::Batch;
use database::{Engine, Space, Unusable, View};
use meta::{FORMAT, Meta, MetaError};
use minoots_kernel::{Committed, DueKey, LedgerEntry, TenantId, TimerId, TimerInstance};
use rows::{Pending, State, Tenants, number_of};
use std::fs;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

/// How much of the machine an index may use.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct IndexOptions {
    /// Blocks that were read are kept in memory up to this.
    pub cache_bytes: u64,
    /// Changes are flushed to tables after so many bytes; until then they are in memory and in a journal.
    pub memtable_bytes: u64,
    /// So many files are kept open.
    pub open_files: usize,
}

impl Default for IndexOptions {
    fn default() -> Self {
        Self { cache_bytes: 128 << 20, memtable_bytes: 96 << 20, open_files: 256 }
    }
}

impl IndexOptions {
    /// For one of so many indexes that share this.
    pub fn shared_by(self, indexes: u32) -> Self {
        let indexes = indexes.max(1);
        Self {
            cache_bytes: (self.cache_bytes / u64::from(indexes)).max(1 << 20),
            memtable_bytes: (self.memtable_bytes / u64::from(indexes)).max(4 << 20),
            open_files: (self.open_files / indexes as usize).max(32),
        }
    }
}

/// Timers in a directory.
pub struct DiskIndex {
    directory: PathBuf,
    options: IndexOptions,
    /// `None` after a failed write, when it could not be opened again either.
    engine: RwLock<Option<Engine>>,
    tenants: RwLock<Tenants>,
    writer: Mutex<Writer>,
    /// What a reader sees at least: written after the write that it is of, read before a view is taken.
    applied: AtomicU64,
    counts: Mutex<StateCounts>,
}

struct Writer {
    state: State,
    batch: Batch,
    /// Bytes that were written since the engine was told to flush.
    unflushed_bytes: u64,
    /// The engine takes no more writes: it does not after any that failed.
    is_broken: bool,
}

struct Opened {
    engine: Engine,
    meta: Meta,
    tenants: Tenants,
}

impl DiskIndex {
    /// Opens the index in a directory of its own, or makes an empty one. What cannot be used there is removed: the engine
    /// fills an empty index from the snapshot and the log.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        Self::open_with(directory, IndexOptions::default())
    }

    /// The same with other limits.
    pub fn open_with(directory: &Path, options: IndexOptions) -> Result<Self, StoreError> {
        fs::create_dir_all(directory).map_err(StoreError::io("make the directory", directory))?;
        let opened = match open(directory, &options) {
            Err(Unusable::Damaged(why)) => {
                tracing::warn!(path = %directory.display(), why, "the index cannot be used: it is made again");
                empty(directory).map_err(StoreError::io("empty", directory))?;
                open(directory, &options)
            }
            other => other,
        };
        let Opened { engine, meta, tenants } = opened.map_err(|e| e.into_error(directory))?;
        Ok(Self {
            directory: directory.to_path_buf(),
            options,
            engine: RwLock::new(Some(engine)),
            tenants: RwLock::new(tenants),
            writer: Mutex::new(Writer {
                state: state(meta),
                batch: Batch::default(),
                unflushed_bytes: 0,
                is_broken: false,
            }),
            applied: AtomicU64::new(meta.applied),
            counts: Mutex::new(meta.counts),
        })
    }

    fn writer(&self) -> MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenants(&self) -> RwLockReadGuard<'_, Tenants> {
        self.tenants.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn engine(&self) -> RwLockReadGuard<'_, Option<Engine>> {
        self.engine.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Why there is no engine.
    fn closed(&self) -> StoreError {
        StoreError::Full { path: self.directory.clone() }
    }

    fn read<T>(&self, read: impl FnOnce(&View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let engine = self.engine();
        read(&engine.as_ref().ok_or_else(|| self.closed())?.view())
    }

    /// Writes, whole or not at all, what `fill` puts together from what is there, where there is room.
    fn write<T>(
        &self,
        fill: impl FnOnce(&mut Pending<'_>, &View<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        self.write_where(|engine, bytes| engine.check_room(bytes as u64), fill)
    }

    /// The same after a check of one's own for so many bytes.
    fn write_where<T>(
        &self,
        check_room: impl FnOnce(&Engine, usize) -> Result<(), StoreError>,
        fill: impl FnOnce(&mut Pending<'_>, &View<'_>) -> Result<T, StoreError>,
    ) -> Result<T, StoreError> {
        let mut writer = self.writer();
        if writer.is_broken {
            self.reopen(&mut writer)?;
        }
        let engine = self.engine();
        let engine = engine.as_ref().ok_or_else(|| self.closed())?;
        let writer = &mut *writer;
        writer.batch.clear();
        let (filled, state, new_tenants) = {
            let mut pending = Pending {
                batch: &mut writer.batch,
                state: writer.state,
                tenants: &self.tenants(),
                new_tenants: Tenants::new(),
                default_tenant: TenantId::default(),
            };
            let filled = fill(&mut pending, &engine.view())?;
            (filled, pending.state, pending.new_tenants)
        };
        if writer.batch.len() > 0 || state.meta != writer.state.meta {
            writer.batch.insert(Space::Misc, &keys::META_KEY, &state.meta.encode());
            check_room(engine, writer.batch.bytes())?;
            engine.write(&mut writer.batch).inspect_err(|_| writer.is_broken = true)?;
            writer.unflushed_bytes += writer.batch.bytes() as u64;
        }
        writer.state = state;
        if !new_tenants.is_empty() {
            self.tenants.write().unwrap_or_else(PoisonError::into_inner).extend(new_tenants);
        }
        self.show(&state.meta);
        engine.rotate(&mut writer.unflushed_bytes)?;
        Ok(filled)
    }

    fn show(&self, meta: &Meta) {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner) = meta.counts;
        self.applied.store(meta.applied, Ordering::Release);
    }

    /// Opens the engine again after a failed write: it takes no more of them, though what it holds is sound.
    fn reopen(&self, writer: &mut Writer) -> Result<(), StoreError> {
        database::check_room(&self.directory, 0)?;
        let mut engine = self.engine.write().unwrap_or_else(PoisonError::into_inner);
        // First of all: two cannot have the directory.
        *engine = None;
        let opened = open(&self.directory, &self.options).map_err(|e| e.into_error(&self.directory))?;
        if opened.meta.applied < writer.state.meta.applied {
            let why = "it has lost changes that it had; restart the service".to_string();
            return Err(StoreError::Index { path: self.directory.clone(), why });
        }
        // The failed write may have come through after all.
        writer.state = state(opened.meta);
        writer.unflushed_bytes = 0;
        writer.is_broken = false;
        *self.tenants.write().unwrap_or_else(PoisonError::into_inner) = opened.tenants;
        *engine = Some(opened.engine);
        self.show(&opened.meta);
        tracing::info!(path = %self.directory.display(), "the index takes changes again");
        Ok(())
    }
}

impl Unusable {
    fn into_error(self, directory: &Path) -> StoreError {
        match self {
            Self::Damaged(why) => StoreError::Index { path: directory.to_path_buf(), why },
            Self::Refused(error) => error,
        }
    }
}

/// What is known at the start beside what is stored.
fn state(meta: Meta) -> State {
    State { meta, ended_floor_ns: i64::MIN, settled_floor_ns: i64::MIN }
}

/// Opens what is in a directory, or makes it where there is nothing.
fn open(directory: &Path, options: &IndexOptions) -> Result<Opened, Unusable> {
    let refused = |e| Unusable::Refused(StoreError::io("list", directory)(e));
    let is_new = fs::read_dir(directory).map_err(refused)?.next().is_none();
    let engine = Engine::open(directory, options, is_new)?;
    if is_new {
        let mut batch = Batch::default();
        batch.insert(Space::Misc, &keys::META_KEY, &Meta::default().encode());
        engine.write(&mut batch).and_then(|()| engine.sync()).map_err(Unusable::Refused)?;
    }
    let view = engine.view();
    let damaged = |e: StoreError| Unusable::Damaged(e.to_string());
    let row = view.get(Space::Misc, &keys::META_KEY).map_err(damaged)?;
    let row = row.ok_or_else(|| Unusable::Damaged("its making was cut short".to_string()))?;
    let meta = match Meta::decode(&row) {
        Ok(meta) => meta,
        Err(MetaError::Newer(found)) => {
            let path = directory.to_path_buf();
            return Err(Unusable::Refused(StoreError::NewerFormat { path, found, newest: FORMAT }));
        }
        Err(MetaError::Damaged) => {
            return Err(Unusable::Damaged("what it says of itself cannot be read".to_string()));
        }
    };
    if meta.applied == 0 && view.range(Space::Timer, Bound::Unbounded, None).next().is_some() {
        return Err(Unusable::Damaged("its filling from a snapshot was cut short".to_string()));
    }
    let tenants = read::tenants(&view).map_err(damaged)?;
    drop(view);
    Ok(Opened { engine, meta, tenants })
}

/// Removes what is in a directory, and leaves the directory.
fn empty(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

impl TimerIndex for DiskIndex {
    fn applied(&self) -> u64 {
        self.applied.load(Ordering::Acquire)
    }

    fn apply(&self, batches: &[Committed]) -> Result<(), StoreError> {
        self.write(|pending, view| write::apply(pending, view, batches))
    }

    fn check_room(&self, bytes: u64) -> Result<(), StoreError> {
        match &*self.engine() {
            Some(engine) => engine.check_room(bytes),
            // It is opened again by the next write.
            None => Ok(()),
        }
    }

    fn checkpoint(&self) -> Result<(), StoreError> {
        match self.write(write::raise_floor) {
            // It is only slower without.
            Ok(()) | Err(StoreError::Full { .. }) => {}
            Err(other) => return Err(other),
        }
        let mut writer = self.writer();
        let engine = self.engine();
        let engine = engine.as_ref().ok_or_else(|| self.closed())?;
        engine.sync().inspect_err(|_| writer.is_broken = true)
    }

    fn timer(&self, tenant: &TenantId, id: TimerId) -> Result<Option<Arc<TimerInstance>>, StoreError> {
        Ok(self.read(|view| read::timer(view, id))?.filter(|t| t.tenant() == tenant))
    }

    fn timer_of_key(&self, tenant: &TenantId, key: &str) -> Result<Option<TimerId>, StoreError> {
        let Some(number) = number_of(&self.tenants(), tenant) else { return Ok(None) };
        self.read(|view| {
            let row = view.get(Space::Misc, &keys::key(number, key))?;
            row.map(|id| keys::last_id(&id).ok_or_else(|| view.damaged("an idempotency key"))).transpose()
        })
    }

    fn due(&self, from: DueKey, limit: usize) -> Result<Vec<Arc<TimerInstance>>, StoreError> {
        self.read(|view| read::due(view, &keys::due(from), limit))
    }

    fn with_flights(&self) -> Result<Vec<Arc<TimerInstance>>, StoreError> {
        self.read(read::with_flights)
    }

    fn list(&self, query: &TimerQuery) -> Result<IndexPage, StoreError> {
        let Some(number) = number_of(&self.tenants(), &query.tenant) else { return Ok(IndexPage::default()) };
        self.read(|view| read::list(view, query, number))
    }

    fn ledger(
        &self,
        tenant: &TenantId,
        id: TimerId,
        after_nominal_ns: Option<i64>,
        limit: usize,
    ) -> Result<Vec<LedgerEntry>, StoreError> {
        let Some(number) = number_of(&self.tenants(), tenant) else { return Ok(Vec::new()) };
        self.read(|view| {
            let creation = view.get(Space::Timer, &keys::id(id))?;
            if creation.is_none_or(|c| values::tenant_of(&c) != Some(number)) {
                return Ok(Vec::new());
            }
            read::lines(view, id, after_nominal_ns, limit)
        })
    }

    fn counts(&self) -> StateCounts {
        *self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn tenants(&self) -> Result<Vec<TenantId>, StoreError> {
        let mut all: Vec<_> = self.tenants().keys().cloned().collect();
        all.push(TenantId::default());
        all.sort_unstable();
        Ok(all)
    }

    fn drop_history(&self, before_ns: i64, limit: usize) -> Result<usize, StoreError> {
        self.write(|pending, view| write::drop_history(pending, view, before_ns, limit))
    }

    fn dump(&self, each: &mut EachTimer<'_>) -> Result<u64, StoreError> {
        self.read(|view| read::dump(view, each))
    }

    fn restore(&self, applied: u64, timers: &[(TimerInstance, Vec<LedgerEntry>)]) -> Result<(), StoreError> {
        self.write(|pending, _| write::restore(pending, applied, timers))
    }
}
