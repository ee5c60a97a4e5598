//! The metrics, in the text format that Prometheus reads.

use crate::actions::Outcome;
use crate::engine::{EngineStatus, FireOrder};
use minoots_kernel::{ClockSource, TimerState};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use std::fmt;

/// The media type of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Upper edges of the lateness histogram in seconds: three to a decade from 100 us to 10 s.
const LATENESS_EDGES_SECONDS: [f64; 16] =
    [0.000_1, 0.000_2, 0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0];

/// Upper edges of the histogram of throttled fires in seconds.
const THROTTLED_EDGES_SECONDS: [f64; 9] = [0.01, 0.1, 1.0, 10.0, 60.0, 300.0, 1_800.0, 7_200.0, 43_200.0];

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct AttemptLabels {
    kind: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct StateLabels {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct SourceLabels {
    source: &'static str,
}

/// The metrics of one running service.
pub struct Metrics {
    registry: Registry,
    created: Counter,
    cancelled: Counter,
    fired: Counter,
    handed_over_again: Counter,
    superseded: Counter,
    throttled: Histogram,
    lateness: Histogram,
    attempts: Family<AttemptLabels, Counter>,
    scheduled: Gauge,
    open_fires: Gauge,
    timers: Family<StateLabels, Gauge>,
    in_memory: Gauge,
    last_sequence: Gauge,
    accepts_changes: Gauge,
    clock_source: Family<SourceLabels, Gauge>,
}

impl Default for Metrics {
    fn default() -> Self {
        let mut registry = Registry::with_prefix("minoots");
        let created = Counter::default();
        registry.register("timers_created", "Timers created and acknowledged", created.clone());
        let cancelled = Counter::default();
        registry.register("timers_cancelled", "Timers cancelled and acknowledged", cancelled.clone());
        let fired = Counter::default();
        registry.register("timers_fired", "Timers that fired", fired.clone());
        let handed_over_again = Counter::default();
        registry.register(
            "fires_resumed",
            "Fires whose actions were taken up again after a restart",
            handed_over_again.clone(),
        );
        let superseded = Counter::default();
        registry.register("fires_superseded", "Fires given up for a later one", superseded.clone());
        let throttled = Histogram::new(THROTTLED_EDGES_SECONDS);
        registry.register_with_unit(
            "fire_throttled",
            "How long the actions of a fire waited in memory, where its tenant's fires_per_s held it up",
            Unit::Seconds,
            throttled.clone(),
        );
        let lateness = Histogram::new(LATENESS_EDGES_SECONDS);
        registry.register_with_unit(
            "fire_lateness",
            "How long after its due time a timer fired, on corrected time",
            Unit::Seconds,
            lateness.clone(),
        );
        let attempts = Family::default();
        registry.register("action_attempts", "Attempts at actions by outcome", attempts.clone());
        let scheduled = Gauge::default();
        registry.register("timers_pending", "Timers that wait for their time", scheduled.clone());
        let open_fires = Gauge::default();
        registry.register("fires_open", "Fires whose actions are under way", open_fires.clone());
        let timers = Family::default();
        registry.register("timers", "Timers by state", timers.clone());
        let in_memory = Gauge::default();
        registry.register(
            "timers_in_memory",
            "Timers in memory: those due soon, with a fire under way, or just changed",
            in_memory.clone(),
        );
        let last_sequence = Gauge::default();
        registry.register("log_last_sequence", "Sequence of the last durable event", last_sequence.clone());
        let accepts_changes = Gauge::default();
        registry.register(
            "store_accepts_changes",
            "0 while the disk is full or failed",
            accepts_changes.clone(),
        );
        let clock_source = Family::default();
        registry.register("clock_source", "1 for the clock in use", clock_source.clone());
        Self {
            registry,
            created,
            cancelled,
            fired,
            handed_over_again,
            superseded,
            throttled,
            lateness,
            attempts,
            scheduled,
            open_fires,
            timers,
            in_memory,
            last_sequence,
            accepts_changes,
            clock_source,
        }
    }
}

impl Metrics {
    /// Timers were created, not replayed by a key.
    pub fn created(&self, count: u64) {
        self.created.inc_by(count);
    }

    /// Timers were cancelled.
    pub fn cancelled(&self, count: u64) {
        self.cancelled.inc_by(count);
    }

    /// The actions of a fire have ended, or were given up for a later fire.
    pub fn ended(&self, is_superseded: bool) {
        self.open_fires.dec();
        if is_superseded {
            self.superseded.inc();
        }
    }

    /// A fire was handed over; [`Metrics::ended`] follows.
    pub fn fired(&self, order: &FireOrder) {
        self.open_fires.inc();
        if order.replayed {
            // It fired, and was measured, before the restart.
            self.handed_over_again.inc();
            return;
        }
        self.fired.inc();
        if let Some(times) = &order.times {
            self.lateness.observe(times.lateness_ns() as f64 / 1e9);
        }
    }

    /// The actions of a fire begin after so long, for the rate of its tenant.
    pub fn throttled(&self, waited_ns: u64) {
        self.throttled.observe(waited_ns as f64 / 1e9);
    }

    /// An attempt at an action has ended.
    pub fn attempted(&self, kind: &'static str, outcome: &Outcome) {
        let outcome = match outcome {
            Outcome::Done(_) => "done",
            Outcome::Retry { .. } => "retryable",
            Outcome::Failed(_) => "failed",
        };
        self.attempts.get_or_create(&AttemptLabels { kind, outcome }).inc();
    }

    /// All metrics as text. Without a status (the engine is gone) the gauges keep what they last were.
    pub fn text(&self, status: Option<&EngineStatus>) -> Result<String, fmt::Error> {
        if let Some(status) = status {
            self.scheduled.set(status.counts.of(TimerState::Scheduled) as i64);
            for state in TimerState::ALL {
                let labels = StateLabels { state: state.as_str() };
                self.timers.get_or_create(&labels).set(status.counts.of(state) as i64);
            }
            self.in_memory.set(status.in_memory as i64);
            self.last_sequence.set(status.last_sequences.iter().sum::<u64>() as i64);
            self.accepts_changes.set(status.accepts_changes().into());
            for source in [ClockSource::Page, ClockSource::PageHoldover, ClockSource::Os] {
                let labels = SourceLabels { source: source.as_str() };
                self.clock_source.get_or_create(&labels).set((source == status.clock).into());
            }
        }
        let mut text = String::new();
        encode(&mut text, &self.registry)?;
        Ok(text)
    }
}
