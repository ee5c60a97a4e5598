//! What must hold for any 128 bytes taken as a clock page, read at any time.

use chronotick_core::page::codec::words_of;
use chronotick_core::page::layout::SEQUENCE_WORD;
use chronotick_core::page::{Clocks, ModelCell, PAGE_SIZE, PageCell, Record, Version};
use chronotick_core::{MonoTime, Span, Timestamp};

/// All clocks show the same number; there may be no counter.
struct Fixed {
    now: i64,
    has_counter: bool,
}

impl Clocks for Fixed {
    fn realtime(&self) -> Timestamp {
        Timestamp::from_ns(self.now)
    }

    fn boottime(&self) -> MonoTime {
        MonoTime::from_ns(self.now)
    }

    fn monotonic_raw(&self) -> MonoTime {
        MonoTime::from_ns(self.now)
    }

    fn counter(&self) -> Option<i64> {
        self.has_counter.then_some(self.now)
    }
}

/// `data`: a page, then two clock readings as little-endian i64; what is missing counts as zeros.
pub(crate) fn check(data: &[u8]) {
    let mut input = [0; PAGE_SIZE + 16];
    let length = data.len().min(input.len());
    input[..length].copy_from_slice(&data[..length]);
    let page: &[u8; PAGE_SIZE] = input.first_chunk().expect("the input is longer than a page");
    let number = |at: usize| i64::from_le_bytes(core::array::from_fn(|i| input[at + i]));
    let (first, second) = (number(PAGE_SIZE), number(PAGE_SIZE + 8));

    let words = words_of(page);
    if let Ok(snapshot) = PageCell::from_words(words).snapshot(2) {
        assert_eq!(snapshot, words, "a snapshot of a page at rest is that page");
    }
    let parsed = Record::from_words(&words);
    assert_eq!(parsed, Record::from_bytes(page));
    let record = match parsed {
        Ok(record) => record,
        Err(e) => {
            assert!(!e.to_string().is_empty());
            return;
        }
    };
    round_trip(&record, page);
    let cache = ModelCell::default();
    cache.put(&words, &record, record.model());
    for now in [first, second] {
        at(&record, Span::from_ns(now));
        for has_counter in [true, false] {
            let clocks = Fixed { now, has_counter };
            if let Ok(elapsed) = record.elapsed(&clocks) {
                at(&record, elapsed);
            }
            if let Some(everyday) = cache.read(words[SEQUENCE_WORD], &clocks) {
                assert_eq!(Ok(everyday), record.read(&clocks), "the short way and the long one");
            }
        }
    }
    ages(&record, first, second);
}

/// What was read is written back: byte for byte, but for the bytes that mean nothing in this page.
fn round_trip(record: &Record, page: &[u8; PAGE_SIZE]) {
    let mut want = *page;
    match record.version {
        // The counter shift of another anchor.
        Version::V2 if page[87] & 0x0f != 3 => want[87] &= 0x0f,
        Version::V2 => {}
        Version::Legacy => {
            want[84..88].fill(0);
            want[108..112].fill(0);
            want[116..].fill(0);
        }
    }
    assert_eq!(record.to_bytes(), want);
    assert_eq!(Record::from_bytes(&want), Ok(*record));
}

fn at(record: &Record, elapsed: Span) {
    let reading = record.read_at(elapsed);
    assert!(reading.bound.earliest() <= reading.bound.latest());
    assert!(reading.bound.contains(reading.corrected), "{reading:?}");
    assert!(!reading.sigma().is_negative() && !reading.max_error().is_negative(), "{reading:?}");
    assert!(record.version == Version::V2 || reading.bound.is_unbounded(), "an old page has no bound");
    assert_eq!(reading.status, record.status(elapsed));
}

/// The bound never shrinks with age, on either side of the prediction. No bound at all, which is what there is when the
/// time is past what 64 bits hold, may become one as the time comes back into range.
fn ages(record: &Record, first: i64, second: i64) {
    let [near, far] = {
        let (a, b) = (first.unsigned_abs() >> 1, second.unsigned_abs() >> 1);
        [a.min(b), a.max(b)].map(|ns| ns as i64)
    };
    for sign in [1, -1] {
        let width = |ns: i64| record.read_at(Span::from_ns(sign * ns)).max_error();
        assert!(
            width(near) == Span::MAX || width(near) <= width(far),
            "{record:?} at {near} and {far} ns, sign {sign}"
        );
    }
}
