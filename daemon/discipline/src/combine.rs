//! Joins the estimates of sources that agree into one.

use crate::moments::Moments;
use crate::source::Estimate;

/// What several sources say together.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Combined {
    /// Offset and rate.
    pub moments: Moments,
    /// What the claimed deviation of the offset is to be multiplied by.
    pub scale: f64,
}

/// Joins estimates; there must be at least one.
///
/// Offsets weigh by the inverse square of the root distance, since that limits what no average removes: the asymmetry
/// of a path. Rates weigh by their inverse variance, together with how far they are apart: all sources see the same
/// oscillator, and where they differ their deviations say little.
pub fn combine(estimates: &[Estimate]) -> Combined {
    let offset_weights = weights(estimates, |e| e.distance_ns * e.distance_ns);
    let mean_rate = estimates.iter().map(|e| e.moments.rate).sum::<f64>() / estimates.len() as f64;
    let spread =
        estimates.iter().map(|e| (e.moments.rate - mean_rate).powi(2)).sum::<f64>() / estimates.len() as f64;
    let rate_weights = weights(estimates, |e| e.moments.rate_variance + spread);
    let mean = |weights: &[f64], f: &dyn Fn(&Moments) -> f64| -> f64 {
        estimates.iter().zip(weights).map(|(e, w)| w * f(&e.moments)).sum()
    };
    let offset_s = mean(&offset_weights, &|m| m.offset_s);
    let rate = mean(&rate_weights, &|m| m.rate);
    let mut moments = Moments {
        offset_s,
        rate,
        walk_variance: mean(&rate_weights, &|m| m.walk_variance),
        white_variance: mean(&offset_weights, &|m| m.white_variance),
        ..Moments::default()
    };
    let mut scale = 0.0;
    for ((e, w), v) in estimates.iter().zip(&offset_weights).zip(&rate_weights) {
        let m = &e.moments;
        // Independent deviations, and how far the sources are apart: the same paths tend to be wrong the same way.
        moments.offset_variance += w * w * m.offset_variance + w * (m.offset_s - offset_s).powi(2);
        moments.rate_variance += v * v * m.rate_variance + v * (m.rate - rate).powi(2);
        moments.covariance += w * v * m.covariance;
        scale += w * e.scale;
    }
    Combined { moments, scale }
}

/// Weights by inverse variance that add up to one.
fn weights(estimates: &[Estimate], variance: impl Fn(&Estimate) -> f64) -> Vec<f64> {
    let raw: Vec<f64> = estimates.iter().map(|e| 1.0 / variance(e).max(f64::MIN_POSITIVE)).collect();
    let total: f64 = raw.iter().sum();
    raw.iter().map(|w| w / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::select::Interval;

    fn estimate(offset_s: f64, distance_ns: f64, rate: f64, rate_variance: f64) -> Estimate {
        Estimate {
            moments: Moments { offset_s, rate, offset_variance: 1e-8, rate_variance, ..Moments::default() },
            scale: 1.0,
            interval: Interval::around(offset_s * 1e9, distance_ns),
            distance_ns,
        }
    }

    #[test]
    fn one_source_is_taken_as_it_is() {
        let e = estimate(2e-3, 1e6, 3e-6, 1e-16);
        let c = combine(&[e]);
        assert_eq!((c.moments.offset_s, c.moments.rate), (2e-3, 3e-6));
        assert_eq!((c.moments.offset_variance, c.moments.rate_variance), (1e-8, 1e-16));
    }

    #[test]
    fn the_nearer_source_weighs_more_and_disagreement_widens() {
        let c = combine(&[estimate(0.0, 1e6, 0.0, 1e-16), estimate(1e-3, 10e6, 0.0, 1e-16)]);
        assert!(c.moments.offset_s < 2e-5, "{c:?}");
        let apart = combine(&[estimate(0.0, 1e6, 0.0, 1e-16), estimate(1e-3, 1e6, 4e-6, 1e-16)]);
        assert!((apart.moments.offset_variance.sqrt() - 5e-4).abs() < 2e-5, "{apart:?}");
        assert!((apart.moments.rate_variance.sqrt() - 2e-6).abs() < 1e-8, "{apart:?}");
    }
}
