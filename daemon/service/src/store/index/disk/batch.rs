//! The changes of one write, gathered and put in the order in which the engine likes them best.

use super::database::{SPACES, Space};

/// One change; key and value are ranges in the bytes of its batch. No value is a removal.
#[derive(Clone, Copy, Debug)]
struct Change {
    key: (usize, usize),
    value: Option<(usize, usize)>,
}

/// All changes of one write. Of several to one key the last one counts.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Vec<u8>,
    changes: [Vec<Change>; SPACES],
}

impl Batch {
    pub(super) fn clear(&mut self) {
        self.bytes.clear();
        self.changes.iter_mut().for_each(Vec::clear);
    }

    /// How many changes there are.
    pub(super) fn len(&self) -> usize {
        self.changes.iter().map(Vec::len).sum()
    }

    /// How many bytes of keys and values there are.
    pub(super) fn bytes(&self) -> usize {
        self.bytes.len()
    }

    fn push(&mut self, bytes: &[u8]) -> (usize, usize) {
        let start = self.bytes.len();
        self.bytes.extend_from_slice(bytes);
        (start, self.bytes.len())
    }

    pub(super) fn insert(&mut self, space: Space, key: &[u8], value: &[u8]) {
        let (key, value) = (self.push(key), Some(self.push(value)));
        self.changes[space as usize].push(Change { key, value });
    }

    /// Inserts a value that `encode` appends to what it is given.
    pub(super) fn insert_with(
        &mut self,
        space: Space,
        key: &[u8],
        encode: impl FnOnce(&mut Vec<u8>) -> Result<(), String>,
    ) -> Result<(), String> {
        let key = self.push(key);
        let start = self.bytes.len();
        encode(&mut self.bytes)?;
        self.changes[space as usize].push(Change { key, value: Some((start, self.bytes.len())) });
        Ok(())
    }

    pub(super) fn remove(&mut self, space: Space, key: &[u8]) {
        let key = self.push(key);
        self.changes[space as usize].push(Change { key, value: None });
    }

    /// Calls `each` with every keyspace, key and value (none for a removal), sorted.
    pub(super) fn sorted(&mut self, mut each: impl FnMut(usize, &[u8], Option<&[u8]>)) {
        let bytes = &self.bytes;
        for (space, changes) in self.changes.iter_mut().enumerate() {
            let key = |c: &Change| &bytes[c.key.0..c.key.1];
            // Stable: of the changes to one key the last one stays last.
            changes.sort_by(|a, b| key(a).cmp(key(b)));
            for (at, change) in changes.iter().enumerate() {
                if changes.get(at + 1).is_none_or(|next| key(next) != key(change)) {
                    each(space, key(change), change.value.map(|(start, end)| &bytes[start..end]));
                }
            }
        }
    }
}
