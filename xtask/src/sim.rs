//! `cargo xtask sim`: builds the simulator with optimisation and runs it.

use anyhow::{Context, bail};
use std::process::Command;

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Passed on: --seeds N, --from SEED, --sabotage WHAT
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<String>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let status = Command::new("cargo")
        .args(["run", "--quiet", "--profile", "sim", "--package", "sim", "--"])
        .args(&arguments.arguments)
        .current_dir(crate::repository())
        .status()
        .context("cannot run cargo")?;
    if !status.success() {
        bail!("a seed failed: `cargo xtask sim --seeds 1 --from SEED` repeats it");
    }
    Ok(())
}
