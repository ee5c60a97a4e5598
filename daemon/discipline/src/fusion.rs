//! Short-term belief and rate forecasts, joined by inverse variance.
//!
//! What a model knows of the slow rate it has from the same measurements, so it can say nothing of the rate at the last
//! of them. What it can say is where the rate goes from there: the random walk since then is all that it competes with,
//! so it weighs nothing after a second and nearly all after hours. A forecast moves the rate at most three deviations
//! of what the measurements allow; the hard bound knows nothing of it.

use crate::longterm::Forecast;
use crate::moments::Moments;

/// A forecast moves the rate by so many deviations at most.
const CLIP: f64 = 3.0;
/// How fast the scores of a forecaster forget.
const SCORE_MEMORY: f64 = 0.95;
/// A forecaster's claimed deviation is never narrowed, and widened at most so far.
const MOST_SCALE: f64 = 100.0;

/// One model that forecasts the rate, and how good it has been.
#[derive(Clone, Debug)]
pub struct Forecaster {
    forecast: Option<Forecast>,
    /// Mean square of the standardised errors.
    z2: f64,
}

impl Default for Forecaster {
    fn default() -> Self {
        Self { forecast: None, z2: 1.0 }
    }
}

impl Forecaster {
    /// Replaces the forecast. One that is not finite counts as none.
    pub fn set(&mut self, forecast: Option<Forecast>) {
        self.forecast = forecast.filter(|f| f.rate.is_finite() && f.sigma.is_finite() && f.sigma > 0.0);
    }

    /// Scores the standing forecast by a rate that was measured since.
    pub fn score(&mut self, rate: f64, variance: f64) {
        if let Some(f) = &self.forecast {
            let z2 = (rate - f.rate).powi(2) / (f.sigma * f.sigma + variance);
            self.z2 = self.z2 * SCORE_MEMORY + z2.min(1e6) * (1.0 - SCORE_MEMORY);
        }
    }

    /// The standing forecast as it was claimed.
    pub fn claimed(&self) -> Option<Forecast> {
        self.forecast
    }

    /// The forecast with the deviation that its past earns it.
    pub fn calibrated(&self) -> Option<Forecast> {
        let f = self.forecast?;
        Some(Forecast { sigma: f.sigma * self.z2.sqrt().clamp(1.0, MOST_SCALE), ..f })
    }
}

/// The belief `dt_s` later, with forecasts.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Fused {
    /// Offset in seconds.
    pub offset_s: f64,
    /// Its variance.
    pub offset_variance: f64,
    /// Rate.
    pub rate: f64,
    /// Variance of the rate.
    pub rate_variance: f64,
    /// The part of the rate's information that is the forecasts', 0 to 1.
    pub share: f64,
}

/// Joins `short`, which is `dt_s` old, with forecasts of the mean rate since.
pub fn fuse(short: &Moments, dt_s: f64, forecasts: impl Iterator<Item = Forecast>) -> Fused {
    let walked = (short.walk_variance * dt_s.abs() / 3.0).max(1e-40);
    let (mut rate, mut variance) = (short.rate, walked);
    for f in forecasts {
        let gain = variance / (variance + f.sigma * f.sigma);
        rate += gain * (f.rate - rate);
        variance *= 1.0 - gain;
    }
    let most = CLIP * short.mean_rate_variance(dt_s).sqrt();
    let wanted = rate - short.rate;
    let moved = wanted.clamp(-most, most);
    // What had to be clipped contradicts the measurements: it makes nobody surer of the rate.
    let gained = if wanted == moved { walked - variance } else { 0.0 };
    let before = short.variance_after(dt_s);
    Fused {
        offset_s: short.offset_after(dt_s) + moved * dt_s,
        offset_variance: (before - dt_s * dt_s * gained).max(before * 1e-3),
        rate: short.rate + moved,
        rate_variance: short.rate_variance + short.walk_variance * dt_s.abs() - gained,
        share: gained / walked,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHORT: Moments = Moments {
        offset_s: 0.0,
        rate: 1e-6,
        offset_variance: 1e-10,
        covariance: 0.0,
        rate_variance: 1e-16,
        walk_variance: 1e-17,
        white_variance: 0.0,
    };
    const LONG: Forecast = Forecast { rate: 1.2e-6, sigma: 5e-8 };

    #[test]
    fn a_forecast_weighs_more_the_longer_ago_the_last_measurement_was() {
        let shares: Vec<f64> =
            [0.0, 60.0, 3600.0, 36_000.0].map(|dt| fuse(&SHORT, dt, [LONG].into_iter()).share).to_vec();
        assert!(shares[0] < 0.05 && shares[3] > 0.9 && shares.is_sorted(), "{shares:?}");
        let none = fuse(&SHORT, 3600.0, std::iter::empty());
        assert_eq!((none.rate, none.share), (1e-6, 0.0));
        let both = fuse(&SHORT, 3600.0, [LONG].into_iter());
        assert!(both.offset_variance < none.offset_variance && both.rate > none.rate);
    }

    #[test]
    fn a_wild_forecast_is_clipped() {
        let wild = Forecast { rate: 1e-3, sigma: 1e-12 };
        let f = fuse(&SHORT, 600.0, [wild].into_iter());
        assert!((f.rate - 1e-6).abs() <= 3.0 * SHORT.mean_rate_variance(600.0).sqrt() * 1.000_001, "{f:?}");
        let none = fuse(&SHORT, 600.0, std::iter::empty());
        assert_eq!((f.offset_variance, f.rate_variance), (none.offset_variance, none.rate_variance));
    }

    #[test]
    fn a_forecaster_that_was_wrong_is_believed_less() {
        let mut f = Forecaster::default();
        f.set(Some(LONG));
        for _ in 0..100 {
            f.score(1.2e-6 + 10.0 * LONG.sigma, 0.0);
        }
        assert!((f.calibrated().unwrap().sigma / LONG.sigma - 10.0).abs() < 0.2);
        f.set(Some(Forecast { rate: f64::NAN, sigma: 1.0 }));
        assert!(f.calibrated().is_none());
    }
}
