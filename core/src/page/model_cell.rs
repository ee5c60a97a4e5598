//! A reader's cache: the model of the page it decoded last, shared by its threads.
//!
//! Decoding and checking 128 bytes costs more than reading a clock, and a page is read far more often than it is
//! published. The cache is a seqlock of its own, by the same two functions as the page, so that it is proved by the
//! same model check; its key is the page's stamp.

use super::Record;
use super::layout::{AnchorClock, SEQUENCE_WORD, Version, WORDS};
use super::model::{CLOCK_WORD, MODEL_WORDS, Model};
use super::reading::{Clocks, Reading};
use super::seqlock::{load_once, store_once};
use super::sync::{AtomicU64, Ordering};

const CELL_WORDS: usize = MODEL_WORDS + 2;
/// Where the cell's own sequence is.
const CELL_SEQUENCE: usize = MODEL_WORDS;
const KEY: usize = MODEL_WORDS + 1;
/// An odd sequence, which no whole page has.
const NO_KEY: u64 = 1 << 32;

/// At most one model, with the stamp of the page that it was made from.
#[repr(C, align(64))]
#[derive(Debug)]
pub struct ModelCell {
    words: [AtomicU64; CELL_WORDS],
}

impl Default for ModelCell {
    fn default() -> Self {
        let mut words = [0; CELL_WORDS];
        words[KEY] = NO_KEY;
        Self { words: words.map(AtomicU64::new) }
    }
}

impl ModelCell {
    /// The model of the page with this stamp, if that is the one which is here. Never waits.
    #[inline(always)]
    pub fn get(&self, stamp: u64) -> Option<Model> {
        let words = load_once::<CELL_WORDS, CELL_SEQUENCE>(&self.words).ok()?;
        let model: &[u64; MODEL_WORDS] = words.first_chunk()?;
        (words[KEY] == stamp).then(|| Model::from_words(model))
    }

    /// The time now by that model, on the path that nearly every reading takes: `None` where the model is not here, or
    /// the page or the moment is a special one. Whoever gets `None` decodes the page.
    ///
    /// The clock is read before the model is loaded, so that nothing need be saved across the call of the clock. A
    /// model of a page that was published in between would be as good, but has another stamp.
    #[inline(always)]
    pub fn read<C: Clocks>(&self, stamp: u64, clocks: &C) -> Option<Reading> {
        const BOOTTIME: u64 = AnchorClock::Boottime.to_byte() as u64;
        const COUNTER: u64 = AnchorClock::Counter { shift: 0 }.to_byte() as u64;
        // Only which clock to read is taken from here; it is compared with the model's own below.
        match self.words[CLOCK_WORD].load(Ordering::Relaxed) & 0x0f {
            BOOTTIME => {
                let now = clocks.boottime();
                let model = self.get(stamp)?;
                model.is_on_boottime().then(|| model.plain_at_boottime(now))?
            }
            COUNTER => {
                let now_ticks = clocks.counter()?;
                let model = self.get(stamp)?;
                model.is_on_counter().then(|| model.plain_at_counter(now_ticks))?
            }
            _ => None,
        }
    }

    /// Keeps the model of a page. One caller at a time: hold a lock. A legacy page is not kept, since its sequence
    /// does not tell one write from the next, nor is one that was never published, whose stamp is that of zeroes.
    pub fn put(&self, snapshot: &[u64; WORDS], record: &Record, model: Model) {
        if record.version == Version::V2 && record.sequence != 0 {
            self.store(snapshot[SEQUENCE_WORD], model.to_words());
        }
    }

    /// Forgets what is here: another object is about to be mapped. One caller at a time, the same as [`put`](Self::put).
    pub fn clear(&self) {
        self.store(NO_KEY, [0; MODEL_WORDS]);
    }

    fn store(&self, key: u64, model: [u64; MODEL_WORDS]) {
        let sequence = (self.words[CELL_SEQUENCE].load(Ordering::Relaxed) >> 32) as u32;
        let mut words = [0; CELL_WORDS];
        words[..MODEL_WORDS].copy_from_slice(&model);
        words[KEY] = key;
        words[CELL_SEQUENCE] = u64::from(sequence.wrapping_add(2)) << 32;
        store_once::<CELL_WORDS, CELL_SEQUENCE>(&self.words, sequence.wrapping_add(1), &words);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_model_is_found_by_its_stamp_only() {
        let cell = ModelCell::default();
        assert_eq!(cell.get(NO_KEY | 7), None);
        let record = Record { sequence: 4, anchor: 9, ..Record::default() };
        cell.put(&record.to_words(), &record, record.model());
        let stamp = record.to_words()[SEQUENCE_WORD];
        assert_eq!(cell.get(stamp), Some(record.model()));
        assert_eq!(cell.get(stamp + 1), None);
        cell.clear();
        assert_eq!(cell.get(stamp), None);
    }

    #[test]
    fn a_legacy_page_is_not_kept() {
        let cell = ModelCell::default();
        let record = Record { sequence: 4, version: Version::Legacy, ..Record::default() };
        cell.put(&record.to_words(), &record, record.model());
        assert_eq!(cell.get(record.to_words()[SEQUENCE_WORD]), None);
    }
}
