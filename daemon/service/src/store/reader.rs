//! Finding durable events by sequence, from any thread, while the log grows.

use super::disk::Disk;
use super::format::HEADER_BYTES;
use super::scan::{Scan, Step};
use super::{LogReader, StoreError};
use minoots_kernel::EventRecord;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// At most so many bytes of a segment are read to find an event in it.
const MARK_EVERY_BYTES: u64 = 64 << 10;

/// Where events are: shared by the writer, which adds to it after each sync, and the readers.
#[derive(Clone, Debug)]
pub(super) struct Index {
    disk: Arc<dyn Disk>,
    partition: u32,
    contents: Arc<RwLock<Contents>>,
}

#[derive(Debug, Default)]
struct Contents {
    segments: Vec<Segment>,
    last_sequence: u64,
}

#[derive(Debug)]
struct Segment {
    path: PathBuf,
    first_sequence: u64,
    /// `(sequence, offset)` of some of its records, in order.
    marks: Vec<(u64, u64)>,
}

impl Index {
    pub(super) fn new(disk: Arc<dyn Disk>, partition: u32) -> Self {
        Self { disk, partition, contents: Arc::default() }
    }

    fn contents(&self) -> RwLockReadGuard<'_, Contents> {
        self.contents.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn contents_mut(&self) -> RwLockWriteGuard<'_, Contents> {
        self.contents.write().unwrap_or_else(PoisonError::into_inner)
    }

    /// The oldest segment and the first sequence of the one after it; `None` where there is only one.
    pub(super) fn oldest(&self) -> Option<(PathBuf, u64)> {
        match &self.contents().segments[..] {
            [oldest, next, ..] => Some((oldest.path.clone(), next.first_sequence)),
            _ => None,
        }
    }

    /// The oldest segment is about to go.
    pub(super) fn forget_oldest(&self) {
        self.contents_mut().segments.remove(0);
    }

    /// The segments before the newest whose events are all at or before `sequence`, each with the first sequence of
    /// the one after it.
    pub(super) fn segments_up_to(&self, sequence: u64) -> Vec<(PathBuf, u64)> {
        let contents = self.contents();
        let pairs = contents.segments.windows(2).map(|p| (p[0].path.clone(), p[1].first_sequence));
        pairs.take_while(|(_, next_first)| *next_first <= sequence + 1).collect()
    }

    /// A new segment, which will start with `first_sequence`.
    pub(super) fn add_segment(&self, path: PathBuf, first_sequence: u64) {
        let mut contents = self.contents_mut();
        contents.segments.push(Segment { path, first_sequence, marks: Vec::new() });
    }

    /// Events up to this one are durable, wherever they are.
    pub(super) fn set_last(&self, last_sequence: u64) {
        self.contents_mut().last_sequence = last_sequence;
    }

    /// Events up to `last_sequence` are durable; the first of them, `first_sequence`, is at `offset` of the newest
    /// segment.
    pub(super) fn add_batch(&self, first_sequence: u64, offset: u64, last_sequence: u64) {
        let mut contents = self.contents_mut();
        contents.last_sequence = last_sequence;
        if let Some(segment) = contents.segments.last_mut()
            && segment.marks.last().is_none_or(|(_, at)| offset - at >= MARK_EVERY_BYTES)
        {
            segment.marks.push((first_sequence, offset));
        }
    }

    /// The segment and the place to look for an event, and the last event there is.
    fn locate(&self, sequence: u64) -> Option<(PathBuf, u64, u64)> {
        let contents = self.contents();
        let after = contents.segments.partition_point(|s| s.first_sequence <= sequence);
        let segment = contents.segments.get(after.checked_sub(1)?)?;
        let after = segment.marks.partition_point(|(first, _)| *first <= sequence);
        // A segment that was not read at the start has no marks: it is looked through from its first event.
        let mark = after.checked_sub(1).and_then(|at| segment.marks.get(at));
        let offset = mark.map_or(HEADER_BYTES as u64, |(_, offset)| *offset);
        Some((segment.path.clone(), offset, contents.last_sequence))
    }
}

impl LogReader for Index {
    fn oldest_sequence(&self) -> Option<u64> {
        self.contents().segments.first().map(|s| s.first_sequence)
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<EventRecord>, StoreError> {
        let mut next = from.max(1);
        let mut found = Vec::new();
        if let Some(oldest) = self.oldest_sequence()
            && next < oldest
        {
            return Err(StoreError::Gone { sequence: next, oldest });
        }
        while let Some((path, offset, last)) = self.locate(next) {
            if next > last || found.len() == limit {
                break;
            }
            let (mut scan, _) = Scan::open(&*self.disk, &path, self.partition)?;
            scan.seek(offset)?;
            while found.len() < limit && next <= last {
                match scan.step()? {
                    Step::Record(record, _) if record.sequence < next => {}
                    Step::Record(record, _) if record.sequence == next => {
                        next += 1;
                        found.push(record);
                    }
                    Step::Record(record, _) => {
                        let why = format!("event {} follows event {}", record.sequence, next - 1);
                        return Err(StoreError::damaged(&path, scan.offset(), why));
                    }
                    // The next event is in the next segment. That it is durable, the index has said.
                    Step::End if self.locate(next).is_some_and(|(later, ..)| later != path) => break,
                    Step::End => {
                        return Err(StoreError::damaged(&path, scan.offset(), "durable events are missing"));
                    }
                    Step::Unsound(why) => return Err(StoreError::damaged(&path, scan.offset(), why)),
                }
            }
        }
        Ok(found)
    }
}
