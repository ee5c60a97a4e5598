//! Writes pages for the benchmarks of the other languages: `vdso` and, where there is one, `counter` in a directory.
#![allow(missing_docs, clippy::unwrap_used)]

#[allow(dead_code, reason = "the other half of it is for the benchmark in Rust")]
mod harness;

use chronotick::Record;
use std::path::PathBuf;

fn main() {
    let directory = PathBuf::from(std::env::args_os().nth(1).expect("usage: bench_page DIRECTORY"));
    let record = Record { sequence: 2, ..harness::record() };
    std::fs::write(directory.join("vdso"), record.to_bytes()).unwrap();
    if let Some(record) = harness::on_the_counter(record) {
        std::fs::write(directory.join("counter"), record.to_bytes()).unwrap();
    }
}
