//! The seam: anything that predicts true time from measurements.

use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Config, Discipline, Measurement};

/// What is said of one moment.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Prediction {
    /// True time minus the local clock.
    pub theta: Span,
    /// One standard deviation of `theta` in seconds, for those that claim one.
    pub sigma_s: Option<f64>,
    /// Hard bound on the error of `theta`, for those that claim one.
    pub max_error: Option<Span>,
}

/// A way to predict true time.
pub trait Predictor {
    /// Its name in tables and JSON.
    fn name(&self) -> &'static str;
    /// Takes a measurement in; `now` is when the answer arrived.
    fn measure(&mut self, now: MonoTime, measurement: &Measurement);
    /// Temperature and load of the machine at `now`, where they were read. Most have no use for it.
    fn observe(&mut self, _now: MonoTime, _temperature_c: Option<f64>, _load: Option<f64>) {}
    /// The prediction for `now`; `None` while nothing can be said. `now` never goes back.
    fn predict(&self, now: MonoTime) -> Option<Prediction>;
}

/// Ours: the discipline of the daemon, unchanged.
#[derive(Clone, Debug)]
pub struct Chronotick {
    /// The discipline itself, for those that look closer.
    pub discipline: Discipline,
}

impl Chronotick {
    /// For `source_count` sources.
    pub fn new(config: Config, source_count: usize) -> Self {
        Self { discipline: Discipline::new(config, source_count) }
    }
}

impl Predictor for Chronotick {
    fn name(&self) -> &'static str {
        "chronotick"
    }

    fn measure(&mut self, now: MonoTime, measurement: &Measurement) {
        let _ = self.discipline.measure(now, *measurement);
    }

    fn observe(&mut self, _now: MonoTime, temperature_c: Option<f64>, load: Option<f64>) {
        self.discipline.observe(temperature_c, load);
    }

    fn predict(&self, now: MonoTime) -> Option<Prediction> {
        let c = self.discipline.correction(now)?;
        Some(Prediction {
            theta: Span::from_ns(c.corrected.as_ns() - now.as_ns()),
            sigma_s: Some(c.offset_sigma),
            max_error: Some(c.max_error),
        })
    }
}
