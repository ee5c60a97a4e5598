//! Replays the corpora of the fuzz targets of this crate: what fuzzing once found never comes back.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../fuzz/checks/ntp_exchange.rs"]
mod ntp_exchange;
#[path = "../../../fuzz/checks/ntp_packet.rs"]
mod ntp_packet;
#[path = "../../../fuzz/checks/nts_packet.rs"]
mod nts_packet;
#[path = "../../../fuzz/checks/nts_record.rs"]
mod nts_record;

use std::path::Path;

/// Changes of each file that are checked as well; a fuzzer does more, but needs another toolchain.
const CHANGES: u64 = 500;

/// Runs `check` on every file of the corpus, which holds at least `at_least` of them, and on changes of them.
fn replay(corpus: &str, at_least: usize, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus").join(corpus);
    let mut replayed = 0;
    for file in std::fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        // Its name stands in the captured output when the check below fails.
        println!("{}", path.display());
        let bytes = std::fs::read(&path).unwrap();
        check(&bytes);
        for seed in 1..=CHANGES {
            println!("change {seed}");
            check(&changed(&bytes, seed));
        }
        replayed += 1;
    }
    assert!(replayed >= at_least, "{} has lost files: {replayed} are left", directory.display());
}

/// The same input with some bytes changed, put in or taken out; the same for the same seed.
fn changed(bytes: &[u8], seed: u64) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    let mut next = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below.max(1) as u64) as usize
    };
    for _ in 0..=next(4) {
        let at = next(bytes.len() + 1);
        match next(5) {
            0 => bytes.insert(at, next(256) as u8),
            1 => bytes.truncate(at),
            2 => bytes.extend_from_within(..at),
            _ if bytes.is_empty() => {}
            3 => bytes[at.saturating_sub(1)] = [0, 1, 0x7f, 0x80, 0xff][next(5)],
            _ => bytes[at.saturating_sub(1)] ^= 1 << next(8),
        }
    }
    bytes
}

#[test]
fn every_ntp_packet_of_the_corpus() {
    replay("ntp_packet", 40, ntp_packet::check);
}

#[test]
fn every_exchange_of_the_corpus() {
    replay("ntp_exchange", 26, ntp_exchange::check);
}

#[test]
fn every_key_exchange_of_the_corpus() {
    replay("nts_record", 19, nts_record::check);
}

#[test]
fn every_packet_under_nts_of_the_corpus() {
    replay("nts_packet", 20, nts_packet::check);
}
