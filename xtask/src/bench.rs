//! `cargo xtask bench NAME`: runs a benchmark and shows its figures as a table, with `--json` as lines.
//!
//! A benchmark is a list of steps, each a command that prints one JSON line per figure:
//! `{"name","value","unit","baseline","baseline_value","ratio"}`. Names are `area.what.variant`. Other lines go through.

use anyhow::{Context, bail};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

/// One benchmark.
struct Bench {
    name: &'static str,
    what: &'static str,
    steps: &'static [Step],
    /// Ratios that are to be reached, by figure.
    bars: &'static [(&'static str, f64)],
    /// Values that are to be reached, by figure; more is better.
    least: &'static [(&'static str, f64)],
    /// Ratios that are to be reached, by figure; more is better.
    least_ratios: &'static [(&'static str, f64)],
}

/// One program of a benchmark: a shell command in a directory of the repository.
struct Step {
    name: &'static str,
    command: &'static str,
    directory: &'static str,
}

const BENCHES: &[Bench] = &[
    Bench {
        name: "read",
        what: "a corrected reading (time, bound, status) against the plain clock call of the same language",
        steps: &[
            Step {
                name: "rust",
                command: "cargo run --quiet --release --package chronotick --example bench_read",
                directory: ".",
            },
            Step {
                name: "clock_bound",
                command: "cargo run --quiet --release --package bench-clock-bound",
                directory: ".",
            },
            Step { name: "c", command: "scripts/bench-read.sh c", directory: "." },
            Step { name: "go", command: "scripts/bench-read.sh go", directory: "." },
            Step { name: "python", command: "scripts/bench-read.sh python", directory: "." },
            Step { name: "node", command: "scripts/bench-read.sh node", directory: "." },
        ],
        bars: &[
            ("read.rust.vdso", 1.25),
            ("read.rust.counter", 0.75),
            ("write.rust", 2.0),
            ("read.clock_bound", 0.5),
            ("read.c.vdso", 1.3),
            ("read.c.counter", 0.8),
            ("read.go.cgo", 2.5),
            ("read.go.pure", 1.3),
            ("read.node.ms", 2.5),
            ("read.node.full", 10.0),
            ("read.python.now_ns", 2.0),
            ("read.python.get_time", 4.0),
            ("read.python.old_client", 0.05),
        ],
        least: &[],
        least_ratios: &[],
    },
    Bench {
        name: "queue",
        what: "the timer queue at 10 M timers against tokio-util's DelayQueue",
        steps: &[Step {
            name: "queue",
            command: "cargo run --quiet --release --package chronotick-core --example bench_queue -- --json",
            directory: ".",
        }],
        bars: &[("queue.insert", 1.2), ("queue.cancel", 0.2), ("queue.expire", 0.35)],
        least: &[],
        least_ratios: &[],
    },
    Bench {
        name: "kernel",
        what: "durable creates, fires and lateness against the bare disk, a bare thread and three peers",
        steps: &[
            Step {
                name: "kernel",
                command: "cargo run --quiet --release --package minoots --example bench_kernel -- --json",
                directory: ".",
            },
            Step {
                name: "grpc",
                command: "cargo build --quiet --release --package minoots \
                          && cargo run --quiet --release --package minoots --example bench_service -- create",
                directory: ".",
            },
            Step { name: "peers", command: "python3 benches/peers/run.py", directory: "." },
        ],
        bars: &[("kernel.lateness.p99", 10.0)],
        least: &[("kernel.create.grpc", 50_000.0)],
        least_ratios: &[("kernel.create.single", 0.35), ("kernel.create.batch", 0.35), ("kernel.fire", 0.35)],
    },
    Bench {
        name: "api",
        what: "creates through REST and gRPC before the disk against a plain axum handler, and with the disk",
        steps: &[Step {
            name: "api",
            command: "cargo build --quiet --release --package minoots \
                      && cargo run --quiet --release --package minoots --example bench_api",
            directory: ".",
        }],
        bars: &[("api.rest.p50", 2.0), ("api.rest.p99", 2.0), ("api.grpc.p50", 2.0), ("api.grpc.p99", 2.0)],
        least: &[],
        least_ratios: &[],
    },
    Bench {
        name: "abuse",
        what: "lateness of fires and memory under open streams, slow headers, garbage and huge bodies, beside a quiet run",
        steps: &[Step {
            name: "abuse",
            command: "cargo build --quiet --release --package minoots \
                      && cargo run --quiet --release --package minoots --example bench_abuse",
            directory: ".",
        }],
        bars: &[],
        least: &[("abuse.streams", 10_000.0)],
        least_ratios: &[],
    },
    Bench {
        name: "clock",
        what: "our error against true time beside chronyd's, through the same relays, and the cost of both",
        steps: &[Step {
            name: "clock",
            command: "cargo run --quiet --release --package bench-clock --",
            directory: ".",
        }],
        bars: &[
            ("clock.offset.loopback", 1.0),
            ("clock.offset.lan", 1.0),
            ("clock.offset.wan", 1.0),
            // Of the whole error, 2 ms are nobody's to avoid.
            ("clock.offset.asymmetric.own", 1.0),
            ("clock.offset.two-path", 1.0),
        ],
        least: &[],
        least_ratios: &[],
    },
    Bench {
        name: "index",
        what: "the write path of the timer index on fjall against redb, 1 M timers",
        steps: &[Step {
            name: "index",
            command: "cargo run --quiet --release --package bench-index",
            directory: ".",
        }],
        bars: &[],
        least: &[],
        least_ratios: &[],
    },
];

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Which benchmark; `list` names them all.
    name: String,
    /// Print one JSON line per figure after the table.
    #[arg(long)]
    json: bool,
    /// How many timers, as in 50M: for the steps `queue` and `kernel`, and only these run then.
    #[arg(long, value_name = "N")]
    scale: Option<String>,
    /// How long to sample: for the benchmark `clock`.
    #[arg(long, value_name = "N", conflicts_with = "scale")]
    seconds: Option<u32>,
    /// Only the step with this name.
    #[arg(long, value_name = "STEP")]
    only: Option<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.name == "list" {
        for bench in BENCHES {
            let steps: Vec<&str> = bench.steps.iter().map(|s| s.name).collect();
            println!("{:<10} {} (steps: {})", bench.name, bench.what, steps.join(", "));
        }
        return Ok(());
    }
    let Some(bench) = BENCHES.iter().find(|b| b.name == arguments.name) else {
        bail!("no benchmark {:?}: `cargo xtask bench list` names them", arguments.name);
    };
    let has_scale = |step: &Step| matches!(step.name, "queue" | "kernel");
    let wanted = |step: &&Step| {
        arguments.only.as_deref().is_none_or(|only| only == step.name)
            && (arguments.scale.is_none() || has_scale(step))
    };
    let steps: Vec<&Step> = bench.steps.iter().filter(wanted).collect();
    if arguments.seconds.is_some() && bench.name != "clock" {
        bail!("--seconds is for the benchmark `clock`; {} takes as long as it takes", bench.name);
    }
    let options = match (&arguments.scale, arguments.seconds) {
        (Some(scale), _) => format!(" --scale {scale}"),
        (None, Some(seconds)) => format!(" --seconds {seconds}"),
        (None, None) => String::new(),
    };
    if steps.is_empty() {
        bail!("{} has no such step: `cargo xtask bench list` names them", bench.name);
    }
    println!("{}: {}", bench.name, bench.what);
    println!(
        "{:<42} {:>12} {:<10} {:>12} {:>8} {:>10}  baseline",
        "figure", "value", "unit", "baseline", "ratio", "bar"
    );
    let (mut lines, mut failed) = (Vec::new(), Vec::new());
    for step in steps {
        match measure(step, &options) {
            Ok(figures) => {
                for line in &figures {
                    show(bench, line)?;
                }
                lines.extend(figures);
            }
            // The other steps are worth their figures all the same.
            Err(e) => failed.push(format!("{}: {e:#}", step.name)),
        }
    }
    if arguments.json {
        lines.iter().for_each(|line| println!("{line}"));
    }
    if !failed.is_empty() {
        bail!("not measured: {}", failed.join("; "));
    }
    Ok(())
}

fn show(bench: &Bench, line: &str) -> anyhow::Result<()> {
    let figure: Value = serde_json::from_str(line).with_context(|| format!("not a figure: {line}"))?;
    let text = |key: &str| figure[key].as_str().unwrap_or("-");
    let number = |key: &str| figure[key].as_f64().map_or_else(|| "-".to_owned(), |n| format!("{n:.2}"));
    let name = text("name");
    let of = |bars: &[(&str, f64)]| bars.iter().find(|b| b.0 == name).map(|b| b.1);
    let (bar, least, least_ratio) = (of(bench.bars), of(bench.least), of(bench.least_ratios));
    let missed = bar.is_some_and(|bar| figure["ratio"].as_f64().is_none_or(|ratio| ratio > bar))
        || least.is_some_and(|least| figure["value"].as_f64().is_none_or(|value| value < least))
        || least_ratio.is_some_and(|least| figure["ratio"].as_f64().is_none_or(|ratio| ratio < least));
    println!(
        "{name:<42} {:>12} {:<10} {:>12} {:>8} {:>10}  {}{}",
        number("value"),
        text("unit"),
        number("baseline_value"),
        // A hundredth and less would show as nothing.
        figure["ratio"]
            .as_f64()
            .map_or_else(|| "-".to_owned(), |r| format!("{r:.0$}", if r < 0.1 { 4 } else { 2 })),
        match (bar, least, least_ratio) {
            (Some(bar), ..) => format!("<= {bar:.2}"),
            (None, Some(least), _) => format!(">= {least:.0}"),
            (None, None, Some(least)) => format!(">= {least:.2}"),
            (None, None, None) => String::new(),
        },
        text("baseline"),
        if missed { "  MISSED" } else { "" },
    );
    Ok(())
}

/// Runs the command and returns its figures; anything else it prints goes through.
fn measure(step: &Step, options: &str) -> anyhow::Result<Vec<String>> {
    let mut child = Command::new("sh")
        .args(["-c", &format!("{}{options}", step.command)])
        .current_dir(crate::repository().join(step.directory))
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start sh")?;
    let output = child.stdout.take().context("the benchmark has no output")?;
    let mut figures = Vec::new();
    for line in BufReader::new(output).lines() {
        let line = line?;
        if line.starts_with('{') { figures.push(line) } else { println!("{line}") }
    }
    if !child.wait()?.success() {
        bail!("`{}` failed", step.command);
    }
    if figures.is_empty() {
        bail!("`{}` printed no figure", step.command);
    }
    Ok(figures)
}
