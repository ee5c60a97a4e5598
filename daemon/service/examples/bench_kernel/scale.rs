//! Many pending timers: how much memory they take, how late fires are among them, and how long a start takes.

use super::{Figure, definition, lateness_of, start, stop};
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::Span;
use minoots::clock::OsClock;
use minoots_kernel::ScheduleSpec;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use tokio::runtime::Runtime;

/// Timers are due within this.
const SPREAD: Span = Span::from_secs(86_400);
/// Bytes of disk for each timer, log and index together; measured, and rounded up.
const DISK_BYTES: u64 = 700;
/// Bytes that stay free.
const DISK_LEFT: u64 = 4 << 30;
/// Creates in one request.
const BATCH: usize = 1000;
/// Requests under way.
const IN_FLIGHT: usize = 4;
/// Batches that a process creates before it is killed.
const LOAD_BATCHES: usize = 500;
/// Seconds of lateness that are measured, of the engine and of the bare thread by turns.
const TURNS: usize = 20;

/// Parses `50M`, `300k` or a plain number.
fn parse(text: &str) -> usize {
    let (digits, factor) = match text.as_bytes().last() {
        Some(b'M') => (&text[..text.len() - 1], 1_000_000),
        Some(b'k') => (&text[..text.len() - 1], 1_000),
        _ => (text, 1),
    };
    digits.parse::<usize>().expect("--scale takes a number, as in 50M") * factor
}

pub(super) fn figures(dir: &Path, runtime: &Runtime, scale: &str) -> Vec<Figure> {
    let mut count = parse(scale);
    let free = rustix::fs::statvfs(dir).map(|s| s.f_bavail * s.f_frsize).unwrap_or(u64::MAX);
    let fits = (free.saturating_sub(DISK_LEFT) / DISK_BYTES) as usize;
    if fits < count {
        println!(
            "{count} timers want {} GB of disk; {fits} fit here, so that many it is",
            (count as u64 * DISK_BYTES) >> 30
        );
        count = fits;
    }
    let data = dir.join("scale");
    let mut engine = start(&data, OsClock);
    let begin = boottime();
    let wall = realtime();
    runtime.block_on(async {
        let mut under_way = tokio::task::JoinSet::new();
        let mut state = 0x9E37_79B9_7F4A_7C15_u64;
        for batch in 0..count.div_ceil(BATCH) {
            let timers = (0..BATCH).map(|_| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                // The first minutes are left free, so that the fires that are measured are those that are meant.
                let within_ns = (state % (SPREAD.as_ns() as u64 - 3_600_000_000_000)) as i64;
                let due = wall + Span::from_secs(3600) + Span::from_ns(within_ns);
                definition(ScheduleSpec::AtNs(due.as_ns()))
            });
            let (handle, timers) = (engine.handle.clone(), timers.collect());
            under_way.spawn(async move {
                for answer in handle.create_many(timers).await.unwrap() {
                    answer.unwrap();
                }
            });
            if under_way.len() >= IN_FLIGHT {
                under_way.join_next().await.unwrap().unwrap();
            }
            if batch % 1000 == 999 {
                let took = (boottime() - begin).as_secs_f64();
                eprintln!(
                    "{} M in {took:.0} s, {:.0} MB resident",
                    (batch + 1) * BATCH / 1_000_000,
                    resident_mb("VmRSS")
                );
            }
        }
        while let Some(done) = under_way.join_next().await {
            done.unwrap();
        }
    });
    let rate = count as f64 / (boottime() - begin).as_secs_f64();
    // Everything acknowledged is in the index when a listing comes back.
    let query = minoots::store::TimerQuery { limit: 1, ..Default::default() };
    runtime.block_on(engine.handle.list(query)).unwrap();
    let mut figures = lateness_of(&mut engine, runtime, "kernel.scale", TURNS);
    let (now_mb, peak_mb) = (resident_mb("VmRSS"), resident_mb("VmHWM"));
    // One more timer, due soon, which the new process has to fire; it is told when.
    let answer = runtime.block_on(engine.handle.create(definition(ScheduleSpec::AfterNs(1)))).unwrap();
    drop(answer);
    stop(engine);
    let disk_gb = disk_bytes(&data) as f64 / 1e9;
    let plain = |name, unit, value: f64| Figure { name, unit, baseline: "-", rounds: vec![(value, 1.0)] };
    figures.push(plain("kernel.scale.timers", "timers", count as f64));
    figures.push(plain("kernel.scale.create", "timers/s", rate));
    figures.push(plain("kernel.scale.rss", "MB", now_mb));
    figures.push(plain("kernel.scale.rss_peak", "MB", peak_mb));
    figures.push(plain("kernel.scale.disk", "GB", disk_gb));
    figures.push(plain("kernel.scale.cold_start", "s", killed_and_started(&data)));
    figures
}

/// Starts a process on the data, kills it in the middle of work, starts another: the time until that one fires.
fn killed_and_started(data: &Path) -> f64 {
    let program = std::env::current_exe().unwrap();
    let run = || {
        let mut command = Command::new(&program);
        command.arg("--cold-start").arg(data).stdout(Stdio::piped());
        command
    };
    // The first one creates for a while and is killed.
    let mut first = run().env("BENCH_LOAD", "1").spawn().unwrap();
    let lines = BufReader::new(first.stdout.take().unwrap()).lines();
    lines.take(LOAD_BATCHES).for_each(|line| drop(line.unwrap()));
    first.kill().unwrap();
    first.wait().unwrap();
    let output = run().output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    text.lines().find_map(|l| l.strip_prefix("first fire after ")?.parse().ok()).expect("it fired")
}

/// The life of such a process.
pub(super) fn cold_start(data: &Path) {
    let begin = boottime();
    let runtime = Runtime::new().unwrap();
    let base = realtime().as_ns() as u64;
    let mut engine = start_with_ids(data, base);
    if std::env::var_os("BENCH_LOAD").is_some() {
        // Far timers at full speed, so that the log has a tail that the index lacks; killed from outside.
        loop {
            let timers = vec![definition(ScheduleSpec::AfterNs(SPREAD.as_ns())); BATCH];
            runtime.block_on(engine.handle.create_many(timers)).unwrap();
            println!("created {BATCH}");
        }
    }
    runtime.block_on(engine.handle.create(definition(ScheduleSpec::AfterNs(0)))).unwrap();
    engine.fires.blocking_recv().unwrap();
    println!("first fire after {:.3}", (boottime() - begin).as_secs_f64());
    stop(engine);
}

fn start_with_ids(data: &Path, base: u64) -> minoots::engine::Started {
    use minoots::clock::KernelClock;
    use minoots::engine::{Engine, EngineConfig, Retention};
    use minoots::store::{LogOptions, embedded};
    use minoots_kernel::TimerId;
    let next = std::sync::atomic::AtomicU64::new(base);
    let number = move || next.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let ids = std::sync::Arc::new(move || TimerId::from_u128(1 << 64 | u128::from(number())));
    let stores = embedded::open(data, 1, LogOptions::default()).unwrap();
    let clock = Box::new(|| Box::new(OsClock) as Box<dyn KernelClock>);
    Engine::start(EngineConfig { stores, clock, ids, retention: Retention::default() }).unwrap()
}

/// A line of this process's status, in megabytes.
fn resident_mb(key: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with(key)).unwrap_or_default();
    line.split_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

fn disk_bytes(directory: &Path) -> u64 {
    use std::os::unix::fs::MetadataExt;
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(m) if m.is_dir() => disk_bytes(&entry.path()),
            Ok(m) => m.blocks() * 512,
            Err(_) => 0,
        })
        .sum()
}
