//! The protocols that the clock daemon speaks, as pure code: bytes and moments in, values out.
//!
//! No socket, no clock, no random source: nonces and readings are passed in, so that every check can be tested and
//! fuzzed. What must hold for any input is in `fuzz/checks`.
#![forbid(unsafe_code)]

pub mod exchange;
pub mod packet;
