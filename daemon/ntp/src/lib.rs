//! The protocols that the clock daemon speaks, as pure code: bytes and moments in, values out.
//!
//! - [`packet`], [`exchange`]: an NTP packet, and what an answer to our request is worth.
//! - [`nts_record`]: the records of an NTS key exchange; [`extension`] and [`nts_packet`]: what NTS adds to a packet.
//! - [`answer`]: what we answer to those who ask us.
//! - [`chrony`]: the question to a local chronyd how it stands.
//!
//! No socket, no clock, no random source: nonces and readings are passed in, so that every check can be tested and
//! fuzzed. What must hold for any input is in `fuzz/checks`.
#![forbid(unsafe_code)]

pub mod answer;
pub mod chrony;
pub mod exchange;
pub mod extension;
pub mod nts_packet;
pub mod nts_record;
pub mod packet;
