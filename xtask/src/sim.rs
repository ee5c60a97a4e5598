//! `cargo xtask sim`: builds a simulator with optimisation and runs it.

use anyhow::{Context, bail};
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on: --seeds N, --from SEED, --sabotage WHAT; or first `clock` for the simulator of clocks and networks,
    /// and --scenario NAME, --runs N, --json
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let (package, rest) = match arguments.arguments.split_first() {
        Some((first, rest)) if first == "clock" => ("sim-clock", rest),
        _ => ("sim", arguments.arguments.as_slice()),
    };
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--profile", "sim", "--package", package, "--"])
        .args(rest)
        .current_dir(crate::repository())
        .status()
        .context("cannot run cargo")?;
    if package == "sim-clock" && !status.success() {
        // It has said what failed and how to repeat it.
        std::process::exit(status.code().unwrap_or(1));
    }
    if !status.success() {
        bail!("a seed failed: `cargo xtask sim --seeds 1 --from SEED` repeats it");
    }
    Ok(())
}
