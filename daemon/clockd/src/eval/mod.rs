//! `eval`: replays a recorded trace through the discipline and scores it beside baselines.

mod bitmap;
mod json;
mod plot;
mod table;

use chronotick_core::Span;
use chronotick_evaluation::{Options, Trace, evaluate};
use clap::Args;
use std::io::Write;
use std::path::PathBuf;

/// Arguments of `eval`.
#[derive(Args, Debug)]
pub(crate) struct EvalArgs {
    /// The trace, a CSV file; `-` is standard input (docs/eval.md has the formats).
    #[arg(value_name = "TRACE.csv")]
    trace: PathBuf,
    /// Give the predictors one measurement in so many seconds; 0 gives all.
    #[arg(long, value_name = "SECONDS", default_value_t = 64.0, value_parser = seconds, allow_negative_numbers = true)]
    every: f64,
    /// What the servers of the trace are assumed to say of their own error.
    #[arg(long, value_name = "MS", default_value_t = 1.0, value_parser = milliseconds, allow_negative_numbers = true)]
    root_dispersion_ms: f64,
    /// Print one JSON object instead of a table.
    #[arg(long)]
    json: bool,
    /// Draw offset, error, bound and coverage over time; .svg or .png.
    #[arg(long, value_name = "FILE", value_parser = plot::Target::parse)]
    plot: Option<plot::Target>,
}

fn number(text: &str, most: f64) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(n) if (0.0..=most).contains(&n) => Ok(n),
        _ => Err(format!("must be a number from 0 to {most}")),
    }
}

fn seconds(text: &str) -> Result<f64, String> {
    number(text, 86_400.0)
}

fn milliseconds(text: &str) -> Result<f64, String> {
    number(text, 60_000.0)
}

/// Carries the verb out.
pub(crate) fn run(args: &EvalArgs) -> Result<(), String> {
    let name = args.trace.display();
    let bytes = if args.trace.as_os_str() == "-" {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut std::io::stdin().lock(), &mut bytes).map(|_| bytes)
    } else {
        std::fs::read(&args.trace)
    };
    let bytes = bytes.map_err(|e| format!("cannot read the trace {name}: {e}"))?;
    // Only numbers and names of columns matter; what else is in a file may be in any encoding.
    let trace = Trace::parse(&String::from_utf8_lossy(&bytes)).map_err(|e| format!("{name}: {e}"))?;
    let root_dispersion = Span::from_secs_f64(args.root_dispersion_ms / 1e3);
    let options = Options { every_s: args.every, root_dispersion };
    let evaluation = evaluate(&trace, &options);
    if let Some(target) = &args.plot {
        plot::write(target, &evaluation)?;
    }
    let text = if args.json {
        json::render(&trace, &options, &evaluation)?
    } else {
        table::render(&trace, &options, &evaluation)
    };
    print(&text)
}

/// A reader that has seen enough (`| head`) is no error.
fn print(text: &str) -> Result<(), String> {
    match std::io::stdout().lock().write_all(text.as_bytes()) {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(format!("cannot print: {e}")),
        _ => Ok(()),
    }
}
