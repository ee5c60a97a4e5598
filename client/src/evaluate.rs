//! Evaluating the bytes of a page at given clock readings: the pure path that every binding shares.
//!
//! The conformance list (`tests/conformance/pages.json`) is run through this function in every language.

use crate::error::ReadError;
use chronotick_core::page::{Clocks, PAGE_SIZE, PageCell, Reading, Record, codec::words_of};
use chronotick_core::{MonoTime, Timestamp};

/// Clock readings to evaluate a page at.
#[derive(Clone, Copy, Debug, Default)]
pub struct FixedClocks {
    /// CLOCK_REALTIME, Unix ns.
    pub realtime_ns: i64,
    /// CLOCK_BOOTTIME, ns.
    pub boottime_ns: i64,
    /// CLOCK_MONOTONIC_RAW, ns.
    pub monotonic_raw_ns: i64,
    /// The hardware counter in ticks, where it can be read.
    pub counter: Option<i64>,
}

impl Clocks for FixedClocks {
    fn realtime(&self) -> Timestamp {
        Timestamp::from_ns(self.realtime_ns)
    }

    fn boottime(&self) -> MonoTime {
        MonoTime::from_ns(self.boottime_ns)
    }

    fn monotonic_raw(&self) -> MonoTime {
        MonoTime::from_ns(self.monotonic_raw_ns)
    }

    fn counter(&self) -> Option<i64> {
        self.counter
    }
}

/// The reading that a client would make of a page with these bytes at these clock readings.
pub fn evaluate(page: &[u8], clocks: &FixedClocks) -> Result<Reading, ReadError> {
    let bytes: &[u8; PAGE_SIZE] =
        page.try_into().map_err(|_| ReadError::WrongLength { length: page.len() })?;
    // Nobody writes to this copy, so a snapshot succeeds at once or never.
    let words = PageCell::from_words(words_of(bytes)).snapshot(1).map_err(|_| ReadError::WriterDied)?;
    Ok(Record::from_words(&words)?.read(clocks)?)
}
