//! Simple ways to predict the time, to compare with.

use crate::predictor::{Prediction, Predictor};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::Measurement;
use std::collections::VecDeque;

/// Samples that [`LinearRegression`] and [`MinimumDelay`] look at.
pub const SAMPLES: usize = 8;

/// A prediction that claims no uncertainty.
fn bare(theta: Span) -> Option<Prediction> {
    Some(Prediction { theta, sigma_s: None, max_error: None })
}

/// Does nothing: the system clock as it is.
#[derive(Clone, Copy, Debug)]
pub struct NoCorrection {
    /// The system clock minus the local clock.
    pub system: Span,
}

impl Predictor for NoCorrection {
    fn name(&self) -> &'static str {
        "none"
    }

    fn measure(&mut self, _now: MonoTime, _measurement: &Measurement) {}

    fn predict(&self, _now: MonoTime) -> Option<Prediction> {
        bare(self.system)
    }
}

/// The last measured offset.
#[derive(Clone, Copy, Debug, Default)]
pub struct HoldLast {
    theta: Option<Span>,
}

impl Predictor for HoldLast {
    fn name(&self) -> &'static str {
        "hold_last"
    }

    fn measure(&mut self, _now: MonoTime, measurement: &Measurement) {
        self.theta = Some(measurement.theta);
    }

    fn predict(&self, _now: MonoTime) -> Option<Prediction> {
        bare(self.theta?)
    }
}

/// Takes a measurement into the last `limit`.
pub(crate) fn keep_last(queue: &mut VecDeque<Measurement>, measurement: &Measurement, limit: usize) {
    if queue.len() >= limit {
        queue.pop_front();
    }
    queue.push_back(*measurement);
}

/// A least-squares line through the last [`SAMPLES`], all of the same weight, extrapolated.
#[derive(Clone, Debug, Default)]
pub struct LinearRegression {
    samples: VecDeque<Measurement>,
}

impl Predictor for LinearRegression {
    fn name(&self) -> &'static str {
        "linear_regression"
    }

    fn measure(&mut self, _now: MonoTime, measurement: &Measurement) {
        keep_last(&mut self.samples, measurement, SAMPLES);
    }

    fn predict(&self, now: MonoTime) -> Option<Prediction> {
        let reference = self.samples.back()?.theta;
        let n = self.samples.len() as f64;
        let points =
            || self.samples.iter().map(|m| ((m.at - now).as_secs_f64(), (m.theta - reference).as_secs_f64()));
        let x = points().map(|p| p.0).sum::<f64>() / n;
        let y = points().map(|p| p.1).sum::<f64>() / n;
        let xx = points().map(|p| (p.0 - x).powi(2)).sum::<f64>();
        let xy = points().map(|p| (p.0 - x) * (p.1 - y)).sum::<f64>();
        let slope = if xx > 0.0 { xy / xx } else { 0.0 };
        bare(reference + Span::from_secs_f64(y - slope * x))
    }
}

/// Of the last [`SAMPLES`] the offset of the one with the lowest delay, the newest of those that tie: the clock filter
/// of NTP, without a rate.
#[derive(Clone, Debug, Default)]
pub struct MinimumDelay {
    samples: VecDeque<Measurement>,
}

impl Predictor for MinimumDelay {
    fn name(&self) -> &'static str {
        "minimum_delay_8"
    }

    fn measure(&mut self, _now: MonoTime, measurement: &Measurement) {
        keep_last(&mut self.samples, measurement, SAMPLES);
    }

    fn predict(&self, _now: MonoTime) -> Option<Prediction> {
        bare(self.samples.iter().rev().min_by_key(|m| m.delay)?.theta)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use chronotick_discipline::Leap;

    /// The local clock at a second.
    pub(crate) fn second(at_s: i64) -> MonoTime {
        MonoTime::from_ns(at_s * 1_000_000_000)
    }

    /// A measurement at a second, in milliseconds.
    pub(crate) fn sample(at_s: i64, theta_ms: i64, delay_ms: i64) -> Measurement {
        let delay = Span::from_ms(delay_ms);
        Measurement {
            source: 0,
            at: second(at_s),
            theta: Span::from_ms(theta_ms),
            delay,
            round_trip: delay,
            root_delay: Span::ZERO,
            root_dispersion: Span::ZERO,
            precision: Span::from_us(1),
            stratum: 2,
            leap: Leap::None,
            poll_interval: Span::from_secs(64),
            authenticated: false,
        }
    }

    /// What a predictor says at a second after samples of time, offset and delay, in milliseconds.
    pub(crate) fn after(mut p: impl Predictor, samples: &[(i64, i64, i64)], now_s: i64) -> Option<i64> {
        for &(at_s, theta_ms, delay_ms) in samples {
            let m = sample(at_s, theta_ms, delay_ms);
            p.measure(m.at, &m);
        }
        p.predict(second(now_s)).map(|prediction| prediction.theta.as_ms())
    }

    #[test]
    fn nothing_is_corrected() {
        let p = NoCorrection { system: Span::from_ms(7) };
        assert_eq!(after(p, &[(1, 500, 1)], 2), Some(7));
    }

    #[test]
    fn the_last_is_held() {
        assert_eq!(after(HoldLast::default(), &[], 2), None);
        assert_eq!(after(HoldLast::default(), &[(1, 500, 1), (2, 300, 9)], 2000), Some(300));
    }

    #[test]
    fn a_line_is_extrapolated() {
        let check = |samples: &[(i64, i64, i64)], now_s: i64, want: Option<i64>| {
            assert_eq!(after(LinearRegression::default(), samples, now_s), want, "{samples:?}");
        };
        check(&[], 2, None);
        check(&[(1, 500, 1)], 100, Some(500));
        check(&[(1, 500, 1), (1, 300, 1)], 100, Some(400));
        check(&[(0, 0, 1), (10, 100, 1), (20, 200, 9)], 40, Some(400));
        // The first is out of the last eight.
        let mut many = vec![(0, 100_000, 1)];
        many.extend((1..=8).map(|i| (i, i * 10, 1)));
        check(&many, 20, Some(200));
    }

    #[test]
    fn the_lowest_delay_of_eight_counts() {
        let check = |samples: &[(i64, i64, i64)], want: Option<i64>| {
            assert_eq!(after(MinimumDelay::default(), samples, 100), want, "{samples:?}");
        };
        check(&[], None);
        check(&[(1, 10, 5), (2, 20, 3), (3, 30, 4)], Some(20));
        check(&[(1, 10, 3), (2, 20, 3)], Some(20));
        let mut many = vec![(0, 1, 1)];
        many.extend((1..=8).map(|i| (i, i * 10, 10 - i)));
        check(&many, Some(80));
    }
}
