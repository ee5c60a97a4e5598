//! Scores predictors in one scenario, beside what chronyd did in it.

use crate::oscillator::Disruption;
use crate::scenario::{Plan, Scenario};
use crate::world::{Inhabitant, Moment};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Config, Measurement, discipline};
use chronotick_evaluation::baselines::{HoldLast, LinearRegression, MinimumDelay, NoCorrection};
use chronotick_evaluation::chrony_like::ChronyLike;
use chronotick_evaluation::{Chronotick, Predictor, Scores, Summary};
use serde_json::{Value, json};

/// Tells the discipline what the daemon would see of a disruption.
pub(crate) fn disrupt(chronotick: &mut Chronotick, what: &Disruption) {
    chronotick.discipline.disrupt(match what {
        Disruption::Suspend { .. } => discipline::Disruption::Suspend,
        Disruption::Migration { .. } => discipline::Disruption::ClockJump,
    });
}

/// One run: the predictors and their scores so far.
struct Scoring {
    skip_s: u32,
    chronotick: Chronotick,
    none: NoCorrection,
    /// The baselines know one source only: the first that does not lie.
    others: Vec<Box<dyn Predictor>>,
    source: usize,
    scores: Vec<Scores>,
}

impl Scoring {
    fn new(plan: &Plan) -> Self {
        let sources = plan.world.servers.len();
        let others = others();
        Self {
            source: (0..sources).find(|i| plan.liars.iter().all(|l| l.0 != *i)).unwrap_or(0),
            skip_s: plan.skip_s,
            chronotick: Chronotick::new(Config::default(), sources),
            none: NoCorrection { system: Span::ZERO },
            scores: vec![Scores::default(); others.len() + 2],
            others,
        }
    }

    fn all(&self) -> impl Iterator<Item = &dyn Predictor> {
        let own: [&dyn Predictor; 2] = [&self.chronotick, &self.none];
        own.into_iter().chain(self.others.iter().map(|p| &**p))
    }

    fn summaries(&self) -> Vec<(&'static str, Summary)> {
        self.all().map(Predictor::name).zip(self.scores.iter().map(Scores::summary)).collect()
    }
}

/// The baselines that are told of measurements.
fn others() -> Vec<Box<dyn Predictor>> {
    vec![
        Box::new(HoldLast::default()),
        Box::new(LinearRegression::default()),
        Box::new(MinimumDelay::default()),
        Box::new(ChronyLike::default()),
    ]
}

impl Inhabitant for Scoring {
    fn measure(&mut self, now: MonoTime, measurement: &Measurement) {
        self.chronotick.measure(now, measurement);
        if measurement.source == self.source {
            self.others.iter_mut().for_each(|p| p.measure(now, measurement));
        }
    }

    fn observe(&mut self, now: MonoTime, temperature_c: f64, load: f64) {
        self.chronotick.discipline.observe(Some(temperature_c), Some(load));
        self.others.iter_mut().for_each(|p| p.observe(now, Some(temperature_c), Some(load)));
    }

    fn disrupt(&mut self, what: &Disruption) {
        disrupt(&mut self.chronotick, what);
    }

    fn moment(&mut self, moment: &Moment) {
        self.none.system = moment.system;
        if moment.second < self.skip_s {
            return;
        }
        let predictions: Vec<_> = self.all().map(|p| p.predict(moment.now)).collect();
        for (scores, p) in self.scores.iter_mut().zip(predictions) {
            scores.add(p.as_ref(), moment.truth, Span::ZERO);
        }
    }
}

/// The figures of one predictor: the median over the runs of each, and the sum of the violations.
#[derive(Clone, Debug)]
pub struct Figures {
    /// Its name.
    pub name: &'static str,
    /// Each run.
    pub runs: Vec<Summary>,
}

impl Figures {
    fn median(&self, of: impl Fn(&Summary) -> Option<f64>) -> Option<f64> {
        let mut all: Vec<f64> = self.runs.iter().filter_map(of).collect();
        all.sort_by(f64::total_cmp);
        let middle = all.len() / 2;
        if all.len().is_multiple_of(2) && middle > 0 {
            return Some((all[middle - 1] + all[middle]) / 2.0);
        }
        all.get(middle).copied()
    }

    /// Mean absolute error in milliseconds, the median of the runs.
    pub fn mae_ms(&self) -> Option<f64> {
        self.median(|s| s.mae_ms)
    }

    fn violations(&self) -> Option<u64> {
        let claimed: Vec<u64> = self.runs.iter().filter_map(|s| s.bound_violations).collect();
        (!claimed.is_empty()).then(|| claimed.iter().sum())
    }

    fn json(&self) -> Value {
        json!({
            "mae_ms": self.mae_ms(),
            "p99_ms": self.median(|s| s.p99_ms),
            "coverage_95": self.median(|s| s.coverage_95),
            "bound_violations": self.violations(),
            "predictions": self.runs.iter().map(|s| s.predictions).sum::<u64>(),
            "silent": self.runs.iter().map(|s| s.silent).sum::<u64>(),
        })
    }
}

/// Runs the seeds `from..from + runs` of a scenario. The scenarios that chronyd was measured in are always the same but
/// for the noise; the others are drawn from the seed.
pub fn score(scenario: Scenario, from: u64, runs: u64) -> Vec<Figures> {
    let mut figures: Vec<Figures> = Vec::new();
    let seeds: Vec<u64> = (from..from.saturating_add(runs)).collect();
    let summaries = crate::campaign::in_threads(&seeds, |seed| {
        let plan = scenario.reference(seed);
        let mut scoring = Scoring::new(&plan);
        plan.world.run(seed, &mut scoring);
        scoring.summaries()
    });
    for (name, summary) in summaries.into_iter().flatten() {
        match figures.iter_mut().find(|f| f.name == name) {
            Some(f) => f.runs.push(summary),
            None => figures.push(Figures { name, runs: vec![summary] }),
        }
    }
    figures
}

/// Ours against chronyd's, where that was measured.
fn ratio(scenario: Scenario, figures: &[Figures]) -> Option<f64> {
    let ours = figures.iter().find(|f| f.name == "chronotick")?.mae_ms()?;
    Some(ours / scenario.chrony_mae_ms()?)
}

/// As one line of JSON.
pub fn json(scenario: Scenario, runs: u64, figures: &[Figures]) -> Value {
    let predictors: serde_json::Map<String, Value> =
        figures.iter().map(|f| (f.name.to_owned(), f.json())).collect();
    json!({
        "scenario": scenario.name(),
        "runs": runs,
        "predictors": predictors,
        "chrony_mae_ms": scenario.chrony_mae_ms(),
        "ratio": ratio(scenario, figures),
    })
}

/// As a table.
pub fn table(scenario: Scenario, runs: u64, figures: &[Figures]) -> String {
    let shown = |x: Option<f64>, digits: usize| x.map_or("-".to_owned(), |x| format!("{x:.digits$}"));
    let mut text = format!("{}: medians of {runs} runs, errors in ms\n", scenario.name());
    text += &format!(
        "{:<20} {:>12} {:>12} {:>9} {:>10} {:>7}\n",
        "predictor", "mae", "p99", "cover 95", "violations", "silent"
    );
    for f in figures {
        text += &format!(
            "{:<20} {:>12} {:>12} {:>9} {:>10} {:>7}\n",
            f.name,
            shown(f.mae_ms(), 6),
            shown(f.median(|s| s.p99_ms), 6),
            shown(f.median(|s| s.coverage_95), 3),
            f.violations().map_or("-".to_owned(), |v| v.to_string()),
            f.runs.iter().map(|s| s.silent).sum::<u64>(),
        );
    }
    if let (Some(chrony), Some(ratio)) = (scenario.chrony_mae_ms(), ratio(scenario, figures)) {
        text +=
            &format!("{:<20} {chrony:>12.6}   measured; chronotick / chronyd = {ratio:.3}\n", "chronyd 4.3");
    }
    text
}
