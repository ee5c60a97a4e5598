//! A small campaign on every run of the tests, and that a campaign finds what is wrong.

use chronotick_core::Span;
use sim_clock::campaign::{campaign, judge, run};
use sim_clock::reference::score;
use sim_clock::scenario::{ALL, Scenario};

#[test]
fn every_scenario_holds_for_two_seeds() {
    let outcome = campaign(None, 1, 2 * ALL.len() as u64);
    print!("{}", outcome.table());
    assert_eq!(outcome.verdicts.len(), 2 * ALL.len());
    assert!(outcome.holds(), "{}", outcome.failures());
}

#[test]
fn a_seed_repeats() {
    for scenario in [Scenario::HeavyTail, Scenario::Mixed] {
        let (a, b) = (run(scenario, 5), run(scenario, 5));
        assert_eq!((a.summary, a.worst, a.states), (b.summary, b.worst, b.states));
    }
}

/// Changes a world so that a promise cannot hold, and looks for what the judge says.
fn check(scenario: Scenario, change: impl Fn(&mut sim_clock::scenario::Plan), want: &str) {
    let mut plan = scenario.draw(3);
    change(&mut plan);
    let failures = judge(scenario, 3, &plan).failures;
    assert!(failures.iter().any(|f| f.contains(want)), "{want}: {failures:?}");
}

#[test]
fn what_is_wrong_is_found() {
    check(Scenario::Lan, |p| p.world.servers[0].error_ns = 40e6, "bound violated");
    check(
        Scenario::Lan,
        |p| {
            (p.world.servers[0].error_ns, p.world.offset_ns) = (900e6, 0);
            p.world.oscillator.frequency = 0.0;
            p.world.servers[0].root_dispersion = Span::from_ms(1000);
        },
        "worse than no correction",
    );
    // A millisecond is hidden in what the servers state of themselves.
    check(
        Scenario::LiarOfThree,
        |p| {
            let liar = p.liars[0].0;
            p.world.servers[liar].error_ns = 1e6;
            p.world.servers.iter_mut().for_each(|s| s.root_dispersion = Span::from_ms(100));
        },
        "do not call it a falseticker",
    );
    check(Scenario::Wan, |p| p.world.servers[0].loss = 1.0, "never a correction");
}

#[test]
fn the_scenarios_of_chronyd_are_scored_beside_it() {
    let figures = score(Scenario::Lan, 1, 1);
    let names: Vec<_> = figures.iter().map(|f| f.name).collect();
    let want = ["chronotick", "none", "hold_last", "linear_regression", "minimum_delay_8", "chrony_like"];
    assert_eq!(names, want);
    assert!(figures.iter().all(|f| f.runs[0].predictions == 36_001 && f.runs[0].silent == 0));
    let json = sim_clock::reference::json(Scenario::Lan, 1, &figures);
    assert_eq!(json["chrony_mae_ms"], 0.0197);
    assert!(json["ratio"].is_f64() && json["predictors"]["none"]["bound_violations"].is_null(), "{json}");
    assert_eq!(json["predictors"]["chronotick"]["bound_violations"], 0);
}
