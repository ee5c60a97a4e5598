//! Errors of one predictor, summed up.

use crate::predictor::Prediction;
use chronotick_core::Span;
use serde::Serialize;

/// Standard deviations on each side of a 95 % interval of a normal distribution.
pub const Z_95: f64 = 1.959_963_984_540_054;

/// What is known of one predictor so far.
#[derive(Clone, Debug, Default)]
pub struct Scores {
    errors_s: Vec<f64>,
    claims: u64,
    covered: u64,
    bounds: u64,
    violations: u64,
    silent: u64,
}

/// What is printed of it: the shape that `eval --json` and `xtask sim clock --json` share.
#[derive(Clone, Copy, PartialEq, Debug, Serialize)]
pub struct Summary {
    /// Mean absolute error in milliseconds; null without a prediction.
    pub mae_ms: Option<f64>,
    /// The error that 99 % are within, in milliseconds.
    pub p99_ms: Option<f64>,
    /// The part of the errors within 1.96 of the claimed standard deviations, 0 to 1; null where none is claimed.
    pub coverage_95: Option<f64>,
    /// How often the error was over the claimed hard bound; null where none is claimed.
    pub bound_violations: Option<u64>,
    /// Predictions that were judged.
    pub predictions: u64,
    /// Moments without a prediction.
    pub silent: u64,
}

impl Scores {
    /// Judges a prediction against the truth, which itself may be uncertain by `truth_error`: no violation of the
    /// bound is counted that this could explain.
    pub fn add(&mut self, prediction: Option<&Prediction>, truth: Span, truth_error: Span) {
        let Some(p) = prediction else {
            self.silent += 1;
            return;
        };
        let error = (p.theta - truth).abs();
        self.errors_s.push(error.as_secs_f64());
        if let Some(sigma_s) = p.sigma_s {
            self.claims += 1;
            self.covered += u64::from(error.as_secs_f64() <= Z_95 * sigma_s);
        }
        if let Some(bound) = p.max_error {
            self.bounds += 1;
            self.violations += u64::from(error > bound + truth_error);
        }
    }

    /// Takes the errors of another run in.
    pub fn merge(&mut self, other: &Self) {
        self.errors_s.extend_from_slice(&other.errors_s);
        self.claims += other.claims;
        self.covered += other.covered;
        self.bounds += other.bounds;
        self.violations += other.violations;
        self.silent += other.silent;
    }

    /// The figures.
    pub fn summary(&self) -> Summary {
        let n = self.errors_s.len();
        let mut sorted = self.errors_s.clone();
        sorted.sort_by(f64::total_cmp);
        let p99 = (n * 99).div_ceil(100).checked_sub(1).and_then(|i| sorted.get(i));
        Summary {
            mae_ms: (n > 0).then(|| sorted.iter().sum::<f64>() / n as f64 * 1e3),
            p99_ms: p99.map(|e| e * 1e3),
            coverage_95: (self.claims > 0).then(|| self.covered as f64 / self.claims as f64),
            bound_violations: (self.bounds > 0).then_some(self.violations),
            predictions: n as u64,
            silent: self.silent,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_coverage_and_violations_are_counted() {
        let mut s = Scores::default();
        let claim = |theta_us: i64| Prediction {
            theta: Span::from_us(theta_us),
            sigma_s: Some(1e-3),
            max_error: Some(Span::from_ms(3)),
        };
        for (theta_us, truth_error_us) in
            [(1_000, 0), (-1_000, 0), (2_500, 0), (3_500, 1_000), (4_500, 1_000)]
        {
            s.add(Some(&claim(theta_us)), Span::ZERO, Span::from_us(truth_error_us));
        }
        s.add(None, Span::ZERO, Span::ZERO);
        let got = s.summary();
        assert!((got.mae_ms.unwrap() - 2.5).abs() < 1e-9);
        assert_eq!((got.p99_ms, got.coverage_95), (Some(4.5), Some(0.4)));
        assert_eq!((got.bound_violations, got.predictions, got.silent), (Some(1), 5, 1));
    }

    #[test]
    fn nothing_claims_nothing() {
        let got = Scores::default().summary();
        assert_eq!((got.mae_ms, got.coverage_95, got.bound_violations), (None, None, None));
    }
}
