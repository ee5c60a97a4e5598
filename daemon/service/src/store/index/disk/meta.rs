//! The one row that says what the index holds. It is part of every write, so it always agrees with the rest.

use super::super::StateCounts;
use super::keys::Due;
use minoots_kernel::TimerState;

/// The format that is written, and the newest that is read.
pub(super) const FORMAT: u32 = 1;
/// Bytes before the counts.
const HEADER_BYTES: usize = 38;

/// What the index holds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Meta {
    /// The last event whose changes are in it; 0 while it is filled from a snapshot.
    pub(super) applied: u64,
    /// There is no key in `due` before this one. What was removed there costs a read until it is compacted away, so
    /// every read begins here.
    pub(super) due_floor: Due,
    /// How many timers there are in each state.
    pub(super) counts: StateCounts,
}

/// Why the row cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum MetaError {
    /// A newer program wrote it.
    Newer(u32),
    /// It is something else.
    Damaged,
}

impl Default for Meta {
    fn default() -> Self {
        Self { applied: 0, due_floor: [u8::MAX; 25], counts: StateCounts::default() }
    }
}

impl Meta {
    pub(super) fn encode(&self) -> Vec<u8> {
        let counts = self.counts.as_numbers();
        let mut bytes = Vec::with_capacity(HEADER_BYTES + 8 * counts.len());
        bytes.extend_from_slice(&FORMAT.to_be_bytes());
        bytes.extend_from_slice(&self.applied.to_be_bytes());
        bytes.extend_from_slice(&self.due_floor);
        bytes.push(TimerState::ALL.len() as u8);
        counts.iter().for_each(|count| bytes.extend_from_slice(&count.to_be_bytes()));
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, MetaError> {
        fn part<const N: usize>(bytes: &[u8], at: usize) -> Result<[u8; N], MetaError> {
            bytes.get(at..at + N).and_then(|b| b.try_into().ok()).ok_or(MetaError::Damaged)
        }
        let format = u32::from_be_bytes(part(bytes, 0)?);
        if format > FORMAT {
            return Err(MetaError::Newer(format));
        }
        let [count] = part(bytes, 37)?;
        let number = |n: u8| part(bytes, HEADER_BYTES + 8 * usize::from(n)).map(u64::from_be_bytes);
        let counts: Vec<u64> = (0..count).map(number).collect::<Result<_, _>>()?;
        Ok(Self {
            applied: u64::from_be_bytes(part(bytes, 4)?),
            due_floor: part(bytes, 12)?,
            counts: StateCounts::from_numbers(&counts),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_reads_back_and_what_is_something_else_is_told() {
        let mut counts = StateCounts::default();
        counts.add(TimerState::Failed);
        let meta = Meta { applied: 7, due_floor: [3; 25], counts };
        let bytes = meta.encode();
        assert_eq!(Meta::decode(&bytes), Ok(meta));
        for length in 0..bytes.len() {
            assert_eq!(Meta::decode(&bytes[..length]), Err(MetaError::Damaged), "{length}");
        }
        let newer = [&(FORMAT + 1).to_be_bytes()[..], b"whatever"].concat();
        assert_eq!(Meta::decode(&newer), Err(MetaError::Newer(FORMAT + 1)));
    }
}
