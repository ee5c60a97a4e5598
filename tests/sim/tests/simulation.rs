//! A thousand seeds hold what must always hold, the simulator repeats itself, and a program that is broken on purpose is
//! found.

use sim::{Sabotage, run};

#[test]
fn a_thousand_seeds_hold() {
    let mut restarts = 0;
    for seed in 1..=1000 {
        let report = run(seed, Sabotage::None).unwrap_or_else(|why| panic!("{why}"));
        restarts += report.restarts;
    }
    assert!(restarts > 1000, "the runs are not what they were meant to be: {restarts} restarts");
}

#[test]
fn a_seed_always_gives_the_same_run() {
    for seed in 1..=50 {
        let first = run(seed, Sabotage::None).expect("it holds");
        assert_eq!(run(seed, Sabotage::None), Ok(first), "seed {seed}");
        assert_ne!(run(seed + 1, Sabotage::None), Ok(first), "seeds {seed} and the next are one run");
    }
}

#[test]
fn a_broken_program_is_found() {
    for sabotage in [Sabotage::NoSync, Sabotage::NoDirectorySync, Sabotage::EarlyAnswer] {
        let found = (1..=1000).find(|seed| run(*seed, sabotage).is_err());
        assert!(found.is_some(), "{sabotage:?} was not found within 1,000 seeds");
        println!("{sabotage:?}: found by seed {found:?}");
    }
}
