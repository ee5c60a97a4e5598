//! What one source has told: a clock filter, a window for the line fit, and the interval that it vouches for.

use crate::fit::{Line, Point, fit};
use crate::measurement::Measurement;
use crate::select::Interval;
use crate::{RATE_PRIOR_SIGMA, bound_growth};
use chronotick_core::{MonoTime, Span};
use std::collections::VecDeque;

/// Stages of the clock filter (RFC 5905 section 10).
pub const FILTER_STAGES: usize = 8;
/// Samples that the line is fitted through.
pub const WINDOW: usize = 64;
/// So many samples in a row that contradict the window, but not each other, replace it.
const SUSPECTS_TO_RESET: usize = 3;
/// Seconds per second to nanoseconds per second.
const NS: f64 = 1e9;
/// Asymmetry of a path as a part of its delay, one standard deviation: what a fit cannot see, however many samples.
const ASYMMETRY_SIGMA: f64 = 0.1;

/// What became of a measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is in the filter and in the fit.
    Accepted,
    /// It waited too long in a queue: in the filter, where its wide interval is still true, but not in the fit.
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
    /// True time minus the local clock, in nanoseconds from the reference the caller gave.
    pub theta_ns: f64,
    /// One standard deviation of `theta_ns`, with the asymmetry of the path.
    pub sigma_ns: f64,
    /// Rate of `theta`, seconds per second.
    pub rate: f64,
    /// One standard deviation of `rate`.
    pub rate_sigma: f64,
    /// Where the truth is, if this source is right.
    pub interval: Interval,
    /// Half the width of `interval`: the root distance.
    pub distance_ns: f64,
}

#[derive(Clone, Debug)]
struct Model {
    origin: MonoTime,
    theta_ref: Span,
    line: Line,
    /// Smallest delay in the window.
    delay_floor_ns: f64,
}

/// The history of one source.
#[derive(Clone, Debug, Default)]
pub struct Source {
    filter: VecDeque<Measurement>,
    window: VecDeque<Measurement>,
    suspects: Vec<Measurement>,
    model: Option<Model>,
    accepted: u32,
}

impl Source {
    /// Forgets all but how many measurements were accepted.
    pub fn forget(&mut self) {
        *self = Self { accepted: self.accepted, ..Self::default() };
    }

    /// Takes a measurement in.
    pub fn add(&mut self, m: Measurement) -> Verdict {
        let newest = self.filter.back().into_iter().chain(self.suspects.last()).map(|last| last.at).max();
        if m.delay.is_negative() || newest.is_some_and(|at| m.at <= at) {
            return Verdict::Refused;
        }
        let vouched = Interval::around(0.0, m.root_distance_ns());
        if self.estimate(m.at, m.theta).is_some_and(|own| !own.interval.overlaps(&vouched)) {
            return self.add_suspect(m);
        }
        self.suspects.clear();
        push_limited(&mut self.filter, m, FILTER_STAGES);
        let floor = self.filter.iter().map(|s| s.delay.as_ns()).min().unwrap_or(0);
        // Weights already discount a delayed sample; the gate is for those that tell nothing at all.
        if m.delay.as_ns() > floor.saturating_mul(3).saturating_add(1_000_000) {
            return Verdict::Delayed;
        }
        push_limited(&mut self.window, m, WINDOW);
        self.accepted = self.accepted.saturating_add(1);
        self.refit();
        Verdict::Accepted
    }

    fn add_suspect(&mut self, m: Measurement) -> Verdict {
        let reaches = |s: &Measurement| {
            let age_s = (m.at - s.at).as_secs_f64();
            let apart_ns = ((m.theta - s.theta).as_ns() as f64).abs();
            apart_ns
                <= m.root_distance_ns() + s.root_distance_ns() + age_s * bound_growth(RATE_PRIOR_SIGMA) * NS
        };
        self.suspects.retain(reaches);
        self.suspects.push(m);
        if self.suspects.len() < SUSPECTS_TO_RESET {
            return Verdict::Suspect;
        }
        self.filter = self.suspects.iter().copied().collect();
        self.window = self.filter.clone();
        self.accepted = self.accepted.saturating_add(SUSPECTS_TO_RESET as u32);
        self.suspects.clear();
        self.refit();
        Verdict::Restarted
    }

    fn refit(&mut self) {
        let Some(newest) = self.window.back() else { return };
        let (origin, theta_ref) = (newest.at, newest.theta);
        let delay_floor_ns = self.window.iter().map(|m| m.delay.as_ns()).min().unwrap_or(0) as f64;
        let points: Vec<Point> = self
            .window
            .iter()
            .map(|m| {
                let excess_ns = m.delay.as_ns() as f64 - delay_floor_ns;
                // A quarter of the floor is only the first guess of the noise; the fit scales it by the residuals.
                let base_ns = delay_floor_ns / 4.0 + m.precision.as_ns() as f64;
                Point {
                    x_s: (m.at - origin).as_secs_f64(),
                    y_ns: (m.theta - theta_ref).as_ns() as f64,
                    sigma_ns: base_ns.max(10.0).hypot(excess_ns / 2.0),
                }
            })
            .collect();
        self.model =
            fit(&points, RATE_PRIOR_SIGMA * NS).map(|line| Model { origin, theta_ref, line, delay_floor_ns });
    }

    /// The estimate at `now`, in nanoseconds from `theta_ref`; `None` before the first accepted sample.
    pub fn estimate(&self, now: MonoTime, theta_ref: Span) -> Option<Estimate> {
        let model = self.model.as_ref()?;
        let rate = model.line.rate_ns_per_s / NS;
        let rate_sigma = model.line.rate_sigma_ns_per_s() / NS;
        let growth = bound_growth(rate_sigma);
        // Each stage vouches for an interval that widens with its age; the narrowest now is the best.
        let (best, distance_ns) = self
            .filter
            .iter()
            .map(|m| (m, m.root_distance_ns() + (now - m.at).abs().as_ns() as f64 * growth))
            .min_by(|a, b| a.1.total_cmp(&b.1))?;
        let mid_ns = (best.theta - theta_ref).as_ns() as f64 + rate * (now - best.at).as_ns() as f64;
        let x_s = (now - model.origin).as_secs_f64();
        let path_ns = model.delay_floor_ns + best.root_delay.as_ns() as f64;
        let sigma_ns = model.line.sigma_at(x_s).hypot(path_ns * ASYMMETRY_SIGMA).max(1.0);
        Some(Estimate {
            theta_ns: (model.theta_ref - theta_ref).as_ns() as f64 + model.line.at(x_s),
            sigma_ns,
            rate,
            rate_sigma,
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

    /// Samples in the fit.
    pub fn samples(&self) -> usize {
        self.window.len()
    }

    /// True with four samples over four seconds, or a full burst of eight.
    pub fn is_warm(&self) -> bool {
        let span = match (self.window.front(), self.window.back()) {
            (Some(first), Some(last)) => last.at - first.at,
            _ => Span::ZERO,
        };
        self.window.len() >= FILTER_STAGES || (self.window.len() >= 4 && span >= Span::from_secs(4))
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

fn push_limited(queue: &mut VecDeque<Measurement>, m: Measurement, limit: usize) {
    if queue.len() == limit {
        queue.pop_front();
    }
    queue.push_back(m);
}
