//! The fuzz target `ntp_exchange`.
#![no_main]

#[path = "../checks/ntp_exchange.rs"]
mod ntp_exchange;

libfuzzer_sys::fuzz_target!(|data: &[u8]| ntp_exchange::check(data));
