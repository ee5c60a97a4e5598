//! The fuzz target `ntp_packet`.
#![no_main]

#[path = "../checks/ntp_packet.rs"]
mod ntp_packet;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ntp_packet::check(data));
