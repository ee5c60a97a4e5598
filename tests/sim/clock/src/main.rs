//! `cargo xtask sim clock`: one scenario beside chronyd's figures, or many seeds of all of them.

use clap::Parser;
use sim_clock::reference;
use sim_clock::scenario::{ALL, Scenario};
use std::process::ExitCode;

/// Simulates clocks and networks in which true time is known exactly.
#[derive(Parser)]
struct Arguments {
    /// Only this scenario, with the errors of every predictor
    #[arg(long, value_parser = scenario)]
    scenario: Option<Scenario>,
    /// One line of JSON instead of the table
    #[arg(long, requires = "scenario")]
    json: bool,
    /// How many runs of the scenario
    #[arg(long, default_value_t = 7)]
    runs: u64,
    /// The first seed
    #[arg(long, default_value_t = 1)]
    from: u64,
}

fn scenario(name: &str) -> Result<Scenario, String> {
    let known = || ALL.iter().map(|s| s.name()).collect::<Vec<_>>().join(", ");
    Scenario::named(name).ok_or_else(|| format!("there is no scenario {name}; there are: {}", known()))
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let Arguments { runs, from, json, .. } = arguments;
    let scenarios = arguments.scenario.map_or(ALL.to_vec(), |s| vec![s]);
    for scenario in scenarios {
        let figures = reference::score(scenario, from, runs);
        if json {
            println!("{}", reference::json(scenario, runs, &figures));
        } else {
            print!("{}", reference::table(scenario, runs, &figures));
        }
    }
    ExitCode::SUCCESS
}
