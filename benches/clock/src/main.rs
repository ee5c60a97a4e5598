//! Our error against true time beside that of a real chronyd, measuring the same server through the same relays in the same
//! minutes, and the processor time of both. Prints a table, and one JSON line for each figure.
//!
//! The server is a chronyd that serves this machine's clock, so the truth is the system clock plus the shift of the
//! relays. Neither client touches the clock: chronyd runs with `-x`, ours never does.
#![forbid(unsafe_code)]

mod cpu;
mod errors;
mod pair;
mod report;
mod settings;

use chronotick::Span;
use chronotick::os_clock::boottime;
use clap::Parser;
use e2e::{Chronyd, ChronydClient, ClockDaemon, Relay, pause};
use pair::{CHRONYD_POLL, OUR_POLL, Pair};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

const MISSING: &str = "chronyd is not installed: install chrony (Debian and Ubuntu: apt-get install chrony)";
const BETWEEN_SAMPLES: Duration = Duration::from_millis(200);
#[derive(Parser)]
struct Arguments {
    /// Sample so long, after the warm-up.
    #[arg(long, default_value_t = 120)]
    seconds: u32,
    /// So long may the daemons settle before.
    #[arg(long, default_value_t = 60)]
    warmup: u32,
    /// So many pairs of daemons, each with a relay of its own, for each setting: their errors are pooled.
    #[arg(long, default_value_t = 3)]
    pairs: u64,
    /// Only the setting with this name.
    #[arg(long)]
    setting: Option<String>,
    /// Of the delays.
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

type Failure = Box<dyn std::error::Error>;

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("the clock was not measured: {e}");
            ExitCode::FAILURE
        }
    }
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let version = ChronydClient::version().unwrap_or_else(|| "of an unknown version".to_owned());
    let top = tempfile::tempdir()?;
    let directory = |name: &str| -> Result<PathBuf, Failure> {
        let path = top.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    let server = Chronyd::serve(&directory("server")?, "local stratum 1").ok_or(MISSING)?;
    let mut wanted = settings::all();
    wanted.retain(|s| arguments.setting.as_deref().is_none_or(|name| name == s.name));
    if wanted.is_empty() {
        let names: Vec<&str> = settings::all().iter().map(|s| s.name).collect();
        return Err(format!("no such setting: there are {}", names.join(", ")).into());
    }
    let mut all = Vec::new();
    for (i, setting) in (0..).zip(wanted) {
        let mut pairs = Vec::new();
        for j in 0..arguments.pairs.max(1) {
            let directory = directory(&format!("{}-{j}", setting.name))?;
            let seed = arguments.seed.wrapping_mul(1_000_000) + 1000 * i + j;
            pairs.push(Pair::start(&directory, server.address(), &setting, seed)?);
        }
        all.push((setting, pairs));
    }
    // Those whose processor time is measured are asked nothing: an answer to us is not their work.
    let relay = Relay::start(server.address(), settings::quiet())?;
    let quiet_chronyd =
        ChronydClient::start(&directory("cpu-chronyd")?, relay.address(), CHRONYD_POLL).ok_or(MISSING)?;
    let at_rate = |rate_hz: u32, directory: PathBuf| {
        let extra = format!("{OUR_POLL}\nrate_hz = {rate_hz}");
        ClockDaemon::start(&directory, &[relay.address().to_string()], &extra)
    };
    let (slow, fast) = (at_rate(100, directory("cpu-100hz")?), at_rate(1000, directory("cpu-1000hz")?));
    let pids = [quiet_chronyd.pid(), slow.pid(), fast.pid()];

    println!(
        "chronyd {version}; {} s of warm-up, {} s of samples, {} pairs, seed {}; load {} at the start",
        arguments.warmup,
        arguments.seconds,
        arguments.pairs,
        arguments.seed,
        cpu::load(),
    );
    pause(Duration::from_secs(u64::from(arguments.warmup)));
    let (cpu_before, begun) = (pids.map(cpu::used_ns), boottime());
    let end = begun + Span::from_secs(i64::from(arguments.seconds));
    while boottime() < end {
        all.iter_mut().flat_map(|(_, pairs)| pairs).for_each(Pair::sample);
        pause(BETWEEN_SAMPLES);
    }
    let (cpu_after, elapsed) = (pids.map(cpu::used_ns), boottime() - begun);

    println!("load {} at the end; errors in us, mean / p99 / max\n", cpu::load());
    let baseline = format!("chronyd {version}");
    report::errors(&all, &baseline)?;
    let percent = |i: usize| -> Result<f64, Failure> {
        let (before, after) = (cpu_before[i], cpu_after[i]);
        let used =
            after.zip(before).ok_or("the kernel tells no processor time in /proc/PID/task/TID/schedstat")?;
        Ok((used.0 - used.1) as f64 / elapsed.as_ns() as f64 * 100.0)
    };
    let (theirs, at_100, at_1000) = (percent(0)?, percent(1)?, percent(2)?);
    println!(
        "processor time, percent of one core: chronyd {theirs:.3}, ours at 100 Hz {at_100:.3}, at 1000 Hz {at_1000:.3}"
    );
    report::figure("clock.cpu.100hz", at_100, "percent", Some((&baseline, theirs)));
    report::figure("clock.cpu.1000hz", at_1000, "percent", Some((&baseline, theirs)));
    Ok(())
}
