//! `cargo xtask sim clock`: one scenario beside chronyd's figures, or many seeds of all of them.

use clap::Parser;
use sim_clock::scenario::{ALL, Scenario};
use sim_clock::{campaign, reference};
use std::process::ExitCode;

/// Simulates clocks and networks in which true time is known exactly.
///
/// With --scenario: every predictor in that scenario, beside chronyd where it was measured. With --seeds: what the
/// discipline promises, checked second by second in worlds drawn from each seed.
#[derive(Parser)]
struct Arguments {
    /// Only this scenario
    #[arg(long, value_parser = scenario)]
    scenario: Option<Scenario>,
    /// One line of JSON instead of the table
    #[arg(long, requires = "scenario", conflicts_with = "seeds")]
    json: bool,
    /// How many runs of the scenario
    #[arg(long, default_value_t = 7, requires = "scenario", conflicts_with = "seeds", value_parser = clap::value_parser!(u64).range(1..))]
    runs: u64,
    /// How many seeds to check; 1000 without --scenario
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    seeds: Option<u64>,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let known = || ALL.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ");
    Scenario::named(name).ok_or_else(|| format!("there is no scenario {name}; there are: {}", known()))
}

fn main() -> ExitCode {
    let Arguments { scenario, json, runs, seeds, from } = Arguments::parse();
    if let (Some(scenario), None) = (scenario, seeds) {
        let figures = reference::score(scenario, from, runs);
        if json {
            println!("{}", reference::json(scenario, runs, &figures));
        } else {
            print!("{}", reference::table(scenario, runs, &figures));
        }
        return ExitCode::SUCCESS;
    }
    let outcome = campaign::campaign(scenario, from, seeds.unwrap_or(1000));
    print!("{}", outcome.table());
    if outcome.holds() {
        return ExitCode::SUCCESS;
    }
    print!("{}", outcome.failures());
    ExitCode::FAILURE
}
