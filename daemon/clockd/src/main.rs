//! `chronotick-daemon`: measures the clock, models it, and publishes corrected time with a hard bound.
#![deny(unsafe_code)]

mod anchor;
mod cli;
mod config;
mod create_page;
mod disruption;
mod endpoint;
mod environment;
mod estimate;
mod eval;
mod http;
mod hub;
mod log;
mod metrics;
mod models;
mod notify;
#[expect(unsafe_code, reason = "mapping and locking the shared-memory object has no safe form")]
mod page_object;
mod publisher;
mod record;
mod run;
mod saver;
mod serve;
mod sources;
mod state_file;
mod status;
mod status_file;
mod steady;
mod stop;
mod tables;
mod time_api;
mod tracking;
mod utc;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args).map(|()| true),
        Command::Status(args) => status::status(&args),
        Command::Sources(args) => tables::sources(&args),
        Command::Tracking(args) => tables::tracking(&args),
        Command::CreatePage(args) => create_page::create_page(&args).map(|()| true),
        Command::CheckConfig(args) => config::check(&args.file).map(|()| true),
        Command::Eval(args) => eval::run(&args).map(|()| true),
    };
    match result {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}
