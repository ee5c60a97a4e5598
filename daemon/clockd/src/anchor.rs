//! Which clock the page is anchored on: CLOCK_BOOTTIME, or the hardware counter where that may be done.
//!
//! A reader of the counter does without the call of the operating system's clock, which is most of a reading. The
//! counter must be the kernel's own clock source (then the kernel has made sure that it is the same on every core),
//! constant and non-stop. Its rate against CLOCK_BOOTTIME is measured all the time over 8 to 16 seconds, and each page
//! is anchored anew, so that a reader extrapolates over one publish interval, and over the validity of a page at most.
//!
//! **What the page's bound has for it.** `max_error` grows by the error of the pair of clock readings, by one tick, and by
//! an allowance for a counter that a reader's processor reads early. `3 * drift_uncertainty` grows by the error of the rate:
//! that of the two pairs over the baseline (50 ns over 8 s are 6 ppb), by the rate's change within it, and by the
//! quantised rate's distance from it (at most 2^-32 of 0.5/0.2, 0.6 ppb, for a counter of 1 to 5 GHz).
//!
//! **Suspend.** CLOCK_BOOTTIME counts it and a counter may not. Each publish compares the two; when they part, the
//! page goes back to CLOCK_BOOTTIME, and if it was on the counter that is a disruption, which the publisher counts with
//! those of [`disruption`](crate::disruption). A reader that runs before the daemon after a resume cannot know, so
//! `auto` leaves the counter alone on a machine that can suspend.

use crate::disruption::clock_source;
use chronotick::counter;
use chronotick::os_clock::boottime;
use chronotick_core::page::{AnchorClock, Record};
use chronotick_core::{MonoTime, Span};
use serde::Deserialize;
use std::collections::VecDeque;
use std::path::Path;

/// What the user wants.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Choice {
    /// The counter where it is safe, CLOCK_BOOTTIME elsewhere.
    #[default]
    Auto,
    /// CLOCK_BOOTTIME: every program can read it.
    Boottime,
    /// The counter, or an error.
    Counter,
}

/// A pair is kept this often, and three are kept.
const MARK_EVERY: Span = Span::from_secs(8);
/// No page is anchored on the counter before its rate was measured for so long, at the start and after a disruption.
const FIRST_BASELINE: Span = Span::from_secs(2);
/// After a disruption the counter is left alone for so long.
const PENANCE: Span = Span::from_secs(60);
/// How far the clocks may part between two publishes: the kernel slews CLOCK_BOOTTIME by up to 1000 ppm.
const MAX_SLEW: f64 = 1e-3;
/// ... and by so much in any case.
const MAX_PARTING: Span = Span::from_us(5);
/// For a counter that is read early, see `chronotick::counter`.
const READ_EARLY_S: f64 = 200e-9;

/// The counter and CLOCK_BOOTTIME at the same moment.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Pair {
    ticks: i64,
    boottime: MonoTime,
    /// How far apart the two readings may have been.
    error: Span,
}

/// What is known of the counter's rate.
#[derive(Clone, Copy, PartialEq, Debug)]
struct Rate {
    ns_per_tick: f64,
    /// Relative.
    error: f64,
}

/// What a new pair tells.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Verdict {
    /// The rate is not known well enough yet.
    Measuring,
    Steady(Rate),
    /// The clocks parted by so much since the last pair.
    Parted(Span),
}

/// The counter's rate against CLOCK_BOOTTIME, from pairs.
#[derive(Clone, Debug, Default)]
struct Calibration {
    /// Oldest first.
    marks: VecDeque<Pair>,
    last: Option<(Pair, f64)>,
}

fn slope(from: &Pair, to: &Pair) -> f64 {
    (to.boottime - from.boottime).as_ns() as f64 / to.ticks.saturating_sub(from.ticks) as f64
}

impl Calibration {
    fn take(&mut self, now: Pair) -> Verdict {
        if let Some(parted) = self.parted(&now) {
            *self = Self::default();
            return Verdict::Parted(parted);
        }
        let newest = self.marks.back().map(|m| m.boottime);
        if newest.is_none_or(|newest| now.boottime - newest >= MARK_EVERY) {
            self.marks.push_back(now);
            if self.marks.len() > 3 {
                self.marks.pop_front();
            }
        }
        let Some(rate) = self.rate(&now) else { return Verdict::Measuring };
        self.last = Some((now, rate.ns_per_tick));
        Verdict::Steady(rate)
    }

    fn rate(&self, now: &Pair) -> Option<Rate> {
        let oldest = self.marks.front()?;
        let baseline = now.boottime - oldest.boottime;
        if baseline < FIRST_BASELINE || now.ticks <= oldest.ticks {
            return None;
        }
        let ns_per_tick = slope(oldest, now);
        let mut error = (oldest.error + now.error).as_ns() as f64 / baseline.as_ns() as f64;
        // The rate of late against the mean: the kernel slews the clock that the counter is measured by.
        let lately = self
            .marks
            .iter()
            .rev()
            .find(|m| now.boottime - m.boottime >= FIRST_BASELINE && now.ticks > m.ticks);
        if let Some(mark) = lately {
            error += (slope(mark, now) / ns_per_tick - 1.0).abs();
        }
        Some(Rate { ns_per_tick, error })
    }

    fn parted(&self, now: &Pair) -> Option<Span> {
        let (last, ns_per_tick) = self.last.as_ref()?;
        let went = (now.boottime - last.boottime).as_ns() as f64;
        let counted = now.ticks.saturating_sub(last.ticks) as f64 * ns_per_tick;
        let allowed = (last.error + now.error + MAX_PARTING).as_ns() as f64 + went * MAX_SLEW;
        let apart = went - counted;
        (apart.abs() > allowed).then(|| Span::from_ns(apart.abs() as i64))
    }
}

/// `ns_per_tick` as the page has it, with its shift; `None` for a counter slower than any shift reaches.
fn quantised(ns_per_tick: f64) -> Option<(u32, u8)> {
    (0..16u8).find_map(|shift| {
        let rate = (ns_per_tick * f64::powi(2.0, 32 - i32::from(shift))).round();
        (rate >= 1.0 && rate <= f64::from(u32::MAX)).then_some((rate as u32, shift))
    })
}

/// Anchors `record`, which is anchored on CLOCK_BOOTTIME, on the counter instead. False where the rate does not fit.
fn anchor_on_counter(record: &mut Record, pair: &Pair, rate: &Rate) -> bool {
    let Some((anchor_rate, shift)) = quantised(rate.ns_per_tick) else { return false };
    // With the rate that readers use, so that at this very moment they compute what CLOCK_BOOTTIME says.
    let used = f64::from(anchor_rate) * f64::powi(2.0, i32::from(shift) - 32);
    let since_anchor = pair.boottime.as_ns().saturating_sub(record.anchor) as f64;
    record.anchor = pair.ticks.saturating_sub((since_anchor / used).round() as i64);
    record.anchor_clock = AnchorClock::Counter { shift };
    record.anchor_rate = anchor_rate;
    let rate_error = rate.error + (used / rate.ns_per_tick - 1.0).abs();
    // Readers take three times this.
    record.drift_uncertainty += rate_error / 3.0;
    if record.max_error > 0.0 {
        let more = pair.error.as_secs_f64() + used * 1e-9 + READ_EARLY_S;
        record.max_error = Record::max_error_from_f64(f64::from(record.max_error) + more);
    }
    true
}

/// Why the counter may not be used on the machine whose `/proc` and `/sys` are under `root`; `None` when it may.
pub(crate) fn refusal(root: &Path, choice: Choice) -> Option<String> {
    let Some(name) = counter::CLOCK_SOURCE else {
        return Some("no counter is known on this processor".to_owned());
    };
    let read = |path: &str| std::fs::read_to_string(root.join(path)).unwrap_or_default();
    let source = clock_source(root).unwrap_or_default();
    if source != name {
        return Some(not_the_source(&source, name));
    }
    if name == "tsc" {
        let cpus = read("proc/cpuinfo");
        let mut flags = cpus.lines().filter(|l| l.starts_with("flags")).peekable();
        if flags.peek().is_none() {
            return Some("/proc/cpuinfo names no flags".to_owned());
        }
        let has = |line: &str, flag: &str| line.split_ascii_whitespace().any(|word| word == flag);
        if !flags.all(|line| has(line, "constant_tsc") && has(line, "nonstop_tsc")) {
            return Some("a processor's counter is not constant_tsc and nonstop_tsc".to_owned());
        }
    }
    let sleeps = read("sys/power/state");
    if choice == Choice::Auto && !sleeps.trim().is_empty() {
        return Some(format!("this machine can suspend ({})", sleeps.trim()));
    }
    None
}

fn not_the_source(source: &str, name: &str) -> String {
    format!("the kernel's clock source is {source:?}, not {name}")
}

/// What happened to the anchor.
#[derive(Clone, PartialEq, Debug)]
pub(crate) enum Event {
    /// Pages are anchored on the counter from now on.
    Counter {
        /// Its frequency.
        mhz: f64,
    },
    /// Pages are anchored on CLOCK_BOOTTIME from now on.
    Boottime {
        /// Why.
        why: String,
        /// Pages on the counter were believed until now: that is a disruption.
        was_in_use: bool,
    },
}

/// The choice, kept up to date.
#[derive(Debug)]
pub(crate) struct Anchor {
    /// `None` while the counter is not to be used.
    calibration: Option<Calibration>,
    /// Not before this is the counter tried (again).
    not_before: MonoTime,
    on_counter: bool,
}

impl Anchor {
    /// For this choice, of which [`refusal`] was asked.
    pub(crate) fn new(choice: Choice) -> Self {
        let wanted = choice != Choice::Boottime && refusal(Path::new("/"), choice).is_none();
        Self { calibration: wanted.then(Calibration::default), not_before: MonoTime::MIN, on_counter: false }
    }

    /// Puts `record`, which is anchored on CLOCK_BOOTTIME, on the counter if it may be. `clock_source` is the kernel's.
    pub(crate) fn apply(&mut self, record: &mut Record, clock_source: Option<&str>) -> Option<Event> {
        self.calibration.as_ref()?;
        let pair = pair()?;
        if pair.boottime < self.not_before {
            return None;
        }
        let name = counter::CLOCK_SOURCE?;
        if clock_source != Some(name) {
            self.calibration = None;
            return Some(self.leave(not_the_source(clock_source.unwrap_or_default(), name)));
        }
        self.follow_pair(pair, record)
    }

    /// The clocks were disrupted: what is known of the counter's rate is worth nothing. True when pages were on it.
    pub(crate) fn disrupted(&mut self, now: MonoTime) -> bool {
        if let Some(calibration) = &mut self.calibration {
            *calibration = Calibration::default();
            self.not_before = now + PENANCE;
        }
        std::mem::take(&mut self.on_counter)
    }

    fn follow_pair(&mut self, pair: Pair, record: &mut Record) -> Option<Event> {
        match self.calibration.as_mut()?.take(pair) {
            Verdict::Measuring => None,
            Verdict::Steady(rate) => {
                let was = self.on_counter;
                self.on_counter = anchor_on_counter(record, &pair, &rate);
                (self.on_counter && !was).then_some(Event::Counter { mhz: 1e3 / rate.ns_per_tick })
            }
            Verdict::Parted(by) => {
                self.not_before = pair.boottime + PENANCE;
                Some(self.leave(format!("it and CLOCK_BOOTTIME parted by {by} between two publishes")))
            }
        }
    }

    fn leave(&mut self, why: String) -> Event {
        Event::Boottime { why, was_in_use: std::mem::take(&mut self.on_counter) }
    }
}

/// The tightest of five sandwiches.
fn pair() -> Option<Pair> {
    let sandwich = || {
        let before = boottime();
        counter::wait_for_earlier();
        let ticks = counter::read()?;
        counter::wait_for_earlier();
        let error = Span::from_ns((boottime() - before).as_ns() / 2 + 1);
        Some(Pair { ticks, boottime: before + error, error })
    };
    let mut best = sandwich()?;
    for _ in 0..4 {
        let next = sandwich()?;
        if next.error < best.error {
            best = next;
        }
    }
    Some(best)
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::page::{Flags, Source};

    const HZ: f64 = 2_600_123_456.0;

    /// A pair `at_s` after the start, read as exactly as `error_ns` allows.
    fn exact(at_s: f64) -> Pair {
        Pair {
            ticks: 77 + (at_s * HZ).round() as i64,
            boottime: MonoTime::from_ns((at_s * 1e9).round() as i64),
            error: Span::from_ns(25),
        }
    }

    fn boottime_record(at_s: f64) -> Record {
        Record {
            prediction_time: 1_760_000_000.0,
            valid_until: 1_760_000_011.0,
            anchor: (at_s.floor() * 1e9) as i64,
            anchor_clock: AnchorClock::Boottime,
            max_error: 0.0001,
            drift_uncertainty: 1e-8,
            flags: Flags(Flags::VALID | Flags::WARMUP_COMPLETE),
            source: Source::Ntp,
            sequence: 2,
            ..Record::default()
        }
    }

    #[test]
    fn the_rate_is_measured_to_some_parts_in_a_billion() {
        let mut calibration = Calibration::default();
        assert_eq!(calibration.take(exact(0.0)), Verdict::Measuring);
        let mut worst_after_ten_seconds = 0.0f64;
        for turn in 1..10_000 {
            // Each pair is off by up to its error, either way.
            let mut pair = exact(f64::from(turn) * 0.01);
            pair.boottime += Span::from_ns(i64::from(turn * 37 % 51) - 25);
            match calibration.take(pair) {
                Verdict::Measuring => assert!(turn < 210, "turn {turn}"),
                Verdict::Steady(rate) => {
                    let wrong = (rate.ns_per_tick * HZ / 1e9 - 1.0).abs();
                    assert!(wrong <= rate.error, "turn {turn}: wrong by {wrong}, said {}", rate.error);
                    if turn > 1_000 {
                        worst_after_ten_seconds = worst_after_ten_seconds.max(rate.error);
                    }
                }
                Verdict::Parted(by) => panic!("turn {turn}: parted by {by}"),
            }
        }
        assert!(worst_after_ten_seconds < 60e-9, "{worst_after_ten_seconds}");
    }

    #[test]
    fn a_suspension_a_stop_and_a_jump_are_noticed() {
        let check = |name: &str, change: fn(&mut Pair)| {
            let mut calibration = Calibration::default();
            for turn in 0..500 {
                assert!(!matches!(calibration.take(exact(f64::from(turn) * 0.01)), Verdict::Parted(_)));
            }
            let mut next = exact(5.0);
            change(&mut next);
            assert!(matches!(calibration.take(next), Verdict::Parted(_)), "{name}");
            assert_eq!(calibration.take(exact(6.0)), Verdict::Measuring, "{name}: it starts anew");
        };
        check("suspended for 30 s", |p| p.boottime += Span::from_secs(30));
        check("counter set to zero", |p| p.ticks = 0);
        check("counter stopped for 20 us", |p| p.ticks -= 52_000);
        check("counter jumped ahead", |p| p.ticks += 1 << 40);
    }

    #[test]
    fn readers_of_the_counter_get_what_boottime_says() {
        let mut calibration = Calibration::default();
        let mut steady = None;
        for turn in 0..2_000 {
            steady = match calibration.take(exact(f64::from(turn) * 0.01)) {
                Verdict::Steady(rate) => Some((exact(f64::from(turn) * 0.01), rate)),
                _ => steady,
            };
        }
        let (pair, rate) = steady.unwrap();
        let at_s = pair.boottime.as_ns() as f64 / 1e9;
        let plain = boottime_record(at_s);
        let mut counter = plain;
        assert!(anchor_on_counter(&mut counter, &pair, &rate));
        assert_eq!(counter.anchor_clock, AnchorClock::Counter { shift: 0 });
        for later_s in [0.0, 0.01, 1.0, 10.0] {
            let now = exact(at_s + later_s);
            let by_boottime = plain.read_at(now.boottime - MonoTime::from_ns(plain.anchor));
            let by_counter = counter.read(&Ticks(now.ticks)).unwrap();
            let apart = (by_counter.corrected - by_boottime.corrected).abs();
            let room = by_counter.max_error() - by_boottime.max_error();
            assert!(apart <= room && room < Span::from_us(2), "{later_s}: apart {apart}, room {room}");
        }
    }

    #[test]
    fn slow_and_fast_counters_have_a_rate_to_below_a_part_in_a_billion() {
        for ns_per_tick in [0.2, 0.384_6, 1.0, 41.666_666, 1_000.0, 30_000.0] {
            let (rate, shift) = quantised(ns_per_tick).unwrap();
            let used = f64::from(rate) * f64::powi(2.0, i32::from(shift) - 32);
            assert!((used / ns_per_tick - 1.0).abs() < 1e-9, "{ns_per_tick}");
        }
        assert_eq!(quantised(40_000.0), None);
    }

    #[test]
    fn a_counter_that_parts_is_left_alone_and_it_is_said_that_it_was_in_use() {
        let mut anchor = Anchor {
            calibration: Some(Calibration::default()),
            not_before: MonoTime::MIN,
            on_counter: false,
        };
        let mut events = Vec::new();
        for turn in 0..500 {
            let at_s = f64::from(turn) * 0.01;
            events.extend(anchor.follow_pair(exact(at_s), &mut boottime_record(at_s)));
        }
        assert!(matches!(events.as_slice(), [Event::Counter { mhz }] if (mhz - HZ / 1e6).abs() < 0.01));
        let mut record = boottime_record(40.0);
        let resumed = Pair { boottime: MonoTime::from_ns(40_000_000_000), ..exact(5.0) };
        let left = anchor.follow_pair(resumed, &mut record);
        assert!(matches!(left, Some(Event::Boottime { was_in_use: true, .. })), "{left:?}");
        assert_eq!(record.anchor_clock, AnchorClock::Boottime);
        assert_eq!(anchor.not_before, resumed.boottime + PENANCE);
        assert!(!anchor.disrupted(resumed.boottime), "it is not in use any more");
    }

    #[test]
    fn the_counter_is_refused_with_a_reason() {
        let Some(name) = counter::CLOCK_SOURCE else {
            println!("skipped: no counter is known on this processor");
            return;
        };
        let root = tempfile::tempdir().unwrap();
        let check = |source: &str, flags: &str, power: &str, choice: Choice, want: Option<&str>| {
            let put = |path: &str, text: &str| {
                let path = root.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            put("sys/devices/system/clocksource/clocksource0/current_clocksource", &format!("{source}\n"));
            put("proc/cpuinfo", &format!("flags\t\t: fpu {flags}\nflags\t\t: fpu {flags}\n"));
            put("sys/power/state", power);
            let why = refusal(root.path(), choice);
            match want {
                None => assert_eq!(why, None),
                Some(want) => assert!(why.as_ref().unwrap().contains(want), "{why:?}"),
            }
        };
        let good = "constant_tsc nonstop_tsc";
        check(name, good, "", Choice::Auto, None);
        check(name, good, "freeze mem\n", Choice::Auto, Some("can suspend (freeze mem)"));
        check(name, good, "freeze mem\n", Choice::Counter, None);
        check("hpet", good, "", Choice::Counter, Some("is \"hpet\""));
        if name == "tsc" {
            check(name, "constant_tsc", "", Choice::Counter, Some("nonstop_tsc"));
        }
    }

    struct Ticks(i64);

    impl chronotick_core::page::Clocks for Ticks {
        fn realtime(&self) -> chronotick_core::Timestamp {
            chronotick_core::Timestamp::EPOCH
        }
        fn boottime(&self) -> MonoTime {
            MonoTime::MIN
        }
        fn monotonic_raw(&self) -> MonoTime {
            MonoTime::MIN
        }
        fn counter(&self) -> Option<i64> {
            Some(self.0)
        }
    }
}
