//! The fuzz target `duration`.
#![no_main]

#[path = "../checks/duration.rs"]
mod duration;

libfuzzer_sys::fuzz_target!(|data: &[u8]| duration::check(data));
