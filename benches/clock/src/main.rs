//! Our error against true time beside that of a real chronyd, measuring the same server through the same relays in the same
//! minutes, and the processor time of both. Prints a table, and one JSON line for each figure.
//!
//! The server is a chronyd that serves this machine's clock, so the truth is the system clock plus the shift of the
//! relays. Neither client touches the clock: chronyd runs with `-x`, ours never does.
#![forbid(unsafe_code)]

mod cpu;
mod errors;
mod settings;

use chronotick::os_clock::{boottime, realtime};
use chronotick::{Client, Reading, Span, Status, Timestamp};
use clap::Parser;
use e2e::chronyd::MISSING;
use e2e::{Chronyd, ClockDaemon, Relay, pause};
use errors::{Errors, quantile};
use serde_json::json;
use settings::{SHIFT, Setting};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

/// Both daemons ask once a second.
const CHRONYD_POLL: &str = "minpoll 0 maxpoll 0";
const OUR_POLL: &str = "log_level = 'warn'\nmin_poll_s = 1\nmax_poll_s = 1";
const BETWEEN_SAMPLES: Duration = Duration::from_millis(200);
/// A reading between two readings of the truth that are further apart is taken again: something else ran in between.
const CLEAN: Span = Span::from_us(2);

#[derive(Parser)]
struct Arguments {
    /// Sample so long, after the warm-up.
    #[arg(long, default_value_t = 120)]
    seconds: u32,
    /// So long may the daemons settle before.
    #[arg(long, default_value_t = 60)]
    warmup: u32,
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

/// Both clients of one network, and what was seen of them.
struct Pair {
    setting: Setting,
    relay: Relay,
    chronyd: Chronyd,
    client: Client,
    _ours: ClockDaemon,
    chronyd_errors: Errors,
    our_errors: Errors,
    bounds_ns: Vec<i64>,
    violations: u64,
    missing: u64,
}

fn run(arguments: &Arguments) -> Result<(), Failure> {
    let program = Chronyd::find().ok_or(MISSING)?;
    let version = Chronyd::version(&program).unwrap_or_else(|| "of an unknown version".to_owned());
    let top = tempfile::tempdir()?;
    let directory = |name: &str| -> Result<PathBuf, Failure> {
        let path = top.path().join(name);
        std::fs::create_dir(&path)?;
        Ok(path)
    };
    let server = Chronyd::serve(&program, &directory("server")?, 1);
    let mut wanted = settings::all();
    wanted.retain(|s| arguments.setting.as_deref().is_none_or(|name| name == s.name));
    if wanted.is_empty() {
        let names: Vec<&str> = settings::all().iter().map(|s| s.name).collect();
        return Err(format!("no such setting: there are {}", names.join(", ")).into());
    }
    let mut pairs = Vec::new();
    for (i, setting) in wanted.into_iter().enumerate() {
        let directory = directory(setting.name)?;
        let seed = arguments.seed.wrapping_mul(1000).wrapping_add(i as u64);
        pairs.push(Pair::start(&program, &directory, server.address(), setting, seed)?);
    }
    // Those whose processor time is measured are asked nothing: an answer to us is not their work.
    let relay = Relay::start(server.address(), settings::quiet())?;
    let quiet_chronyd = Chronyd::measure(&program, &directory("cpu-chronyd")?, relay.address(), CHRONYD_POLL);
    let at_rate = |rate_hz: u32, directory: PathBuf| {
        let extra = format!("{OUR_POLL}\nrate_hz = {rate_hz}");
        ClockDaemon::start(&directory, &[relay.address().to_string()], &extra)
    };
    let (slow, fast) = (at_rate(100, directory("cpu-100hz")?), at_rate(1000, directory("cpu-1000hz")?));
    let pids = [quiet_chronyd.pid(), slow.pid(), fast.pid()];

    println!(
        "chronyd {version}; {} s of warm-up, {} s of samples, seed {}; load {} at the start",
        arguments.warmup,
        arguments.seconds,
        arguments.seed,
        cpu::load(),
    );
    pause(Duration::from_secs(u64::from(arguments.warmup)));
    let (cpu_before, begun) = (pids.map(cpu::used_ns), boottime());
    let end = begun + Span::from_secs(i64::from(arguments.seconds));
    while boottime() < end {
        pairs.iter_mut().for_each(Pair::sample);
        pause(BETWEEN_SAMPLES);
    }
    let (cpu_after, elapsed) = (pids.map(cpu::used_ns), boottime() - begun);

    println!("load {} at the end; errors in us, mean / p99 / max\n", cpu::load());
    report(&pairs, &version)?;
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
    let baseline = format!("chronyd {version}");
    figure("clock.cpu.100hz", at_100, "percent", Some((&baseline, theirs)));
    figure("clock.cpu.1000hz", at_1000, "percent", Some((&baseline, theirs)));
    Ok(())
}

impl Pair {
    fn start(
        program: &Path,
        directory: &Path,
        server: SocketAddr,
        setting: Setting,
        seed: u64,
    ) -> Result<Self, Failure> {
        let relay = Relay::start(server, setting.relay(seed))?;
        let chronyd = Chronyd::measure(program, directory, relay.address(), CHRONYD_POLL);
        let ours = ClockDaemon::start(directory, &[relay.address().to_string()], OUR_POLL);
        Ok(Self {
            setting,
            relay,
            chronyd,
            client: ours.client(),
            _ours: ours,
            chronyd_errors: Errors::default(),
            our_errors: Errors::default(),
            bounds_ns: Vec::new(),
            violations: 0,
            missing: 0,
        })
    }

    /// Asks both; a sample counts only when both have an estimate.
    fn sample(&mut self) {
        let (theirs, ours) = (self.chronyd.tracking(), our_error(&self.client));
        let (Ok(Some(theirs)), Some(ours)) = (theirs, ours) else {
            self.missing += 1;
            return;
        };
        self.chronyd_errors.push(Span::from_secs_f64(theirs.offset_s).as_ns() - SHIFT.as_ns());
        self.our_errors.push(ours.error_ns);
        self.bounds_ns.push(ours.bound_ns);
        self.violations += u64::from(ours.is_violation);
    }
}

struct OurError {
    error_ns: i64,
    bound_ns: i64,
    /// The truth is outside the bound, whenever between the two readings of it ours was taken.
    is_violation: bool,
}

/// One reading of the page between two of the truth; nothing while there is no synchronized page.
fn our_error(client: &Client) -> Option<OurError> {
    let mut best: Option<(Span, Timestamp, Reading, Timestamp)> = None;
    for _ in 0..20 {
        let before = realtime() + SHIFT;
        let reading = client.now().ok()?;
        let after = realtime() + SHIFT;
        if reading.status != Status::Synchronized {
            return None;
        }
        let gap = after - before;
        if best.as_ref().is_none_or(|(least, ..)| gap < *least) {
            best = Some((gap, before, reading, after));
        }
        if gap <= CLEAN {
            break;
        }
    }
    let (gap, before, reading, after) = best?;
    let middle = before + Span::from_ns(gap.as_ns() / 2);
    Some(OurError {
        error_ns: (reading.corrected - middle).as_ns(),
        bound_ns: reading.max_error().as_ns(),
        is_violation: reading.bound.earliest() > after || reading.bound.latest() < before,
    })
}

fn report(pairs: &[Pair], version: &str) -> Result<(), Failure> {
    println!(
        "{:<11} {:>26} {:>26} {:>6} {:>10} {:>10} {:>8}  relay late by, us p50/p99/max",
        "setting", "chronyd", "ours", "ratio", "our bound", "violations", "samples"
    );
    let mut figures = Vec::new();
    let baseline = format!("chronyd {version}");
    for pair in pairs {
        let name = pair.setting.name;
        let (theirs, ours) =
            pair.chronyd_errors.summary().zip(pair.our_errors.summary()).ok_or_else(|| {
                format!("{name}: one of the daemons never had an estimate; give a longer --warmup")
            })?;
        let mut bounds = pair.bounds_ns.clone();
        bounds.sort_unstable();
        let bound_us = quantile(&bounds, 0.5).unwrap_or_default() as f64 / 1e3;
        let late = pair.relay.lateness_ns();
        let late_us = |part| quantile(&late, part).unwrap_or_default() as f64 / 1e3;
        println!(
            "{name:<11} {:>26} {:>26} {:>6.2} {bound_us:>10.1} {:>10} {:>8}  {:.1}/{:.1}/{:.1}{}",
            format!("{:.1} / {:.1} / {:.1}", theirs.mean, theirs.p99, theirs.max),
            format!("{:.1} / {:.1} / {:.1}", ours.mean, ours.p99, ours.max),
            ours.mean / theirs.mean,
            pair.violations,
            pair.our_errors.len(),
            late_us(0.5),
            late_us(0.99),
            late_us(1.0),
            if pair.missing == 0 { String::new() } else { format!("; {} samples missing", pair.missing) },
        );
        figures.push((format!("clock.offset.{name}"), ours.mean, "us", Some(theirs.mean)));
        figures.push((format!("clock.offset.{name}.p99"), ours.p99, "us", Some(theirs.p99)));
        figures.push((format!("clock.offset.{name}.max"), ours.max, "us", Some(theirs.max)));
        figures.push((format!("clock.bound.{name}"), bound_us, "us", None));
        figures.push((format!("clock.violations.{name}"), pair.violations as f64, "samples", None));
    }
    println!();
    for pair in pairs {
        println!("{}: {}", pair.setting.name, pair.setting.what);
    }
    for (name, value, unit, theirs) in &figures {
        figure(name, *value, unit, theirs.map(|t| (baseline.as_str(), t)));
    }
    Ok(())
}

/// One line of JSON, as `cargo xtask bench` reads it.
fn figure(name: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) {
    let line = json!({
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline.map(|b| b.0),
        "baseline_value": baseline.map(|b| b.1),
        "ratio": baseline.map(|b| value / b.1),
    });
    println!("{line}");
}
