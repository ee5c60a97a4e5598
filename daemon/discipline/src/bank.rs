//! A bank of Kalman filters, one for each hypothesis, weighted by how well each has predicted.
//!
//! Nobody knows beforehand how far an oscillator wanders, how noisy a path is, or whether its queues are on one way
//! only. Each combination on a coarse grid is a filter of its own (multiple-model estimation, Magill 1965); the
//! weights forget slowly, so the bank follows a change. The result is the mixture's mean and variance.

use crate::floor::Level;
use crate::kalman::{Expectation, Hypothesis, Kalman, Noise, Sample};
use crate::moments::Moments;

/// Deviation of the rate's random walk after one second.
const WALKS: [f64; 6] = [1e-10, 1e-9, 3e-9, 1e-8, 3e-8, 1e-7];
/// The walk of a usual crystal; others are a little less likely beforehand.
const USUAL_WALK: f64 = 2e-9;
/// Deviation of the offset's random walk after one second: none, or what a clock that others steer shows.
const WHITES: [f64; 2] = [1e-11, 3e-5];
/// Deviation of a sample without excess.
const NOISES_S: [f64; 9] = [3e-7, 3e-6, 1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 1e-2];
/// The laws of the noise, and whether the slope is free. A slope speaks against queues that are alike on both ways.
const LAWS: [(Noise, bool); 5] = [
    (Noise::Uniform, false),
    (Noise::Student(4.0), false),
    (Noise::Student(30.0), false),
    (Noise::Student(4.0), true),
    (Noise::Student(30.0), true),
];
/// How much less likely a free slope is beforehand, as a logarithm: it must earn its place.
const SLOPE_COST: f64 = 10.0;
/// What is left of a weight's logarithm after one sample: about 200 samples count.
const MEMORY: f64 = 0.995;
/// No weight falls further behind the best than this, so that it can come back.
const LEAST_LOG_WEIGHT: f64 = -30.0;
/// Queues explain a slope up to a half. How fast the weight falls beyond, and how far beyond is not yet beyond.
const SLOPE_PENALTY: f64 = 20.0;
const SLOPE_TOLERANCE: f64 = 0.02;
/// A slope is the law of one path: what is left beside it is small against the delays' deviation. Where more is left, samples of several paths or servers only look like a line.
const SLOPE_REMAINDER: f64 = 0.18;
/// A sample with a small excess that is off by so many deviations contradicts the slope.
const SLOPE_CONTRADICTED: f64 = 4.0;
const REMAINDER_TOLERANCE: f64 = 0.03;

#[derive(Clone, Debug)]
struct Member {
    filter: Kalman,
    log_weight: f64,
}

impl Member {
    /// The logarithm of the weight, with the prior, and with the penalty on a slope that no queue explains.
    fn score(&self, level: &Level) -> f64 {
        let hypothesis = &self.filter.hypothesis;
        let mut score = self.log_weight + hypothesis.log_prior;
        if hypothesis.has_slope {
            let [_, _, slope] = self.filter.state;
            let sigma = self.filter.covariance[2][2].max(0.0).sqrt() + SLOPE_TOLERANCE;
            let beyond = ((slope.abs() - 0.5) / sigma).max(0.0);
            let left = hypothesis.noise_variance.sqrt() / level.spread_s.max(1e-9);
            let too_much = ((left - SLOPE_REMAINDER) / REMAINDER_TOLERANCE).max(0.0);
            score -= SLOPE_PENALTY * (beyond * beyond + too_much * too_much);
        }
        score
    }

    /// Samples with nearly the same excess seem to fix the slope, by nothing but their noise. One with far less, far
    /// from what was expected, shows that they did not.
    fn reconsider_slope(&mut self, sample: &Sample, level: &Level) {
        let usual_s = level.median_excess_s + level.least_s - level.low_s;
        if !self.filter.hypothesis.has_slope || sample.excess_s > usual_s / 2.0 {
            return;
        }
        let expected = self.filter.expect(sample);
        let z2 =
            (sample.offset_s - expected.offset_s).powi(2) / (expected.variance + expected.noise_variance);
        if z2 > SLOPE_CONTRADICTED * SLOPE_CONTRADICTED {
            self.filter.forget_slope(usual_s);
        }
    }

    fn moments(&self, low_error_s: f64) -> Moments {
        let (x, p) = (&self.filter.state, &self.filter.covariance);
        let hypothesis = &self.filter.hypothesis;
        // The offset is that of the reference delay, which itself is known so well only.
        let reference = x[2] * low_error_s;
        Moments {
            offset_s: x[0],
            rate: x[1],
            offset_variance: p[0][0] + reference * reference,
            covariance: p[0][1],
            rate_variance: p[1][1],
            walk_variance: hypothesis.walk_variance,
            white_variance: hypothesis.white_variance,
        }
    }
}

/// What is believed of the rate before the first sample.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct RatePrior {
    /// Mean, s/s.
    pub rate: f64,
    /// One standard deviation.
    pub sigma: f64,
}

/// See the module.
#[derive(Clone, Debug)]
pub struct Bank {
    members: Vec<Member>,
    moments: Moments,
    /// The reference level of the last sample.
    low_s: f64,
}

impl Bank {
    /// Starts with a sample's offset, which may be off by half its delay.
    pub fn new(offset_s: f64, delay_s: f64, prior: RatePrior) -> Self {
        let mut members = Vec::with_capacity(WALKS.len() * WHITES.len() * NOISES_S.len() * LAWS.len());
        for walk in WALKS {
            for white in WHITES {
                for noise_s in NOISES_S {
                    for (noise, has_slope) in LAWS {
                        let hypothesis = Hypothesis {
                            walk_variance: walk * walk,
                            white_variance: white * white,
                            noise_variance: noise_s * noise_s,
                            noise,
                            has_slope,
                            log_prior: log_prior(walk, white, has_slope),
                        };
                        // At least a microsecond: no clock is read better.
                        let variance = (delay_s / 2.0).powi(2).max(1e-12);
                        let filter = Kalman::new(
                            hypothesis,
                            offset_s,
                            variance,
                            prior.rate,
                            prior.sigma * prior.sigma,
                        );
                        members.push(Member { filter, log_weight: 0.0 });
                    }
                }
            }
        }
        let mut bank = Self { members, moments: Moments::default(), low_s: delay_s };
        bank.mix(&Level::default());
        bank
    }

    /// Lets `dt_s` pass and takes a sample in. Returns what the bank had expected of it.
    pub fn update(&mut self, dt_s: f64, sample: &Sample, level: &Level) -> Expectation {
        let mut best = f64::NEG_INFINITY;
        let mut expectations = Vec::with_capacity(self.members.len());
        let up_s = level.low_s - self.low_s;
        self.low_s = level.low_s;
        for member in &mut self.members {
            member.filter.advance(dt_s);
            member.filter.raise_level(up_s);
            member.reconsider_slope(sample, level);
            expectations.push((member.score(level), member.filter.expect(sample)));
            member.log_weight = member.log_weight * MEMORY + member.filter.update(sample);
            best = best.max(member.log_weight);
        }
        for member in &mut self.members {
            member.log_weight = (member.log_weight - best).max(LEAST_LOG_WEIGHT);
        }
        self.mix(level);
        expected(&expectations)
    }

    fn mix(&mut self, level: &Level) {
        let scores: Vec<f64> = self.members.iter().map(|m| m.score(level)).collect();
        let best = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let parts =
            self.members.iter().zip(&scores).map(|(m, s)| ((s - best).exp(), m.moments(level.low_error_s)));
        self.moments = Moments::mixture(parts).unwrap_or(self.moments);
    }

    /// The belief at the last sample.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }
}

fn log_prior(walk: f64, white: f64, has_slope: bool) -> f64 {
    let mut cost = 1.0 * (walk / USUAL_WALK).log10().abs();
    if white > WHITES[0] {
        cost += 1.0;
    }
    if has_slope {
        cost += SLOPE_COST;
    }
    -cost
}

/// The mixture of what the members expected.
fn expected(members: &[(f64, Expectation)]) -> Expectation {
    let best = members.iter().map(|m| m.0).fold(f64::NEG_INFINITY, f64::max);
    let weight = |score: f64| (score - best).exp();
    let total: f64 = members.iter().map(|m| weight(m.0)).sum();
    let mean = |f: &dyn Fn(&Expectation) -> f64| -> f64 {
        members.iter().map(|(s, e)| weight(*s) * f(e)).sum::<f64>() / total
    };
    let offset_s = mean(&|e| e.offset_s);
    Expectation {
        offset_s,
        variance: mean(&|e| e.variance + (e.offset_s - offset_s).powi(2)),
        noise_variance: mean(&|e| e.noise_variance),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::floor::DelayFloor;

    /// Pseudo-random numbers from 0 to 1.
    fn random(seed: &mut u64) -> f64 {
        *seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (*seed >> 11) as f64 / (1u64 << 53) as f64
    }

    /// 300 samples, 64 s apart, of a clock that gains 5 ppm, over a path that `path` draws: how long each way takes.
    fn run(path: impl Fn(&mut u64) -> (f64, f64)) -> Moments {
        let (mut bank, mut floor, mut seed) = (None::<Bank>, DelayFloor::default(), 42);
        for i in 0..300 {
            let (out, back) = path(&mut seed);
            let offset_s = f64::from(i) * 64.0 * 5e-6 + (out - back) / 2.0;
            let level = floor.push(out + back);
            let sample =
                Sample { offset_s, excess_s: out + back - level.low_s, queue_s: out + back - level.least_s };
            match &mut bank {
                None => {
                    bank = Some(Bank::new(offset_s, out + back, RatePrior { rate: 0.0, sigma: 1e-4 }));
                }
                Some(bank) => {
                    bank.update(64.0, &sample, &level);
                }
            }
        }
        *bank.expect("samples").moments()
    }

    #[test]
    fn queues_alike_on_both_ways_are_averaged_out() {
        let exponential = |seed: &mut u64| -5e-3 * (1.0 - random(seed)).ln();
        let m = run(|seed| (20e-3 + exponential(seed), 20e-3 + exponential(seed)));
        let error_s = m.offset_s - 299.0 * 64.0 * 5e-6;
        assert!(error_s.abs() < 4e-4 && error_s.abs() < 4.0 * m.offset_variance.sqrt(), "{error_s} {m:?}");
        assert!((m.rate - 5e-6).abs() < 2e-7, "{m:?}");
    }

    #[test]
    fn a_longer_way_out_for_most_is_seen_through() {
        // Nine of ten take 2 ms more on the way out, which biases them by a millisecond.
        let m = run(|seed| {
            let detour = if random(seed) < 0.9 { 2e-3 } else { 0.0 };
            (0.4e-3 + detour + 5e-5 * random(seed), 0.4e-3)
        });
        let error_s = m.offset_s - 299.0 * 64.0 * 5e-6;
        assert!(error_s.abs() < 5e-5, "{error_s} {m:?}");
    }

    #[test]
    fn a_slope_that_only_noise_had_fixed_is_found_anew() {
        // The queues of most are alike, so they show no slope; the few without the detour show that of the detour.
        for first in 1..9 {
            let (mut bank, mut floor, mut seed) = (None::<Bank>, DelayFloor::default(), first * 1000);
            let mut errors_s = Vec::new();
            for i in 0..200 {
                let queue = |seed: &mut u64| -2e-5 * (1.0 - random(seed)).ln();
                let detour_s = if random(&mut seed) < 0.8 { 2e-3 } else { 0.0 };
                let (out, back) = (0.5e-3 + detour_s + queue(&mut seed), 0.5e-3 + queue(&mut seed));
                let truth_s = f64::from(i) * 5e-6;
                let offset_s = truth_s + (out - back) / 2.0;
                let level = floor.push(out + back);
                let sample = Sample {
                    offset_s,
                    excess_s: out + back - level.low_s,
                    queue_s: out + back - level.least_s,
                };
                let prior = RatePrior { rate: 0.0, sigma: 1e-4 };
                let bank = bank.get_or_insert_with(|| Bank::new(offset_s, out + back, prior));
                if i > 0 {
                    bank.update(1.0, &sample, &level);
                }
                errors_s.push((bank.moments().offset_s - truth_s).abs());
            }
            let mean_s = errors_s[60..].iter().sum::<f64>() / 140.0;
            assert!(mean_s < 5e-5, "seed {first}: {mean_s}");
        }
    }

    #[test]
    fn samples_of_two_servers_in_turn_are_not_taken_for_a_slope() {
        // Delays 10 and 15 ms, offsets 1 and -4.5 ms: a slope of more than one half, so it is none.
        let m = run(|seed| {
            let far = random(seed) < 0.85;
            let bias = if far { -4.5e-3 } else { 1e-3 };
            let delay = if far { 15e-3 } else { 10e-3 } + random(seed) * 1e-3;
            (delay / 2.0 + bias, delay / 2.0 - bias)
        });
        let error_s = m.offset_s - 299.0 * 64.0 * 5e-6;
        // The mean of all samples is -3.7 ms.
        assert!((error_s + 3.7e-3).abs() < 1.5e-3, "{error_s} {m:?}");
    }
}
