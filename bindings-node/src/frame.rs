//! A reading as words in a `BigInt64Array`; `ts/frame.ts` is its other side.

use crate::failure::{Fault, failure};
use chronotick::{ErrorCode, Reading, Span, Timestamp};
use napi::bindgen_prelude::BigInt64ArraySlice;

/// How many words there are.
pub(crate) const WORDS: usize = 13;

/// The words, in order: corrected, earliest, latest, sigma, max error, system (ns); status, source, confidence and
/// drift rate (as the bits of an f64); how late a wait ended, age (ns); corrected (ms, as the bits of an f64). Without a
/// bound, max error is the largest i64.
pub(crate) struct Frame;

impl Frame {
    /// In place of a reading that could not be made: its status is -1.
    pub(crate) const FAILED: [i64; WORDS] = {
        let mut words = [0; WORDS];
        words[6] = (-1.0f64).to_bits().cast_signed();
        words
    };

    /// The caller's words.
    #[allow(unsafe_code)]
    pub(crate) fn of<'a>(frame: &'a mut BigInt64ArraySlice<'_>) -> Result<&'a mut [i64; WORDS], Fault> {
        // SAFETY: the array belongs to `ts/frame.ts`, which shares it with no worker, and JavaScript does not run on
        // this thread before the native function returns; the slice does not outlive that.
        let words = unsafe { frame.as_mut() };
        words.try_into().map_err(|_| failure(ErrorCode::Internal, "the native module and its caller differ"))
    }

    /// A reading in words.
    pub(crate) fn words(reading: &Reading, late_ns: i64) -> [i64; WORDS] {
        let bits = |value: f64| value.to_bits().cast_signed();
        let max_error = reading.max_error();
        debug_assert_eq!(max_error == Span::MAX, reading.bound.is_unbounded());
        [
            reading.corrected.as_ns(),
            reading.bound.earliest().as_ns(),
            reading.bound.latest().as_ns(),
            reading.sigma().as_ns(),
            max_error.as_ns(),
            reading.system.as_ns(),
            bits(f64::from(reading.status as u32)),
            bits(f64::from(reading.source as u32)),
            bits(f64::from(reading.confidence)),
            bits(reading.drift_rate),
            late_ns,
            reading.age().as_ns(),
            bits(unix_ms(reading.corrected)),
        ]
    }
}

/// Unix ms with a fraction.
pub(crate) fn unix_ms(t: Timestamp) -> f64 {
    // One rounding: both terms are exact.
    t.as_ns().div_euclid(1_000_000) as f64 + t.as_ns().rem_euclid(1_000_000) as f64 / 1e6
}
