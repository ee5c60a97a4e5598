//! How far a predictor's claimed deviations are from the errors that were seen: conformal recalibration.
//!
//! Each sample is compared with what was expected of it. The 95 % quantile of the standardised innovations, where
//! 1.96 is right, scales the claimed deviation (split conformal prediction, Vovk et al. 2005, over a sliding window).
//! A sample whose own noise hides the predictor's error says little, and weighs as much.

use crate::kalman::Expectation;
use std::collections::VecDeque;

/// Innovations that count.
const WINDOW: usize = 200;
/// The claim itself counts as so many innovations that say that it is right.
const PRIOR_WEIGHT: f64 = 5.0;
/// The quantile, and where a normal law has it.
const PART: f64 = 0.95;
const NORMAL_QUANTILE: f64 = 1.959_963_984_540_054;
/// The scale stays within.
const LEAST: f64 = 0.8;
const MOST: f64 = 3.0;

/// See the module.
#[derive(Clone, Debug)]
pub struct Calibration {
    /// Standardised innovation, and how much it says.
    scores: VecDeque<(f64, f64)>,
    scale: f64,
}

impl Default for Calibration {
    fn default() -> Self {
        Self { scores: VecDeque::new(), scale: 1.0 }
    }
}

impl Calibration {
    /// Takes in what was expected and what came.
    pub fn score(&mut self, expected: &Expectation, offset_s: f64) {
        let total = expected.variance + expected.noise_variance;
        if total.is_nan() || total <= 0.0 {
            return;
        }
        if self.scores.len() == WINDOW {
            self.scores.pop_front();
        }
        let standardised = (offset_s - expected.offset_s).abs() / total.sqrt();
        self.scores.push_back((standardised, expected.variance / total));
        let mut sorted: Vec<(f64, f64)> = self.scores.iter().copied().collect();
        sorted.push((NORMAL_QUANTILE, PRIOR_WEIGHT));
        sorted.sort_by(|a, b| a.0.total_cmp(&b.0));
        let wanted = PART * sorted.iter().map(|s| s.1).sum::<f64>();
        let mut sum = 0.0;
        let quantile = sorted.iter().find(|s| {
            sum += s.1;
            sum >= wanted
        });
        self.scale = quantile.map_or(1.0, |q| (q.0 / NORMAL_QUANTILE).clamp(LEAST, MOST));
    }

    /// What claimed deviations are to be multiplied by.
    pub fn scale(&self) -> f64 {
        self.scale
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Innovations spread evenly over ± `width` standard deviations.
    fn scale_for(width: f64, variance: f64, noise_variance: f64) -> f64 {
        let mut calibration = Calibration::default();
        let sigma = (variance + noise_variance).sqrt();
        for i in 0..500 {
            let z = width * (f64::from((i * 37) % 100) / 50.0 - 1.0);
            calibration.score(&Expectation { offset_s: 0.0, variance, noise_variance }, z * sigma);
        }
        calibration.scale()
    }

    #[test]
    fn a_right_claim_stays_and_a_bold_one_is_widened() {
        assert!((scale_for(2.06, 1.0, 0.0) - 1.0).abs() < 0.03);
        assert!((scale_for(4.12, 1.0, 0.0) - 2.0).abs() < 0.06);
        assert_eq!(scale_for(0.1, 1.0, 0.0), LEAST);
        assert_eq!(scale_for(100.0, 1.0, 0.0), MOST);
    }

    #[test]
    fn samples_that_are_mostly_noise_change_nothing() {
        assert_eq!(scale_for(4.12, 1e-4, 1.0), 1.0);
    }
}
