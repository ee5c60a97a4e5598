//! The seqlock over a whole page among real threads: small here, for Miri's weak memory to be let loose on it.
//!
//! Miri runs this with many seeds, and each seed chooses other switches and other stale values. Millions of readings
//! through shared memory are the business of the stress test in `tests/e2e`.
#![cfg(all(feature = "writer", not(loom)))]
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::page::{PageCell, PageWriter, Record, Repair};

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
