//! The native module of the npm package `minoots`: the client of the clock page, as `ts/` uses it.
//!
//! Nothing here is public: `ts/` gives these functions their names, types and errors. Readings cross the boundary as
//! words in a `BigInt64Array` that the caller owns, since an object with several BigInts costs several times as much.
#![deny(unsafe_code)]

mod failure;
mod frame;
mod page;
mod quick;

use crate::failure::{Fault, failure};
use crate::frame::Frame;
use chronotick::{ErrorCode, FixedClocks};
use napi::bindgen_prelude::{BigInt64ArraySlice, Uint8ArraySlice};
use napi_derive::napi;

/// Evaluates a page. The frame holds the clock readings before the call (realtime, boottime, monotonic raw, counter)
/// and the reading after it.
#[napi]
pub fn evaluate(
    page: Uint8ArraySlice<'_>,
    has_counter: bool,
    mut frame: BigInt64ArraySlice<'_>,
) -> Result<(), Fault> {
    let [realtime_ns, boottime_ns, monotonic_raw_ns, counter, ..] = *Frame::of(&mut frame)?;
    let clocks =
        FixedClocks { realtime_ns, boottime_ns, monotonic_raw_ns, counter: has_counter.then_some(counter) };
    let reading = chronotick::evaluate(&page, &clocks).map_err(|e| failure(e.code(), &e))?;
    *Frame::of(&mut frame)? = Frame::words(&reading, 0);
    Ok(())
}

/// The code words that every language shares.
#[napi]
pub fn error_codes() -> Vec<&'static str> {
    ErrorCode::ALL.iter().map(|code| code.as_str()).collect()
}
