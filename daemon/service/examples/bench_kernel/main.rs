//! Measures the engine against the bare floor of this machine: the same bytes written and synced with nothing around.
//!
//! Subject and floor alternate in the same run, and a figure is the median over the rounds, since on a shared machine
//! two runs one after the other differ by a factor of two. `--json` prints one line per figure, else a table is
//! printed. `--dir DIR` chooses the disk (default: the temporary directory), `--only create|fire|herd|lateness` one part;
//! `--scale 50M` measures many pending timers instead.
#![allow(missing_docs, clippy::unwrap_used)]

mod floor;
mod scale;

use chronotick::os_clock::{boottime, realtime};
use chronotick_core::{Span, Timestamp};
use floor::Floor;
use minoots::clock::{KernelClock, ManualClock, OsClock};
use minoots::engine::{Engine, EngineConfig, EngineHandle, FireOrder, Retention, Started};
use minoots::store::{LogOptions, embedded};
use minoots_kernel::{ActionSpec, ScheduleSpec, TimerDefinition, TimerId};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::runtime::Runtime;

/// As the program has it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

const ROUNDS: usize = 9;
const BATCH: usize = 100;
const IN_FLIGHT: usize = 64;
/// Creates in one round of `kernel.create.batch`.
const BATCH_CREATES: usize = 20_000;
/// Creates in one round of `kernel.create.single`.
const SINGLE_CREATES: usize = 500;
/// Timers in one round of `kernel.fire`.
const FIRES: usize = 20_000;
/// How many timers wait in the background of the lateness figures.
const PENDING: usize = 1_000_000;
/// Fires in a second of the lateness figures.
const LATE_RATE: usize = 1_000;
/// The lateness of engine and bare thread is measured in turns of a second, so many each.
const LATE_TURNS: usize = 60;
/// Timers that are due at the same instant.
const HERD: usize = 100_000;
const HERD_ROUNDS: usize = 5;

struct Figure {
    name: &'static str,
    unit: &'static str,
    baseline: &'static str,
    /// Subject and floor of each round.
    rounds: Vec<(f64, f64)>,
}

impl Figure {
    fn print(&self, json: bool) {
        let value = median(self.rounds.iter().map(|r| r.0));
        let floor = median(self.rounds.iter().map(|r| r.1));
        let ratio = median(self.rounds.iter().map(|r| r.0 / r.1));
        let Self { name, unit, baseline, .. } = self;
        if json {
            println!(
                "{{\"name\":\"{name}\",\"value\":{value:.1},\"unit\":\"{unit}\",\"baseline\":\"{baseline}\",\
                 \"baseline_value\":{floor:.1},\"ratio\":{ratio:.3}}}"
            );
        } else {
            println!("{name:<24} {value:>12.1} {unit:<9} {floor:>12.1} {baseline:<18} {ratio:>7.3}");
        }
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<_> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn percentile(sorted: &[i64], per_mille: usize) -> f64 {
    sorted[(sorted.len() * per_mille / 1000).min(sorted.len() - 1)] as f64
}

fn start(dir: &Path, clock: impl KernelClock + Clone + 'static) -> Started {
    let next = AtomicU64::new(1);
    let ids = Arc::new(move || TimerId::from_u128(u128::from(next.fetch_add(1, Ordering::Relaxed))));
    let stores = embedded::open(dir, 1, LogOptions::default()).unwrap();
    let clock = Box::new(move || Box::new(clock.clone()) as Box<dyn KernelClock>);
    Engine::start(EngineConfig { stores, clock, ids, retention: Retention::default() }).unwrap()
}

/// A timer as users make them: one webhook, one label.
fn definition(schedule: ScheduleSpec) -> TimerDefinition {
    TimerDefinition {
        name: "order-1234-reminder".to_string(),
        schedule,
        actions: vec![ActionSpec {
            id: "notify".to_string(),
            kind: "webhook".to_string(),
            parameters_json: r#"{"url":"http://127.0.0.1:8080/hook"}"#.to_string(),
        }],
        labels: [("team".to_string(), "orders".to_string())].into(),
        ..TimerDefinition::default()
    }
}

fn far() -> TimerDefinition {
    definition(ScheduleSpec::AfterNs(Span::from_secs(86_400).as_ns()))
}

/// Operations in a second.
fn rate(operations: usize, work: impl FnOnce()) -> f64 {
    let begin = boottime();
    work();
    operations as f64 / (boottime() - begin).as_secs_f64()
}

/// How many bytes the log has grown by, without its reserved space.
fn log_bytes(dir: &Path) -> usize {
    let files = std::fs::read_dir(dir.join("log")).unwrap().map(|s| s.unwrap().path());
    let segments = files.filter(|path| path.extension().is_some_and(|e| e == "segment"));
    segments.map(|path| used(&std::fs::read(path).unwrap())).sum()
}

fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|b| *b != 0).map_or(0, |last| last + 1)
}

/// The bytes that one create, and one fire, take in the log.
fn event_bytes(dir: &Path, runtime: &Runtime) -> (usize, usize) {
    let clock = ManualClock::new(Timestamp::from_secs(1_700_000_000));
    let mut engine = start(dir, clock.clone());
    let empty = 64;
    let batch = vec![definition(ScheduleSpec::AfterNs(1)); 1000];
    runtime.block_on(engine.handle.create_many(batch)).unwrap();
    let created = log_bytes(dir) - empty;
    clock.set(Timestamp::from_secs(1_700_000_001));
    let mut fired = 0;
    while fired < 1000 {
        fired += engine.fires.blocking_recv().unwrap().len();
    }
    let all = log_bytes(dir) - empty;
    stop(engine);
    (created / 1000, (all - created) / 1000)
}

fn stop(engine: Started) {
    engine.handle.shutdown();
    engine.threads.join().unwrap();
}

fn create_figures(dir: &Path, runtime: &Runtime, bytes: usize) -> [Figure; 2] {
    let engine = start(&dir.join("create"), OsClock);
    let mut floor = Floor::new(dir);
    let (one, many) = (vec![0x55; bytes], vec![0x55; bytes * BATCH]);
    let mut single = Vec::new();
    let mut batch = Vec::new();
    for _ in 0..ROUNDS {
        let subject = rate(SINGLE_CREATES, || {
            runtime.block_on(async {
                for _ in 0..SINGLE_CREATES {
                    engine.handle.create(far()).await.unwrap();
                }
            });
        });
        let bare = rate(SINGLE_CREATES, || (0..SINGLE_CREATES).for_each(|_| floor.write(&one)));
        single.push((subject, bare));
        let subject = rate(BATCH_CREATES, || runtime.block_on(create_in_flight(&engine.handle)));
        let writes = BATCH_CREATES / BATCH;
        let bare = rate(BATCH_CREATES, || (0..writes).for_each(|_| floor.write(&many)));
        batch.push((subject, bare));
    }
    stop(engine);
    let (by_one, by_100) = ("bare log by 1", "bare log by 100");
    [
        Figure { name: "kernel.create.single", unit: "timers/s", baseline: by_one, rounds: single },
        Figure { name: "kernel.create.batch", unit: "timers/s", baseline: by_100, rounds: batch },
    ]
}

async fn create_in_flight(handle: &EngineHandle) {
    let next = Arc::new(AtomicU64::new(0));
    let workers: Vec<_> = (0..IN_FLIGHT)
        .map(|_| {
            let (handle, next) = (handle.clone(), next.clone());
            tokio::spawn(async move {
                while next.fetch_add(1, Ordering::Relaxed) < (BATCH_CREATES / BATCH) as u64 {
                    for answer in handle.create_many(vec![far(); BATCH]).await.unwrap() {
                        answer.unwrap();
                    }
                }
            })
        })
        .collect();
    for worker in workers {
        worker.await.unwrap();
    }
}

fn fire_figure(dir: &Path, runtime: &Runtime, bytes: usize) -> Figure {
    let mut now = Timestamp::from_secs(1_700_000_000);
    let clock = ManualClock::new(now);
    let mut engine = start(&dir.join("fire"), clock.clone());
    let mut floor = Floor::new(dir);
    let many = vec![0x55; bytes * BATCH];
    let mut rounds = Vec::new();
    for _ in 0..ROUNDS {
        now += Span::from_secs(10);
        for _ in 0..FIRES / 1000 {
            let timers = vec![definition(ScheduleSpec::AtNs(now.as_ns())); 1000];
            runtime.block_on(engine.handle.create_many(timers)).unwrap();
        }
        let subject = rate(FIRES, || {
            clock.set(now);
            // Wakes the engine, which else looks at a clock that was set by hand four times a second.
            runtime.block_on(engine.handle.status()).unwrap();
            let mut fired = 0;
            while fired < FIRES {
                fired += engine.fires.blocking_recv().unwrap().len();
            }
        });
        let writes = FIRES / BATCH;
        let bare = rate(FIRES, || (0..writes).for_each(|_| floor.write(&many)));
        rounds.push((subject, bare));
    }
    stop(engine);
    Figure { name: "kernel.fire", unit: "fires/s", baseline: "bare log by 100", rounds }
}

/// How long after its due time the last of a herd is handed over.
fn herd_figure(dir: &Path, runtime: &Runtime, bytes: usize) -> Figure {
    let mut engine = start(&dir.join("herd"), OsClock);
    let mut floor = Floor::new(dir);
    let many = vec![0x55; bytes * BATCH];
    let mut rounds = Vec::new();
    for _ in 0..HERD_ROUNDS {
        let due = realtime() + Span::from_secs(4);
        create_all(&engine, runtime, (0..HERD).map(|_| due));
        let mut fired = 0;
        while fired < HERD {
            fired += engine.fires.blocking_recv().unwrap().len();
        }
        let last_ms = (realtime() - due).as_ns() as f64 / 1e6;
        let begin = boottime();
        (0..HERD / BATCH).for_each(|_| floor.write(&many));
        rounds.push((last_ms, (boottime() - begin).as_ns() as f64 / 1e6));
    }
    stop(engine);
    Figure { name: "kernel.herd", unit: "ms", baseline: "bare log by 100", rounds }
}

fn create_all(engine: &Started, runtime: &Runtime, dues: impl Iterator<Item = Timestamp>) {
    let timers: Vec<_> = dues.map(|d| definition(ScheduleSpec::AtNs(d.as_ns()))).collect();
    for chunk in timers.chunks(1000) {
        for answer in runtime.block_on(engine.handle.create_many(chunk.to_vec())).unwrap() {
            answer.unwrap();
        }
    }
}

/// Lateness of the engine's fires, of their handing over, and of a thread that only sleeps to such deadlines.
fn lateness_figures(dir: &Path, runtime: &Runtime) -> Vec<Figure> {
    let mut engine = start(&dir.join("late"), OsClock);
    for _ in 0..PENDING / 1000 {
        runtime.block_on(engine.handle.create_many(vec![far(); 1000])).unwrap();
    }
    lateness_of(&mut engine, runtime, "kernel", LATE_TURNS)
}

/// The same on an engine that is there.
fn lateness_of(engine: &mut Started, runtime: &Runtime, prefix: &str, turns: usize) -> Vec<Figure> {
    let count = turns * LATE_RATE;
    let begin = realtime() + Span::from_secs(5);
    // Even seconds are the engine's, odd seconds the bare thread's.
    let deadlines = |first_second: i64| {
        let mut state = 0x2545_F491_4F6C_DD1D_u64;
        let mut all: Vec<_> = (0..count)
            .map(|i| {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                let within_ns = (state % 990_000_000) as i64;
                begin + Span::from_secs(first_second + 2 * (i / LATE_RATE) as i64) + Span::from_ns(within_ns)
            })
            .collect();
        all.sort_unstable();
        all
    };
    create_all(engine, runtime, deadlines(0).into_iter());
    let bare_deadlines = deadlines(1);
    let bare = std::thread::spawn(move || {
        let _ = rustix::thread::set_current_timer_slack(NonZeroU64::new(1));
        bare_deadlines.into_iter().map(sleep_until).collect::<Vec<i64>>()
    });
    let mut decided = Vec::with_capacity(count);
    let mut handed = Vec::with_capacity(count);
    while decided.len() < count {
        let orders: Vec<FireOrder> = engine.fires.blocking_recv().unwrap();
        let now_ns = realtime().as_ns();
        decided.extend(orders.iter().filter_map(|o| o.timer.status.last.as_ref()).map(|l| l.lateness_ns()));
        handed.extend(orders.iter().map(|o| now_ns - o.firing.nominal_ns));
    }
    let mut bare = bare.join().unwrap();
    decided.sort_unstable();
    handed.sort_unstable();
    bare.sort_unstable();
    let figure = |name: String, values: &[i64], per_mille| {
        let rounds = vec![(percentile(values, per_mille) / 1e3, percentile(&bare, per_mille) / 1e3)];
        Figure { name: name.leak(), unit: "us", baseline: "bare thread", rounds }
    };
    let mut figures = Vec::new();
    for (what, values) in [("lateness", &decided), ("handover", &handed)] {
        for (name, per_mille) in [("p50", 500), ("p99", 990), ("p999", 999)] {
            figures.push(figure(format!("{prefix}.{what}.{name}"), values, per_mille));
        }
    }
    figures
}

/// Sleeps to a deadline and returns how late it woke, in nanoseconds.
fn sleep_until(deadline: Timestamp) -> i64 {
    let left = deadline - realtime();
    if left > Span::ZERO {
        // A park with nobody to unpark it is a sleep.
        std::thread::park_timeout(left.to_duration());
    }
    (realtime() - deadline).as_ns()
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let json = arguments.iter().any(|a| a == "--json");
    let value_of = |flag: &str| {
        let at = arguments.iter().position(|a| a == flag)?;
        arguments.get(at + 1).cloned()
    };
    let parent = value_of("--dir").map_or_else(std::env::temp_dir, PathBuf::from);
    if let Some(directory) = value_of("--cold-start") {
        return scale::cold_start(Path::new(&directory));
    }
    let dir = tempfile::tempdir_in(parent).unwrap();
    let runtime = Runtime::new().unwrap();
    if !json {
        println!("{:<24} {:>12} {:<9} {:>12} {:<18} {:>7}", "figure", "value", "unit", "floor", "", "ratio");
    }
    if let Some(scale) = value_of("--scale") {
        for figure in scale::figures(dir.path(), &runtime, &scale) {
            figure.print(json);
        }
        return;
    }
    let only = value_of("--only");
    let wanted = |name: &str| only.as_deref().is_none_or(|only| only == name);
    let (create_bytes, fire_bytes) = event_bytes(&dir.path().join("size"), &runtime);
    if !json {
        println!("a create takes {create_bytes} bytes of log, a fire {fire_bytes}");
    }
    if wanted("create") {
        for figure in create_figures(dir.path(), &runtime, create_bytes) {
            figure.print(json);
        }
    }
    if wanted("fire") {
        fire_figure(dir.path(), &runtime, fire_bytes).print(json);
    }
    if wanted("herd") {
        herd_figure(dir.path(), &runtime, fire_bytes).print(json);
    }
    if !wanted("lateness") {
        return;
    }
    for figure in lateness_figures(dir.path(), &runtime) {
        figure.print(json);
    }
}
