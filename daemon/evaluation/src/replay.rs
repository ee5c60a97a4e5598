//! Replays a trace through every predictor and scores them on the same moments.

use crate::baselines::{HoldLast, LinearRegression, MinimumDelay, NoCorrection};
use crate::chrony_like::ChronyLike;
use crate::predictor::{Chronotick, Prediction, Predictor};
use crate::scores::{Scores, Summary};
use crate::trace::{Row, Sample, Trace};
use crate::truth::local_fits;
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Config, Leap, Measurement};

/// Name of what the trace recorded, in tables and JSON.
pub const OLD_SYSTEM: &str = "old_system";
/// Measurements closer than this part of `every` make a trace dense.
const DENSE_PART: f64 = 5.0;
/// The part of a trace that is not scored, so that every predictor has something to go by.
const WARM_UP_PART: f64 = 0.1;
/// Reading precision of both clocks together; the traces do not say it.
const PRECISION: Span = Span::from_us(1);
/// What the local clock shows at the first row. It started some time ago, and never stands for the date.
const LOCAL_START: MonoTime = MonoTime::from_ns(1_000_000_000_000);
/// System clock minus local clock: the corrected times have the digits of real ones.
const SYSTEM: Span = Span::from_secs(1_760_000_000);

/// How to replay.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// One measurement in so many seconds is given to the predictors; 0 gives all.
    pub every_s: f64,
    /// What the servers are assumed to say of their own error; traces do not tell.
    pub root_dispersion: Span,
}

impl Default for Options {
    fn default() -> Self {
        Self { every_s: 64.0, root_dispersion: Span::from_ms(1) }
    }
}

/// Where the truth comes from.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Mode {
    /// Many measurements for each one given: a local fit of those with the lowest delay, at each row.
    Dense,
    /// Each measurement, before it is given.
    Sparse,
}

/// One moment of the replay; offsets are true time minus the system clock.
#[derive(Clone, Debug)]
pub struct Point {
    /// Seconds since the first row.
    pub time_s: f64,
    /// The truth.
    pub truth: Span,
    /// How wrong the truth may be.
    pub truth_error: Span,
    /// It counts: it is after the warm-up.
    pub is_scored: bool,
    /// What each predictor said, in the order of [`Evaluation::predictors`].
    pub predictions: Vec<Option<Prediction>>,
}

/// Everything that came out.
#[derive(Clone, Debug)]
pub struct Evaluation {
    /// Where the truth came from.
    pub mode: Mode,
    /// Measurements given to the predictors.
    pub given: usize,
    /// Each predictor's name and figures; ours is first.
    pub predictors: Vec<(&'static str, Summary)>,
    /// Each moment with a truth, the warm-up too.
    pub points: Vec<Point>,
}

impl Evaluation {
    /// Moments that were scored.
    pub fn scored(&self) -> usize {
        self.points.iter().filter(|point| point.is_scored).count()
    }

    /// The figures of a predictor.
    pub fn summary(&self, name: &str) -> Option<&Summary> {
        self.predictors.iter().find(|(n, _)| *n == name).map(|(_, summary)| summary)
    }
}

/// Ours and the baselines, in the order of tables.
fn predictors() -> Vec<Box<dyn Predictor>> {
    vec![
        Box::new(Chronotick::new(Config::default(), 1)),
        Box::new(NoCorrection { system: SYSTEM }),
        Box::new(HoldLast::default()),
        Box::new(LinearRegression::default()),
        Box::new(MinimumDelay::default()),
        Box::new(ChronyLike::default()),
    ]
}

/// Decides which measurements are given.
struct Thinning {
    mode: Mode,
    every_s: f64,
    last: Option<f64>,
}

impl Thinning {
    /// Dense: the first at or after each multiple of `every_s`. Sparse: the first that is `every_s` after the last.
    fn takes(&mut self, time_s: f64) -> bool {
        let step = match self.mode {
            Mode::Dense => (time_s / self.every_s).floor(),
            Mode::Sparse => time_s,
        };
        let least = if self.mode == Mode::Dense { 1.0 } else { self.every_s };
        let takes = self.last.is_none_or(|last| step - last >= least);
        if takes {
            self.last = Some(step);
        }
        takes
    }
}

fn measurement(row: &Row, sample: Sample, poll_interval: Span, root_dispersion: Span) -> Measurement {
    let delay = Span::from_secs_f64(sample.delay_s);
    Measurement {
        source: 0,
        at: local(row),
        theta: SYSTEM + Span::from_secs_f64(sample.offset_s),
        delay,
        round_trip: delay,
        root_delay: Span::ZERO,
        root_dispersion,
        precision: PRECISION,
        stratum: 2,
        leap: Leap::None,
        poll_interval,
        authenticated: false,
    }
}

fn local(row: &Row) -> MonoTime {
    LOCAL_START + Span::from_secs_f64(row.time_s)
}

fn old_system(row: &Row) -> Option<Prediction> {
    let theta = Span::from_secs_f64(row.old_prediction_s?);
    Some(Prediction { theta, sigma_s: row.old_sigma_s, max_error: None })
}

/// Replays a trace.
pub fn evaluate(trace: &Trace, options: &Options) -> Evaluation {
    let spacing_s = trace.median_spacing_s();
    let is_dense = trace.samples().nth(1).is_some() && spacing_s < options.every_s / DENSE_PART;
    let mode = if is_dense { Mode::Dense } else { Mode::Sparse };
    let poll_interval = Span::from_secs_f64(spacing_s.max(options.every_s).max(1.0));
    let truths = if mode == Mode::Dense { local_fits(trace) } else { vec![None; trace.rows.len()] };
    let mut thinning = Thinning { mode, every_s: options.every_s, last: None };
    let mut predictors = predictors();
    let has_old = trace.has_old_predictions();
    let warm_up_s = trace.duration_s() * WARM_UP_PART;
    let mut points = Vec::new();
    let mut given = 0;
    for (row, truth) in trace.rows.iter().zip(&truths) {
        let now = local(row);
        for p in &mut predictors {
            p.observe(now, row.temperature_c, row.load);
        }
        let says = |predictors: &[Box<dyn Predictor>]| -> Vec<Option<Prediction>> {
            let relative = |p: Prediction| Prediction { theta: p.theta - SYSTEM, ..p };
            let ours = predictors.iter().map(|p| p.predict(now).map(relative));
            ours.chain(has_old.then(|| old_system(row))).collect()
        };
        let m = row.sample.map(|s| measurement(row, s, poll_interval, options.root_dispersion));
        let is_scored = row.time_s >= warm_up_s;
        if let Some(m) = m.filter(|_| mode == Mode::Sparse) {
            points.push(Point {
                time_s: row.time_s,
                truth: m.theta - SYSTEM,
                truth_error: Span::from_ns(m.root_distance_ns().ceil() as i64),
                is_scored,
                predictions: says(&predictors),
            });
        }
        if let Some(m) = m.filter(|_| thinning.takes(row.time_s)) {
            given += 1;
            for p in &mut predictors {
                p.measure(now, &m);
            }
        }
        if let Some(truth) = truth {
            points.push(Point {
                time_s: row.time_s,
                truth: Span::from_secs_f64(truth.offset_s),
                truth_error: Span::from_secs_f64(truth.error_s),
                is_scored,
                predictions: says(&predictors),
            });
        }
    }
    let names = predictors.iter().map(|p| p.name()).chain(has_old.then_some(OLD_SYSTEM));
    let score = |i: usize| {
        let mut scores = Scores::default();
        for point in points.iter().filter(|point| point.is_scored) {
            let prediction = point.predictions.get(i).and_then(Option::as_ref);
            scores.add(prediction, point.truth, point.truth_error);
        }
        scores.summary()
    };
    let predictors = names.enumerate().map(|(i, name)| (name, score(i))).collect();
    Evaluation { mode, given, predictors, points }
}
