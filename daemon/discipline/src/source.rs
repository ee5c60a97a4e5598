//! What one source has told: a clock filter for the interval that it vouches for, and predictors for its offset.
//!
//! Two predictors run side by side, a bank of Kalman filters and a line through the last samples. Each sample is
//! expected by both before it is taken in, and each predictor weighs as much as its expectations were worth.

use crate::bank::{Bank, RatePrior};
use crate::bound_growth;
use crate::calibration::Calibration;
use crate::floor::{DelayFloor, Level};
use crate::kalman::{Expectation, Sample};
use crate::measurement::Measurement;
use crate::moments::Moments;
use crate::regression::Regression;
use crate::select::Interval;
use chronotick_core::{MonoTime, Span};
use std::collections::VecDeque;

/// Stages of the clock filter (RFC 5905 section 10).
pub const FILTER_STAGES: usize = 8;
/// Samples in a row that contradict the window, but not each other, replace it.
const SUSPECTS_TO_RESET: usize = 3;
/// Seconds to nanoseconds.
const NS: f64 = 1e9;
/// A sample with so many times the usual excess, and a millisecond more, tells nothing.
const GATE: f64 = 4.0;
const GATE_MARGIN_S: f64 = 1e-3;
/// The line must have predicted this much better, as a logarithm of likelihoods, to weigh as much as the bank.
const LINE_HANDICAP: f64 = 3.0;
/// What is left of the predictors' scores after one sample.
const SCORE_MEMORY: f64 = 0.98;

/// What became of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in the filter and in the predictors.
    Accepted,
    /// It waited too long in a queue: in the filter, where its wide interval is still true, but in no predictor.
    Delayed,
    /// It contradicts what this source said before; kept aside until others confirm it.
    Suspect,
    /// It confirmed earlier suspects: the source's history was replaced by them.
    Restarted,
    /// It is not newer than the last one, or has an impossible delay.
    Refused,
}

/// The estimate of one source at some moment.
#[derive(Clone, Copy, Debug)]
pub struct Estimate {
    /// Offset (true time minus the local clock, in seconds from the reference the caller gave) and rate.
    pub moments: Moments,
    /// What the claimed deviations are to be multiplied by.
    pub scale: f64,
    /// Where the truth is, if this source is right: nanoseconds from the reference.
    pub interval: Interval,
    /// Half the width of `interval`: the root distance.
    pub distance_ns: f64,
}

impl Estimate {
    /// One standard deviation of the offset, recalibrated, in nanoseconds.
    pub fn sigma_ns(&self) -> f64 {
        (self.moments.offset_variance.max(0.0).sqrt() * self.scale * NS).max(1.0)
    }
}

/// The predictors of one source. Offsets are seconds from `theta_ref`.
#[derive(Clone, Debug)]
struct Predictors {
    theta_ref: Span,
    newest: MonoTime,
    origin: MonoTime,
    floor: DelayFloor,
    bank: Bank,
    line: Regression,
    prior: RatePrior,
    /// How much better the line has predicted than the bank, as a logarithm.
    line_lead: f64,
    calibration: Calibration,
    count: u32,
}

/// The deviation that is assumed for a sample in the line: a quarter of the floor is only a first guess, which the fit
/// scales by the residuals.
fn assumed_sigma_s(level: &Level, queue_s: f64, precision_s: f64) -> f64 {
    (level.least_s / 4.0 + precision_s).max(1e-8).hypot(queue_s / 2.0)
}

fn log_likelihood(expected: &Expectation, offset_s: f64) -> f64 {
    let total = expected.variance + expected.noise_variance;
    let z2 = (offset_s - expected.offset_s).powi(2) / total;
    // Heavier than normal, so that one outlier does not decide.
    -0.5 * total.ln() - 2.5 * (z2 / 4.0).ln_1p()
}

impl Predictors {
    fn new(m: &Measurement, prior: RatePrior) -> Self {
        let mut new = Self {
            theta_ref: m.theta,
            newest: m.at,
            origin: m.at,
            floor: DelayFloor::default(),
            bank: Bank::new(0.0, m.delay.as_secs_f64(), prior),
            line: Regression::default(),
            prior,
            line_lead: 0.0,
            calibration: Calibration::default(),
            count: 1,
        };
        let level = new.floor.push(m.delay.as_secs_f64());
        new.line.push(0.0, 0.0, assumed_sigma_s(&level, 0.0, m.precision.as_secs_f64()), prior.sigma);
        new
    }

    /// Takes a sample in; false when it waited too long to say anything.
    fn add(&mut self, m: &Measurement) -> bool {
        let delay_s = m.delay.as_secs_f64();
        let level = self.floor.push(delay_s);
        let queue_s = delay_s - level.least_s;
        if queue_s > GATE * level.median_excess_s + GATE_MARGIN_S {
            return false;
        }
        let offset_s = (m.theta - self.theta_ref).as_secs_f64();
        let dt_s = (m.at - self.newest).as_secs_f64();
        let sigma_s = assumed_sigma_s(&level, queue_s, m.precision.as_secs_f64());
        let sample = Sample { offset_s, excess_s: delay_s - level.low_s, queue_s };
        let by_line = self.line.expect(dt_s, sigma_s);
        let by_bank = self.bank.update(dt_s, &sample, &level);
        self.calibration.score(&by_bank, offset_s);
        if let Some(by_line) = by_line {
            let lead = log_likelihood(&by_line, offset_s) - log_likelihood(&by_bank, offset_s);
            self.line_lead = (self.line_lead * SCORE_MEMORY + lead.clamp(-20.0, 20.0)).clamp(-60.0, 60.0);
        }
        self.line.push((m.at - self.origin).as_secs_f64(), offset_s, sigma_s, self.prior.sigma);
        self.newest = m.at;
        self.count = self.count.saturating_add(1);
        true
    }

    fn moments(&self) -> Moments {
        let bank = *self.bank.moments();
        let Some(line) = self.line.moments() else { return bank };
        let line_weight = (self.line_lead - LINE_HANDICAP).exp();
        Moments::mixture([(1.0, bank), (line_weight, line)].into_iter()).unwrap_or(bank)
    }
}

/// The history of one source.
#[derive(Clone, Debug, Default)]
pub struct Source {
    filter: VecDeque<Measurement>,
    suspects: Vec<Measurement>,
    predictors: Option<Box<Predictors>>,
    accepted: u32,
}

impl Source {
    /// Forgets all but how many measurements were accepted.
    pub fn forget(&mut self) {
        *self = Self { accepted: self.accepted, ..Self::default() };
    }

    /// Takes a measurement in. `prior` is what is believed of the rate, should this be the first.
    pub fn add(&mut self, m: Measurement, prior: RatePrior) -> Verdict {
        let newest = self.filter.back().into_iter().chain(self.suspects.last()).map(|last| last.at).max();
        if m.delay.is_negative() || newest.is_some_and(|at| m.at <= at) {
            return Verdict::Refused;
        }
        let vouched = Interval::around(0.0, m.root_distance_ns());
        if self.estimate(m.at, m.theta).is_some_and(|own| !own.interval.overlaps(&vouched)) {
            return self.add_suspect(m, prior);
        }
        self.suspects.clear();
        self.keep(m);
        let predicts = match &mut self.predictors {
            Some(predictors) => predictors.add(&m),
            None => {
                self.predictors = Some(Box::new(Predictors::new(&m, prior)));
                true
            }
        };
        if !predicts {
            return Verdict::Delayed;
        }
        self.accepted = self.accepted.saturating_add(1);
        Verdict::Accepted
    }

    fn keep(&mut self, m: Measurement) {
        if self.filter.len() == FILTER_STAGES {
            self.filter.pop_front();
        }
        self.filter.push_back(m);
    }

    fn add_suspect(&mut self, m: Measurement, prior: RatePrior) -> Verdict {
        let reaches = |s: &Measurement| {
            let age_s = (m.at - s.at).as_secs_f64();
            let apart_ns = ((m.theta - s.theta).as_ns() as f64).abs();
            apart_ns <= m.root_distance_ns() + s.root_distance_ns() + age_s * bound_growth(prior.sigma) * NS
        };
        self.suspects.retain(reaches);
        self.suspects.push(m);
        if self.suspects.len() < SUSPECTS_TO_RESET {
            return Verdict::Suspect;
        }
        let insisting = std::mem::take(&mut self.suspects);
        self.accepted = self.accepted.saturating_add(insisting.len() as u32);
        self.filter.clear();
        self.predictors = None;
        for m in insisting {
            self.keep(m);
            match &mut self.predictors {
                Some(predictors) => {
                    predictors.add(&m);
                }
                None => self.predictors = Some(Box::new(Predictors::new(&m, prior))),
            }
        }
        Verdict::Restarted
    }

    /// The estimate at `now`, from `theta_ref`; `None` before the first accepted sample.
    pub fn estimate(&self, now: MonoTime, theta_ref: Span) -> Option<Estimate> {
        let predictors = self.predictors.as_ref()?;
        let mut moments = predictors.moments().after((now - predictors.newest).as_secs_f64());
        moments.offset_s += (predictors.theta_ref - theta_ref).as_secs_f64();
        let growth = bound_growth(moments.rate_variance.sqrt());
        // Each stage vouches for an interval that widens with its age; the narrowest now is the best.
        let (best, distance_ns) = self
            .filter
            .iter()
            .map(|m| (m, m.root_distance_ns() + (now - m.at).abs().as_ns() as f64 * growth))
            .min_by(|a, b| a.1.total_cmp(&b.1))?;
        let mid_ns = (best.theta - theta_ref).as_ns() as f64 + moments.rate * (now - best.at).as_ns() as f64;
        Some(Estimate {
            moments,
            scale: predictors.calibration.scale(),
            interval: Interval::around(mid_ns, distance_ns),
            distance_ns,
        })
    }

    /// The newest sample that was not suspect.
    pub fn newest(&self) -> Option<&Measurement> {
        self.filter.back()
    }

    /// True when this source answered within the last eight of its poll intervals.
    pub fn is_reachable(&self, now: MonoTime) -> bool {
        self.newest().is_some_and(|m| now - m.at <= silence_limit(m.poll_interval))
    }

    /// Samples that the predictors have had.
    pub fn samples(&self) -> usize {
        self.predictors.as_ref().map_or(0, |p| p.count as usize)
    }

    /// True with four samples over four seconds, or a full burst of eight.
    pub fn is_warm(&self) -> bool {
        self.predictors.as_ref().is_some_and(|p| {
            let span = p.newest - p.origin;
            p.count as usize >= FILTER_STAGES || (p.count >= 4 && span >= Span::from_secs(4))
        })
    }

    /// Samples accepted since the start.
    pub fn accepted(&self) -> u32 {
        self.accepted
    }
}

/// How long a source may be silent before it no longer counts.
pub fn silence_limit(poll_interval: Span) -> Span {
    Span::from_ns(poll_interval.as_ns().saturating_mul(8))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::RATE_PRIOR_SIGMA;
    use crate::measurement::Leap;

    /// A sample every 64 s through an empty path of 20 ms, with 0.1 ms of noise.
    fn sample(i: i64, offset_s: f64) -> Measurement {
        let noise_s = ((i * 7919) % 101) as f64 / 50.0 * 1e-4 - 1e-4;
        Measurement {
            source: 0,
            at: MonoTime::from_ns(1_000_000_000_000 + i * 64_000_000_000),
            theta: Span::from_secs(1_790_000_000) + Span::from_secs_f64(offset_s + noise_s),
            delay: Span::from_ms(20),
            round_trip: Span::from_ms(20),
            root_delay: Span::ZERO,
            root_dispersion: Span::from_ms(1),
            precision: Span::from_us(1),
            stratum: 2,
            leap: Leap::None,
            poll_interval: Span::from_secs(64),
            authenticated: false,
        }
    }

    #[test]
    fn a_jump_too_small_to_be_suspect_is_followed_after_a_few_samples() {
        let mut source = Source::default();
        let prior = RatePrior { rate: 0.0, sigma: RATE_PRIOR_SIGMA };
        let mut late = 0;
        for i in 0..120 {
            let offset_s = if i < 60 { 0.0 } else { 5e-3 };
            let m = sample(i, offset_s);
            assert_eq!(source.add(m, prior), Verdict::Accepted);
            let reference = Span::from_secs(1_790_000_000);
            let estimate = source.estimate(m.at, reference).expect("an estimate");
            let error_s = estimate.moments.offset_s - offset_s;
            late += i64::from(i >= 60 && error_s.abs() > 5e-4);
            assert!(!(10..60).contains(&i) || error_s.abs() < 2e-4, "{i}: {error_s}");
        }
        assert!(late <= 6, "{late} samples until the jump was followed");
    }
}
