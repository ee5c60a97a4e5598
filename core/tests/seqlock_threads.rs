//! The seqlock over a whole page among real threads: small here, for Miri's weak memory to be let loose on it.
//!
//! Miri runs this with many seeds, and each seed chooses other switches and other stale values. Millions of readings
//! through shared memory are the business of the stress test in `tests/e2e`.
#![cfg(all(feature = "writer", not(loom)))]
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::page::{Flags, PageCell, PageWriter, Record, Repair, Version};

/// Miri takes a hundred thousand times longer than the processor.
const WRITES: u32 = if cfg!(miri) { 4 } else { 20_000 };
const READS: u32 = if cfg!(miri) { 6 } else { 20_000 };

/// A record all of whose words follow from `n`.
fn record(n: u32) -> Record {
    let x = f64::from(n);
    Record {
        corrected_timestamp: x,
        system_timestamp: x,
        offset_correction: x,
        drift_rate: x / f64::from(u32::MAX),
        offset_uncertainty: x,
        drift_uncertainty: x,
        prediction_time: x,
        valid_until: x,
        confidence: n as f32,
        measurement_count: n,
        last_ntp_sync: x,
        daemon_uptime: x,
        total_corrections: n,
        max_error: n as f32,
        average_latency_ms: n as f32,
        anchor: i64::from(n),
        ..Record::default()
    }
}

#[test]
fn threads_never_see_a_torn_page() {
    let cell = PageCell::from_words(record(0).to_words());
    let taken: u32 = std::thread::scope(|scope| {
        let reader = || {
            (0..READS)
                .filter(|_| {
                    let Ok(words) = cell.snapshot(if cfg!(miri) { 20 } else { PageCell::RETRY_BUDGET })
                    else {
                        return false;
                    };
                    let read = Record::from_words(&words).unwrap();
                    let n = read.measurement_count;
                    assert_eq!(read, Record { sequence: 2 * n, ..record(n) }, "torn");
                    true
                })
                .count() as u32
        };
        let readers = [scope.spawn(reader), scope.spawn(reader)];
        let (mut writer, repair) = PageWriter::new(&cell);
        assert_eq!(repair, Repair::Clean);
        for n in 1..=WRITES {
            writer.publish(&record(n));
        }
        readers.into_iter().map(|r| r.join().unwrap()).sum()
    });
    assert!(taken > 0, "the readers got no snapshot at all");
    assert_eq!(Record::from_words(&cell.snapshot(1).unwrap()).unwrap().measurement_count, WRITES);
}

#[test]
fn readers_see_an_old_page_or_the_new_one_while_a_new_daemon_takes_it_over() {
    let new = Record { sequence: 8, ..record(9) };
    for sequence in [6, 7] {
        let flags = Flags(Flags::VALID);
        let old =
            Record { version: Version::Legacy, sequence, flags, max_error: 0.0, anchor: 0, ..record(5) };
        for _ in 0..if cfg!(miri) { 1 } else { 200 } {
            let cell = PageCell::from_words(old.to_words());
            std::thread::scope(|scope| {
                for _ in 0..2 {
                    scope.spawn(|| {
                        for _ in 0..READS {
                            if let Ok(words) = cell.snapshot(4) {
                                let read = Record::from_words(&words).unwrap();
                                // Its sequence alone may already be that of the write under way.
                                let still_old = Record { sequence: read.sequence, ..old };
                                assert!(read == still_old || read == new, "torn: {read:?}");
                            }
                        }
                    });
                }
                PageWriter::new(&cell).0.publish(&new);
            });
            assert_eq!(Record::from_words(&cell.snapshot(1).unwrap()), Ok(new));
        }
    }
}
