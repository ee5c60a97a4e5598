//! Replays the corpora of the fuzz targets of this crate: what fuzzing once found never comes back.
#![cfg(not(loom))]
#![allow(missing_docs, clippy::unwrap_used)]

#[path = "../../fuzz/checks/duration.rs"]
mod duration;
#[path = "../../fuzz/checks/page.rs"]
mod page;

use std::path::Path;

/// Runs `check` on every file of the corpus, which holds at least `at_least` of them.
fn replay(corpus: &str, at_least: usize, check: fn(&[u8])) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(corpus);
    let mut replayed = 0;
    for file in std::fs::read_dir(&directory).unwrap() {
        let path = file.unwrap().path();
        // Its name stands in the captured output when the check below fails.
        println!("{}", path.display());
        check(&std::fs::read(&path).unwrap());
        replayed += 1;
    }
    assert!(replayed >= at_least, "{} has lost files: {replayed} are left", directory.display());
}

#[test]
fn every_page_of_the_corpus() {
    replay("page", 150, page::check);
}

#[test]
fn every_duration_of_the_corpus() {
    replay("duration", 30, duration::check);
}
