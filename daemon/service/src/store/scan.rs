//! Reading one segment file from front to back.

use super::StoreError;
use super::disk::{Disk, FileReader};
use super::format::{self, FRAME_BYTES, HEADER_BYTES, Header, HeaderError, PAYLOAD_MAX_BYTES};
use minoots_kernel::EventRecord;
use std::io::{BufReader, Read, Seek, SeekFrom};
use std::path::Path;

/// What stands at the place of a scan.
#[derive(Debug)]
pub(super) enum Step {
    /// A sound event, and the first sequence of the batch that it was written in.
    Record(EventRecord, u64),
    /// The end of the file, or bytes that were reserved and never written.
    End,
    /// Neither; the text says what.
    Unsound(&'static str),
}

/// A place in a segment, between two frames.
#[derive(Debug)]
pub(super) struct Scan<'a> {
    path: &'a Path,
    input: BufReader<FileReader>,
    offset: u64,
    length: u64,
    frame: Vec<u8>,
}

impl<'a> Scan<'a> {
    /// Opens a segment of a partition at its first record; also returns what its header says.
    pub(super) fn open(disk: &dyn Disk, path: &'a Path, partition: u32) -> Result<(Self, Header), StoreError> {
        let file = disk.open_to_read(path).map_err(StoreError::io("open", path))?;
        let length = file.length().map_err(StoreError::io("examine", path))?;
        let mut file = FileReader::new(file);
        let mut header = [0; HEADER_BYTES];
        if length < HEADER_BYTES as u64 {
            return Err(StoreError::damaged(path, length, "it ends inside the header"));
        }
        file.read_exact(&mut header).map_err(StoreError::io("read", path))?;
        let found = format::decode_header(&header).map_err(|e| match e {
            HeaderError::NotASegment => StoreError::damaged(path, 0, "this is no event log"),
            HeaderError::Checksum => StoreError::damaged(path, 0, "the header's checksum is wrong"),
            HeaderError::Newer(found) => {
                StoreError::NewerFormat { path: path.to_path_buf(), found, newest: format::VERSION }
            }
        })?;
        if found.partition != partition {
            let why = format!("it belongs to partition {}, not {partition}", found.partition);
            return Err(StoreError::damaged(path, 24, why));
        }
        let input = BufReader::with_capacity(256 << 10, file);
        Ok((Self { path, input, offset: HEADER_BYTES as u64, length, frame: Vec::new() }, found))
    }

    /// Goes to a place that is known to lie between two frames.
    pub(super) fn seek(&mut self, offset: u64) -> Result<(), StoreError> {
        self.input.seek(SeekFrom::Start(offset)).map_err(StoreError::io("read", self.path))?;
        self.offset = offset;
        Ok(())
    }

    /// Where the next frame starts; after [`Step::End`] and [`Step::Unsound`], where the sound part ends.
    pub(super) fn offset(&self) -> u64 {
        self.offset
    }

    /// Reads the next frame.
    pub(super) fn step(&mut self) -> Result<Step, StoreError> {
        let left = self.length - self.offset;
        if left == 0 {
            return Ok(Step::End);
        }
        self.frame.resize(FRAME_BYTES.min(left as usize), 0);
        self.read(0)?;
        if self.frame.iter().all(|b| *b == 0) {
            // No event is empty: this is reserved space.
            return Ok(Step::End);
        }
        if self.frame.len() < FRAME_BYTES {
            return Ok(Step::Unsound("the file ends inside a record"));
        }
        let payload = format::u32_at(&self.frame, 0) as usize;
        if payload == 0 {
            return Ok(Step::Unsound("a record has no length"));
        }
        if payload > PAYLOAD_MAX_BYTES {
            return Ok(Step::Unsound("a record's length is impossible"));
        }
        if left < (FRAME_BYTES + payload) as u64 {
            return Ok(Step::Unsound("the file ends inside a record"));
        }
        self.frame.resize(FRAME_BYTES + payload, 0);
        self.read(FRAME_BYTES)?;
        if format::frame_checksum(&self.frame) != format::u32_at(&self.frame, 4) {
            return Ok(Step::Unsound("a record's checksum is wrong"));
        }
        // Its checksum is right, so a payload that cannot be read was written so: no crash tore it.
        let record = format::decode_payload(&self.frame[FRAME_BYTES..])
            .map_err(|why| StoreError::damaged(self.path, self.offset, why))?;
        let batch = format::u64_at(&self.frame, 8);
        self.offset += self.frame.len() as u64;
        Ok(Step::Record(record, batch))
    }

    /// Everything from the place of the scan to the end of the file.
    pub(super) fn rest(&mut self) -> Result<Vec<u8>, StoreError> {
        self.seek(self.offset)?;
        let mut rest = Vec::new();
        self.input.read_to_end(&mut rest).map_err(StoreError::io("read", self.path))?;
        Ok(rest)
    }

    fn read(&mut self, from: usize) -> Result<(), StoreError> {
        self.input.read_exact(&mut self.frame[from..]).map_err(StoreError::io("read", self.path))
    }
}
