//! A regression in the spirit of chrony's: weights by distance, and as many samples as still look like a line.

use crate::baselines::keep_last;
use crate::predictor::{Prediction, Predictor};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::Measurement;
use std::collections::VecDeque;

/// As many samples as chrony keeps of a source by default.
pub const MAX_SAMPLES: usize = 64;
/// A line needs so many.
const MIN_SAMPLES: usize = 3;
/// How much of the excess distance of a sample is taken as a standard deviation.
const DISTANCE_TO_SIGMA: f64 = 0.7;
/// Residuals with so few runs of one sign come by chance once in twenty times.
const RUNS_LEVEL: f64 = 0.05;

#[derive(Clone, Copy, Debug)]
struct Line {
    /// Where the weighted mean is, in seconds from the newest sample.
    x: f64,
    /// The line there, in seconds from the newest sample's theta.
    y: f64,
    rate: f64,
    variance_y: f64,
    variance_rate: f64,
}

/// A weighted line through at most [`MAX_SAMPLES`], extrapolated.
///
/// The weight of a sample falls with its distance (half the delay plus the dispersion) above the least one in the
/// window. After each measurement the oldest samples are dropped for good while the signs of the residuals have fewer
/// runs than chance would give them: the frequency has changed since. What chrony does besides (outliers by a delay
/// test, the selection among sources, slewing the clock) is left out. Its sigma is the standard error of the line.
#[derive(Clone, Debug, Default)]
pub struct ChronyLike {
    samples: VecDeque<Measurement>,
    line: Option<Line>,
}

#[derive(Clone, Copy)]
struct Point {
    x: f64,
    y: f64,
    weight: f64,
}

impl ChronyLike {
    /// Samples in the line.
    pub fn sample_count(&self) -> usize {
        self.samples.len()
    }

    fn points(&self) -> Option<Vec<Point>> {
        let newest = self.samples.back()?;
        let distance_s = |m: &Measurement| {
            m.delay.as_secs_f64() / 2.0 + m.root_delay.as_secs_f64() / 2.0 + m.root_dispersion.as_secs_f64()
        };
        let least_s = self.samples.iter().map(distance_s).fold(f64::INFINITY, f64::min);
        let mean_s = self.samples.iter().map(distance_s).sum::<f64>() / self.samples.len() as f64;
        let scale_s = (mean_s - least_s).max(newest.precision.as_secs_f64()).max(1e-9);
        let point = |m: &Measurement| Point {
            x: (m.at - newest.at).as_secs_f64(),
            y: (m.theta - newest.theta).as_secs_f64(),
            weight: (1.0 + DISTANCE_TO_SIGMA * (distance_s(m) - least_s) / scale_s).powi(-2),
        };
        Some(self.samples.iter().map(point).collect())
    }

    fn refit(&mut self) {
        self.line = None;
        let Some(points) = self.points() else { return };
        let mut start = 0;
        while points.len() - start >= MIN_SAMPLES {
            let part = &points[start..];
            let line = fit(part);
            if runs(part, &line) >= least_runs(part.len()) {
                self.line = Some(line);
                break;
            }
            start += 1;
        }
        if self.line.is_some() {
            self.samples.drain(..start);
        }
    }
}

fn fit(points: &[Point]) -> Line {
    let total: f64 = points.iter().map(|p| p.weight).sum();
    let mean = |f: &dyn Fn(&Point) -> f64| points.iter().map(|p| p.weight * f(p)).sum::<f64>() / total;
    let (x, y) = (mean(&|p| p.x), mean(&|p| p.y));
    let xx = mean(&|p| (p.x - x).powi(2));
    let rate = if xx > 0.0 { mean(&|p| (p.x - x) * (p.y - y)) / xx } else { 0.0 };
    let squares = mean(&|p| (p.y - y - rate * (p.x - x)).powi(2)) * total;
    let variance = squares / (points.len() as f64 - 2.0).max(1.0);
    let variance_rate = if xx > 0.0 { variance / (total * xx) } else { 0.0 };
    Line { x, y, rate, variance_y: variance / total, variance_rate }
}

/// Runs of residuals on one side of the line.
fn runs(points: &[Point], line: &Line) -> usize {
    let is_above = |p: &Point| p.y - line.y - line.rate * (p.x - line.x) > 0.0;
    1 + points.windows(2).filter(|w| is_above(&w[0]) != is_above(&w[1])).count()
}

/// The fewest runs of `n` fair signs that are not suspicious: changes of sign are binomial with `n - 1` trials.
fn least_runs(n: usize) -> usize {
    let trials = n.saturating_sub(1) as i32;
    let (mut term, mut sum) = (0.5_f64.powi(trials), 0.0);
    for changes in 0..=trials {
        sum += term;
        if sum >= RUNS_LEVEL {
            return changes as usize + 1;
        }
        term *= f64::from(trials - changes) / f64::from(changes + 1);
    }
    1
}

impl Predictor for ChronyLike {
    fn name(&self) -> &'static str {
        "chrony_like"
    }

    fn measure(&mut self, _now: MonoTime, measurement: &Measurement) {
        if self.samples.back().is_some_and(|last| measurement.at <= last.at) {
            return;
        }
        keep_last(&mut self.samples, measurement, MAX_SAMPLES);
        self.refit();
    }

    fn predict(&self, now: MonoTime) -> Option<Prediction> {
        let newest = self.samples.back()?;
        let Some(line) = &self.line else {
            return Some(Prediction { theta: newest.theta, sigma_s: None, max_error: None });
        };
        let dx = (now - newest.at).as_secs_f64() - line.x;
        let sigma_s = (line.variance_y + dx * dx * line.variance_rate).sqrt();
        Some(Prediction {
            theta: newest.theta + Span::from_secs_f64(line.y + line.rate * dx),
            sigma_s: Some(sigma_s),
            max_error: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::baselines::tests::{after, sample, second};

    #[test]
    fn a_line_is_extrapolated() {
        assert_eq!(after(ChronyLike::default(), &[], 1), None);
        assert_eq!(after(ChronyLike::default(), &[(0, 5, 1)], 1), Some(5));
        let line: Vec<_> = (0..10).map(|i| (i * 10, i * 100 + if i % 2 == 0 { 4 } else { -4 }, 10)).collect();
        let got = after(ChronyLike::default(), &line, 200).unwrap();
        assert!((1990..=2010).contains(&got), "{got}");
    }

    #[test]
    fn a_late_sample_weighs_little() {
        let mut line: Vec<_> = (0..10).map(|i| (i * 10, if i % 2 == 0 { 1 } else { -1 }, 10)).collect();
        line.push((100, 50, 110));
        let got = after(ChronyLike::default(), &line, 100).unwrap();
        assert!(got.abs() <= 4, "{got}");
    }

    #[test]
    fn samples_from_before_a_change_of_rate_are_dropped() {
        let mut p = ChronyLike::default();
        let noise = |i: i64| if i % 2 == 0 { 2 } else { -2 };
        for i in 0..40 {
            p.measure(second(i * 10), &sample(i * 10, noise(i), 10));
        }
        assert_eq!(p.sample_count(), 40);
        for i in 40..60 {
            p.measure(second(i * 10), &sample(i * 10, (i - 40) * 100 + noise(i), 10));
        }
        assert!((4..30).contains(&p.sample_count()), "{}", p.sample_count());
        let got = p.predict(second(700)).unwrap();
        assert!((got.theta.as_ms() - 3000).abs() < 60, "{got:?}");
        assert!(got.sigma_s.unwrap() > 0.0);
    }

    #[test]
    fn at_most_64_samples_are_kept() {
        let mut p = ChronyLike::default();
        for i in 0..200 {
            p.measure(second(i), &sample(i, i % 2, 10));
        }
        assert_eq!(p.sample_count(), MAX_SAMPLES);
    }

    /// By hand: of 8 fair signs, 1 run has 1/128, up to 2 runs 8/128.
    #[test]
    fn runs_by_chance() {
        let got: Vec<usize> = [3, 4, 5, 6, 8, 16, 64].map(least_runs).to_vec();
        assert_eq!(got[4], 2);
        assert!(
            got.windows(2).all(|w| w[0] <= w[1]) && got[0] == 1 && (23..=27).contains(&got[6]),
            "{got:?}"
        );
    }
}
