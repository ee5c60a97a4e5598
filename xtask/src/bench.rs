//! `cargo xtask bench NAME`: runs a benchmark and shows its figures as a table, with `--json` as lines.
//!
//! A benchmark is an example program that prints one JSON line per figure:
//! `{"name","value","unit","baseline","baseline_value","ratio"}`. Names are `area.what.variant`.

use anyhow::{Context, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// Every benchmark: its name, the package and the example that measure it, and what it is.
const BENCHES: &[(&str, &str, &str, &str)] = &[
    ("read", "chronotick", "bench_read", "a corrected reading against the plain clock call"),
    (
        "queue",
        "chronotick-core",
        "bench_queue",
        "the timer queue at 10 M timers against tokio-util's DelayQueue",
    ),
    (
        "kernel",
        "minoots",
        "bench_kernel",
        "durable creates, fires and lateness against the bare disk and a bare thread",
    ),
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which benchmark; `list` names them all.
    name: String,
    /// Print one JSON line per figure after the table.
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.name == "list" {
        for (name, _, _, what) in BENCHES {
            println!("{name:<10} {what}");
        }
        return Ok(());
    }
    let Some((_, package, example, what)) = BENCHES.iter().find(|b| b.0 == arguments.name) else {
        bail!("no benchmark {:?}: `cargo xtask bench list` names them", arguments.name);
    };
    let lines = measure(package, example)?;
    println!("{}: {what}", arguments.name);
    println!("{:<28} {:>14} {:<10} {:>14} {:>8}  baseline", "figure", "value", "unit", "baseline", "ratio");
    for line in &lines {
        let figure: Value = serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
        let text = |key: &str| figure[key].as_str().unwrap_or("-").to_owned();
        let number = |key: &str| figure[key].as_f64().map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
        println!(
            "{:<28} {:>14} {:<10} {:>14} {:>8}  {}",
            text("name"),
            number("value"),
            text("unit"),
            number("baseline_value"),
            number("ratio"),
            text("baseline"),
        );
    }
    if arguments.json {
        lines.iter().for_each(|line| println!("{line}"));
    }
    Ok(())
}

/// Runs the example, built for speed, and returns its figures; anything else it prints goes through.
fn measure(package: &str, example: &str) -> anyhow::Result<Vec<String>> {
    let mut child = Command::new(env!("CARGO"))
        .args(["run", "--quiet", "--release", "--package", package, "--example", example, "--", "--json"])
        .current_dir(crate::repository())
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let output = child.stdout.take().context("the benchmark has no output")?;
    let mut figures = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with('{') { figures.push(line) } else { println!("{line}") }
    }
    if !child.wait()?.success() {
        bail!("the benchmark {example} failed");
    }
    if figures.is_empty() {
        bail!("the benchmark {example} printed no figure");
    }
    Ok(figures)
}
