//! Holds the discipline to what it promises, in many worlds.

use crate::judge::{Judge, Verdict};
use crate::scenario::{ALL, Plan, Scenario};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seeds of each scenario whose failures are printed.
const SHOWN: usize = 3;

/// The scenario of a seed in a campaign of all scenarios.
pub fn scenario_of(seed: u64) -> Scenario {
    ALL[(seed % ALL.len() as u64) as usize]
}

/// Runs one seed of one scenario.
pub fn run(scenario: Scenario, seed: u64) -> Verdict {
    judge(scenario, seed, &scenario.draw(seed))
}

/// Runs a plan that may have been changed.
pub fn judge(scenario: Scenario, seed: u64, plan: &Plan) -> Verdict {
    let mut judge = Judge::new(scenario, seed, plan);
    plan.world.run(seed, &mut judge);
    judge.finish()
}

/// What a campaign found.
#[derive(Debug)]
pub struct Outcome {
    /// A verdict for each seed.
    pub verdicts: Vec<Verdict>,
}

/// Runs `seeds` seeds from `from`: all of one scenario, or the scenarios in turn.
pub fn campaign(only: Option<Scenario>, from: u64, seeds: u64) -> Outcome {
    let seeds: Vec<u64> = (from..from.saturating_add(seeds)).collect();
    Outcome { verdicts: in_threads(&seeds, |seed| run(only.unwrap_or(scenario_of(seed)), seed)) }
}

impl Outcome {
    /// True when everything held.
    pub fn holds(&self) -> bool {
        self.verdicts.iter().all(|v| v.failures.is_empty())
    }

    /// What did not hold, with the command that repeats it.
    pub fn failures(&self) -> String {
        let mut text = String::new();
        for scenario in ALL {
            let of = |v: &&Verdict| v.scenario == scenario && !v.failures.is_empty();
            for v in self.verdicts.iter().filter(of).take(SHOWN) {
                let (name, seed) = (v.scenario.name(), v.seed);
                v.failures.iter().for_each(|failure| text += &format!("{name} {seed}: {failure}\n"));
                text +=
                    &format!("  repeat: cargo xtask sim clock --scenario {name} --seeds 1 --from {seed}\n");
            }
            let more = self.verdicts.iter().filter(of).count().saturating_sub(SHOWN);
            if more > 0 {
                text += &format!("{}: {more} more seeds fail\n", scenario.name());
            }
        }
        text
    }

    /// One line for each scenario. Errors are medians over the runs; the worst is that of all.
    pub fn table(&self) -> String {
        let mut text = format!(
            "{:<18} {:>5} {:>6} {:>10} {:>10} {:>10} {:>8} {:>10} {:>7}  {}\n",
            "scenario",
            "runs",
            "failed",
            "violations",
            "mae ms",
            "p99 ms",
            "cover 95",
            "bound ms",
            "worst",
            "% of time in state"
        );
        for scenario in ALL {
            let of: Vec<&Verdict> = self.verdicts.iter().filter(|v| v.scenario == scenario).collect();
            if of.is_empty() {
                continue;
            }
            let failed = of.iter().filter(|v| !v.failures.is_empty()).count();
            let violations: u64 = of.iter().map(|v| v.violations).sum();
            let worst = of.iter().map(|v| v.worst).fold(0.0, f64::max);
            text += &format!(
                "{:<18} {:>5} {failed:>6} {violations:>10} {:>10.4} {:>10.4} {:>8.3} {:>10.3} {worst:>7.3}  {}\n",
                scenario.name(),
                of.len(),
                median(of.iter().filter_map(|v| v.summary.mae_ms)),
                median(of.iter().filter_map(|v| v.summary.p99_ms)),
                median(of.iter().filter_map(|v| v.summary.coverage_95)),
                median(of.iter().map(|v| v.bound_ms)),
                states(&of),
            );
        }
        text
    }
}

fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut all: Vec<f64> = values.collect();
    all.sort_by(f64::total_cmp);
    all.get(all.len() / 2).copied().unwrap_or(f64::NAN)
}

fn states(verdicts: &[&Verdict]) -> String {
    let mut sums: Vec<(String, u64)> = Vec::new();
    for (state, seconds) in verdicts.iter().flat_map(|v| &v.states) {
        let name = format!("{state:?}");
        match sums.iter_mut().find(|s| s.0 == name) {
            Some(sum) => sum.1 += seconds,
            None => sums.push((name, *seconds)),
        }
    }
    let total: u64 = sums.iter().map(|s| s.1).sum();
    sums.sort();
    let part = |seconds: u64| 100.0 * seconds as f64 / total.max(1) as f64;
    sums.iter().map(|(name, s)| format!("{name} {:.2}", part(*s))).collect::<Vec<_>>().join(", ")
}

/// `work` of each item on all processors, in the order of the items.
pub fn in_threads<I: Copy + Sync, T: Send>(items: &[I], work: impl Fn(I) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(items.len()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(items.len());
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                loop {
                    // Relaxed: the number itself is all that is shared.
                    let i = next.fetch_add(1, Ordering::Relaxed);
                    let Some(&item) = items.get(i) else { return };
                    let result = work(item);
                    if let Ok(mut done) = done.lock() {
                        done.push((i, result));
                    }
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner);
    done.sort_by_key(|d| d.0);
    done.into_iter().map(|d| d.1).collect()
}
