//! The fuzz target `nts_record`.
#![no_main]

#[path = "../checks/nts_record.rs"]
mod nts_record;

libfuzzer_sys::fuzz_target!(|data: &[u8]| nts_record::check(data));
