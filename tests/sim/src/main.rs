//! Runs many seeds and says what they found.

use clap::{Parser, ValueEnum};
use sim::{Report, Sabotage, run};
use std::process::ExitCode;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Simulates the timer service over a faulty disk and a faulty clock, with crashes anywhere.
#[derive(Parser)]
struct Arguments {
    /// How many seeds
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// The first seed; with --seeds 1 this repeats a run
    #[arg(long, default_value_t = 1)]
    from: u64,
    /// Break the program on purpose, to see that it is found
    #[arg(long, value_enum, default_value_t = Break::Nothing)]
    sabotage: Break,
}

#[derive(Clone, Copy, ValueEnum)]
enum Break {
    Nothing,
    NoSync,
    NoDirectorySync,
    EarlyAnswer,
}

fn main() -> ExitCode {
    let Arguments { seeds, from, sabotage } = Arguments::parse();
    let sabotage = match sabotage {
        Break::Nothing => Sabotage::None,
        Break::NoSync => Sabotage::NoSync,
        Break::NoDirectorySync => Sabotage::NoDirectorySync,
        Break::EarlyAnswer => Sabotage::EarlyAnswer,
    };
    let next = AtomicU64::new(from);
    let (total, failures) = (Mutex::new(Report::default()), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Relaxed: the number itself is all that is shared.
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= from + seeds {
                        return;
                    }
                    match run(seed, sabotage) {
                        Ok(report) => {
                            if let Ok(mut total) = total.lock() {
                                total.events += report.events;
                                total.restarts += report.restarts;
                                total.acknowledged += report.acknowledged;
                                total.fires += report.fires;
                            }
                        }
                        Err(why) => {
                            if let Ok(mut failures) = failures.lock() {
                                failures.push((seed, why));
                            }
                        }
                    }
                }
            });
        }
    });
    let (Ok(total), Ok(mut failures)) = (total.into_inner(), failures.into_inner()) else {
        return ExitCode::FAILURE;
    };
    failures.sort();
    for (_, why) in failures.iter().take(10) {
        println!("{why}");
    }
    println!(
        "{seeds} seeds: {} events, {} acknowledged commands, {} fires, {} restarts; {} failed",
        total.events,
        total.acknowledged,
        total.fires,
        total.restarts,
        failures.len()
    );
    if failures.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
