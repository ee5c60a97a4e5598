//! Publishes the page at a fixed rate, on an absolute schedule.

use crate::anchor::{Anchor, Choice, Event};
use crate::disruption::{Disrupted, Findings, Machine, MachineWatch, Monitor, Notices, Readings};
use crate::estimate::Estimate;
use crate::log::{self, Level};
use crate::record::{Counters, Moment, disrupted, record, withdrawn};
use crate::stop::Stop;
use chronotick::os_clock::boottime;
use chronotick_core::page::{Flags, PageCell, PageWriter, Record, Repair};
use chronotick_core::{MonoTime, Span};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Latencies are averaged over this many pages.
const LATENCY_WINDOW: u32 = 1024;

/// What is called, in the publisher's thread, after the clock was disrupted: it must be brief.
pub(crate) type OnDisruption = Box<dyn Fn() + Send>;

/// What a publisher starts from.
pub(crate) struct Start {
    /// When the daemon started.
    pub(crate) started: MonoTime,
    /// How long a page is valid.
    pub(crate) validity: Span,
    /// The clock that readers measure elapsed time with.
    pub(crate) anchor: Choice,
    /// Goes on from what an earlier daemon left.
    pub(crate) monitor: Monitor,
    /// Where the other threads read what was noticed.
    pub(crate) notices: Arc<Notices>,
    /// Asks the sources for new measurements.
    pub(crate) on_disruption: OnDisruption,
}

/// The writer with what it must remember.
pub(crate) struct Publisher {
    writer: PageWriter<'static>,
    last: Record,
    start: Start,
    anchor: Anchor,
    watch: MachineWatch,
    machine: Machine,
    published: u32,
    latency_samples: u32,
    latency_ms: f32,
}

impl Publisher {
    /// Takes the page over and says whether its last writer died in the middle.
    pub(crate) fn new(cell: &'static PageCell, start: Start) -> (Self, Repair) {
        let (writer, repair) = PageWriter::new(cell);
        let publisher = Self {
            writer,
            last: Record::default(),
            anchor: Anchor::new(start.anchor),
            start,
            watch: MachineWatch::new(),
            machine: Machine::default(),
            published: 0,
            latency_samples: 0,
            latency_ms: 0.0,
        };
        (publisher, repair)
    }

    /// Publishes what `estimate` says now.
    pub(crate) fn publish(&mut self, estimate: &Mutex<Estimate>) {
        let readings = Readings::now();
        let mut machine = std::mem::take(&mut self.machine);
        self.watch.look(readings.boottime, &mut machine);
        self.publish_at(readings, &machine, estimate);
        self.machine = machine;
    }

    fn publish_at(&mut self, readings: Readings, machine: &Machine, estimate: &Mutex<Estimate>) {
        let now = readings.boottime;
        let moment = Moment { system: readings.system, boottime: now };
        let Findings { mut disruption, step } = self.start.monitor.judge(readings, machine);
        if let Some(step) = step {
            self.note_step(now, step);
        }
        if disruption.is_some() && self.anchor.disrupted(now) {
            log::warn(format_args!("pages are anchored on CLOCK_BOOTTIME for a while"));
        }
        let stepped_at = self.start.monitor.stepped_at(now);
        // The page of a step says what happened since its prediction_time, so that is before the step.
        let anchor = stepped_at.map_or(moment.whole_second(), |at| moment.whole_second_before(at));
        let correction = {
            let mut estimate = lock(estimate);
            if disruption.is_none() {
                estimate.note_clocks(readings.boottime, readings.raw, readings.error);
            }
            estimate.correction(now).map(|c| c.seen_from(anchor.boottime))
        };
        self.published = self.published.wrapping_add(u32::from(correction.is_some()));
        let counters = Counters {
            uptime: now - self.start.started,
            published: self.published,
            latency_ms: self.latency_ms,
            validity: self.start.validity,
        };
        let mut page = record(moment, anchor, correction.as_ref(), &counters);
        match self.anchor.apply(&mut page, machine.clock_source.as_deref()) {
            Some(Event::Counter { mhz }) => {
                log::info(format_args!("pages are anchored on the hardware counter, {mhz:.3} MHz"));
            }
            Some(Event::Boottime { why, was_in_use }) => {
                log::warn(format_args!("pages are anchored on CLOCK_BOOTTIME, not on the counter: {why}"));
                if was_in_use {
                    self.start.monitor.disrupt();
                    disruption = disruption.or(Some(Disrupted::jump(format!("the hardware counter: {why}"))));
                }
            }
            None => {}
        }
        let mut is_new = false;
        match &disruption {
            Some(what) => is_new = self.note_disruption(now, what, estimate),
            None if correction.is_some() => self.start.monitor.recovered(),
            None => {}
        }
        if self.start.monitor.is_disrupted() {
            page = disrupted(page);
        }
        let stepped = if stepped_at.is_some() { Flags::STEPPED } else { 0 };
        page.flags = Flags(page.flags.0 | stepped).with_disruption_count(self.start.monitor.disruptions());
        self.last = page;
        self.writer.publish(&self.last);
        // Relaxed: a sign of life, nothing is read behind it.
        self.start.notices.pages.fetch_add(1, Ordering::Relaxed);
        if let Some(Disrupted { why, .. }) = disruption
            && is_new
        {
            log::event(
                Level::Warn,
                format_args!("the clock was disrupted: {why}; measuring anew"),
                &[
                    ("event", "disruption".into()),
                    ("reason", why.as_str().into()),
                    ("disruption_count", self.start.monitor.disruptions().into()),
                ],
            );
            (self.start.on_disruption)();
        }
    }

    fn note_step(&self, now: MonoTime, step: Span) {
        log::event(
            Level::Warn,
            format_args!("the system clock was stepped by {step}: corrected time goes on undisturbed"),
            &[("event", "step".into()), ("step_seconds", step.as_secs_f64().into())],
        );
        let mut noticed = self.start.notices.lock();
        noticed.steps = noticed.steps.wrapping_add(1);
        noticed.last_step = Some((now, step));
    }

    /// Everything that was measured is forgotten. True for a new disruption: a clock that is disrupted at every publish,
    /// by a fast slew, has one.
    fn note_disruption(&mut self, now: MonoTime, what: &Disrupted, estimate: &Mutex<Estimate>) -> bool {
        // Said first, so that no measurement from before comes in after the discipline was cleared.
        let is_new = {
            let mut noticed = self.start.notices.lock();
            noticed.last_disruption = Some((now, what.why.clone()));
            let before = std::mem::replace(&mut noticed.disruptions, self.start.monitor.disruptions());
            before != self.start.monitor.disruptions()
        };
        lock(estimate).disrupt(what.kind);
        is_new
    }

    /// What it knows of the clocks.
    pub(crate) fn monitor(&self) -> &Monitor {
        &self.start.monitor
    }

    /// Withdraws the page: VALID is cleared, whatever else it says stays.
    pub(crate) fn withdraw(&mut self) {
        self.last = withdrawn(self.last);
        self.writer.publish(&self.last);
    }

    fn note_latency(&mut self, latency: Span) {
        self.latency_samples = (self.latency_samples + 1).min(LATENCY_WINDOW);
        let ms = (latency.as_ns() as f64 / 1e6) as f32;
        self.latency_ms += (ms - self.latency_ms) / self.latency_samples as f32;
    }
}

fn lock(estimate: &Mutex<Estimate>) -> MutexGuard<'_, Estimate> {
    estimate.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A page for the very first moment, before anything was measured.
pub(crate) fn first_record(validity: Span) -> Record {
    let counters = Counters { uptime: Span::ZERO, published: 0, latency_ms: 0.0, validity };
    let readings = Readings::now();
    let moment = Moment { system: readings.system, boottime: readings.boottime };
    record(moment, moment.whole_second(), None, &counters)
}

/// Publishes `rate_hz` times a second until `stop`.
pub(crate) fn run(publisher: &Mutex<Publisher>, estimate: &Mutex<Estimate>, rate_hz: u32, stop: &Stop) {
    let start = boottime();
    let due_after =
        |turn: i64| Span::from_ns((i128::from(turn) * 1_000_000_000 / i128::from(rate_hz)) as i64);
    let mut turn = 0i64;
    loop {
        let due = start + due_after(turn);
        if stop.wait_until(due) {
            return;
        }
        {
            let mut publisher = publisher.lock().unwrap_or_else(PoisonError::into_inner);
            publisher.publish(estimate);
            publisher.note_latency(boottime() - due);
        }
        // After a suspension the missed turns are skipped, not made up for.
        let passed = (boottime() - start).as_ns();
        let current = i128::from(passed) * i128::from(rate_hz) / 1_000_000_000;
        turn = (turn + 1).max(current as i64);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::page::{PageCell, Status};
    use chronotick_core::{Timestamp, page};
    use chronotick_discipline::{Config, Discipline, Leap, Measurement};
    use std::sync::atomic::AtomicU32;

    /// A publisher over a page of its own, with clocks that move as told.
    struct Rig {
        publisher: Publisher,
        estimate: Mutex<Estimate>,
        cell: &'static PageCell,
        clocks: Readings,
        notices: Arc<Notices>,
        bursts: Arc<AtomicU32>,
    }

    impl Rig {
        fn new() -> Self {
            let cell: &'static PageCell = Box::leak(Box::new(PageCell::from_words([0; page::WORDS])));
            let clocks = Readings {
                system: Timestamp::from_ns(1_790_000_000_250_000_000),
                boottime: MonoTime::from_ns(1_000_000_000_000),
                monotonic: MonoTime::from_ns(900_000_000_000),
                raw: MonoTime::from_ns(899_000_000_000),
                error: Span::from_ns(300),
            };
            let estimate = Mutex::new(Estimate::new(Discipline::new(Config::default(), 1), None));
            let (notices, bursts) = (Arc::new(Notices::default()), Arc::new(AtomicU32::new(0)));
            let asked = bursts.clone();
            let start = Start {
                started: clocks.boottime,
                validity: Span::from_secs(10),
                anchor: Choice::Boottime,
                monitor: Monitor::new(7, None),
                notices: notices.clone(),
                on_disruption: Box::new(move || {
                    asked.fetch_add(1, Ordering::SeqCst);
                }),
            };
            let publisher = Publisher::new(cell, start).0;
            Self { publisher, estimate, cell, clocks, notices, bursts }
        }

        fn measure(&self) {
            let m = Measurement {
                source: 0,
                at: self.clocks.boottime,
                theta: Span::from_secs(1_789_999_000),
                delay: Span::from_us(100),
                round_trip: Span::from_us(120),
                root_delay: Span::ZERO,
                root_dispersion: Span::from_us(5),
                precision: Span::from_us(1),
                stratum: 1,
                authenticated: false,
                leap: Leap::None,
                poll_interval: Span::from_secs(8),
            };
            lock(&self.estimate).measure(self.clocks.boottime, m);
        }

        fn pass(&mut self, span: Span) {
            self.clocks.system += span;
            self.clocks.boottime += span;
            self.clocks.monotonic += span;
            self.clocks.raw += span;
        }

        /// What a reader finds after a publish, at that moment.
        fn publish(&mut self) -> Record {
            self.publisher.publish_at(self.clocks, &Machine::default(), &self.estimate);
            let words = self.cell.snapshot(10).unwrap();
            Record::from_words(&words).unwrap()
        }

        fn status(&self, record: &Record) -> Status {
            record.read_at(Span::from_ns(self.clocks.boottime.as_ns() - record.anchor)).status
        }
    }

    fn synchronized() -> Rig {
        let mut rig = Rig::new();
        for _ in 0..16 {
            rig.measure();
            rig.pass(Span::from_ms(500));
            rig.publish();
        }
        let record = rig.publish();
        assert_eq!(rig.status(&record), Status::Synchronized);
        assert_eq!(record.flags.disruption_count(), 7, "the count of the daemon before");
        rig
    }

    #[test]
    fn a_suspend_is_a_disruption_until_new_measurements() {
        let mut rig = synchronized();
        rig.pass(Span::from_ms(10));
        rig.clocks.boottime += Span::from_secs(60);
        rig.clocks.system += Span::from_secs(60);
        for _ in 0..100 {
            let record = rig.publish();
            assert_eq!(rig.status(&record), Status::Disrupted);
            assert!(record.flags.has(Flags::DISRUPTED) && !record.flags.has(Flags::VALID));
            assert_eq!((record.flags.disruption_count(), record.offset_uncertainty), (8, 1e9));
            rig.pass(Span::from_ms(10));
        }
        assert_eq!(rig.bursts.load(Ordering::SeqCst), 1);
        assert!(rig.notices.is_overtaken(rig.clocks.boottime - Span::from_secs(2)));
        assert!(!rig.notices.is_overtaken(rig.clocks.boottime));
        rig.measure();
        rig.pass(Span::from_ms(10));
        let record = rig.publish();
        assert_eq!(rig.status(&record), Status::WarmingUp, "as after a start");
        assert_eq!(record.flags.disruption_count(), 8);
    }

    #[test]
    fn a_step_of_the_system_clock_is_flagged_for_a_second_and_moves_nothing() {
        let mut rig = synchronized();
        rig.pass(Span::from_ms(10));
        rig.clocks.system += Span::from_ms(123_456);
        let stepped_at = rig.clocks.boottime;
        for turn in 0..150 {
            let record = rig.publish();
            let is_flagged = record.flags.has(Flags::STEPPED);
            assert_eq!(is_flagged, turn < 100, "turn {turn}");
            // The flag says: since prediction_time.
            assert!(!is_flagged || record.anchor <= stepped_at.as_ns(), "turn {turn}");
            assert_eq!(rig.status(&record), Status::Synchronized);
            assert_eq!(record.flags.disruption_count(), 7);
            let elapsed = Span::from_ns(rig.clocks.boottime.as_ns() - record.anchor);
            let truth = Timestamp::from_ns(rig.clocks.boottime.as_ns()) + Span::from_secs(1_789_999_000);
            let reading = record.read_at(elapsed);
            assert!(reading.bound.earliest() <= truth && truth <= reading.bound.latest(), "turn {turn}");
            // A reader of the old kind, who measures elapsed time on the system clock.
            let old_s = rig.clocks.system.as_secs_f64()
                + record.offset_correction
                + record.drift_rate * (rig.clocks.system.as_secs_f64() - record.prediction_time);
            assert!((old_s - truth.as_secs_f64()).abs() < 1e-4, "turn {turn}");
            rig.pass(Span::from_ms(10));
        }
        let noticed = rig.notices.lock();
        assert_eq!(noticed.steps, 1);
        assert_eq!(rig.bursts.load(Ordering::SeqCst), 0);
    }
}
