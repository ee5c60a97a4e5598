//! The seqlock: sixteen words move from one writer to any number of readers, without locks and without tearing.
//!
//! Orderings, and what each pairs with. The writer makes word 8 odd, then a `Release` fence, then stores the other
//! words: a reader that sees any of the new words and then passes its `Acquire` fence also sees the odd (or a later)
//! word 8, so its second load differs and it retries. The writer's last store of word 8 is `Release` and pairs with
//! the reader's first, `Acquire`, load: a reader that starts on the new sequence sees all the new words. Leaving out
//! either fence lets a torn read through; the loom model in `core/tests/seqlock_loom.rs` shows it on fewer words.
//!
//! A page of the old Python writer has no parity in its sequence, and its writer zeroes the record first. Such a
//! snapshot is accepted only when two reads in a row are identical and the words that the zeroing clears are set.

use super::layout::{Flags, MAGIC, MAGIC_WORD, SEQUENCE_WORD, WORDS};
use super::sync::{AtomicU64, Ordering, fence, spin_loop};

/// The shared page as atomic words. Map the object and borrow it as this, never as plain bytes.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct PageCell {
    words: [AtomicU64; WORDS],
}

#[cfg(not(loom))]
const _: () = assert!(size_of::<PageCell>() == super::layout::PAGE_SIZE && align_of::<PageCell>() == 64);

/// Why no untorn snapshot was had within the retry budget.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SnapshotError {
    /// A write was under way all the time: the writer is very slow, or it died in the middle.
    WriteInProgress {
        /// The odd sequence that was seen last.
        sequence: u32,
    },
    /// The page changed at every attempt.
    Contended,
}

impl Default for PageCell {
    fn default() -> Self {
        Self::from_words([0; WORDS])
    }
}

impl PageCell {
    /// How often a reader tries before it gives up: some tens of microseconds, far longer than a write takes.
    pub const RETRY_BUDGET: u32 = 2_000;

    /// A page of its own, for tests and for files that are filled before they are named.
    pub fn from_words(words: [u64; WORDS]) -> Self {
        Self { words: words.map(AtomicU64::new) }
    }

    /// One untorn snapshot, or an answer after `budget` attempts. Never blocks.
    #[inline(always)]
    pub fn snapshot(&self, budget: u32) -> Result<[u64; WORDS], SnapshotError> {
        let mut last = SnapshotError::Contended;
        for _ in 0..budget {
            // Which rule applies is decided from the snapshot itself, after it is known to be whole.
            let attempt = if is_v2(self.words[MAGIC_WORD].load(Ordering::Relaxed)) {
                self.try_v2()
            } else {
                self.try_legacy()
            };
            match attempt {
                Ok(words) => return Ok(words),
                Err(e) => last = e,
            }
            spin_loop();
        }
        Err(last)
    }

    /// The word that changes with every publish: two pages with the same stamp are the same page, as long as the same
    /// object is mapped. `None` while a write is under way.
    #[inline(always)]
    pub fn stamp(&self) -> Option<u64> {
        // Acquire: pairs with the writer's final Release store, as in a snapshot.
        let word = self.words[SEQUENCE_WORD].load(Ordering::Acquire);
        ((word >> 32) & 1 == 0).then_some(word)
    }

    fn load_all(&self) -> [u64; WORDS] {
        core::array::from_fn(|i| self.words[i].load(Ordering::Relaxed))
    }

    #[inline(always)]
    fn try_v2(&self) -> Result<[u64; WORDS], SnapshotError> {
        let words = load_once::<WORDS, SEQUENCE_WORD>(&self.words)?;
        if is_v2(words[MAGIC_WORD]) { Ok(words) } else { Err(SnapshotError::Contended) }
    }

    #[cold]
    fn try_legacy(&self) -> Result<[u64; WORDS], SnapshotError> {
        let first = self.load_all();
        fence(Ordering::Acquire);
        let second = self.load_all();
        if first != second || is_v2(second[MAGIC_WORD]) {
            return Err(SnapshotError::Contended);
        }
        // What the old writer's zeroing clears: times, sequence, uptime, VALID. A page that is not VALID is one of
        // an old daemon that has measured nothing; it is whole when it says so with its times in place.
        let times_set = [0, 1, 6, 7].into_iter().all(|i| second[i] != 0);
        let valid = second[9] as u32 & Flags::VALID != 0;
        let counted = second[SEQUENCE_WORD] >> 32 != 0 && second[12] != 0;
        // Without the correction: a writer that was stopped in the middle of a write has the times in place as well.
        let never_measured = [2, 3, SEQUENCE_WORD, 9, 12].into_iter().all(|i| second[i] == 0);
        if times_set && ((valid && counted) || never_measured) {
            Ok(second)
        } else {
            Err(SnapshotError::Contended)
        }
    }
}

/// One attempt of a reader over `N` words, of which word `S` holds the sequence in its upper half.
///
/// Public for the model checker, which needs fewer words than a page has; everybody else takes a snapshot.
#[doc(hidden)]
#[inline(always)]
pub fn load_once<const N: usize, const S: usize>(words: &[AtomicU64; N]) -> Result<[u64; N], SnapshotError> {
    // Acquire: pairs with the writer's final Release store of this word.
    let before = words[S].load(Ordering::Acquire);
    let sequence = (before >> 32) as u32;
    if sequence & 1 == 1 {
        return Err(SnapshotError::WriteInProgress { sequence });
    }
    let copy = core::array::from_fn(|i| if i == S { before } else { words[i].load(Ordering::Relaxed) });
    // Pairs with the writer's Release fence: if a word above came from a later write, the next load sees it.
    fence(Ordering::Acquire);
    if words[S].load(Ordering::Relaxed) == before { Ok(copy) } else { Err(SnapshotError::Contended) }
}

/// One write over `N` words, of which word `S` of `new` holds the next even sequence in its upper half.
/// A reader's own cache of one model uses it too, so it is there without the writer.
#[doc(hidden)]
#[inline(always)]
pub fn store_once<const N: usize, const S: usize>(words: &[AtomicU64; N], odd: u32, new: &[u64; N]) {
    words[S].store(u64::from(odd) << 32 | new[S] & 0xffff_ffff, Ordering::Relaxed);
    // Pairs with the reader's Acquire fence: no word below is seen before the odd sequence.
    fence(Ordering::Release);
    for i in (0..N).filter(|&i| i != S) {
        words[i].store(new[i], Ordering::Relaxed);
    }
    // Pairs with the reader's Acquire load: whoever sees the new sequence sees all the words above.
    words[S].store(new[S], Ordering::Release);
}

fn is_v2(magic_word: u64) -> bool {
    let [a, b, c, _] = ((magic_word >> 32) as u32).to_le_bytes();
    // `CT` with another version number is read by the same protocol; the codec then refuses it by name.
    [a, b] == [MAGIC[0], MAGIC[1]] && c >= MAGIC[2]
}

/// What a new writer found in the page it took over.
#[cfg(feature = "writer")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Repair {
    /// The page was whole.
    Clean,
    /// The last writer died in the middle of a write; its sequence is given.
    TornWrite {
        /// The odd sequence it left behind.
        sequence: u32,
    },
}

/// The one writer of a page. The daemon holds the lock that makes it the only one.
#[cfg(feature = "writer")]
#[derive(Debug)]
pub struct PageWriter<'a> {
    cell: &'a PageCell,
    /// The last even sequence that was published.
    sequence: u32,
    /// The page has the magic of version 2.
    marked: bool,
}

#[cfg(feature = "writer")]
impl<'a> PageWriter<'a> {
    /// Takes over a page, new or left behind by another writer. Nothing is changed until the first publish, which
    /// also mends a page whose writer died in the middle.
    pub fn new(cell: &'a PageCell) -> (Self, Repair) {
        let sequence = (cell.words[SEQUENCE_WORD].load(Ordering::Relaxed) >> 32) as u32;
        let v2 = is_v2(cell.words[MAGIC_WORD].load(Ordering::Relaxed));
        let repair = if v2 && sequence & 1 == 1 { Repair::TornWrite { sequence } } else { Repair::Clean };
        // An odd number is rounded down: the next write begins with the same odd number and ends even.
        (Self { cell, sequence: sequence & !1, marked: v2 }, repair)
    }

    /// The sequence of the last publish.
    pub fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Publishes a record; its `sequence` field is replaced. No system call, no allocation.
    pub fn publish(&mut self, record: &super::Record) {
        let mut words = record.to_words();
        let confidence = words[SEQUENCE_WORD] & 0xffff_ffff;
        let odd = self.sequence.wrapping_add(1);
        // 0 means never published, so it is skipped when the counter wraps.
        let even = match odd.wrapping_add(1) {
            0 => 2,
            n => n,
        };
        words[SEQUENCE_WORD] = u64::from(even) << 32 | confidence;
        if !self.marked {
            self.mark(odd, words[MAGIC_WORD]);
        }
        store_once::<WORDS, SEQUENCE_WORD>(&self.cell.words, odd, &words);
        self.sequence = even;
    }

    /// Turns an old page into one of version 2 that is being written. Readers of an old page go by its content alone:
    /// without this, one that stops halfway through the first write would look whole to them.
    #[cold]
    fn mark(&mut self, odd: u32, magic: u64) {
        // The confidence in the lower half stays: to readers of the old page it is still a part of it.
        let old = self.cell.words[SEQUENCE_WORD].load(Ordering::Relaxed);
        self.cell.words[SEQUENCE_WORD].store(u64::from(odd) << 32 | old & 0xffff_ffff, Ordering::Relaxed);
        // Pairs with the reader's Acquire fence: whoever takes the page for version 2 sees that it is being written.
        fence(Ordering::Release);
        self.cell.words[MAGIC_WORD].store(magic, Ordering::Relaxed);
        // The Release fence of the write that follows does the same for readers of an old page: one that has seen any
        // later word sees the magic when it reads for the second time.
        self.marked = true;
    }
}

#[cfg(all(test, feature = "writer", not(loom)))]
mod tests {
    use super::super::{Record, Version};
    use super::*;

    fn record(n: u32) -> Record {
        Record { prediction_time: f64::from(n), measurement_count: n, ..Record::default() }
    }

    #[test]
    fn what_is_published_is_read() {
        let cell = PageCell::default();
        let (mut writer, repair) = PageWriter::new(&cell);
        assert_eq!(repair, Repair::Clean);
        for n in 1..10 {
            writer.publish(&record(n));
            let read = Record::from_words(&cell.snapshot(1).unwrap()).unwrap();
            assert_eq!((read.measurement_count, read.sequence), (n, 2 * n));
        }
    }

    #[test]
    fn a_dead_writers_odd_sequence_is_reported_and_mended() {
        let cell = PageCell::default();
        PageWriter::new(&cell).0.publish(&record(1));
        cell.words[SEQUENCE_WORD].store(7 << 32, Ordering::Relaxed);
        assert_eq!(cell.snapshot(3), Err(SnapshotError::WriteInProgress { sequence: 7 }));
        let (mut writer, repair) = PageWriter::new(&cell);
        assert_eq!(repair, Repair::TornWrite { sequence: 7 });
        writer.publish(&record(2));
        assert_eq!(Record::from_words(&cell.snapshot(1).unwrap()).unwrap().sequence, 8);
    }

    #[test]
    fn the_sequence_skips_zero_when_it_wraps() {
        let cell = PageCell::default();
        let (mut writer, _) = PageWriter::new(&cell);
        writer.sequence = u32::MAX - 1;
        writer.publish(&record(1));
        assert_eq!(writer.sequence(), 2);
        writer.publish(&record(2));
        assert_eq!(writer.sequence(), 4);
    }

    #[test]
    fn a_zeroed_old_record_is_not_accepted() {
        let old = Record {
            version: Version::Legacy,
            corrected_timestamp: 1.0,
            system_timestamp: 1.0,
            prediction_time: 1.5,
            valid_until: 61.0,
            sequence: 3,
            flags: Flags(Flags::VALID),
            daemon_uptime: 1.0,
            ..Record::default()
        };
        let words = old.to_words();
        assert_eq!(PageCell::from_words(words).snapshot(1), Ok(words), "an odd sequence means nothing there");
        for zeroed in [0, 1, 6, 7, 8, 9, 12] {
            let mut torn = words;
            torn[zeroed] = 0;
            assert_eq!(
                PageCell::from_words(torn).snapshot(3),
                Err(SnapshotError::Contended),
                "word {zeroed}"
            );
        }
        // A writer that was stopped after its times and its correction, before its counters.
        let half =
            Record { sequence: 0, flags: Flags(0), daemon_uptime: 0.0, offset_correction: 0.25, ..old };
        assert_eq!(PageCell::from_words(half.to_words()).snapshot(3), Err(SnapshotError::Contended));
        assert!(PageCell::default().snapshot(3).is_err(), "an all-zero page");
    }
}
