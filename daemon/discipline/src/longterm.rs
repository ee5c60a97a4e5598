//! The long-term model: the slow rate of the oscillator, with temperature and load where they can be read.
//!
//! A recursive least-squares fit of `rate = base + a * (temperature - first) + b * (load - first)` to the rates that
//! were measured, which forgets within about a day. Crystals change by some 0.01 to 1 ppm per kelvin.

use serde::{Deserialize, Serialize};

/// Between two rates that are learned from: nearer ones are hardly independent.
const EVERY_S: f64 = 600.0;
/// How much of the past's information is left after a second: half after 16 hours.
const MEMORY_PER_S: f64 = 0.999_988;
/// Rates that must be learned before anything is said.
const FEWEST: u32 = 6;
/// One standard deviation beforehand of a rate's dependence on a kelvin, and on a unit of load.
const PER_KELVIN: f64 = 3e-7;
const PER_LOAD: f64 = 1e-7;
/// The same of base, temperature and load together.
const PRIORS: [f64; 3] = [1e-4, PER_KELVIN, PER_LOAD];
/// What a measured rate can be off however small its deviation: it moves within the interval.
const RATE_NOISE: f64 = 1e-8;

/// A rate that a model expects.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Forecast {
    /// Rate of true time against the local clock, minus one.
    pub rate: f64,
    /// One standard deviation.
    pub sigma: f64,
}

/// See the module.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LongTerm {
    temperature_c: Option<f64>,
    load: Option<f64>,
    /// Where the two are counted from.
    first: (Option<f64>, Option<f64>),
    state: [f64; 3],
    covariance: [[f64; 3]; 3],
    learned: u32,
    /// Mean square of what the forecasts were off, over about the last 20.
    error_variance: f64,
    since_s: f64,
}

impl Default for LongTerm {
    fn default() -> Self {
        let mut covariance = [[0.0; 3]; 3];
        for (i, sigma) in PRIORS.into_iter().enumerate() {
            covariance[i][i] = sigma * sigma;
        }
        Self {
            temperature_c: None,
            load: None,
            first: (None, None),
            state: [0.0; 3],
            covariance,
            learned: 0,
            error_variance: 1e-14,
            since_s: EVERY_S,
        }
    }
}

impl LongTerm {
    /// Notes the temperature in degrees Celsius and the load, where they were read.
    pub fn observe(&mut self, temperature_c: Option<f64>, load: Option<f64>) {
        let valid = |v: Option<f64>| v.filter(|v| v.is_finite());
        self.temperature_c = valid(temperature_c).or(self.temperature_c);
        self.load = valid(load).or(self.load);
        self.first = (self.first.0.or(self.temperature_c), self.first.1.or(self.load));
    }

    /// True where every number is one: for a state that was read from a file.
    pub fn is_sound(&self) -> bool {
        let numbers = self.state.iter().chain(self.covariance.iter().flatten());
        let positive = self.error_variance >= 0.0 && self.since_s >= 0.0;
        positive && numbers.copied().all(f64::is_finite) && self.since_s.is_finite()
    }

    fn covariates(&self) -> [f64; 3] {
        let from = |now: Option<f64>, first: Option<f64>| now.zip(first).map_or(0.0, |(n, f)| n - f);
        [1.0, from(self.temperature_c, self.first.0), from(self.load, self.first.1)]
    }

    fn expected(&self) -> f64 {
        self.covariates().iter().zip(&self.state).map(|(h, x)| h * x).sum()
    }

    /// Takes in a measured rate with its variance, `dt_s` after the last call. True when something was learned.
    pub fn learn(&mut self, dt_s: f64, rate: f64, variance: f64) -> bool {
        self.since_s += dt_s.max(0.0);
        if self.since_s < EVERY_S {
            return false;
        }
        let forget = MEMORY_PER_S.powf(self.since_s.min(10.0 * EVERY_S));
        self.since_s = 0.0;
        let h = self.covariates();
        for row in &mut self.covariance {
            row.iter_mut().for_each(|p| *p /= forget);
        }
        // What nothing teaches (a temperature that is never read) is forgotten down to what was believed beforehand.
        for (i, most) in PRIORS.into_iter().enumerate() {
            let excess = self.covariance[i][i] / (most * most);
            if excess > 1.0 {
                for j in 0..3 {
                    self.covariance[i][j] /= excess.sqrt();
                    self.covariance[j][i] /= excess.sqrt();
                }
            }
        }
        let direction: [f64; 3] =
            std::array::from_fn(|i| self.covariance[i].iter().zip(&h).map(|(p, h)| p * h).sum());
        let spread: f64 = direction.iter().zip(&h).map(|(d, h)| d * h).sum();
        let total = spread + variance + RATE_NOISE * RATE_NOISE;
        let innovation = rate - self.expected();
        if self.learned >= 2 {
            // What the measurement itself is uncertain of is not the forecast's fault.
            let excess = (innovation * innovation - variance).max(0.0);
            self.error_variance += (excess - self.error_variance) / f64::from(self.learned.min(20));
        }
        for i in 0..3 {
            self.state[i] += direction[i] * innovation / total;
            for j in 0..3 {
                self.covariance[i][j] -= direction[i] * direction[j] / total;
            }
        }
        self.learned = self.learned.saturating_add(1);
        true
    }

    /// What is expected of the rate now; `None` before enough was learned.
    pub fn forecast(&self) -> Option<Forecast> {
        if self.learned < FEWEST {
            return None;
        }
        let sigma = (self.error_variance + RATE_NOISE * RATE_NOISE).sqrt();
        Some(Forecast { rate: self.expected(), sigma })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_that_follows_the_temperature_is_learned() {
        let mut model = LongTerm::default();
        let at = |i: i32| {
            (40.0 + 5.0 * (f64::from(i) * 0.3).sin(), 12e-6 + 5.0 * (f64::from(i) * 0.3).sin() * 8e-8)
        };
        for i in 0..100 {
            assert_eq!(model.forecast().is_some(), i >= 6);
            let (temperature, rate) = at(i);
            model.observe(Some(temperature), None);
            assert!(model.learn(600.0, rate, 1e-18));
        }
        model.observe(Some(50.0), None);
        let f = model.forecast().unwrap();
        assert!((f.rate - (12e-6 + 10.0 * 8e-8)).abs() < 5e-8, "{f:?}");
        assert!(f.sigma < 1e-7, "{f:?}");
    }

    #[test]
    fn years_without_a_thermometer_leave_every_number_one() {
        let mut model = LongTerm::default();
        for i in 0..200_000 {
            model.learn(600.0, 5e-6 + f64::from(i % 7) * 1e-9, 1e-18);
        }
        assert!(model.is_sound());
        assert!((model.forecast().unwrap().rate - 5e-6).abs() < 1e-8);
    }

    #[test]
    fn forecasts_that_were_off_say_so() {
        let mut model = LongTerm::default();
        for i in 0..60 {
            model.learn(600.0, if i % 2 == 0 { 1e-6 } else { -1e-6 }, 1e-18);
        }
        let f = model.forecast().unwrap();
        assert!((0.5e-6..2e-6).contains(&f.sigma), "{f:?}");
    }

    #[test]
    fn rates_that_come_too_soon_are_not_counted_twice() {
        let mut model = LongTerm::default();
        let learned = (0..100).filter(|_| model.learn(60.0, 1e-6, 1e-18)).count();
        assert_eq!(learned, 10);
        model.observe(Some(f64::NAN), Some(f64::INFINITY));
        assert!(model.forecast().unwrap().rate.is_finite());
    }
}
