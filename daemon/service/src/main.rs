//! `minoots`: the program.
#![forbid(unsafe_code)]

use minoots::cli::{Cli, ServeArgs, Verb};
use minoots::config::Config;
use minoots::serve::Service;
use minoots::telemetry;
use std::io::Write;
use std::process::ExitCode;
use tokio::signal::unix::{Signal, SignalKind, signal};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The exit code for a wrong command line or configuration; clap uses the same.
const BAD_USAGE: u8 = 2;

fn main() -> ExitCode {
    let Cli { verb, remote } = Cli::from_command_line();
    match verb {
        Verb::Serve(args) => serve(args),
        verb => minoots::cli::run(verb, &remote),
    }
}

fn serve(args: ServeArgs) -> ExitCode {
    let config = match args.load() {
        Ok(config) => config,
        Err(e) => return fail(BAD_USAGE, &e),
    };
    telemetry::log_to_stderr();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(e) => return fail(1, &format!("cannot start the runtime: {e}")),
    };
    match runtime.block_on(run(&config)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => fail(1, &e),
    }
}

async fn run(config: &Config) -> Result<(), Box<dyn std::error::Error>> {
    // Before the first line on stdout: who reads it may send a signal at once.
    let mut signals = (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?);
    let service = Service::start(config).await?;
    let mut out = std::io::stdout();
    // A closed stdout is no reason to stop.
    let _ = writeln!(
        out,
        "minoots listening on {}://{} (data {}, clock: {})",
        service.scheme,
        service.addr,
        config.data_dir.display(),
        service.clock
    );
    let _ = out.flush();
    let name = next_signal(&mut signals).await;
    tracing::info!("{name}: finishing what is under way; a second signal stops at once");
    tokio::select! {
        () = service.stop() => Ok(()),
        name = next_signal(&mut signals) => {
            tracing::warn!("{name} again: stopping at once");
            std::process::exit(1);
        }
    }
}

async fn next_signal((interrupt, terminate): &mut (Signal, Signal)) -> &'static str {
    tokio::select! {
        _ = interrupt.recv() => "SIGINT",
        _ = terminate.recv() => "SIGTERM",
    }
}

fn fail(code: u8, error: &dyn std::fmt::Display) -> ExitCode {
    eprintln!("minoots: {error}");
    ExitCode::from(code)
}
