//! The embedded store: an append-only log in segment files, one write and one sync for each batch.

use super::ahead::Ahead;
use super::disk::{Disk, DiskFile, OsDisk};
use super::format::{self, HEADER_BYTES};
use super::lock::DirectoryLock;
use super::reader::Index;
use super::scan::{Scan, Step};
use super::{Cut, EventLog, LogReader, Recovery, StoreError};
use minoots_kernel::EventRecord;
use rustix::io::Errno;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

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

/// The log of one partition; it holds its directory against other processes.
#[derive(Debug)]
pub struct SegmentLog {
    directory: PathBuf,
    disk: Arc<dyn Disk>,
    options: LogOptions,
    partition: u32,
    ahead: Option<Ahead>,
    index: Index,
    last_sequence: u64,
    tail: Option<Tail>,
    /// The newest segment has an older format: the next batch begins a new one.
    is_tail_old: bool,
    /// Why nothing more can be appended.
    failed: Option<String>,
    buffer: Vec<u8>,
    _lock: Option<DirectoryLock>,
}

/// The batch that a recovery has read last.
struct LastBatch {
    /// The sequence of its first event; 0 for none.
    number: u64,
    /// Where it starts.
    offset: u64,
    records: Vec<EventRecord>,
}

impl LastBatch {
    fn hand_out(
        &mut self,
        path: &Path,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<(), StoreError> {
        self.records
            .drain(..)
            .try_for_each(|record| each(record).map_err(|why| StoreError::damaged(path, self.offset, why)))
    }
}

/// The segment that is written to.
#[derive(Debug)]
struct Tail {
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    /// Where the next batch goes.
    used: u64,
    /// Up to here the file system has promised room.
    reserved: Arc<AtomicU64>,
}

impl SegmentLog {
    /// Opens the log of a partition's directory, and makes both where there are none.
    pub fn open(data: &Path, partition: u32, options: LogOptions) -> Result<Self, StoreError> {
        let mut log = Self::open_on(Arc::new(OsDisk), data, partition, options)?;
        log._lock = Some(DirectoryLock::take(data)?);
        log.ahead = Ahead::start();
        Ok(log)
    }

    /// The same on another disk, without a lock and without a thread that reserves space ahead.
    pub fn open_on(
        disk: Arc<dyn Disk>,
        data: &Path,
        partition: u32,
        options: LogOptions,
    ) -> Result<Self, StoreError> {
        let directory = data.join("log");
        disk.make_directory(&directory).map_err(StoreError::io("make the directory", &directory))?;
        Ok(Self {
            directory,
            index: Index::new(disk.clone(), partition),
            disk,
            options,
            partition,
            ahead: None,
            last_sequence: 0,
            tail: None,
            is_tail_old: false,
            failed: None,
            buffer: Vec::new(),
            _lock: None,
        })
    }

    /// The segments in order, each with its first sequence; removes what a crash left of one that was being made.
    fn segments(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let mut segments = Vec::new();
        for path in self.disk.list(&self.directory).map_err(StoreError::io("list", &self.directory))? {
            match path.extension().and_then(|e| e.to_str()) {
                Some("segment") => {
                    let first = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok());
                    let first = first.ok_or_else(|| {
                        StoreError::damaged(&path, 0, "the file is not named after its first event")
                    })?;
                    segments.push((first, path));
                }
                Some("new") => self.disk.remove(&path).map_err(StoreError::io("remove", &path))?,
                _ => {}
            }
        }
        segments.sort();
        Ok(segments)
    }

    /// Replays one segment and returns where its sound part ends, and what was cut off.
    ///
    /// The last batch of the newest segment is written and synced once more before anybody hears of it: its sync may have
    /// failed, and the system then shows what is not on the disk, and does not try again by itself.
    fn recover_segment(
        &mut self,
        path: &Path,
        is_last: bool,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<(u64, Option<Cut>), StoreError> {
        let (mut scan, header) = Scan::open(&*self.disk, path, self.partition)?;
        let first = header.first_sequence;
        if first != self.last_sequence + 1 {
            let why = format!("it starts with event {first}, but event {} is next", self.last_sequence + 1);
            return Err(StoreError::damaged(
                path,
                16,
                format!("{why}: a segment file is missing or foreign"),
            ));
        }
        self.index.add_segment(path.to_path_buf(), first);
        self.is_tail_old = header.version < format::VERSION;
        let mut last_batch = LastBatch { number: 0, offset: scan.offset(), records: Vec::new() };
        let (end, cut) = loop {
            let at = scan.offset();
            let unsound = match scan.step()? {
                Step::Record(record, batch) => {
                    let sequence = record.sequence;
                    if sequence != self.last_sequence + 1 {
                        let why = format!("event {sequence} follows event {}", self.last_sequence);
                        return Err(StoreError::damaged(path, at, why));
                    }
                    if batch != last_batch.number {
                        last_batch.hand_out(path, each)?;
                        last_batch = LastBatch { number: batch, offset: at, records: Vec::new() };
                    }
                    last_batch.records.push(record);
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
                break (at, None);
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
            break (at, Some(Cut { path: path.to_path_buf(), offset: at, bytes: written as u64 }));
        };
        if is_last {
            self.write_again(path, last_batch.offset, end).map_err(StoreError::io("write again", path))?;
        }
        last_batch.hand_out(path, each)?;
        Ok((end, cut))
    }

    /// Writes a range of a file once more as it stands, and syncs it.
    fn write_again(&self, path: &Path, from: u64, to: u64) -> io::Result<()> {
        let file = self.disk.open(path, false)?;
        let mut bytes = vec![0; (to - from) as usize];
        let mut read = 0;
        while read < bytes.len() {
            match file.read_at(&mut bytes[read..], from + read as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => read += count,
            }
        }
        file.write_at(&bytes, from)?;
        file.sync()
    }

    /// Makes the segment that starts with the next event. Its name appears only when its header is durable.
    fn new_segment(&mut self) -> io::Result<()> {
        let first = self.last_sequence + 1;
        let path = self.directory.join(format!("{first:020}.segment"));
        let unfinished = path.with_extension("new");
        let make = || {
            let file = self.disk.open(&unfinished, true)?;
            file.write_at(&format::encode_header(first, self.partition), 0)?;
            file.sync()?;
            self.disk.rename(&unfinished, &path)?;
            self.disk.sync_directory(&self.directory)?;
            Ok(file)
        };
        let file = make().inspect_err(|_: &io::Error| {
            // Only to give the space back: what stays is removed when the log is next opened.
            let _ = self.disk.remove(&unfinished);
        })?;
        self.index.add_segment(path.clone(), first);
        self.is_tail_old = false;
        let used = HEADER_BYTES as u64;
        self.tail = Some(Tail { path, file, used, reserved: Arc::new(AtomicU64::new(used)) });
        Ok(())
    }

    /// Goes on to a new segment when the batch does not fit in this one.
    fn make_place(&mut self, bytes: u64) -> io::Result<()> {
        if let Some(tail) = &mut self.tail {
            let is_empty = tail.used == HEADER_BYTES as u64;
            let has_place = tail.used + bytes <= self.options.segment_bytes && !self.is_tail_old;
            if is_empty || has_place {
                return Ok(());
            }
            // A finished segment ends with its last record.
            tail.cut_back()?;
            tail.file.sync()?;
        }
        self.new_segment()
    }

    fn write(&mut self, bytes: u64) -> io::Result<()> {
        self.make_place(bytes)?;
        let Some(tail) = &mut self.tail else { return Ok(()) };
        tail.reserve(bytes, self.options.reserve_bytes)?;
        if let Err(error) = tail.file.write_at(&self.buffer, tail.used) {
            // What was written of the batch goes away again, so that nothing is left behind the next one.
            tail.cut_back()?;
            return Err(error);
        }
        if let Some(ahead) = &self.ahead
            && tail.used + bytes + self.options.reserve_bytes / 2 > tail.reserved.load(Ordering::Relaxed)
        {
            ahead.ask(&tail.file, &tail.reserved, self.options.reserve_bytes);
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
    /// Gives up what is reserved, or was written, past the last batch.
    fn cut_back(&mut self) -> io::Result<()> {
        self.file.set_length(self.used)?;
        // A new number: a piece that is being reserved must not count any more.
        self.reserved = Arc::new(AtomicU64::new(self.used));
        Ok(())
    }

    /// Makes sure that the next `bytes` have room. Asks for a large piece, and for what is needed where that is too much.
    fn reserve(&mut self, bytes: u64, piece: u64) -> io::Result<()> {
        let needed = self.used + bytes;
        let reserved = self.reserved.load(Ordering::Relaxed);
        if needed <= reserved {
            return Ok(());
        }
        let generous = needed.next_multiple_of(piece.max(1));
        let mut answer = Ok(());
        for target in [generous, needed] {
            answer = self.file.reserve(reserved, target - reserved);
            match &answer {
                Ok(()) => {
                    self.reserved.store(target, Ordering::Relaxed);
                    return Ok(());
                }
                // A file system that cannot reserve says at the write, or not at all, that it is full.
                Err(e)
                    if matches!(
                        e.raw_os_error().map(Errno::from_raw_os_error),
                        Some(Errno::OPNOTSUPP | Errno::NOSYS)
                    ) =>
                {
                    return Ok(());
                }
                Err(_) => {}
            }
        }
        // A call that failed may have reserved a part: give it back, to others who may need it more.
        let _ = self.file.set_length(reserved);
        answer
    }
}

impl EventLog for SegmentLog {
    fn recover(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<Recovery, StoreError> {
        // A name may have come without its sync too.
        self.disk.sync_directory(&self.directory).map_err(StoreError::io("sync", &self.directory))?;
        let segments = self.segments()?;
        // The segments that hold no event after that one are only named; the one that has the next is read.
        let needed = segments.partition_point(|(first, _)| *first <= after + 1).saturating_sub(1);
        for (first, path) in &segments[..needed] {
            self.index.add_segment(path.clone(), *first);
        }
        let oldest = segments.first().map_or(1, |(first, _)| *first);
        if oldest > after + 1 {
            let (first, path) = &segments[0];
            let why = format!("it starts with event {first}, but event {} is needed", after + 1);
            return Err(StoreError::damaged(path, 16, format!("{why}: a segment file is missing")));
        }
        self.last_sequence = segments.get(needed).map_or(0, |(first, _)| first - 1);
        let mut cut = None;
        for (number, (_, path)) in segments.iter().enumerate().skip(needed) {
            let is_last = number + 1 == segments.len();
            let (used, torn) = self.recover_segment(path, is_last, &mut |record| {
                if record.sequence > after { each(record) } else { Ok(()) }
            })?;
            if !is_last {
                continue;
            }
            let file = self.disk.open(path, false).map_err(StoreError::io("open", path))?;
            if let Some(torn) = &torn {
                tracing::warn!(
                    path = %path.display(), offset = torn.offset, bytes = torn.bytes,
                    "cut off an unfinished batch at the end of the event log; it was never acknowledged"
                );
                file.set_length(used).and_then(|()| file.sync()).map_err(StoreError::io("truncate", path))?;
            }
            let reserved = file.length().map_err(StoreError::io("examine", path))?;
            self.tail =
                Some(Tail { path: path.clone(), file, used, reserved: Arc::new(AtomicU64::new(reserved)) });
            cut = torn;
        }
        if self.last_sequence < after {
            return Err(StoreError::Failed {
                reason: format!(
                    "the event log in {} ends at event {}, but event {after} was acknowledged",
                    self.directory.display(),
                    self.last_sequence
                ),
            });
        }
        // The newest segment may be empty, and was then the only one that was read.
        self.index.set_last(self.last_sequence);
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
        if let Err(error) = tail.file.sync() {
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

impl SegmentLog {
    /// A handle that removes old segments, from any thread.
    pub fn trimmer(&self) -> LogTrimmer {
        LogTrimmer { disk: self.disk.clone(), index: self.index.clone(), directory: self.directory.clone() }
    }
}

/// Removes old segments of a log.
#[derive(Debug)]
pub struct LogTrimmer {
    disk: Arc<dyn Disk>,
    index: Index,
    directory: PathBuf,
}

impl LogTrimmer {
    /// Removes the segments whose events are all at or before `sequence` and happened before `before_ns`; never the
    /// newest. Returns how many.
    pub fn trim(&self, sequence: u64, before_ns: i64) -> Result<usize, StoreError> {
        let mut removed = 0;
        while let Some((path, next_first)) = self.index.oldest() {
            if next_first > sequence + 1 || self.started_at(next_first)? >= before_ns {
                break;
            }
            // Out of the readers' sight first: a reader that has the file open goes on.
            self.index.forget_oldest();
            self.disk.remove(&path).map_err(StoreError::io("remove", &path))?;
            removed += 1;
        }
        if removed > 0 {
            self.disk.sync_directory(&self.directory).map_err(StoreError::io("sync", &self.directory))?;
        }
        Ok(removed)
    }

    /// When the event that a segment starts with happened: all before it happened earlier.
    fn started_at(&self, first: u64) -> Result<i64, StoreError> {
        Ok(self.index.read(first, 1)?.first().map_or(i64::MAX, |record| record.at_ns))
    }

    /// The bytes of the segments that [`Self::trim`] would remove.
    pub fn old_bytes(&self, sequence: u64, before_ns: i64) -> Result<u64, StoreError> {
        let mut bytes = 0;
        for (path, next_first) in self.index.segments_up_to(sequence) {
            if self.started_at(next_first)? >= before_ns {
                break;
            }
            bytes += self.disk.open_to_read(&path).and_then(|f| f.length()).unwrap_or(0);
        }
        Ok(bytes)
    }
}
