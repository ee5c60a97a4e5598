//! A weighted line through the last samples, over a history as long as it is straight.
//!
//! The residuals of a line through samples of a straight history change their sign at random. Where they keep it for
//! longer, the clock has turned, and the oldest samples go (Wald and Wolfowitz 1940; the adaptation is that of chrony).

use crate::fit::{Line, Point, fit};
use crate::kalman::Expectation;
use crate::moments::Moments;
use std::collections::VecDeque;

/// Samples that are kept at most.
const WINDOW: usize = 64;
/// A line through fewer is taken as it is.
const FEWEST: usize = 8;
/// Fewer runs than expected by so many standard deviations: 2.5 % of straight histories show as few.
const RUNS_LIMIT: f64 = 1.96;
/// What a rate does after the window that it was measured in: the walk of a usual crystal, variance after one second.
const WALK_VARIANCE: f64 = 4e-18;

/// The last samples of one source, and the line through them.
#[derive(Clone, Debug, Default)]
pub struct Regression {
    /// Seconds on the caller's scale, offset, assumed deviation.
    samples: VecDeque<(f64, f64, f64)>,
    line: Option<Line>,
}

impl Regression {
    /// Takes a sample in; `rate_prior_sigma` is what is believed of the rate beforehand.
    pub fn push(&mut self, at_s: f64, offset_s: f64, sigma_s: f64, rate_prior_sigma: f64) {
        if self.samples.len() == WINDOW {
            self.samples.pop_front();
        }
        self.samples.push_back((at_s, offset_s, sigma_s));
        loop {
            let points: Vec<Point> = self
                .samples
                .iter()
                .map(|s| Point { x_s: s.0 - at_s, y_ns: (s.1 - offset_s) * 1e9, sigma_ns: s.2 * 1e9 })
                .collect();
            self.line = fit(&points, rate_prior_sigma * 1e9);
            let Some(line) = &self.line else { return };
            if points.len() < FEWEST || is_straight(&points, line) {
                return;
            }
            // An eighth at a time: the test is repeated on what is left.
            self.samples.drain(..points.len().div_ceil(8));
        }
    }

    /// What is believed at the newest sample; `None` without one.
    pub fn moments(&self) -> Option<Moments> {
        let (line, newest) = (self.line.as_ref()?, self.samples.back()?);
        Some(Moments {
            offset_s: newest.1 + line.at(0.0) / 1e9,
            rate: line.rate_ns_per_s / 1e9,
            offset_variance: line.sigma_at(0.0).powi(2) / 1e18,
            covariance: line.covariance() / 1e18,
            rate_variance: line.rate_sigma_ns_per_s().powi(2) / 1e18,
            walk_variance: WALK_VARIANCE,
            white_variance: 0.0,
        })
    }

    /// What is expected of a sample with the assumed deviation `sigma_s`, `dt_s` after the newest.
    pub fn expect(&self, dt_s: f64, sigma_s: f64) -> Option<Expectation> {
        let m = self.moments()?;
        let scale = self.line.as_ref()?.variance_scale;
        Some(Expectation {
            offset_s: m.offset_after(dt_s),
            variance: m.variance_after(dt_s),
            noise_variance: sigma_s * sigma_s * scale,
        })
    }
}

fn is_straight(points: &[Point], line: &Line) -> bool {
    let above: Vec<bool> = points.iter().map(|p| p.y_ns > line.at(p.x_s)).collect();
    let high = above.iter().filter(|a| **a).count() as f64;
    let (n, low) = (above.len() as f64, above.len() as f64 - high);
    if high == 0.0 || low == 0.0 {
        return true;
    }
    let runs = 1.0 + above.windows(2).filter(|w| w[0] != w[1]).count() as f64;
    let expected = 1.0 + 2.0 * high * low / n;
    let variance = (expected - 1.0) * (expected - 2.0) / (n - 1.0);
    runs >= expected - RUNS_LIMIT * variance.max(0.0).sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(i: i32) -> f64 {
        f64::from((i * 7919) % 101) / 50.0 - 1.0
    }

    #[test]
    fn a_straight_history_is_kept_whole() {
        let mut r = Regression::default();
        for i in 0..60 {
            r.push(f64::from(i) * 16.0, f64::from(i) * 16.0 * 3e-6 + noise(i) * 1e-5, 1e-5, 1e-4);
        }
        assert_eq!(r.samples.len(), 60);
        let m = r.moments().unwrap();
        assert!((m.rate - 3e-6).abs() < 1e-7, "{m:?}");
        let next = r.expect(16.0, 1e-5).unwrap();
        assert!((next.offset_s - 60.0 * 16.0 * 3e-6).abs() < 1e-5, "{next:?}");
    }

    #[test]
    fn a_turn_shortens_the_history() {
        let mut r = Regression::default();
        for i in 0..60 {
            let t = f64::from(i) * 16.0;
            let turned = (t - 480.0).max(0.0) * 2e-6;
            r.push(t, turned + noise(i) * 1e-6, 1e-6, 1e-4);
        }
        assert!(r.samples.len() < 35, "{}", r.samples.len());
        assert!((r.moments().unwrap().rate - 2e-6).abs() < 1e-7, "{r:?}");
    }
}
