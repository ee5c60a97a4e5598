//! A set of small numbers that finds its next member in a few instructions.

use alloc::vec;
use alloc::vec::Vec;

const WORD: usize = 64;

/// Members are below the capacity given at the start. `words` has one bit for each number, `summary` one bit for each
/// word that is not zero.
#[derive(Debug)]
pub(super) struct Bits {
    words: Vec<u64>,
    summary: Vec<u64>,
}

impl Bits {
    /// No members, and room for none.
    pub(super) const EMPTY: Self = Self { words: Vec::new(), summary: Vec::new() };

    pub(super) fn new(capacity: usize) -> Self {
        let words = capacity.div_ceil(WORD);
        Self { words: vec![0; words], summary: vec![0; words.div_ceil(WORD)] }
    }

    pub(super) fn insert(&mut self, number: usize) {
        let word = number / WORD;
        self.words[word] |= 1 << (number % WORD);
        self.summary[word / WORD] |= 1 << (word % WORD);
    }

    pub(super) fn remove(&mut self, number: usize) {
        let word = number / WORD;
        self.words[word] &= !(1 << (number % WORD));
        if self.words[word] == 0 {
            self.summary[word / WORD] &= !(1 << (word % WORD));
        }
    }

    /// The smallest member.
    pub(super) fn first(&self) -> Option<usize> {
        let (i, summary) = self.summary.iter().enumerate().find(|(_, word)| **word != 0)?;
        let word = i * WORD + summary.trailing_zeros() as usize;
        Some(word * WORD + self.words[word].trailing_zeros() as usize)
    }

    /// The smallest member that is at least `from`.
    pub(super) fn first_from(&self, from: usize) -> Option<usize> {
        let word = from / WORD;
        let here = self.words.get(word)? & (u64::MAX << (from % WORD));
        if here != 0 {
            return Some(word * WORD + here.trailing_zeros() as usize);
        }
        let after = word + 1;
        let mut i = after / WORD;
        let mut summary = self.summary.get(i)? & (u64::MAX << (after % WORD));
        while summary == 0 {
            i += 1;
            summary = *self.summary.get(i)?;
        }
        let word = i * WORD + summary.trailing_zeros() as usize;
        Some(word * WORD + self.words[word].trailing_zeros() as usize)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.summary.iter().all(|word| *word == 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::collections::BTreeSet;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn agrees_with_a_tree(
            capacity in 1..9_000usize,
            changes in proptest::collection::vec((any::<bool>(), 0..9_000usize), 0..300),
            from in 0..9_100usize,
        ) {
            let (mut bits, mut model) = (Bits::new(capacity), BTreeSet::new());
            for (insert, number) in changes {
                let number = number % capacity;
                if insert {
                    bits.insert(number);
                    model.insert(number);
                } else {
                    bits.remove(number);
                    model.remove(&number);
                }
                prop_assert_eq!(bits.first(), model.first().copied());
                prop_assert_eq!(bits.first_from(from), model.range(from..).next().copied());
                prop_assert_eq!(bits.is_empty(), model.is_empty());
            }
        }
    }
}
