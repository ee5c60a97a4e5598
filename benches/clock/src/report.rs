//! The table and the figures.

use crate::errors::{Errors, Summary, quantile};
use crate::pair::{Pair, Seen};
use crate::settings::Setting;
use serde_json::json;

/// Prints what was seen of each setting. An error is for the user.
pub(crate) fn errors(all: &[(Setting, Vec<Pair>)], baseline: &str) -> Result<(), String> {
    println!(
        "{:<11} {:>26} {:>26} {:>6} {:>11} {:>8} {:>10} {:>8}  relay late by, us p50/p99/max",
        "setting", baseline, "ours", "ratio", "by pair", "bound", "violations", "samples"
    );
    let mut figures = Vec::new();
    for (setting, pairs) in all {
        let name = setting.name;
        let missing = || format!("{name}: one of the daemons never had an estimate; give a longer --warmup");
        let together = Seen::together(pairs.iter().map(|p| &p.seen));
        let summaries = |seen: &Seen| seen.theirs.summary(0).zip(seen.ours.summary(0)).ok_or_else(missing);
        let (theirs, ours) = summaries(&together)?;
        let mut ratios = Vec::new();
        for pair in pairs {
            let (theirs, ours) = summaries(&pair.seen)?;
            ratios.push(ours.mean / theirs.mean);
        }
        ratios.sort_by(f64::total_cmp);
        let mut bounds = together.bounds_ns.clone();
        bounds.sort_unstable();
        let bound_us = quantile(&bounds, 0.5).unwrap_or_default() as f64 / 1e3;
        println!(
            "{name:<11} {:>26} {:>26} {:>6.2} {:>11} {bound_us:>8.1} {:>10} {:>8}  {}{}",
            text(theirs),
            text(ours),
            ours.mean / theirs.mean,
            format!("{:.2}-{:.2}", ratios[0], ratios[ratios.len() - 1]),
            together.violations,
            together.ours.len(),
            lateness(pairs),
            missing_text(&together),
        );
        figures.push((format!("clock.offset.{name}"), ours.mean, "us", Some(theirs.mean)));
        figures.push((format!("clock.offset.{name}.p99"), ours.p99, "us", Some(theirs.p99)));
        figures.push((format!("clock.offset.{name}.max"), ours.max, "us", Some(theirs.max)));
        figures.push((format!("clock.bound.{name}"), bound_us, "us", None));
        figures.push((format!("clock.violations.{name}"), together.violations as f64, "samples", None));
        // Half the difference of the two ways is an error that nobody can see; what is beyond it is the client's own.
        let floor_ns = setting.floor_ns();
        let beyond = |errors: &Errors| errors.summary(floor_ns).ok_or_else(missing);
        if floor_ns != 0 {
            let (theirs, ours) = (beyond(&together.theirs)?, beyond(&together.ours)?);
            println!(
                "{:<11} {:>26} {:>26} {:>6.2}",
                "  own part",
                text(theirs),
                text(ours),
                ours.mean / theirs.mean
            );
            figures.push((format!("clock.offset.{name}.own"), ours.mean, "us", Some(theirs.mean)));
        }
    }
    println!();
    for (setting, pairs) in all {
        println!("{}: {}", setting.name, setting.what);
        for line in pairs.iter().flat_map(Pair::warnings) {
            println!("  our daemon: {line}");
        }
    }
    for (name, value, unit, theirs) in &figures {
        figure(name, *value, unit, theirs.map(|t| (baseline, t)));
    }
    Ok(())
}

/// Samples that count for neither, because one of the two had no estimate.
fn missing_text(seen: &Seen) -> String {
    match (seen.theirs_missing, seen.ours_missing) {
        (0, 0) => String::new(),
        (theirs, ours) => format!("; without an estimate: chronyd {theirs}, ours {ours}"),
    }
}

fn text(summary: Summary) -> String {
    format!("{:.1} / {:.1} / {:.1}", summary.mean, summary.p99, summary.max)
}

fn lateness(pairs: &[Pair]) -> String {
    let mut late: Vec<i64> = pairs.iter().flat_map(|p| p.relay.lateness_ns()).collect();
    late.sort_unstable();
    let us = |part| quantile(&late, part).unwrap_or_default() as f64 / 1e3;
    format!("{:.1}/{:.1}/{:.1}", us(0.5), us(0.99), us(1.0))
}

/// One line of JSON, as `cargo xtask bench` reads it.
pub(crate) fn figure(name: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) {
    let line = json!({
        "name": name,
        "value": value,
        "unit": unit,
        "baseline": baseline.map(|b| b.0),
        "baseline_value": baseline.map(|b| b.1),
        "ratio": baseline.map(|b| value / b.1),
    });
    println!("{line}");
}
