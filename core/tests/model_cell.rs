//! Readers that share a cached model while the page changes as fast as it can: every reading belongs to one publish.
#![cfg(all(feature = "writer", not(loom)))]
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::page::{
    AnchorClock, Clocks, Flags, ModelCell, PageCell, PageWriter, Reading, Record, Source,
};
use chronotick_core::{MonoTime, Timestamp};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

/// At which the growth of the bound is nowhere near a whole nanosecond: the cached path is taken.
const ELAPSED_NS: i64 = 1_234_567_891;

struct Fixed;

impl Clocks for Fixed {
    fn realtime(&self) -> Timestamp {
        Timestamp::EPOCH
    }
    fn boottime(&self) -> MonoTime {
        MonoTime::from_ns(ELAPSED_NS)
    }
    fn monotonic_raw(&self) -> MonoTime {
        MonoTime::from_ns(ELAPSED_NS)
    }
    fn counter(&self) -> Option<i64> {
        Some(ELAPSED_NS)
    }
}

/// A record of which every number that a reading shows is made of `n`.
fn record(n: u32) -> Record {
    let anchor_clock =
        if n.is_multiple_of(2) { AnchorClock::Boottime } else { AnchorClock::Counter { shift: 1 } };
    Record {
        prediction_time: f64::from(n),
        valid_until: f64::from(n) + 10.0,
        offset_correction: f64::from(n) / 1e3,
        drift_rate: f64::from(n) * 1e-9,
        offset_uncertainty: f64::from(n) * 1e-6,
        confidence: n as f32,
        max_error: n as f32 / 1e3,
        flags: Flags(Flags::VALID | Flags::WARMUP_COMPLETE),
        source: Source::Ntp,
        sequence: 2,
        anchor_clock,
        // One nanosecond for each tick.
        anchor_rate: 1 << 31,
        ..Record::default()
    }
}

fn read(page: &PageCell, cache: &ModelCell, kept: &Mutex<()>, warm: &AtomicU64) -> Option<Reading> {
    if let Some(stamp) = page.stamp()
        && let Some(reading) = cache.read(stamp, &Fixed)
    {
        warm.fetch_add(1, Ordering::Relaxed);
        return Some(reading);
    }
    let words = page.snapshot(PageCell::RETRY_BUDGET).ok()?;
    let record = Record::from_words(&words).unwrap();
    if let Ok(_kept) = kept.try_lock() {
        cache.put(&words, &record, record.model());
    }
    Some(record.read(&Fixed).unwrap())
}

#[test]
fn every_reading_belongs_to_one_publish() {
    const PUBLISHES: u32 = if cfg!(miri) { 40 } else { 200_000 };
    let page = PageCell::default();
    let (cache, kept, warm, stop) =
        (ModelCell::default(), Mutex::new(()), AtomicU64::new(0), AtomicBool::new(false));
    let (mut writer, _) = PageWriter::new(&page);
    writer.publish(&record(1));
    std::thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while !stop.load(Ordering::Relaxed) {
                    let Some(reading) = read(&page, &cache, &kept, &warm) else { continue };
                    let n = reading.confidence as u32;
                    assert_eq!(reading, record(n).read(&Fixed).unwrap(), "publish {n}");
                }
            });
        }
        for n in 1..PUBLISHES {
            writer.publish(&record(n % 1_000_000 + 1));
            // Readers must also meet a page that rests, or the cache would never be used.
            if n.is_multiple_of(16) {
                std::thread::yield_now();
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
    // Now that the page rests, the first reading keeps its model at the latest, and the second takes it from there.
    let before = warm.load(Ordering::Relaxed);
    read(&page, &cache, &kept, &warm).unwrap();
    read(&page, &cache, &kept, &warm).unwrap();
    assert!(warm.load(Ordering::Relaxed) > before);
}
