//! The two parts that run in processes of their own: all the work up to an abort, and opening what it left.

use crate::Arguments;
use crate::engine::{self, Engine, Result};
use crate::load::{APPLIED, Batch, DEFINITION, DUE, LABEL, STATE, Shape, Timer, mix};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::time::{Duration, Instant};

const BATCH: u64 = 2_000;
const PAGE: usize = 4_096;
const CHECKPOINT: Duration = Duration::from_secs(1);

#[expect(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn now() -> Instant {
    Instant::now()
}

fn figure(name: &str, value: f64, unit: &str) {
    println!("{name} {value} {unit}");
}

/// Writes batches, with a durable one each second.
struct Writer<'a> {
    engine: &'a dyn Engine,
    batch: Batch,
    applied: u64,
    checkpoint: Instant,
    longest: Duration,
    checkpoints: Vec<Duration>,
}

impl Writer<'_> {
    fn write(&mut self, events: u64) -> Result<()> {
        let start = now();
        let durable = start - self.checkpoint > CHECKPOINT;
        self.applied += events;
        self.engine.write(&mut self.batch, self.applied, durable)?;
        self.batch.clear();
        let took = now() - start;
        self.longest = self.longest.max(took);
        if durable {
            self.checkpoint = now();
            self.checkpoints.push(took);
        }
        Ok(())
    }
}

pub(crate) fn run(name: &str, directory: &Path, arguments: &Arguments) -> Result<()> {
    let engine = engine::open(name, directory, &arguments.tuning)?;
    let engine = &*engine;
    let (timers, shape) = (arguments.timers, arguments.shape);
    let mut writer = Writer {
        engine,
        batch: Batch::default(),
        applied: 0,
        checkpoint: now(),
        longest: Duration::ZERO,
        checkpoints: Vec::new(),
    };

    // Creates, with a reader beside them.
    let (created, done) = (AtomicU64::new(0), AtomicBool::new(false));
    let (mut latencies, seconds) = std::thread::scope(|scope| -> Result<_> {
        let reader = scope.spawn(|| read_while_writing(engine, &created, &done, shape));
        let seconds = create_all(&mut writer, timers, &created, shape);
        done.store(true, Ordering::Release);
        Ok((reader.join().unwrap()?, seconds?))
    })?;
    eprintln!("{name}: after creates: {}", engine.describe());
    let count = seconds.len().max(1);
    figure("create", timers as f64 / seconds.iter().map(|s| s.1).sum::<f64>(), "timers/s");
    let tail = &seconds[count - (count / 5).max(1)..];
    figure(
        "create.last_fifth",
        tail.iter().map(|s| s.0).sum::<f64>() / tail.iter().map(|s| s.1).sum::<f64>(),
        "timers/s",
    );
    let slowest = seconds.iter().map(|s| s.0 / s.1).fold(f64::MAX, f64::min);
    figure("create.slowest_second", slowest, "timers/s");
    figure("create.cpu", cpu_seconds() * 1e6 / timers as f64, "us/timer");
    figure("create.longest_batch", writer.longest.as_secs_f64() * 1e3, "ms");
    writer.checkpoints.sort();
    if let Some(median) = writer.checkpoints.get(writer.checkpoints.len() / 2) {
        figure("checkpoint.median", median.as_secs_f64() * 1e3, "ms");
    }
    percentiles("get_while_writing", &mut latencies);
    figure("peak_rss.creates", peak_rss_mb(), "MB");
    figure("disk.creates", disk_mb(directory), "MB");

    // Pages of what is due, as arming reads them; with definition and state.
    let pages = (timers / 4).min(400_000);
    let start = now();
    let (mut from, mut seen) = (vec![], 0);
    while seen < pages {
        let view = engine.view()?;
        let page = due_page(&*view, &from, shape)?;
        for timer in &page {
            view.get(DEFINITION, &timer.key())?.ok_or("no definition")?;
            assert!(view.get(STATE, &timer.key())?.is_some() || shape.lean, "no state");
        }
        seen += page.len() as u64;
        from = page.last().ok_or("nothing due")?.due_key().to_vec();
        from.push(0);
    }
    figure("due_scan.with_gets", seen as f64 / (now() - start).as_secs_f64(), "timers/s");

    // Fires and finishes, in the order in which they are due.
    let fires = (timers / 2).min(1_000_000);
    writer.longest = Duration::ZERO;
    let (start, cpu) = (now(), cpu_seconds());
    let (mut from, mut fired) = (vec![], 0);
    while fired < fires {
        let page = due_page(&*engine.view()?, &from, shape)?;
        for timer in &page {
            timer.fire(&mut writer.batch);
        }
        writer.write(page.len() as u64)?;
        for (i, timer) in page.iter().enumerate() {
            timer.finish(&mut writer.batch, (fired + i as u64) as i64);
        }
        writer.write(page.len() as u64)?;
        fired += page.len() as u64;
        from = page.last().ok_or("nothing due")?.due_key().to_vec();
    }
    figure("fire_and_finish", fired as f64 / (now() - start).as_secs_f64(), "timers/s");
    figure("fire_and_finish.cpu", (cpu_seconds() - cpu) * 1e6 / fired as f64, "us/timer");
    figure("fire_and_finish.longest_batch", writer.longest.as_secs_f64() * 1e3, "ms");
    eprintln!("{name}: after fires: {}", engine.describe());

    // The first that is due, over all that was removed and from a bound above it.
    for (name, from) in [("first_due.from_start", &[][..]), ("first_due.from_bound", &from[..])] {
        let start = now();
        let found = engine.view()?.scan(DUE, from, 1, &mut |_, _| {})?;
        figure(name, (now() - start).as_secs_f64() * 1e3, "ms");
        assert_eq!(found, 1);
    }
    figure("peak_rss", peak_rss_mb(), "MB");
    figure("disk", disk_mb(directory), "MB");

    // Two and a half seconds of creates, then the end without a word.
    let (start, mut next) = (now(), timers);
    while now() - start < Duration::from_millis(2_500) {
        for n in next..next + BATCH {
            Timer::new(n, shape).create(&mut writer.batch, shape);
        }
        next += BATCH;
        writer.write(BATCH)?;
    }
    eprintln!("{name}: at the abort: {}", engine.describe());
    // How the sequence counts: one event for a create, and two for each that was fired.
    std::fs::write(
        directory.with_extension("expected"),
        format!("{timers} {fired} {} {}", writer.applied, next),
    )?;
    figure("aborted_at", writer.applied as f64, "sequence");
    std::process::abort()
}

/// For each second, timers and the time it took.
fn create_all(
    writer: &mut Writer<'_>,
    timers: u64,
    created: &AtomicU64,
    shape: Shape,
) -> Result<Vec<(f64, f64)>> {
    let (mut seconds, mut start, mut in_second) = (Vec::new(), now(), 0);
    let mut n = 0;
    while n < timers {
        let end = (n + BATCH).min(timers);
        for n in n..end {
            Timer::new(n, shape).create(&mut writer.batch, shape);
        }
        writer.write(end - n)?;
        in_second += end - n;
        n = end;
        created.store(n, Ordering::Release);
        let took = (now() - start).as_secs_f64();
        if took >= 1.0 || n == timers {
            seconds.push((in_second as f64, took));
            (start, in_second) = (now(), 0);
            if seconds.len().is_multiple_of(10) {
                eprintln!("{n} created, {} MB; {}", peak_rss_mb(), writer.engine.describe());
            }
        }
    }
    Ok(seconds)
}

/// Gets of definition and state of a timer chosen at random, some thousand a second.
fn read_while_writing(
    engine: &dyn Engine,
    created: &AtomicU64,
    done: &AtomicBool,
    shape: Shape,
) -> Result<Vec<u32>> {
    let (_never, pause) = mpsc::channel::<()>();
    let (mut latencies, mut n) = (Vec::new(), 0);
    while !done.load(Ordering::Acquire) {
        let _ = pause.recv_timeout(Duration::from_micros(500));
        let created = created.load(Ordering::Acquire);
        if created == 0 {
            continue;
        }
        n += 1;
        let timer = Timer::new(mix(n) % created, shape);
        let start = now();
        let view = engine.view()?;
        let both = (view.get(DEFINITION, &timer.key())?, view.get(STATE, &timer.key())?);
        latencies.push((now() - start).as_nanos().min(u128::from(u32::MAX)) as u32);
        assert!(both.0.is_some() && (both.1.is_some() || shape.lean));
    }
    Ok(latencies)
}

fn due_page(view: &dyn engine::View, from: &[u8], shape: Shape) -> Result<Vec<Timer>> {
    let mut page = Vec::with_capacity(PAGE);
    view.scan(DUE, from, PAGE, &mut |key, value| page.push(Timer::from_due(key, value, shape)))?;
    Ok(page)
}

/// Opens what the abort left, and checks that all keyspaces are of the moment that `applied_sequence` says.
pub(crate) fn open(name: &str, directory: &Path, arguments: &Arguments) -> Result<()> {
    let expected = std::fs::read_to_string(directory.with_extension("expected"))?;
    std::fs::remove_file(directory.with_extension("expected"))?;
    let numbers: Vec<u64> = expected.split(' ').map(|word| word.parse().unwrap()).collect();
    let [timers, fired, written, next] = numbers[..] else { return Err("not four numbers".into()) };
    let start = now();
    let engine = engine::open(name, directory, &arguments.tuning)?;
    let view = engine.view()?;
    let applied = view.get(APPLIED.0, APPLIED.1)?.ok_or("no applied_sequence")?;
    figure("open_after_abort", (now() - start).as_secs_f64() * 1e3, "ms");
    let page = due_page(&*view, &[], arguments.shape)?;
    assert_eq!(page.len(), PAGE);
    figure("open_after_abort.first_page", (now() - start).as_secs_f64() * 1e3, "ms");
    let applied = u64::from_be_bytes(applied[..].try_into().unwrap());
    figure("lost_events", (written - applied) as f64, "events");
    figure("peak_rss.open", peak_rss_mb(), "MB");

    let last = applied - 2 * fired;
    assert!(last >= timers && last <= next, "applied_sequence {applied} is of no moment of the run");
    for n in last.saturating_sub(100_000).max(timers)..(last + 4 * BATCH).min(next + BATCH) {
        let timer = Timer::new(n, arguments.shape);
        let there = [
            view.get(DEFINITION, &timer.key())?.is_some(),
            view.get(STATE, &timer.key())?.is_some() || (arguments.shape.lean && n < last),
            found(&*view, DUE, &timer.due_key())?,
            found(&*view, LABEL, &timer.label_key())?,
        ];
        assert_eq!(there, [n < last; 4], "timer {n}, last {last}");
    }
    if timers <= 10_000_000 {
        let due = view.scan(DUE, &[], usize::MAX, &mut |_, _| {})?;
        assert_eq!(due as u64, last - fired, "timers that are due");
    }
    eprintln!(
        "{name}: the content is that of applied_sequence {applied}; {} events to replay",
        written - applied
    );
    Ok(())
}

fn found(view: &dyn engine::View, space: u8, wanted: &[u8]) -> Result<bool> {
    let mut found = false;
    view.scan(space, wanted, 1, &mut |key, _| found = key == wanted)?;
    Ok(found)
}

fn percentiles(name: &str, latencies: &mut [u32]) {
    latencies.sort_unstable();
    for (suffix, share) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
        if let Some(ns) = latencies.get((latencies.len() as f64 * share) as usize) {
            figure(&format!("{name}.{suffix}"), f64::from(*ns) / 1e3, "us");
        }
    }
}

/// All that this process has spent; the machine is shared, its clock on the wall says less.
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    // Fields 14 and 15, in hundredths of a second; the name of the program ends with a parenthesis.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    (fields[11].parse::<f64>().unwrap() + fields[12].parse::<f64>().unwrap()) / 100.0
}

fn peak_rss_mb() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<f64>().unwrap() / 1024.0
}

/// What the files take, as blocks.
fn disk_mb(directory: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let mut sum = 0.0;
    for entry in std::fs::read_dir(directory).unwrap().flatten() {
        let path = entry.path();
        match entry.metadata() {
            Ok(metadata) if metadata.is_dir() => sum += disk_mb(&path),
            Ok(metadata) => sum += metadata.blocks() as f64 * 512.0 / 1e6,
            // A file that the engine just removed.
            Err(_) => {}
        }
    }
    sum
}
