//! Kill -9 in a loop under load: every acknowledged timer fires, none is lost, and the log holds each fire once.
//!
//! The parent starts this same test binary as a child that runs an engine over a real log, creates timers through a
//! pipe, and kills the child at seeded random moments: in the middle of loads, of fires and of recoveries. In the end a
//! child may run until nothing is pending, and the log is compared with what was acknowledged. The seed is printed;
//! `MINOOTS_SEED` repeats a run's choices (where the kill falls within the child's work is up to the machine).

mod common;

use chronotick_core::Span;
use minoots::clock::OsClock;
use minoots::engine::{EngineHandle, Feed, FireOrder};
use minoots::store::{LogOptions, TimerQuery, embedded};
use minoots_kernel::{Event, TimerId, TimerState};
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::mpsc::UnboundedReceiver;

const KILLS: u64 = 200;
const ACKNOWLEDGED: usize = 20_000;
/// Timers that one child is given, most of which it acknowledges before it is killed.
const LOAD: u64 = 250;
/// Timers fall due up to this long after their creation: some in the same life of the child, some in later ones.
const DELAY_MAX_MS: u64 = 400;
/// Small, so that the run crosses many segments.
const OPTIONS: LogOptions = LogOptions { segment_bytes: 512 << 10, reserve_bytes: 64 << 10 };
/// A child that waits for its timers this long without any event has lost some.
const STALLED: Duration = Duration::from_secs(30);
/// More than one, so that their recoveries and their fsyncs are cut apart.
const PARTITIONS: u32 = 2;
const DIRECTORY: &str = "MINOOTS_KILL_LOOP_DIRECTORY";
const LIFE: &str = "MINOOTS_KILL_LOOP_LIFE";

/// SplitMix64: small, and the same everywhere.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % limit
    }
}

fn seed() -> u64 {
    match std::env::var("MINOOTS_SEED") {
        Ok(text) => text.parse().expect("MINOOTS_SEED is a whole number"),
        Err(_) => u64::from(std::process::id()) ^ chronotick::os_clock::realtime().as_ns().unsigned_abs(),
    }
}

/// A running child: what it acknowledges comes out of `acknowledged`, which ends with the child.
struct Life {
    child: Child,
    feeder: JoinHandle<Option<ChildStdin>>,
    acknowledged: Receiver<TimerId>,
}

impl Life {
    /// Starts a child and feeds it `load` timers; it keeps running after them until it is killed, or, when it is the
    /// `last`, until nothing is pending.
    fn start(directory: &Path, number: u64, load: u64, random: &mut Random, last: bool) -> Self {
        let mut child = Command::new(std::env::current_exe().expect("the path of this test"))
            .args(["--exact", "child", "--ignored", "--nocapture"])
            .env(DIRECTORY, directory)
            .env(LIFE, number.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the child starts");
        let mut input = child.stdin.take().expect("it was piped");
        let delays: Vec<_> = (0..load).map(|_| random.below(DELAY_MAX_MS)).collect();
        let feeder = std::thread::spawn(move || {
            for delay_ms in delays {
                // A broken pipe is a child that was killed: what it did not acknowledge is not counted.
                if writeln!(input, "{delay_ms}").is_err() {
                    break;
                }
            }
            // A child whose input has ended goes on to finish; the pipe of the others stays open until they are dead.
            (!last).then_some(input)
        });
        let output = BufReader::new(child.stdout.take().expect("it was piped"));
        let (sender, acknowledged) = channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                // Other lines are the test runner's own, and a killed child may leave half a line.
                if let Some(id) = line.strip_prefix("created ").and_then(TimerId::parse)
                    && sender.send(id).is_err()
                {
                    return;
                }
            }
        });
        Self { child, feeder, acknowledged }
    }

    /// Waits for `count` acknowledgements or `at_most`, whichever is first, then kills the child with SIGKILL.
    fn kill(mut self, count: u64, at_most: Duration, acknowledged: &mut BTreeSet<TimerId>) {
        let deadline = chronotick::os_clock::boottime() + Span::from_duration(at_most);
        for _ in 0..count {
            let left = deadline - chronotick::os_clock::boottime();
            let Ok(id) = self.acknowledged.recv_timeout(left.to_duration()) else { break };
            acknowledged.insert(id);
        }
        self.child.kill().expect("the child can be killed");
        self.child.wait().expect("the child was ours");
        drop(self.feeder.join().expect("the feeder ends with the pipe"));
        // What it said before it died counts.
        acknowledged.extend(self.acknowledged.iter());
    }
}

#[test]
fn kill_loop() {
    let seed = seed();
    println!("seed {seed} (MINOOTS_SEED={seed} repeats it)");
    let mut random = Random(seed);
    let dir = tempfile::tempdir().unwrap();
    let mut acknowledged = BTreeSet::new();
    let mut kills = 0;
    while kills < KILLS || acknowledged.len() < ACKNOWLEDGED {
        let life = Life::start(dir.path(), kills, LOAD, &mut random, false);
        // One kill in eight comes early, often within the recovery; one in eight when the load is done and fires.
        let (count, at_most_ms) = match random.below(8) {
            0 => (LOAD, random.below(40)),
            1 => (u64::MAX, 150 + random.below(100)),
            _ => (1 + random.below(LOAD), 5_000),
        };
        life.kill(count, Duration::from_millis(at_most_ms), &mut acknowledged);
        kills += 1;
    }
    let mut last = Life::start(dir.path(), kills, 0, &mut random, true);
    assert!(last.child.wait().unwrap().success(), "the last child did not end well");

    let mut scheduled = BTreeSet::new();
    let mut fires: BTreeMap<TimerId, u64> = BTreeMap::new();
    let mut ended = BTreeSet::new();
    let mut events = 0;
    for mut store in embedded::open(dir.path(), PARTITIONS, OPTIONS).unwrap() {
        let recovery = store.log.recover(0, &mut |record| {
            match record.event {
                Event::Scheduled { timer, .. } => {
                    assert!(scheduled.insert(timer), "{timer} was created twice")
                }
                Event::Firing { firing, .. } => *fires.entry(firing.timer).or_default() += 1,
                Event::Completed { firing, .. } => {
                    assert!(ended.insert(firing.timer), "{firing} ended twice")
                }
                _ => panic!("{record:?}"),
            }
            Ok(())
        });
        events += recovery.unwrap().last_sequence;
    }
    let lost: Vec<_> = acknowledged.difference(&scheduled).collect();
    assert!(lost.is_empty(), "acknowledged, but not in the log: {lost:?}");
    let unfired: Vec<_> = scheduled.iter().filter(|id| !fires.contains_key(id)).collect();
    assert!(unfired.is_empty(), "in the log, but never fired: {unfired:?}");
    let twice: Vec<_> = fires.iter().filter(|(_, n)| **n != 1).collect();
    assert!(twice.is_empty(), "in the log with more than one fire: {twice:?}");
    assert_eq!(ended, scheduled, "a fire was not carried out");
    println!(
        "{kills} kills, {} creates acknowledged, {} in the log, each fired once; {} events",
        acknowledged.len(),
        scheduled.len(),
        events
    );
}

/// The child's life: an engine between two pipes.
#[test]
#[ignore = "the process that `kill_loop` kills"]
fn child() {
    let directory = std::env::var_os(DIRECTORY).expect("only `kill_loop` starts this");
    let life: u64 = std::env::var(LIFE).expect("only `kill_loop` starts this").parse().unwrap();
    let engine = common::start_in(Path::new(&directory), PARTITIONS, OPTIONS, OsClock, life);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    let handle = engine.handle.clone();
    let (lines, requests) = tokio::sync::mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
    });
    runtime.block_on(async {
        tokio::spawn(carry_out(engine.fires, handle.clone()));
        serve(requests, &handle).await;
        until_idle(&engine.feed, &handle).await;
    });
    handle.shutdown();
    engine.threads.join().unwrap();
}

/// Creates a timer for each line, many at a time, and says so when it is durable.
async fn serve(mut requests: UnboundedReceiver<String>, handle: &EngineHandle) {
    let mut tasks = tokio::task::JoinSet::new();
    while let Some(line) = requests.recv().await {
        let Ok(delay_ms) = line.parse() else { continue };
        let definition = common::definition("survivor", Span::from_ms(delay_ms));
        let handle = handle.clone();
        tasks.spawn(async move {
            let created = handle.create(definition).await.expect("there is room");
            // One write for the line, so that it is either whole or cut, never mixed with another.
            let line = format!("created {}\n", created.timer.id);
            std::io::stdout().write_all(line.as_bytes()).expect("the parent reads");
        });
    }
    tasks.join_all().await;
}

/// Ends every fire that it is handed: the "action" of this test is the log itself.
async fn carry_out(mut fires: UnboundedReceiver<Vec<FireOrder>>, handle: EngineHandle) {
    while let Some(orders) = fires.recv().await {
        for order in orders {
            let handle = handle.clone();
            let tenant = order.timer.tenant().clone();
            tokio::spawn(
                async move { handle.finish(tenant, order.firing, vec![]).await.expect("there is room") },
            );
        }
    }
}

/// Waits until no timer is pending and no fire under way.
async fn until_idle(feed: &Feed, handle: &EngineHandle) {
    let mut events = feed.subscribe(None).expect("it runs");
    loop {
        let mut open = 0;
        for state in [TimerState::Scheduled, TimerState::Firing] {
            let query = TimerQuery { state: Some(state), limit: 1, ..TimerQuery::default() };
            let page = handle.list(query).await.expect("it runs");
            open += page.timers.len() + usize::from(page.next.is_some());
        }
        if open == 0 {
            return;
        }
        // No test of speed: without an event for so long, the rest has been lost.
        tokio::time::timeout(STALLED, events.next())
            .await
            .unwrap_or_else(|_| panic!("timers are pending, but nothing happens any more"))
            .expect("it runs");
    }
}
