//! What the benchmarks of a reading share: pages, and paired batches on one core.
//!
//! Subject and baseline alternate, batch by batch, and the figure is the median over the batches: on a shared machine
//! two runs one after the other differ by a factor of two. Each figure is one JSON line.

use chronotick::{Client, Flags, Record, Source, Span, Status, counter, os_clock};
use chronotick_core::page::AnchorClock;

const BATCHES: usize = 401;
const CALLS: usize = 2_000;

/// Ticks in a second, against CLOCK_BOOTTIME over a fifth of one: a benchmark needs no more.
pub(crate) fn ticks_per_second() -> Option<f64> {
    let pair = || counter::read().map(|ticks| (ticks, os_clock::boottime()));
    let (first_ticks, first) = pair()?;
    loop {
        let (ticks, now) = pair()?;
        if now - first > Span::from_ms(200) {
            return Some((ticks - first_ticks) as f64 / (now - first).as_secs_f64());
        }
    }
}

/// A page as a daemon that is synchronized writes it, anchored on CLOCK_BOOTTIME.
pub(crate) fn record() -> Record {
    let (real, boot, _) = os_clock::realtime_boottime_pair();
    let second = real.as_ns().div_euclid(1_000_000_000);
    Record {
        offset_correction: 0.0123,
        drift_rate: 12e-6,
        offset_uncertainty: 1e-5,
        drift_uncertainty: 1e-8,
        prediction_time: second as f64,
        valid_until: second as f64 + 3_600.0,
        flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE),
        source: Source::Ntp,
        anchor_clock: AnchorClock::Boottime,
        anchor: boot.as_ns() - real.as_ns().rem_euclid(1_000_000_000),
        max_error: 0.001,
        ..Record::default()
    }
}

/// The same page on the counter, for one that ticks faster than once in a nanosecond.
pub(crate) fn on_the_counter(record: Record) -> Option<Record> {
    let ticks_per_second = ticks_per_second()?;
    let back = (os_clock::boottime().as_ns() - record.anchor) as f64 / 1e9 * ticks_per_second;
    let rate = 1e9 / ticks_per_second;
    (rate < 1.0).then_some(Record {
        anchor_clock: AnchorClock::Counter { shift: 0 },
        anchor_rate: (rate * 2f64.powi(32)).round() as u32,
        anchor: counter::read()? - back as i64,
        ..record
    })
}

/// A client of a page with this content, which is read again and again without being published anew.
pub(crate) fn attach(record: &Record) -> Client {
    let path = std::env::temp_dir().join(format!("chronotick_bench_{}", std::process::id()));
    std::fs::write(&path, Record { sequence: 2, ..*record }.to_bytes()).unwrap();
    let client = Client::attach_named(path.to_str()).unwrap();
    std::fs::remove_file(&path).unwrap();
    assert_eq!(client.status(), Ok(Status::Synchronized));
    client
}

/// Nanoseconds for each call, one batch.
fn batch(call: &mut impl FnMut()) -> f64 {
    let start = os_clock::monotonic_raw();
    for _ in 0..CALLS {
        call();
    }
    (os_clock::monotonic_raw() - start).as_ns() as f64 / CALLS as f64
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Measures both and prints the figure.
pub(crate) fn compare(
    name: &str,
    baseline_name: &str,
    mut subject: impl FnMut(),
    mut baseline: impl FnMut(),
) {
    batch(&mut subject);
    batch(&mut baseline);
    let pairs: Vec<(f64, f64)> = (0..BATCHES).map(|_| (batch(&mut subject), batch(&mut baseline))).collect();
    let value = median(&mut pairs.iter().map(|p| p.0).collect::<Vec<_>>());
    let baseline_value = median(&mut pairs.iter().map(|p| p.1).collect::<Vec<_>>());
    let ratio = median(&mut pairs.iter().map(|p| p.0 / p.1).collect::<Vec<_>>());
    println!(
        "{{\"name\":\"{name}\",\"value\":{value:.2},\"unit\":\"ns\",\"baseline\":\"{baseline_name}\",\
         \"baseline_value\":{baseline_value:.2},\"ratio\":{ratio:.3}}}"
    );
}

/// Keeps this thread on the core it is on.
pub(crate) fn pin() {
    let mut one_core = rustix::thread::CpuSet::new();
    one_core.set(rustix::thread::sched_getcpu());
    // Where the kernel refuses, the figures are noisier, that is all.
    let _ = rustix::thread::sched_setaffinity(None, &one_core);
}

/// Uses a result as a caller does who looks at it where it is: whole and in memory. Passed on by value it would be copied
/// once more, by loads wider than the stores just before them, and those stall.
#[inline(always)]
pub(crate) fn consume<T>(value: T) {
    std::hint::black_box(&value);
}
