//! Publishes the page at a fixed rate, on an absolute schedule.

use crate::anchor::{Anchor, Choice, Event};
use crate::log;
use crate::record::{Counters, Moment, record, withdrawn};
use crate::stop::Stop;
use chronotick::os_clock::{boottime, realtime_boottime_pair};
use chronotick_core::page::{PageCell, PageWriter, Record, Repair};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::Discipline;
use std::sync::{Mutex, PoisonError};

/// Latencies are averaged over this many pages.
const LATENCY_WINDOW: u32 = 1024;

/// The writer with what it must remember.
#[derive(Debug)]
pub(crate) struct Publisher {
    writer: PageWriter<'static>,
    last: Record,
    started: MonoTime,
    validity: Span,
    anchor: Anchor,
    published: u32,
    latency_samples: u32,
    latency_ms: f32,
}

impl Publisher {
    /// Takes the page over and says whether its last writer died in the middle.
    pub(crate) fn new(
        cell: &'static PageCell,
        started: MonoTime,
        validity: Span,
        anchor: Choice,
    ) -> (Self, Repair) {
        let (writer, repair) = PageWriter::new(cell);
        let publisher = Self {
            writer,
            last: Record::default(),
            started,
            validity,
            anchor: Anchor::new(anchor),
            published: 0,
            latency_samples: 0,
            latency_ms: 0.0,
        };
        (publisher, repair)
    }

    /// Publishes what `discipline` says now.
    pub(crate) fn publish(&mut self, discipline: &Mutex<Discipline>) {
        let moment = now();
        let correction = discipline
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .correction(moment.whole_second().boottime);
        self.published = self.published.wrapping_add(u32::from(correction.is_some()));
        let counters = Counters {
            uptime: moment.boottime - self.started,
            published: self.published,
            latency_ms: self.latency_ms,
            validity: self.validity,
        };
        self.last = record(moment, correction.as_ref(), &counters);
        match self.anchor.apply(&mut self.last) {
            Some(Event::Counter { mhz }) => {
                log::info(format_args!("pages are anchored on the hardware counter, {mhz:.3} MHz"));
            }
            Some(Event::Boottime(why)) => {
                log::warn(format_args!("pages are anchored on CLOCK_BOOTTIME, not on the counter: {why}"));
            }
            None => {}
        }
        self.writer.publish(&self.last);
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

fn now() -> Moment {
    let (system, boottime, _) = realtime_boottime_pair();
    Moment { system, boottime }
}

/// A page for the very first moment, before anything was measured.
pub(crate) fn first_record(validity: Span) -> Record {
    let counters = Counters { uptime: Span::ZERO, published: 0, latency_ms: 0.0, validity };
    record(now(), None, &counters)
}

/// Publishes `rate_hz` times a second until `stop`.
pub(crate) fn run(publisher: &Mutex<Publisher>, discipline: &Mutex<Discipline>, rate_hz: u32, stop: &Stop) {
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
            publisher.publish(discipline);
            publisher.note_latency(boottime() - due);
        }
        // After a suspension the missed turns are skipped, not made up for.
        let passed = (boottime() - start).as_ns();
        let current = i128::from(passed) * i128::from(rate_hz) / 1_000_000_000;
        turn = (turn + 1).max(current as i64);
    }
}
