//! A reading as eleven words in a `BigInt64Array`; `ts/frame.ts` is its other side.

use crate::failure::{Fault, failure};
use chronotick::{ErrorCode, Reading, Span};
use napi::bindgen_prelude::BigInt64ArraySlice;

/// How many words there are.
pub(crate) const WORDS: usize = 11;

/// The words, in order: corrected, earliest, latest, sigma, max error, system (ns); status, source, confidence and
/// drift rate (as the bits of an f64); how late a wait ended (ns). Without a bound, max error is the largest i64.
pub(crate) struct Frame;

impl Frame {
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
            reading.status as i64,
            reading.source as i64,
            bits(f64::from(reading.confidence)),
            bits(reading.drift_rate),
            late_ns,
        ]
    }
}
