//! Notices from the clocks themselves when the local clock was disrupted, or the system clock stepped.
//!
//! The kernel derives all its clocks from one counter, so what parts two of them has a cause that can be told:
//!
//! | what parted | cause | for corrected time |
//! |---|---|---|
//! | BOOTTIME from MONOTONIC | a suspend: only BOOTTIME counts it, to the precision of the real-time clock | disruption |
//! | BOOTTIME from MONOTONIC_RAW by more than a slew | the clock was jolted, or is slewed faster than the model allows | disruption |
//! | the hardware counter from BOOTTIME (see [`anchor`](crate::anchor)) | a counter that jumped or stopped | disruption |
//! | the kernel changed its clock source; the hypervisor says that the counter changed | another oscillator | disruption |
//! | REALTIME from BOOTTIME | the system clock was stepped | none: pages are anchored on BOOTTIME |
//!
//! A disruption lasts until the clocks have stopped parting **and** there is a correction from new measurements; it is
//! counted once. What no local clock can show (a pause of a virtual machine that stops all of them alike) is left to the
//! measurements.

use chronotick::os_clock::{boottime, monotonic_raw, realtime_boottime_pair};
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::Disruption;
use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How fast the kernel slews its clocks at most, apart from an administrator's change of the tick: by the frequency and by
/// adjtime, 500 ppm each, and a little more.
const MAX_SLEW: f64 = 1.1e-3;
/// Clocks may part by so much in any case.
const MARGIN: Span = Span::from_us(10);
/// Readings are compared with the last ones, and with some that are at least so old: a slew shows over a while.
const MARK_EVERY: Span = Span::from_secs(1);
/// For so long pages say that the system clock was stepped. One page alone would be gone before anybody reads it.
pub(crate) const STEPPED_FOR: Span = Span::from_secs(1);
/// How often the kernel is asked for its clock source.
const LOOK_EVERY: Span = Span::from_secs(1);
/// Readings further apart than this are taken again.
const TIGHT: Span = Span::from_us(5);

/// The clocks at one moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Readings {
    /// CLOCK_REALTIME.
    pub(crate) system: Timestamp,
    /// CLOCK_BOOTTIME.
    pub(crate) boottime: MonoTime,
    /// CLOCK_MONOTONIC.
    pub(crate) monotonic: MonoTime,
    /// CLOCK_MONOTONIC_RAW.
    pub(crate) raw: MonoTime,
    /// How far any of them may be from the moment of `boottime`.
    pub(crate) error: Span,
}

impl Readings {
    /// Reads them; some microseconds at most pass between the first and the last, unless this thread is interrupted.
    pub(crate) fn now() -> Self {
        let mut best = Self::once();
        for _ in 0..3 {
            if best.error <= TIGHT {
                break;
            }
            let next = Self::once();
            if next.error < best.error {
                best = next;
            }
        }
        best
    }

    fn once() -> Self {
        let (system, at, pairing) = realtime_boottime_pair();
        let monotonic = clock_gettime(ClockId::Monotonic);
        let monotonic =
            MonoTime::from_ns(monotonic.tv_sec.wrapping_mul(1_000_000_000).wrapping_add(monotonic.tv_nsec));
        let raw = monotonic_raw();
        // Both were read at some moment between the pair and now; taken back to the pair, they are off by half of that.
        let half = Span::from_ns((boottime() - at).as_ns() / 2);
        Self {
            system,
            boottime: at,
            monotonic: monotonic - half,
            raw: raw - half,
            error: half + pairing + Span::from_ns(1),
        }
    }
}

/// What the machine says of its clock, where it can be read.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The kernel's clock source.
    pub(crate) clock_source: Option<String>,
    /// The hypervisor changes this when it may have changed the counter (the VMClock device).
    pub(crate) vm_marker: Option<u64>,
}

/// Looks at the machine, no more often than necessary.
#[derive(Debug)]
pub(crate) struct MachineWatch {
    vmclock: Option<File>,
    due: MonoTime,
}

impl MachineWatch {
    /// For the machine that the daemon runs on.
    pub(crate) fn new() -> Self {
        Self { vmclock: File::open("/dev/vmclock0").ok(), due: MonoTime::MIN }
    }

    /// Brings `seen` up to date; the clock source is asked for once a second.
    pub(crate) fn look(&mut self, now: MonoTime, seen: &mut Machine) {
        if now >= self.due {
            self.due = now + LOOK_EVERY;
            seen.clock_source = clock_source(Path::new("/"));
        }
        if let Some(device) = &self.vmclock {
            let mut bytes = [0; 24];
            seen.vm_marker = device.read_exact_at(&mut bytes, 0).ok().and_then(|()| vm_marker(&bytes));
        }
    }
}

/// The kernel's clock source, of the machine whose `/sys` is under `root`.
pub(crate) fn clock_source(root: &Path) -> Option<String> {
    let path = root.join("sys/devices/system/clocksource/clocksource0/current_clocksource");
    std::fs::read_to_string(path).ok().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
}

/// The disruption marker in the first bytes of a VMClock structure (UAPI.13); `None` while it is being changed.
fn vm_marker(bytes: &[u8; 24]) -> Option<u64> {
    let [m0, m1, m2, m3, _, _, _, _, _, _, _, _, sequence_low, ..] = *bytes;
    let [.., d0, d1, d2, d3, d4, d5, d6, d7] = *bytes;
    let is_whole = [m0, m1, m2, m3] == *b"VCLK" && sequence_low & 1 == 0;
    is_whole.then(|| u64::from_le_bytes([d0, d1, d2, d3, d4, d5, d6, d7]))
}

/// A disruption of the local clock.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Disrupted {
    /// What of the discipline outlives it.
    pub(crate) kind: Disruption,
    /// What happened, for people.
    pub(crate) why: String,
}

impl Disrupted {
    /// Whatever was known of the oscillator may be wrong too.
    pub(crate) fn jump(why: String) -> Self {
        Self { kind: Disruption::ClockJump, why }
    }
}

/// What the readings told.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub(crate) struct Findings {
    /// The local clock was disrupted.
    pub(crate) disruption: Option<Disrupted>,
    /// The system clock was stepped by so much.
    pub(crate) step: Option<Span>,
}

/// Compares readings of the clocks with earlier ones, and counts disruptions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Monitor {
    last: Option<Readings>,
    mark: Option<Readings>,
    machine: Machine,
    disruptions: u8,
    is_disrupted: bool,
    stepped_at: Option<MonoTime>,
}

impl Monitor {
    /// Goes on from the count of an earlier daemon, and from its last readings where they are of the same boot.
    pub(crate) fn new(disruptions: u8, last: Option<(Readings, Machine)>) -> Self {
        let (last, machine) = last.map_or((None, Machine::default()), |(r, m)| (Some(r), m));
        Self { last, machine, disruptions, ..Self::default() }
    }

    /// Takes new readings in.
    pub(crate) fn judge(&mut self, now: Readings, machine: &Machine) -> Findings {
        let mut found = Findings::default();
        let earlier = [self.last, self.mark];
        for then in earlier.iter().flatten() {
            found.disruption = found.disruption.take().or_else(|| disruption_between(then, &now));
            found.step = found.step.or_else(|| step_between(then, &now));
        }
        found.disruption = found.disruption.or_else(|| self.machine.change_to(machine));
        self.machine.update(machine);
        self.last = Some(now);
        let is_due = self.mark.is_none_or(|mark| now.boottime - mark.boottime >= MARK_EVERY);
        if is_due || found != Findings::default() {
            self.mark = Some(now);
        }
        if found.disruption.is_some() {
            self.disrupt();
        }
        if found.step.is_some() {
            self.stepped_at = Some(now.boottime);
        }
        found
    }

    /// Something else than these readings told of a disruption.
    pub(crate) fn disrupt(&mut self) {
        if !std::mem::replace(&mut self.is_disrupted, true) {
            self.disruptions = self.disruptions.wrapping_add(1);
        }
    }

    /// There is a correction from measurements that were made after the disruption.
    pub(crate) fn recovered(&mut self) {
        self.is_disrupted = false;
    }

    /// True from a disruption to the recovery.
    pub(crate) fn is_disrupted(&self) -> bool {
        self.is_disrupted
    }

    /// Disruptions until now; wraps.
    pub(crate) fn disruptions(&self) -> u8 {
        self.disruptions
    }

    /// When the system clock was stepped, for [`STEPPED_FOR`] after it was.
    pub(crate) fn stepped_at(&self, now: MonoTime) -> Option<MonoTime> {
        self.stepped_at.filter(|&at| now - at < STEPPED_FOR)
    }

    /// The last readings and what was seen of the machine, for a daemon that comes after this one.
    pub(crate) fn last(&self) -> Option<(Readings, Machine)> {
        Some((self.last?, self.machine.clone()))
    }
}

impl Machine {
    fn change_to(&self, new: &Self) -> Option<Disrupted> {
        if let (Some(old), Some(new)) = (&self.clock_source, &new.clock_source)
            && old != new
        {
            let why = format!("the kernel changed its clock source from {old} to {new}");
            return Some(Disrupted::jump(why));
        }
        let changed = self.vm_marker.zip(new.vm_marker).is_some_and(|(old, new)| old != new);
        changed.then(|| {
            Disrupted::jump("the hypervisor says that the counter was disrupted (a migration?)".to_owned())
        })
    }

    fn update(&mut self, new: &Self) {
        if new.clock_source.is_some() && self.clock_source != new.clock_source {
            self.clock_source.clone_from(&new.clock_source);
        }
        self.vm_marker = new.vm_marker.or(self.vm_marker);
    }
}

/// Why corrected time of `then` is not to be believed `now`, if it is not.
fn disruption_between(then: &Readings, now: &Readings) -> Option<Disrupted> {
    let went = now.boottime - then.boottime;
    if went.is_negative() {
        return Some(Disrupted::jump(format!("CLOCK_BOOTTIME went back by {}", went.abs())));
    }
    let slept = went - (now.monotonic - then.monotonic);
    if slept.abs() > then.error + now.error + MARGIN {
        let why = format!("the machine was suspended for {slept}");
        return Some(Disrupted { kind: Disruption::Suspend, why });
    }
    let parted = went - (now.raw - then.raw);
    (parted.abs() > allowed(then, now))
        .then(|| format!("CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW parted by {parted} within {went}"))
        .map(Disrupted::jump)
}

fn step_between(then: &Readings, now: &Readings) -> Option<Span> {
    let step = (now.system - then.system) - (now.boottime - then.boottime);
    (step.abs() > allowed(then, now)).then_some(step)
}

fn allowed(then: &Readings, now: &Readings) -> Span {
    let went_ns = (now.boottime - then.boottime).abs().as_ns() as f64;
    then.error + now.error + MARGIN + Span::from_ns((went_ns * MAX_SLEW) as i64)
}

/// What the publisher noticed, for the other threads.
#[derive(Debug, Default)]
pub(crate) struct Notices {
    inner: Mutex<Noticed>,
    /// Pages published, with or without a correction: the publisher is alive as long as it grows.
    pub(crate) pages: AtomicU64,
}

/// See [`Notices`].
#[derive(Clone, Debug, Default)]
pub(crate) struct Noticed {
    /// Disruptions; wraps.
    pub(crate) disruptions: u8,
    /// The last one: when, and what happened. Measurements from before it are worth nothing.
    pub(crate) last_disruption: Option<(MonoTime, String)>,
    /// Steps of the system clock since the daemon started.
    pub(crate) steps: u32,
    /// The last one: when, and by how much.
    pub(crate) last_step: Option<(MonoTime, Span)>,
}

impl Notices {
    /// What was noticed until now; locked, so be brief.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Noticed> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// True when a measurement that began at `sent` was overtaken by a disruption.
    pub(crate) fn is_overtaken(&self, sent: MonoTime) -> bool {
        self.lock().last_disruption.as_ref().is_some_and(|(at, _)| sent <= *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Clocks that move as told.
    #[derive(Clone, Copy)]
    struct Fake(Readings);

    impl Fake {
        fn new() -> Self {
            Self(Readings {
                system: Timestamp::from_secs(1_790_000_000),
                boottime: MonoTime::from_ns(1_000_000_000_000),
                monotonic: MonoTime::from_ns(900_000_000_000),
                raw: MonoTime::from_ns(899_000_000_000),
                error: Span::from_ns(400),
            })
        }

        /// `span` of CLOCK_MONOTONIC passes, which runs faster than RAW by `slew`.
        fn pass(&mut self, span: Span, slew: f64) {
            self.0.system += span;
            self.0.boottime += span;
            self.0.monotonic += span;
            self.0.raw += Span::from_ns((span.as_ns() as f64 / (1.0 + slew)) as i64);
        }
    }

    fn steady() -> (Monitor, Fake) {
        let (mut monitor, mut clocks) = (Monitor::default(), Fake::new());
        for _ in 0..300 {
            clocks.pass(Span::from_ms(10), 20e-6);
            assert_eq!(monitor.judge(clocks.0, &Machine::default()), Findings::default());
        }
        (monitor, clocks)
    }

    #[test]
    fn each_kind_is_told_apart() {
        let check = |name: &str, change: fn(&mut Readings), disruption: Option<&str>, step: Option<Span>| {
            let (mut monitor, mut clocks) = steady();
            clocks.pass(Span::from_ms(10), 20e-6);
            change(&mut clocks.0);
            let found = monitor.judge(clocks.0, &Machine::default());
            match (disruption, &found.disruption) {
                (None, None) => {}
                (Some(want), Some(d)) if d.why.contains(want) => {
                    let is_suspend = d.kind == Disruption::Suspend;
                    assert_eq!(is_suspend, want.contains("suspended"), "{name}");
                }
                other => panic!("{name}: {other:?}"),
            }
            let apart = found.step.zip(step).map(|(found, want)| (found - want).abs());
            assert_eq!(found.step.is_some(), step.is_some(), "{name}: {found:?}");
            assert!(apart.is_none_or(|apart| apart < Span::from_us(1)), "{name}: {found:?}");
            let count = u8::from(disruption.is_some());
            assert_eq!((monitor.disruptions(), monitor.is_disrupted()), (count, count == 1), "{name}");
            // It's over with the next readings, and not counted again before the recovery.
            clocks.pass(Span::from_ms(10), 20e-6);
            assert_eq!(monitor.judge(clocks.0, &Machine::default()), Findings::default(), "{name}");
            assert_eq!(monitor.disruptions(), count, "{name}");
        };
        check(
            "suspended",
            |r| {
                r.boottime += Span::from_secs(30);
                r.system += Span::from_secs(30);
            },
            Some("suspended for 30"),
            None,
        );
        check(
            "a nap of 100 us",
            |r| r.boottime += Span::from_us(100),
            Some("suspended"),
            Some(Span::from_us(-100)),
        );
        check(
            "suspended and then set",
            |r| r.boottime += Span::from_secs(30),
            Some("suspended for 30"),
            Some(Span::from_secs(-30)),
        );
        check("set ahead", |r| r.system += Span::from_ms(1), None, Some(Span::from_ms(1)));
        check("set back", |r| r.system += -Span::from_secs(3600), None, Some(Span::from_secs(-3600)));
        check("a leap second", |r| r.system += -Span::from_secs(1), None, Some(Span::from_secs(-1)));
        check("raw jumped ahead", |r| r.raw += Span::from_us(50), Some("MONOTONIC_RAW parted"), None);
        check("raw jumped back", |r| r.raw += -Span::from_secs(2), Some("MONOTONIC_RAW parted"), None);
        check(
            "all but raw jumped",
            |r| {
                r.system += Span::from_ms(200);
                r.boottime += Span::from_ms(200);
                r.monotonic += Span::from_ms(200);
            },
            Some("MONOTONIC_RAW parted by 200"),
            None,
        );
        check(
            "boottime went back",
            |r| {
                r.boottime += -Span::from_secs(5);
                r.system += -Span::from_secs(5);
            },
            Some("went back by"),
            None,
        );
    }

    #[test]
    fn slews_and_slow_readings_are_nothing() {
        let check = |name: &str, step: Span, slew: f64, error: Span, quiet: bool| {
            let (mut monitor, mut clocks) = steady();
            clocks.0.error = error;
            let mut found = Findings::default();
            for turn in 0..300 {
                clocks.pass(step, slew);
                // An error of the reading, either way.
                let mut seen = clocks.0;
                seen.raw += if turn % 2 == 0 { error } else { -error };
                let now = monitor.judge(seen, &Machine::default());
                found.disruption = found.disruption.or(now.disruption);
                found.step = found.step.or(now.step);
            }
            assert_eq!(found == Findings::default(), quiet, "{name}: {found:?}");
        };
        let (ms, us) = (Span::from_ms, Span::from_us);
        check("slew of the kernel, ahead", ms(10), 500e-6, us(1), true);
        check("slew of the kernel, behind", ms(10), -499e-6, us(1), true);
        check("the same at 1 Hz", ms(1000), 499e-6, us(1), true);
        check("the same at 1000 Hz", ms(1), 500e-6, us(1), true);
        check("frequency and adjtime together", ms(10), 1000e-6, us(1), true);
        check("an interrupted reading", ms(10), 0.0, ms(3), true);
        check("a daemon that slews by a change of the tick", ms(10), 1200e-6, us(1), false);
        check("the same at 1000 Hz", ms(1), 1200e-6, us(1), false);
        check("the same, fast", ms(10), -0.08, us(1), false);
    }

    #[test]
    fn a_disruption_is_counted_once_until_the_recovery() {
        let (mut monitor, mut clocks) = steady();
        for _ in 0..50 {
            clocks.pass(Span::from_ms(10), 0.08);
            assert!(monitor.judge(clocks.0, &Machine::default()).disruption.is_some());
        }
        assert_eq!(monitor.disruptions(), 1);
        monitor.recovered();
        assert!(!monitor.is_disrupted());
        clocks.0.boottime += Span::from_secs(1);
        monitor.judge(clocks.0, &Machine::default());
        assert_eq!(monitor.disruptions(), 2);
    }

    #[test]
    fn a_step_is_said_for_a_second() {
        let (mut monitor, mut clocks) = steady();
        assert_eq!(monitor.stepped_at(clocks.0.boottime), None);
        clocks.0.system += Span::from_secs(7);
        monitor.judge(clocks.0, &Machine::default());
        let at = clocks.0.boottime;
        assert_eq!(monitor.stepped_at(at), Some(at));
        assert_eq!(monitor.stepped_at(at + Span::from_ms(999)), Some(at));
        assert_eq!(monitor.stepped_at(at + STEPPED_FOR), None);
    }

    #[test]
    fn changes_of_the_machine_are_disruptions() {
        let machine =
            |source: Option<&str>, vm_marker| Machine { clock_source: source.map(str::to_owned), vm_marker };
        let check = |from: Machine, to: Machine, want: Option<&str>| {
            let (mut monitor, mut clocks) = steady();
            clocks.pass(Span::from_ms(10), 0.0);
            assert_eq!(monitor.judge(clocks.0, &from), Findings::default(), "the first look tells nothing");
            clocks.pass(Span::from_ms(10), 0.0);
            let found = monitor.judge(clocks.0, &to).disruption.map(|d| d.why);
            match want {
                None => assert_eq!(found, None),
                Some(want) => assert!(found.as_ref().unwrap().contains(want), "{found:?}"),
            }
        };
        check(machine(Some("tsc"), None), machine(Some("hpet"), None), Some("from tsc to hpet"));
        check(machine(Some("tsc"), None), machine(None, None), None);
        check(machine(None, Some(7)), machine(None, Some(8)), Some("hypervisor"));
        check(machine(None, Some(7)), machine(None, None), None);
        check(machine(Some("tsc"), Some(7)), machine(Some("tsc"), Some(7)), None);
    }

    #[test]
    fn a_vmclock_structure_is_read_only_when_it_is_whole() {
        let mut bytes = [0; 24];
        assert_eq!(vm_marker(&bytes), None);
        bytes[..4].copy_from_slice(b"VCLK");
        bytes[16] = 9;
        assert_eq!(vm_marker(&bytes), Some(9));
        bytes[12] = 3;
        assert_eq!(vm_marker(&bytes), None);
    }

    #[test]
    fn the_clocks_of_this_machine_are_steady() {
        let mut monitor = Monitor::default();
        let (mut watch, mut machine) = (MachineWatch::new(), Machine::default());
        for _ in 0..2_000 {
            let now = Readings::now();
            watch.look(now.boottime, &mut machine);
            let found = monitor.judge(now, &machine);
            assert_eq!(found.disruption, None);
        }
    }
}
