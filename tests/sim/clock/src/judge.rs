//! Watches one run and says what did not hold.

use crate::oscillator::Disruption;
use crate::reference::disrupt;
use crate::scenario::{Plan, Scenario};
use crate::world::{Inhabitant, Moment};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Config, Correction, Measurement, State};
use chronotick_evaluation::{Chronotick, Prediction, Predictor, Scores, Summary};

/// A source is silent after eight polls, the longest of 64 s.
const SILENT: Span = Span::from_secs(8 * 64 + 1);
/// From the end of an outage to a correction from new answers: a poll of 64 s, lost answers, and a few more polls.
const RECOVERY_S: u32 = 300;
/// From waking to a correction that counts: the burst takes four seconds, or a few polls of 4 s where answers are lost.
const WAKING_S: u32 = 90;
/// A liar may go unnamed in one of so many reports: while answers of the others are lost there is no majority.
const UNNAMED_PARTS: u32 = 50;
/// How often the reports of the sources are looked at.
const REPORT_PERIOD_S: u32 = 16;

/// What was found.
#[derive(Clone, Debug)]
pub struct Verdict {
    /// Which world.
    pub scenario: Scenario,
    /// And which of them.
    pub seed: u64,
    /// What did not hold; empty is good.
    pub failures: Vec<String>,
    /// The errors.
    pub summary: Summary,
    /// The largest error as a part of the bound, from the first second on.
    pub worst: f64,
    /// Seconds in which the error was over the bound, from the first on.
    pub violations: u64,
    /// The mean bound in milliseconds.
    pub bound_ms: f64,
    /// Seconds in each state.
    pub states: Vec<(State, u64)>,
}

/// See the module.
pub(crate) struct Judge<'a> {
    scenario: Scenario,
    seed: u64,
    plan: &'a Plan,
    chronotick: Chronotick,
    scores: Scores,
    worst: f64,
    states: Vec<(State, u64)>,
    failures: Vec<String>,
    /// First violation and how many.
    violation: Option<(String, u64)>,
    sums: Sums,
    liar_reports: Vec<LiarReports>,
    bound_in_outage: Span,
    last_answer: MonoTime,
    /// Each other expectation fails once at most; the number of seconds counts.
    faults: Vec<(&'static str, u32, u32)>,
}

/// Sums over the seconds in which there is a correction, in seconds.
#[derive(Clone, Copy, Default)]
struct Sums {
    count: u64,
    error: f64,
    /// The error of the system clock that nobody corrects.
    none: f64,
    sigma: f64,
    bound: f64,
}

#[derive(Clone, Copy, Default)]
struct LiarReports {
    all: u32,
    unnamed: u32,
    believed: u32,
}

impl<'a> Judge<'a> {
    pub(crate) fn new(scenario: Scenario, seed: u64, plan: &'a Plan) -> Self {
        Self {
            scenario,
            seed,
            plan,
            chronotick: Chronotick::new(Config::default(), plan.world.servers.len()),
            scores: Scores::default(),
            worst: 0.0,
            states: Vec::new(),
            failures: Vec::new(),
            violation: None,
            sums: Sums::default(),
            liar_reports: vec![LiarReports::default(); plan.liars.len()],
            bound_in_outage: Span::ZERO,
            last_answer: MonoTime::from_ns(0),
            faults: Vec::new(),
        }
    }

    fn expect(&mut self, holds: bool, what: &'static str, second: u32) {
        if holds {
            return;
        }
        match self.faults.iter_mut().find(|f| f.0 == what) {
            Some(fault) => fault.2 += 1,
            None => self.faults.push((what, second, 1)),
        }
    }

    fn judge_bound(&mut self, moment: &Moment, c: &Correction, error: Span) {
        let part = error.as_ns() as f64 / c.max_error.as_ns().max(1) as f64;
        self.worst = self.worst.max(part);
        if error > c.max_error {
            let (_, count) = self.violation.get_or_insert_with(|| {
                let (second, bound, state) = (moment.second, c.max_error, c.state);
                let rate_ppm = (c.rate * 1e6, c.rate_sigma * 1e6);
                let text = format!(
                    "first at {second} s the error {error} is over the bound {bound} \
                     ({state:?}, rate {:.3} ppm, sigma {:.3} ppm)",
                    rate_ppm.0, rate_ppm.1
                );
                (text, 0)
            });
            *count += 1;
        }
        self.expect(
            c.offset_sigma > 0.0 && c.rate_sigma > 0.0 && c.max_error > Span::ZERO,
            "sigma or bound is not more than zero",
            moment.second,
        );
    }

    fn judge_liars(&mut self, moment: &Moment) {
        if !moment.second.is_multiple_of(REPORT_PERIOD_S) {
            return;
        }
        for (&(liar, from), reports) in self.plan.liars.iter().zip(&mut self.liar_reports) {
            // It may answer before the others do.
            if moment.second < from.max(60) {
                continue;
            }
            let report = self.chronotick.discipline.report(liar, moment.now);
            reports.all += 1;
            reports.unnamed += u32::from(report.is_some_and(|r| !r.is_falseticker));
            reports.believed += u32::from(report.is_some_and(|r| r.is_survivor));
        }
    }

    fn judge_outage(&mut self, moment: &Moment, state: State, c: Option<&Correction>) {
        let second = moment.second;
        let age = moment.now - self.last_answer;
        for &(from, to) in &self.plan.world.outages {
            if (from + 2..to).contains(&second) {
                // It is around what the measurements say. How far the models moved the estimate from there comes on
                // top, and may become less.
                let bound = c.map_or(self.bound_in_outage, |c| c.max_error);
                let least = self.bound_in_outage.as_ns() / 20 * 19;
                self.expect(bound.as_ns() >= least, "the bound shrinks without a network", second);
                self.bound_in_outage = self.bound_in_outage.max(bound);
                if age > SILENT && age < Config::default().horizon - Span::from_secs(1) {
                    self.expect(state == State::Holdover, "not in holdover without a network", second);
                }
                if age > Config::default().horizon {
                    self.expect(state == State::NoData, "a correction after the horizon", second);
                }
            }
            // A server may be silent for reasons of its own.
            let has_servers = self
                .plan
                .world
                .servers
                .iter()
                .all(|s| s.outages.iter().all(|&(from, to)| second < from || second >= to + RECOVERY_S));
            if second >= to + RECOVERY_S && has_servers {
                self.expect(state == State::Synchronized, "not synchronized after the outage", second);
            }
        }
    }

    fn judge_disruptions(&mut self, second: u32, state: State, c: Option<&Correction>) {
        for &(at, disruption) in &self.plan.world.disruptions {
            let wakes = at + disruption.pause_s().max(1);
            if second == wakes {
                let claims = c.is_some() && matches!(state, State::Synchronized | State::Holdover);
                self.expect(!claims, "a correction from before the disruption is still claimed", second);
            }
            if second >= wakes + WAKING_S {
                self.expect(state == State::Synchronized, "not synchronized after the disruption", second);
            }
        }
    }

    pub(crate) fn finish(mut self) -> Verdict {
        let violations = self.violation.as_ref().map_or(0, |v| v.1);
        if let Some((first, count)) = &self.violation {
            self.failures.push(format!("bound violated in {count} s, {first}"));
        }
        let sums = self.sums;
        let mean_ms = |sum: f64| sum / sums.count.max(1) as f64 * 1e3;
        if sums.error > sums.none + sums.sigma {
            self.failures.push(format!(
                "worse than no correction: mean error {:.4} ms, without {:.4} ms, stated sigma {:.4} ms",
                mean_ms(sums.error),
                mean_ms(sums.none),
                mean_ms(sums.sigma)
            ));
        }
        if sums.count == 0 {
            self.failures.push("there was never a correction".to_owned());
        }
        for (&(liar, _), r) in self.plan.liars.iter().zip(&self.liar_reports) {
            if r.unnamed * UNNAMED_PARTS > r.all || r.believed > 0 {
                self.failures.push(format!(
                    "source {liar} lies; of {} reports {} do not call it a falseticker and {} say it was believed",
                    r.all, r.unnamed, r.believed
                ));
            }
        }
        for (what, second, count) in &self.faults {
            self.failures.push(format!("{what}: {count} s, first at {second} s"));
        }
        Verdict {
            scenario: self.scenario,
            seed: self.seed,
            failures: self.failures,
            summary: self.scores.summary(),
            worst: self.worst,
            violations,
            bound_ms: mean_ms(sums.bound),
            states: self.states,
        }
    }
}

impl Inhabitant for Judge<'_> {
    fn measure(&mut self, now: MonoTime, measurement: &Measurement) {
        self.last_answer = now;
        self.chronotick.measure(now, measurement);
    }

    fn observe(&mut self, _now: MonoTime, temperature_c: f64, load: f64) {
        self.chronotick.discipline.observe(Some(temperature_c), Some(load));
    }

    fn disrupt(&mut self, what: &Disruption) {
        disrupt(&mut self.chronotick, what);
    }

    fn moment(&mut self, moment: &Moment) {
        let c = self.chronotick.discipline.correction(moment.now);
        let state = self.chronotick.discipline.state(moment.now);
        match self.states.iter_mut().find(|s| s.0 == state) {
            Some(seconds) => seconds.1 += 1,
            None => self.states.push((state, 1)),
        }
        let prediction = c.as_ref().map(|c| Prediction {
            theta: Span::from_ns(c.corrected.as_ns() - moment.now.as_ns()),
            sigma_s: Some(c.offset_sigma),
            max_error: Some(c.max_error),
        });
        if let (Some(c), Some(p)) = (&c, &prediction) {
            let error = (p.theta - moment.truth).abs();
            self.judge_bound(moment, c, error);
            if moment.second >= self.plan.skip_s {
                self.sums.count += 1;
                self.sums.error += error.as_secs_f64();
                self.sums.none += (moment.system - moment.truth).abs().as_secs_f64();
                self.sums.sigma += c.offset_sigma;
                self.sums.bound += c.max_error.as_secs_f64();
            }
        }
        if moment.second >= self.plan.skip_s {
            self.scores.add(prediction.as_ref(), moment.truth, Span::ZERO);
        }
        self.judge_liars(moment);
        self.judge_outage(moment, state, c.as_ref());
        self.judge_disruptions(moment.second, state, c.as_ref());
    }
}
