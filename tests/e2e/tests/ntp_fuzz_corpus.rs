//! Replays the corpus of the fuzz target `ntp_packet`: what fuzzing once found never comes back.
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../../fuzz/checks/ntp_packet.rs"]
mod ntp_packet;

use std::path::Path;

#[test]
fn every_packet_of_the_corpus() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus/ntp_packet");
    let mut replayed = 0;
    for file in std::fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        println!("{}", path.display());
        ntp_packet::check(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= 40, "{} has lost files: {replayed} are left", directory.display());
}
