//! A disk that keeps only what was synced: a crash loses, tears and reorders the rest.

use crate::clock::SimClock;
use chronotick_core::Span;
use minoots::store::disk::{Disk, DiskFile};
use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The smallest piece that a crash writes whole.
const SECTOR: usize = 512;
/// `ENOSPC` of Linux.
const NO_SPACE: i32 = 28;
/// `EIO` of Linux.
const IO_ERROR: i32 = 5;

/// A way in which the program could be wrong; the simulation has to find it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Sabotage {
    /// The program is as it is.
    #[default]
    None,
    /// A sync of a file does nothing, as if the call were missing.
    NoSync,
    /// A sync of a directory does nothing.
    NoDirectorySync,
    /// The log answers before it has written.
    EarlyAnswer,
}

/// The disk of the simulated machine; clones share it.
#[derive(Clone, Debug)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Debug)]
struct State {
    /// Contents by number; a file without a name goes with its last handle, as far as anybody can tell.
    files: BTreeMap<u64, Content>,
    names: BTreeMap<PathBuf, u64>,
    /// The names as they were at the last sync of the directory, and what was done to them since.
    durable_names: BTreeMap<PathBuf, u64>,
    name_changes: Vec<NameChange>,
    next_number: u64,
    /// How many bytes all files may have together.
    capacity: u64,
    /// After so many more operations the machine stops.
    operations_left: Option<u64>,
    /// Writes and syncs fail with an error of the device.
    is_broken: bool,
    /// How long a sync takes.
    sync_takes: Span,
    clock: SimClock,
    sabotage: Sabotage,
}

#[derive(Clone, Debug, Default)]
struct Content {
    /// As programs see it.
    now: Vec<u8>,
    /// As it was at the last sync.
    durable: Vec<u8>,
    /// What was done since.
    changes: Vec<Change>,
}

#[derive(Clone, Debug)]
enum Change {
    Write { offset: usize, bytes: Vec<u8> },
    Length(usize),
}

#[derive(Clone, Debug)]
enum NameChange {
    Add(PathBuf, u64),
    Remove(PathBuf),
}

impl SimDisk {
    /// Empty, with so much room.
    pub fn new(capacity: u64, clock: SimClock, sabotage: Sabotage) -> Self {
        Self(Arc::new(Mutex::new(State {
            files: BTreeMap::new(),
            names: BTreeMap::new(),
            durable_names: BTreeMap::new(),
            name_changes: Vec::new(),
            next_number: 0,
            capacity,
            operations_left: None,
            is_broken: false,
            sync_takes: Span::ZERO,
            clock,
            sabotage,
        })))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The machine stops after so many more operations.
    pub fn stop_after(&self, operations: u64) {
        self.state().operations_left = Some(operations);
    }

    /// True when the machine has stopped.
    pub fn has_stopped(&self) -> bool {
        self.state().operations_left == Some(0)
    }

    /// Gives all files together so much room.
    pub fn set_capacity(&self, capacity: u64) {
        self.state().capacity = capacity;
    }

    /// How much room is taken.
    pub fn used(&self) -> u64 {
        self.state().used()
    }

    /// From now on, or no longer, writes and syncs fail.
    pub fn set_broken(&self, is_broken: bool) {
        self.state().is_broken = is_broken;
    }

    /// A sync takes so long.
    pub fn set_sync_takes(&self, span: Span) {
        self.state().sync_takes = span;
    }

    /// The power goes, and comes back: what was not synced is there in part, in no order.
    pub fn crash(&self, random: &mut fastrand::Rng) {
        let mut state = self.state();
        // The journal of a file system keeps the order of names: a part of the changes, from the first on.
        let kept = random.usize(0..=state.name_changes.len());
        let changes = std::mem::take(&mut state.name_changes);
        let mut names = state.durable_names.clone();
        changes.into_iter().take(kept).for_each(|change| change.apply(&mut names));
        state.names = names.clone();
        state.durable_names = names;
        let named: Vec<u64> = state.names.values().copied().collect();
        state.files.retain(|number, _| named.contains(number));
        for content in state.files.values_mut() {
            content.crash(random);
        }
        state.operations_left = None;
        state.is_broken = false;
    }
}

impl State {
    /// Counts one operation; an error when the machine has stopped.
    fn operate(&mut self) -> io::Result<()> {
        match &mut self.operations_left {
            Some(0) => Err(io::Error::from_raw_os_error(IO_ERROR)),
            Some(left) => {
                *left -= 1;
                if *left == 0 { Err(io::Error::from_raw_os_error(IO_ERROR)) } else { Ok(()) }
            }
            None => Ok(()),
        }
    }

    fn change(&mut self) -> io::Result<()> {
        self.operate()?;
        if self.is_broken { Err(io::Error::from_raw_os_error(IO_ERROR)) } else { Ok(()) }
    }

    fn used(&self) -> u64 {
        self.files.values().map(|f| f.now.len() as u64).sum()
    }

    /// An error when a file cannot grow to this length.
    fn check_room(&self, number: u64, length: usize) -> io::Result<()> {
        let present = self.files.get(&number).map_or(0, |f| f.now.len());
        let more = length.saturating_sub(present) as u64;
        if more > 0 && self.used() + more > self.capacity {
            return Err(io::Error::from_raw_os_error(NO_SPACE));
        }
        Ok(())
    }

    fn content(&mut self, number: u64) -> &mut Content {
        self.files.entry(number).or_default()
    }
}

impl NameChange {
    fn apply(self, names: &mut BTreeMap<PathBuf, u64>) {
        match self {
            Self::Add(path, number) => {
                names.retain(|_, n| *n != number);
                names.insert(path, number);
            }
            Self::Remove(path) => drop(names.remove(&path)),
        }
    }
}

impl Content {
    fn apply(bytes: &mut Vec<u8>, change: &Change) {
        match change {
            Change::Write { offset, bytes: written } => {
                let end = offset + written.len();
                if bytes.len() < end {
                    bytes.resize(end, 0);
                }
                bytes[*offset..end].copy_from_slice(written);
            }
            Change::Length(length) => bytes.resize(*length, 0),
        }
    }

    fn crash(&mut self, random: &mut fastrand::Rng) {
        let mut bytes = std::mem::take(&mut self.durable);
        let mut changes = std::mem::take(&mut self.changes);
        if random.bool() {
            // Writes of data come to the disk in any order; each sector of each is there or not.
            random.shuffle(&mut changes);
        }
        let all = random.u8(0..4);
        for change in &changes {
            match change {
                Change::Length(_) if random.bool() => Self::apply(&mut bytes, change),
                Change::Length(_) => {}
                Change::Write { offset, bytes: written } => {
                    // Sectors are pieces of the file, not of the write.
                    let mut at = 0;
                    while at < written.len() {
                        let end = written.len().min(at + SECTOR - (offset + at) % SECTOR);
                        if all == 0 || (all != 1 && random.bool()) {
                            let piece = written[at..end].to_vec();
                            Self::apply(&mut bytes, &Change::Write { offset: offset + at, bytes: piece });
                        }
                        at = end;
                    }
                }
            }
        }
        *self = Self { now: bytes.clone(), durable: bytes, changes: Vec::new() };
    }
}

impl Disk for SimDisk {
    fn make_directory(&self, _path: &Path) -> io::Result<()> {
        Ok(())
    }

    fn list(&self, directory: &Path) -> io::Result<Vec<PathBuf>> {
        let state = self.state();
        Ok(state.names.keys().filter(|p| p.parent() == Some(directory)).cloned().collect())
    }

    fn open(&self, path: &Path, create: bool) -> io::Result<Arc<dyn DiskFile>> {
        let mut state = self.state();
        let number = match state.names.get(path) {
            Some(number) if !create => *number,
            None if !create => return Err(io::ErrorKind::NotFound.into()),
            _ => {
                // A new file in place of one that is emptied: what the old one held may come back in a crash.
                state.change()?;
                state.next_number += 1;
                let number = state.next_number;
                state.files.insert(number, Content::default());
                state.names.insert(path.to_path_buf(), number);
                state.name_changes.push(NameChange::Add(path.to_path_buf(), number));
                number
            }
        };
        Ok(Arc::new(SimFile { disk: self.clone(), number }))
    }

    fn open_to_read(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        self.open(path, false)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let number = state.names.remove(from).ok_or(io::ErrorKind::NotFound)?;
        state.names.insert(to.to_path_buf(), number);
        state.name_changes.push(NameChange::Add(to.to_path_buf(), number));
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        let number = state.names.remove(path).ok_or(io::ErrorKind::NotFound)?;
        if !state.durable_names.values().any(|n| *n == number) {
            state.files.remove(&number);
        }
        state.name_changes.push(NameChange::Remove(path.to_path_buf()));
        Ok(())
    }

    fn sync_directory(&self, _directory: &Path) -> io::Result<()> {
        let mut state = self.state();
        state.change()?;
        if state.sabotage != Sabotage::NoDirectorySync {
            state.durable_names = state.names.clone();
            state.name_changes.clear();
            let named: Vec<u64> = state.names.values().copied().collect();
            state.files.retain(|number, _| named.contains(number));
        }
        Ok(())
    }
}

/// A handle on a file.
#[derive(Debug)]
struct SimFile {
    disk: SimDisk,
    number: u64,
}

impl DiskFile for SimFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        let offset = offset as usize;
        let stops = state.change();
        // A write that the machine does not survive may be on its way already.
        if stops.is_ok() {
            state.check_room(self.number, offset + bytes.len())?;
        }
        let change = Change::Write { offset, bytes: bytes.to_vec() };
        let content = state.content(self.number);
        Content::apply(&mut content.now, &change);
        content.changes.push(change);
        stops
    }

    fn read_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut state = self.disk.state();
        let content = state.content(self.number);
        let from = content.now.len().min(offset as usize);
        let count = bytes.len().min(content.now.len() - from);
        bytes[..count].copy_from_slice(&content.now[from..from + count]);
        Ok(count)
    }

    fn length(&self) -> io::Result<u64> {
        Ok(self.disk.state().content(self.number).now.len() as u64)
    }

    fn set_length(&self, length: u64) -> io::Result<()> {
        let mut state = self.disk.state();
        state.change()?;
        state.check_room(self.number, length as usize)?;
        let change = Change::Length(length as usize);
        let content = state.content(self.number);
        Content::apply(&mut content.now, &change);
        content.changes.push(change);
        Ok(())
    }

    fn reserve(&self, offset: u64, length: u64) -> io::Result<()> {
        let end = offset + length;
        if self.length()? < end { self.set_length(end) } else { Ok(()) }
    }

    fn sync(&self) -> io::Result<()> {
        let mut state = self.disk.state();
        let takes = state.sync_takes;
        state.clock.pass(takes);
        let is_broken = state.is_broken;
        let outcome = state.change();
        if state.sabotage == Sabotage::NoSync {
            return outcome;
        }
        let content = state.content(self.number);
        if outcome.is_ok() {
            let changes = std::mem::take(&mut content.changes);
            changes.iter().for_each(|change| Content::apply(&mut content.durable, change));
        } else if is_broken {
            // As Linux does: what could not be written counts as written, so no later sync tries it again, and
            // programs go on reading what is not on the disk.
            content.changes.clear();
        }
        outcome
    }
}
