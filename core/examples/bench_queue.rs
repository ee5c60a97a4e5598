//! Measures the timer queue against tokio-util's `DelayQueue`, which does the same work in the same run.
//!
//! Due times are spread evenly over 24 hours, in random order, and cancels come in another random order. Both queues
//! start empty, with no capacity asked for. Subject and baseline alternate, and a figure is the median of the rounds.
//! The time for each timer is what this thread ran, so that other programs on the machine count less.
//! In `queue.expire` the clock moves a second at a time. In `queue.step` it moves a millisecond at a time for two
//! hours, and every step is timed. A step's time is the least of the rounds, which do exactly the same, since in one
//! round the longest step is whichever the operating system interrupted; that raw figure is `queue.step.raw`.
//!
//! `--json` prints one line per figure, else a table is printed. `--scale N` (10M unless told; `50M`, `100k`) is how
//! many timers. At another scale than 10M only the steps are measured, with the scale in the figure's name.
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick_core::Timestamp;
use chronotick_core::queue::{TimerKey, TimerQueue};
use std::future::poll_fn;
use std::hint::black_box;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio_util::time::DelayQueue;
use tokio_util::time::delay_queue::Key;

const ROUNDS: usize = 3;
const DEFAULT_SCALE: usize = 10_000_000;
const SPREAD_MS: u64 = 24 * 3_600_000;
/// Past the last due time, for the end of `queue.expire`.
const END_S: u64 = 24 * 3_600 + 1;
/// The steps begin here, so that they cross the time where a wheel with 64 slots a level empties its fifth level.
const STEPS_FROM_MS: u64 = 4 * 3_600_000;
const STEPS: usize = 2 * 3_600_000;
/// Timers taken out at a time.
const LIMIT: usize = 256;
/// Any day of this century.
const START_NS: i64 = 1_800_000_000_000_000_000;

#[expect(clippy::disallowed_methods, reason = "a benchmark is an edge: it measures with the machine's clock")]
fn clock() -> Instant {
    Instant::now()
}

/// How long this thread has run, in ns: the time it waited for a processor, which other programs had, is not in it.
/// Where the system does not tell, the time by the clock.
fn thread_time_ns(origin: Instant) -> f64 {
    let told = std::fs::read_to_string("/proc/thread-self/schedstat").ok();
    let run_ns = told.and_then(|text| text.split(' ').next()?.parse::<u64>().ok()).filter(|ns| *ns > 0);
    run_ns.map_or_else(|| origin.elapsed().as_nanos() as f64, |ns| ns as f64)
}

/// Measures thread time from its making on.
struct Watch {
    origin: Instant,
    began_ns: f64,
}

impl Watch {
    fn start() -> Self {
        let origin = clock();
        Self { origin, began_ns: thread_time_ns(origin) }
    }

    fn ns_per(&self, count: usize) -> f64 {
        (thread_time_ns(self.origin) - self.began_ns) / count as f64
    }
}

fn ns_per(count: usize, work: impl FnOnce()) -> f64 {
    let watch = Watch::start();
    work();
    watch.ns_per(count)
}

/// A fixed sequence that looks random (SplitMix64).
struct Sequence(u64);

impl Sequence {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn shuffle<T>(&mut self, items: &mut [T]) {
        for i in (1..items.len()).rev() {
            items.swap(i, (self.next() % (i as u64 + 1)) as usize);
        }
    }
}

/// Nanoseconds after the start, for each timer.
fn dues(scale: usize) -> Vec<u64> {
    let mut sequence = Sequence(1);
    (0..scale).map(|_| sequence.next() % (SPREAD_MS * 1_000_000)).collect()
}

fn at_ns(after_start: u64) -> Timestamp {
    Timestamp::from_ns(START_NS + after_start as i64)
}

/// What one queue took for each timer, in ns.
#[derive(Clone, Copy, Default)]
struct PerTimer {
    insert: f64,
    cancel: f64,
    expire: f64,
}

fn fill(dues: &[u64], keys: &mut Vec<TimerKey>) -> TimerQueue<u64> {
    let mut queue = TimerQueue::new();
    queue.prepare(at_ns(0), 0);
    for (token, due) in dues.iter().enumerate() {
        keys.push(queue.insert(at_ns(*due), token as u64));
    }
    queue
}

fn subject(dues: &[u64]) -> PerTimer {
    let mut result = PerTimer::default();
    let mut keys = Vec::with_capacity(dues.len());
    let mut queue = TimerQueue::new();
    result.insert = ns_per(dues.len(), || queue = fill(dues, &mut keys));
    Sequence(2).shuffle(&mut keys);
    result.cancel = ns_per(dues.len(), || {
        for key in &keys {
            black_box(queue.cancel(*key).unwrap());
        }
    });
    assert!(queue.is_empty());
    keys.clear();
    queue = fill(dues, &mut keys);
    let mut out = Vec::with_capacity(LIMIT);
    let mut expired = 0;
    result.expire = ns_per(dues.len(), || {
        for second in 0..=END_S {
            expired += drain(&mut queue, second * 1_000_000_000, &mut out);
        }
    });
    assert_eq!(expired, dues.len());
    result
}

fn drain(
    queue: &mut TimerQueue<u64>,
    after_start_ns: u64,
    out: &mut Vec<chronotick_core::queue::Due<u64>>,
) -> usize {
    let mut total = 0;
    loop {
        out.clear();
        let taken = queue.advance(at_ns(after_start_ns), LIMIT, out);
        total += taken;
        black_box(&*out);
        if taken < LIMIT {
            return total;
        }
    }
}

fn fill_peer(start: tokio::time::Instant, dues: &[u64], keys: &mut Vec<Key>) -> DelayQueue<u64> {
    let mut queue = DelayQueue::new();
    for (token, due) in dues.iter().enumerate() {
        keys.push(queue.insert_at(token as u64, start + Duration::from_nanos(*due)));
    }
    queue
}

/// Takes out all that is due, as a task would, and returns how many.
async fn drain_peer(queue: &mut DelayQueue<u64>) -> usize {
    poll_fn(|cx| {
        let mut total = 0;
        while let Poll::Ready(Some(expired)) = queue.poll_expired(cx) {
            black_box(expired.into_inner());
            total += 1;
        }
        Poll::Ready(total)
    })
    .await
}

/// Runs on a clock that moves only when told, and without the runtime's share for each task.
fn with_manual_clock<T>(work: impl Future<Output = T>) -> T {
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(tokio::task::unconstrained(work))
}

async fn peer(dues: &[u64]) -> PerTimer {
    let mut result = PerTimer::default();
    let mut keys = Vec::with_capacity(dues.len());
    let start = tokio::time::Instant::now();
    let mut queue = DelayQueue::new();
    result.insert = ns_per(dues.len(), || queue = fill_peer(start, dues, &mut keys));
    Sequence(2).shuffle(&mut keys);
    result.cancel = ns_per(dues.len(), || {
        for key in &keys {
            black_box(queue.try_remove(key).unwrap());
        }
    });
    assert!(queue.is_empty());
    keys.clear();
    drop(queue);
    queue = fill_peer(start, dues, &mut keys);
    let mut expired = 0;
    let watch = Watch::start();
    for _ in 0..=END_S {
        expired += drain_peer(&mut queue).await;
        tokio::time::advance(Duration::from_secs(1)).await;
    }
    result.expire = watch.ns_per(dues.len());
    assert_eq!(expired, dues.len());
    result
}

/// Times of steps in ns: the least of all rounds for each step, and the longest of any round.
struct Steps {
    least: Vec<u32>,
    raw_max: u32,
}

impl Steps {
    fn new() -> Self {
        Self { least: vec![u32::MAX; STEPS], raw_max: 0 }
    }

    fn note(&mut self, step: usize, began: Instant) {
        let ns = u32::try_from(began.elapsed().as_nanos()).unwrap_or(u32::MAX);
        self.least[step] = self.least[step].min(ns);
        self.raw_max = self.raw_max.max(ns);
    }

    fn longest_ms(&self) -> f64 {
        f64::from(*self.least.iter().max().unwrap()) / 1e6
    }
}

fn subject_steps(dues: &[u64], steps: &mut Steps) {
    let mut queue = fill(dues, &mut Vec::with_capacity(dues.len()));
    let mut out = Vec::with_capacity(LIMIT);
    drain(&mut queue, STEPS_FROM_MS * 1_000_000, &mut out);
    for step in 0..STEPS {
        let now = at_ns((STEPS_FROM_MS + step as u64) * 1_000_000);
        out.clear();
        let began = clock();
        queue.advance(now, LIMIT, &mut out);
        black_box(queue.next_deadline());
        steps.note(step, began);
        black_box(&out);
    }
}

async fn peer_steps(dues: &[u64], steps: &mut Steps) {
    let start = tokio::time::Instant::now();
    let mut queue = fill_peer(start, dues, &mut Vec::with_capacity(dues.len()));
    // As the subject, it comes to the start of the window by way of what is due before.
    for _ in 0..STEPS_FROM_MS / 1_000 {
        tokio::time::advance(Duration::from_secs(1)).await;
        drain_peer(&mut queue).await;
    }
    for step in 0..STEPS {
        let began = clock();
        black_box(drain_peer(&mut queue).await);
        steps.note(step, began);
        tokio::time::advance(Duration::from_millis(1)).await;
    }
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Figure {
    name: String,
    unit: &'static str,
    /// Subject and baseline of each round.
    rounds: Vec<(f64, f64)>,
}

impl Figure {
    fn print(&self, json: bool) {
        let Self { name, unit, rounds } = self;
        let value = median(rounds.iter().map(|r| r.0).collect());
        let baseline_value = median(rounds.iter().map(|r| r.1).collect());
        let ratio = value / baseline_value;
        let baseline = "tokio-util DelayQueue";
        if json {
            println!(
                "{{\"name\":\"{name}\",\"value\":{value:.3},\"unit\":\"{unit}\",\"baseline\":\"{baseline}\",\
                 \"baseline_value\":{baseline_value:.3},\"ratio\":{ratio:.3}}}"
            );
        } else {
            println!("{name:<20} {value:>10.3} {unit:<3} {baseline_value:>10.3} {ratio:>7.3}  {baseline}");
        }
    }
}

fn per_timer_figures(dues: &[u64]) -> Vec<Figure> {
    let rounds: Vec<_> = (0..ROUNDS).map(|_| (subject(dues), with_manual_clock(peer(dues)))).collect();
    let figure = |name: &str, part: fn(&PerTimer) -> f64| Figure {
        name: name.to_owned(),
        unit: "ns",
        rounds: rounds.iter().map(|(s, p)| (part(s), part(p))).collect(),
    };
    vec![
        figure("queue.insert", |t| t.insert),
        figure("queue.cancel", |t| t.cancel),
        figure("queue.expire", |t| t.expire),
    ]
}

fn step_figures(dues: &[u64], suffix: &str) -> Vec<Figure> {
    let (mut ours, mut theirs) = (Steps::new(), Steps::new());
    for _ in 0..ROUNDS {
        subject_steps(dues, &mut ours);
        with_manual_clock(peer_steps(dues, &mut theirs));
    }
    let raw_ms = |steps: &Steps| f64::from(steps.raw_max) / 1e6;
    let figure = |name: String, s: f64, p: f64| Figure { name, unit: "ms", rounds: vec![(s, p)] };
    vec![
        figure(format!("queue.step{suffix}"), ours.longest_ms(), theirs.longest_ms()),
        figure(format!("queue.step{suffix}.raw"), raw_ms(&ours), raw_ms(&theirs)),
    ]
}

fn parse_scale(text: &str) -> Option<usize> {
    let (digits, unit) = match text.chars().last()? {
        'M' | 'm' => (&text[..text.len() - 1], 1_000_000),
        'k' | 'K' => (&text[..text.len() - 1], 1_000),
        _ => (text, 1),
    };
    digits.parse::<usize>().ok()?.checked_mul(unit).filter(|n| *n > 0)
}

fn main() {
    let (mut json, mut scale, mut suffix) = (false, DEFAULT_SCALE, String::new());
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--json" => json = true,
            "--scale" => {
                let text = arguments.next().unwrap_or_default();
                let Some(n) = parse_scale(&text) else {
                    eprintln!("--scale wants a number of timers such as 50M or 100k, not {text:?}");
                    std::process::exit(2);
                };
                scale = n;
                if n != DEFAULT_SCALE {
                    suffix = format!(".{}", text.to_lowercase());
                }
            }
            other => {
                eprintln!("unknown argument {other:?}: only --json and --scale N are known");
                std::process::exit(2);
            }
        }
    }
    let dues = dues(scale);
    if suffix.is_empty() {
        per_timer_figures(&dues).iter().for_each(|f| f.print(json));
    }
    step_figures(&dues, &suffix).iter().for_each(|f| f.print(json));
}
