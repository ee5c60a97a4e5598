//! `chronotick-daemon`: measures the clock, models it, and publishes corrected time with a hard bound.
#![deny(unsafe_code)]

mod anchor;
mod cli;
mod config;
mod eval;
mod hub;
mod log;
#[expect(unsafe_code, reason = "mapping and locking the shared-memory object has no safe form")]
mod page_object;
mod publisher;
mod record;
mod run;
mod serve;
mod sources;
mod status;
mod status_file;
mod stop;

use clap::Parser;
use cli::{Cli, Command};
use std::process::ExitCode;

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Run(args) => run::run(&args).map(|()| true),
        Command::Status(args) => status::status(&args),
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
