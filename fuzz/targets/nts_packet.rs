//! The fuzz target `nts_packet`.
#![no_main]

#[path = "../checks/nts_packet.rs"]
mod nts_packet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| nts_packet::check(data));
