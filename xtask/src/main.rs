//! `cargo xtask`: the development tasks that are more than one command.
#![forbid(unsafe_code)]

mod bench;
mod r#gen;
mod onnx;
mod sim;
mod tidy;

use clap::{Parser, Subcommand};
use std::path::{Path, PathBuf};

#[derive(Parser)]
#[command(name = "cargo xtask", about = "Development tasks of this repository")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Measure: a table for people, and with --json one line per figure last.
    Bench(bench::Arguments),
    /// Write the generated files: include/chronotick.h and examples/models/rate_mean.onnx.
    Gen(r#gen::Arguments),
    /// Simulate the timer service over a faulty disk and clock, with crashes anywhere, many seeds.
    Sim(sim::Arguments),
    /// Check the rules that no compiler knows: module docs, file lengths, arrows, licences.
    Tidy,
}

/// The root of the repository.
fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..").canonicalize().unwrap_or_else(|_| PathBuf::from("."))
}

fn main() -> anyhow::Result<()> {
    match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Gen(arguments) => r#gen::run(&arguments),
        Task::Sim(arguments) => sim::run(&arguments),
        Task::Tidy => tidy::run(),
    }
}
