//! The bytes of a segment file, as docs/formats/event-log.md draws them.

use super::StoreError;
use minoots_kernel::EventRecord;
use serde::Serialize;

/// The first bytes of every segment.
pub(super) const MAGIC: [u8; 8] = *b"MINOOTSL";
/// The format that is written, and the newest that is read.
pub(super) const VERSION: u32 = 2;
/// Bytes before the first record.
pub(super) const HEADER_BYTES: usize = 64;
/// Bytes before each payload.
pub(super) const FRAME_BYTES: usize = 16;
/// The longest payload: a longer one is refused at the write, and is damage at the read.
pub(super) const PAYLOAD_MAX_BYTES: usize = 16 << 20;

/// What is wrong with a segment header.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum HeaderError {
    NotASegment,
    Newer(u32),
    Checksum,
}

/// The header of the segment of a partition that starts with event `first_sequence`.
pub(super) fn encode_header(first_sequence: u64, partition: u32) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[0..8].copy_from_slice(&MAGIC);
    header[8..12].copy_from_slice(&VERSION.to_le_bytes());
    header[12..16].copy_from_slice(&(HEADER_BYTES as u32).to_le_bytes());
    header[16..24].copy_from_slice(&first_sequence.to_le_bytes());
    header[24..28].copy_from_slice(&partition.to_le_bytes());
    // 28..60 is reserved.
    let checksum = crc32c::crc32c(&header[..60]);
    header[60..64].copy_from_slice(&checksum.to_le_bytes());
    header
}

/// What a segment's header says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Header {
    pub(super) first_sequence: u64,
    pub(super) partition: u32,
    pub(super) version: u32,
}

/// Reads a header.
pub(super) fn decode_header(header: &[u8; HEADER_BYTES]) -> Result<Header, HeaderError> {
    if header[0..8] != MAGIC {
        return Err(HeaderError::NotASegment);
    }
    // The version comes before the checksum, since a later version may put its checksum elsewhere.
    let version = u32_at(header, 8);
    if version > VERSION {
        return Err(HeaderError::Newer(version));
    }
    if u32_at(header, 60) != crc32c::crc32c(&header[..60]) || u32_at(header, 12) as usize != HEADER_BYTES {
        return Err(HeaderError::Checksum);
    }
    Ok(Header { first_sequence: u64_at(header, 16), partition: u32_at(header, 24), version })
}

/// Appends the frames of one batch to `out`.
pub(super) fn encode_batch(records: &[EventRecord], out: &mut Vec<u8>) -> Result<(), StoreError> {
    let Some(batch) = records.first().map(|r| r.sequence) else { return Ok(()) };
    for record in records {
        encode_frame(out, batch, record)
            .map_err(|why| StoreError::Failed { reason: format!("event {}: {why}", record.sequence) })?;
    }
    Ok(())
}

/// Appends one frame with a number of its own.
pub(super) fn encode_frame(out: &mut Vec<u8>, number: u64, value: &impl Serialize) -> Result<(), String> {
    let start = out.len();
    out.extend_from_slice(&[0; FRAME_BYTES]);
    rmp_serde::encode::write_named(out, value).map_err(|e| e.to_string())?;
    let length = out.len() - start - FRAME_BYTES;
    if length > PAYLOAD_MAX_BYTES {
        return Err(format!("{length} bytes are over the limit of {PAYLOAD_MAX_BYTES}"));
    }
    let frame = &mut out[start..];
    frame[0..4].copy_from_slice(&(length as u32).to_le_bytes());
    frame[8..16].copy_from_slice(&number.to_le_bytes());
    let checksum = frame_checksum(frame);
    frame[4..8].copy_from_slice(&checksum.to_le_bytes());
    Ok(())
}

/// The checksum of a whole frame: its length, its batch and its payload, but not the checksum's own four bytes.
pub(super) fn frame_checksum(frame: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&frame[0..4]), &frame[8..])
}

/// Reads a payload.
pub(super) fn decode_payload(payload: &[u8]) -> Result<EventRecord, String> {
    rmp_serde::from_slice(payload).map_err(|e| format!("the event cannot be read ({e})"))
}

/// Looks in `rest` for a sound frame of a batch after the one that event `expected` belongs to. A batch is written
/// only when the one before it is durable, so such a frame shows that what comes before it was damaged later, not
/// torn by a crash. Returns the place of the frame.
pub(super) fn find_later_batch(rest: &[u8], expected: u64) -> Option<usize> {
    // Every event takes more bytes than one, which bounds the sequences that can follow.
    let newest = expected.saturating_add(rest.len() as u64);
    (0..rest.len().saturating_sub(FRAME_BYTES)).find(|&at| {
        let batch = u64_at(rest, at + 8);
        if batch <= expected || batch > newest {
            return false;
        }
        let end = at + FRAME_BYTES + u32_at(rest, at) as usize;
        rest.get(at..end).is_some_and(|frame| frame_checksum(frame) == u32_at(frame, 4))
    })
}

/// The little-endian number at a place; the caller knows that it is inside.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

/// The little-endian number at a place; the caller knows that it is inside.
pub(super) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|i| bytes[at + i]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_read_back_and_bad_ones_are_told_apart() {
        fn check(change: impl FnOnce(&mut [u8; HEADER_BYTES]), want: Result<Header, HeaderError>) {
            let mut header = encode_header(7, 3);
            change(&mut header);
            assert_eq!(decode_header(&header), want);
        }
        check(|_| {}, Ok(Header { first_sequence: 7, partition: 3, version: VERSION }));
        check(|h| h[0] = b'X', Err(HeaderError::NotASegment));
        check(|h| h[8] = 3, Err(HeaderError::Newer(3)));
        check(|h| h[16] = 8, Err(HeaderError::Checksum));
        check(|h| h[40] = 1, Err(HeaderError::Checksum));
    }
}
