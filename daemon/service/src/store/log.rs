//! The embedded store: an append-only log in segment files, one write and one sync for each batch.

use super::format::{self, HEADER_BYTES};
use super::lock::DirectoryLock;
use super::reader::Index;
use super::scan::{Scan, Step};
use super::{Cut, EventLog, LogReader, Recovery, StoreError};
use minoots_kernel::EventRecord;
use rustix::fs::FallocateFlags;
use rustix::io::Errno;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Sizes of the log's files.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct LogOptions {
    /// A segment that has reached this size is followed by a new one.
    pub segment_bytes: u64,
    /// Space is reserved in pieces of this size.
    pub reserve_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 256 << 20, reserve_bytes: 4 << 20 }
    }
}

/// How much room [`EventLog::check_room`] wants to see; less than that is used up by appends all the same.
const ROOM_BYTES: u64 = 256 << 10;

/// The log of one data directory, which it holds against other processes.
#[derive(Debug)]
pub struct SegmentLog {
    directory: PathBuf,
    options: LogOptions,
    index: Index,
    last_sequence: u64,
    tail: Option<Tail>,
    /// Why nothing more can be appended.
    failed: Option<String>,
    buffer: Vec<u8>,
    _lock: DirectoryLock,
}

/// The segment that is written to.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: File,
    /// Where the next batch goes.
    used: u64,
    /// Up to here the file system has promised room.
    reserved: u64,
}

impl SegmentLog {
    /// Opens the log of a data directory, and makes both where there are none.
    pub fn open(data: &Path, options: LogOptions) -> Result<Self, StoreError> {
        let directory = data.join("log");
        std::fs::create_dir_all(&directory).map_err(StoreError::io("make the directory", &directory))?;
        let lock = DirectoryLock::take(data)?;
        Ok(Self {
            directory,
            options,
            index: Index::default(),
            last_sequence: 0,
            tail: None,
            failed: None,
            buffer: Vec::new(),
            _lock: lock,
        })
    }

    /// The segments in order; removes what a crash left of a segment that was being made.
    fn segments(&self) -> Result<Vec<PathBuf>, StoreError> {
        let list = std::fs::read_dir(&self.directory).map_err(StoreError::io("list", &self.directory))?;
        let mut segments = Vec::new();
        for entry in list {
            let path = entry.map_err(StoreError::io("list", &self.directory))?.path();
            match path.extension().and_then(|e| e.to_str()) {
                Some("segment") => segments.push(path),
                Some("new") => std::fs::remove_file(&path).map_err(StoreError::io("remove", &path))?,
                _ => {}
            }
        }
        segments.sort();
        Ok(segments)
    }

    /// Replays one segment and returns where its sound part ends, what was cut off, and its length.
    fn recover_segment(
        &mut self,
        path: &Path,
        is_last: bool,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<(u64, Option<Cut>), StoreError> {
        let (mut scan, first) = Scan::open(path)?;
        if first != self.last_sequence + 1 {
            let why = format!("it starts with event {first}, but event {} is next", self.last_sequence + 1);
            return Err(StoreError::damaged(
                path,
                16,
                format!("{why}: a segment file is missing or foreign"),
            ));
        }
        self.index.add_segment(path.to_path_buf(), first);
        loop {
            let at = scan.offset();
            let unsound = match scan.step()? {
                Step::Record(record) => {
                    let sequence = record.sequence;
                    if sequence != self.last_sequence + 1 {
                        let why = format!("event {sequence} follows event {}", self.last_sequence);
                        return Err(StoreError::damaged(path, at, why));
                    }
                    each(record).map_err(|why| StoreError::damaged(path, at, why))?;
                    self.last_sequence = sequence;
                    self.index.add_batch(sequence, at, sequence);
                    continue;
                }
                Step::End => None,
                Step::Unsound(why) => Some(why),
            };
            let rest = scan.rest()?;
            let written = rest.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1);
            if written == 0 {
                return Ok((at, None));
            }
            let why = unsound.unwrap_or("a record is blank, but more follows");
            if !is_last {
                return Err(StoreError::damaged(path, at, why));
            }
            if let Some(later) = format::find_later_batch(&rest, self.last_sequence + 1) {
                let later = at + later as u64;
                return Err(StoreError::damaged(
                    path,
                    at,
                    format!("{why}, and a later batch is at byte {later}"),
                ));
            }
            return Ok((at, Some(Cut { path: path.to_path_buf(), offset: at, bytes: written as u64 })));
        }
    }

    /// Makes the segment that starts with the next event. Its name appears only when its header is durable.
    fn new_segment(&mut self) -> io::Result<()> {
        let first = self.last_sequence + 1;
        let path = self.directory.join(format!("{first:020}.segment"));
        let unfinished = path.with_extension("new");
        let make = || {
            let file =
                OpenOptions::new().read(true).write(true).create(true).truncate(true).open(&unfinished)?;
            file.write_all_at(&format::encode_header(first), 0)?;
            file.sync_all()?;
            std::fs::rename(&unfinished, &path)?;
            File::open(&self.directory)?.sync_all()?;
            Ok(file)
        };
        let file = make().inspect_err(|_: &io::Error| {
            // Only to give the space back: what stays is removed when the log is next opened.
            let _ = std::fs::remove_file(&unfinished);
        })?;
        self.index.add_segment(path.clone(), first);
        let used = HEADER_BYTES as u64;
        self.tail = Some(Tail { path, file, used, reserved: used });
        Ok(())
    }

    /// Goes on to a new segment when the batch does not fit in this one.
    fn make_place(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(tail) = &mut self.tail {
            if tail.used == HEADER_BYTES as u64 || tail.used + bytes <= self.options.segment_bytes {
                return Ok(());
            }
            // A finished segment ends with its last record.
            tail.file.set_len(tail.used)?;
            tail.reserved = tail.used;
            tail.file.sync_all()?;
        }
        self.new_segment()
    }

    fn write(&mut self, bytes: u64) -> io::Result<()> {
        self.make_place(bytes)?;
        let Some(tail) = &mut self.tail else { return Ok(()) };
        tail.reserve(bytes, self.options.reserve_bytes)?;
        if let Err(error) = tail.file.write_all_at(&self.buffer, tail.used) {
            // What was written of the batch goes away again, so that nothing is left behind the next one.
            tail.file.set_len(tail.used)?;
            tail.reserved = tail.used;
            return Err(error);
        }
        Ok(())
    }

    /// Sorts an error into "no room, try again" and "no more until a restart".
    fn sort_error(&mut self, error: &io::Error) -> StoreError {
        if matches!(error.raw_os_error().map(Errno::from_raw_os_error), Some(Errno::NOSPC | Errno::DQUOT)) {
            return StoreError::Full { path: self.directory.clone() };
        }
        let path = self.tail.as_ref().map_or(&self.directory, |t| &t.path);
        self.fail(format!("{error} in {}", path.display()))
    }

    fn fail(&mut self, reason: String) -> StoreError {
        self.failed = Some(reason.clone());
        StoreError::Failed { reason }
    }

    fn check_failed(&self) -> Result<(), StoreError> {
        match &self.failed {
            Some(reason) => Err(StoreError::Failed { reason: reason.clone() }),
            None => Ok(()),
        }
    }
}

impl Tail {
    /// Makes sure that the next `bytes` have room. Asks for a large piece, and for what is needed where that is too much.
    fn reserve(&mut self, bytes: u64, piece: u64) -> io::Result<()> {
        let needed = self.used + bytes;
        if needed <= self.reserved {
            return Ok(());
        }
        let generous = needed.next_multiple_of(piece.max(1));
        let mut answer = Err(Errno::NOSPC);
        for target in [generous, needed] {
            answer = rustix::fs::fallocate(
                &self.file,
                FallocateFlags::empty(),
                self.reserved,
                target - self.reserved,
            );
            match answer {
                Ok(()) => {
                    self.reserved = target;
                    return Ok(());
                }
                // A file system that cannot reserve says at the write, or not at all, that it is full.
                Err(Errno::OPNOTSUPP | Errno::NOSYS) => return Ok(()),
                Err(_) => {}
            }
        }
        // A call that failed may have reserved a part: give it back, to others who may need it more.
        let _ = self.file.set_len(self.reserved);
        Ok(answer?)
    }
}

impl EventLog for SegmentLog {
    fn recover(
        &mut self,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<Recovery, StoreError> {
        let segments = self.segments()?;
        let mut cut = None;
        for (number, path) in segments.iter().enumerate() {
            let is_last = number + 1 == segments.len();
            let (used, torn) = self.recover_segment(path, is_last, each)?;
            if !is_last {
                continue;
            }
            let file =
                OpenOptions::new().read(true).write(true).open(path).map_err(StoreError::io("open", path))?;
            if let Some(torn) = &torn {
                tracing::warn!(
                    path = %path.display(), offset = torn.offset, bytes = torn.bytes,
                    "cut off an unfinished batch at the end of the event log; it was never acknowledged"
                );
                file.set_len(used)
                    .and_then(|()| file.sync_all())
                    .map_err(StoreError::io("truncate", path))?;
            }
            let reserved = file.metadata().map_err(StoreError::io("examine", path))?.len();
            self.tail = Some(Tail { path: path.clone(), file, used, reserved });
            cut = torn;
        }
        Ok(Recovery { last_sequence: self.last_sequence, cut })
    }

    fn append(&mut self, records: &[EventRecord]) -> Result<(), StoreError> {
        self.check_failed()?;
        let Some(first) = records.first().map(|r| r.sequence) else { return Ok(()) };
        if !records
            .iter()
            .map(|r| r.sequence)
            .eq(self.last_sequence + 1..=self.last_sequence + records.len() as u64)
        {
            let reason = format!("event {first} cannot follow event {}", self.last_sequence);
            return Err(StoreError::Failed { reason });
        }
        self.buffer.clear();
        format::encode_batch(records, &mut self.buffer)?;
        let bytes = self.buffer.len() as u64;
        self.write(bytes).map_err(|e| self.sort_error(&e))?;
        let Some(tail) = &mut self.tail else { return Ok(()) };
        if let Err(error) = tail.file.sync_data() {
            // After a failed sync nobody knows what is on the disk, so even "no room" is final here.
            let reason = format!("{error} while {} was synced", tail.path.display());
            return Err(self.fail(reason));
        }
        let offset = tail.used;
        tail.used += bytes;
        self.last_sequence += records.len() as u64;
        self.index.add_batch(first, offset, self.last_sequence);
        Ok(())
    }

    fn check_room(&mut self) -> Result<(), StoreError> {
        self.check_failed()?;
        let piece = self.options.reserve_bytes;
        let reserve = self
            .make_place(ROOM_BYTES)
            .and_then(|()| self.tail.as_mut().map_or(Ok(()), |t| t.reserve(ROOM_BYTES, piece)));
        reserve.map_err(|e| self.sort_error(&e))
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(self.index.clone())
    }
}
