//! Snapshots: all timers of a partition at one moment, so that the log before it may go.
//!
//! docs/formats/event-log.md draws the file. A snapshot is written when enough of the log has been kept for its time, and
//! read when the index is lost; what it costs is in proportion to what it lets go.

use super::disk::{Disk, DiskFile, FileReader};
use super::format::{self, FRAME_BYTES};
use super::{LogTrimmer, StoreError, TimerIndex};
use minoots_kernel::{LedgerEntry, TimerDefinition, TimerId, TimerInstance, TimerStatus};
use serde::{Deserialize, Serialize};
use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The first bytes of every snapshot.
const MAGIC: [u8; 8] = *b"MINOOTSS";
/// The format that is written, and the newest that is read.
const VERSION: u32 = 1;
/// Bytes before the first frame.
const HEADER_BYTES: usize = 64;
/// Frames are gathered to writes of about this size.
const WRITE_BYTES: usize = 1 << 20;
/// Timers are handed to the index so many at a time.
const RESTORE_TIMERS: usize = 4096;
/// A snapshot is not worth its while for less of the log than this.
const TRIM_BYTES_MIN: u64 = 64 << 20;

/// One timer as it is stored.
#[derive(Serialize, Deserialize)]
struct StoredTimer {
    id: TimerId,
    definition: Arc<TimerDefinition>,
    status: TimerStatus,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    ledger: Vec<LedgerEntry>,
}

/// The snapshots of one partition, and the log that they let be trimmed.
#[derive(Debug)]
pub struct Snapshots {
    disk: Arc<dyn Disk>,
    directory: PathBuf,
    partition: u32,
    trimmer: LogTrimmer,
    trim_bytes_min: u64,
}

impl Snapshots {
    /// Of the partition in `data`, whose log `trimmer` trims.
    pub fn new(disk: Arc<dyn Disk>, data: &Path, partition: u32, trimmer: LogTrimmer) -> Self {
        Self { disk, directory: data.join("log"), partition, trimmer, trim_bytes_min: TRIM_BYTES_MIN }
    }

    /// Lets the log go from so many bytes on.
    pub fn with_trim_bytes_min(self, trim_bytes_min: u64) -> Self {
        Self { trim_bytes_min, ..self }
    }

    /// Lets go of the log's segments from before `before_ns`, when they are worth a snapshot.
    pub fn trim(&self, index: &dyn TimerIndex, before_ns: i64) -> Result<(), StoreError> {
        let old = self.trimmer.old_bytes(index.applied(), before_ns)?;
        let (mut covered, mut snapshot_bytes) = (0, 0);
        if let Some((sequence, path)) = self.newest()? {
            covered = sequence;
            snapshot_bytes = self.length_of(&path);
        }
        if old >= self.trim_bytes_min.max(snapshot_bytes) {
            covered = self.write(index)?;
        }
        self.trimmer.trim(covered, before_ns)?;
        Ok(())
    }

    fn length_of(&self, path: &Path) -> u64 {
        self.disk.open_to_read(path).and_then(|f| f.length()).unwrap_or(0)
    }

    /// The newest snapshot and the last event that it knows of.
    fn newest(&self) -> Result<Option<(u64, PathBuf)>, StoreError> {
        Ok(self.all()?.pop())
    }

    fn all(&self) -> Result<Vec<(u64, PathBuf)>, StoreError> {
        let mut found = Vec::new();
        for path in self.disk.list(&self.directory).map_err(StoreError::io("list", &self.directory))? {
            if path.extension().is_some_and(|e| e == "snapshot")
                && let Some(sequence) = path.file_stem().and_then(|s| s.to_str()).and_then(|s| s.parse().ok())
            {
                found.push((sequence, path));
            }
        }
        found.sort();
        Ok(found)
    }

    /// Writes a snapshot of the index as it stands, and returns the last event that it knows of. One that cannot be
    /// finished leaves nothing behind.
    pub fn write(&self, index: &dyn TimerIndex) -> Result<u64, StoreError> {
        self.write_whole(index).inspect_err(|_| {
            // What stays is written over by the next one, and removed when the log is next opened.
            let _ = self.disk.remove(&self.directory.join("snapshot.new"));
        })
    }

    fn write_whole(&self, index: &dyn TimerIndex) -> Result<u64, StoreError> {
        // A checkpoint first: an index that is lost after this must not be behind the log that is left.
        index.checkpoint()?;
        let unfinished = self.directory.join("snapshot.new");
        let file = self.disk.open(&unfinished, true).map_err(StoreError::io("make", &unfinished))?;
        let mut out = FrameWriter { file, path: &unfinished, buffer: vec![0; HEADER_BYTES], offset: 0 };
        let mut timers = 0_u64;
        let applied = index.dump(&mut |_, timer, ledger| {
            let stored = StoredTimer {
                id: timer.id,
                definition: timer.definition.clone(),
                status: timer.status.clone(),
                ledger: ledger.to_vec(),
            };
            timers += 1;
            out.add(timers, &stored)
        })?;
        out.flush()?;
        // The header comes last: without it the file is no snapshot.
        let header = encode_header(applied, self.partition, timers);
        let finish = |file: &dyn DiskFile| {
            file.sync()?;
            file.write_at(&header, 0)?;
            file.sync()
        };
        finish(&*out.file).map_err(StoreError::io("write", &unfinished))?;
        let path = self.directory.join(format!("{applied:020}.snapshot"));
        self.disk
            .rename(&unfinished, &path)
            .and_then(|()| self.disk.sync_directory(&self.directory))
            .map_err(StoreError::io("rename", &unfinished))?;
        for (sequence, older) in self.all()? {
            if sequence < applied {
                self.disk.remove(&older).map_err(StoreError::io("remove", &older))?;
            }
        }
        tracing::info!(applied, timers, path = %path.display(), "wrote a snapshot");
        Ok(applied)
    }

    /// Fills an empty index from the newest snapshot. Returns the last event that it knows of; 0 where there is none.
    pub fn restore(&self, index: &dyn TimerIndex) -> Result<u64, StoreError> {
        let Some((_, path)) = self.newest()? else { return Ok(0) };
        let file = self.disk.open_to_read(&path).map_err(StoreError::io("open", &path))?;
        let mut input = BufReader::with_capacity(WRITE_BYTES, FileReader::new(file));
        let mut header = [0; HEADER_BYTES];
        input.read_exact(&mut header).map_err(StoreError::io("read", &path))?;
        let (applied, timers) = self.decode_header(&header, &path)?;
        let mut offset = HEADER_BYTES as u64;
        let mut batch = Vec::with_capacity(RESTORE_TIMERS);
        for number in 1..=timers {
            let mut frame = vec![0; FRAME_BYTES];
            input.read_exact(&mut frame).map_err(StoreError::io("read", &path))?;
            let length = format::u32_at(&frame, 0) as usize;
            if length > format::PAYLOAD_MAX_BYTES || format::u64_at(&frame, 8) != number {
                return Err(StoreError::damaged(&path, offset, "a frame is not the one that belongs here"));
            }
            frame.resize(FRAME_BYTES + length, 0);
            input.read_exact(&mut frame[FRAME_BYTES..]).map_err(StoreError::io("read", &path))?;
            if format::frame_checksum(&frame) != format::u32_at(&frame, 4) {
                return Err(StoreError::damaged(&path, offset, "a timer's checksum is wrong"));
            }
            let stored: StoredTimer = rmp_serde::from_slice(&frame[FRAME_BYTES..])
                .map_err(|e| StoreError::damaged(&path, offset, format!("a timer cannot be read ({e})")))?;
            offset += frame.len() as u64;
            let StoredTimer { id, definition, status, ledger } = stored;
            batch.push((TimerInstance { id, definition, status }, ledger));
            if batch.len() == RESTORE_TIMERS {
                // Until the last batch the index says that it knows nothing, and is filled anew after a crash.
                index.restore(0, &batch)?;
                batch.clear();
            }
        }
        index.restore(applied, &batch)?;
        index.checkpoint()?;
        tracing::info!(applied, timers, path = %path.display(), "the index is made from a snapshot");
        Ok(applied)
    }

    fn decode_header(&self, header: &[u8; HEADER_BYTES], path: &Path) -> Result<(u64, u64), StoreError> {
        if header[0..8] != MAGIC {
            return Err(StoreError::damaged(path, 0, "this is no snapshot"));
        }
        let version = format::u32_at(header, 8);
        if version > VERSION {
            return Err(StoreError::NewerFormat {
                path: path.to_path_buf(),
                found: version,
                newest: VERSION,
            });
        }
        if format::u32_at(header, 60) != crc32c::crc32c(&header[..60])
            || format::u32_at(header, 12) as usize != HEADER_BYTES
        {
            return Err(StoreError::damaged(path, 0, "the header's checksum is wrong"));
        }
        if format::u32_at(header, 24) != self.partition {
            return Err(StoreError::damaged(path, 24, "it belongs to another partition"));
        }
        Ok((format::u64_at(header, 16), format::u64_at(header, 32)))
    }
}

fn encode_header(applied: u64, partition: u32, timers: u64) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    header[16..24].copy_from_slice(&applied.to_le_bytes());
    header[24..28].copy_from_slice(&partition.to_le_bytes());
    header[32..40].copy_from_slice(&timers.to_le_bytes());
    // 28..32 and 40..60 are reserved.
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..64].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// Gathers frames to large writes.
struct FrameWriter<'a> {
    file: Arc<dyn DiskFile>,
    path: &'a Path,
    buffer: Vec<u8>,
    offset: u64,
}

impl FrameWriter<'_> {
    fn add(&mut self, number: u64, stored: &StoredTimer) -> Result<(), StoreError> {
        format::encode_frame(&mut self.buffer, number, stored)
            .map_err(|why| StoreError::Failed { reason: format!("timer {}: {why}", stored.id) })?;
        if self.buffer.len() >= WRITE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        self.file.write_at(&self.buffer, self.offset).map_err(StoreError::io("write", self.path))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}
