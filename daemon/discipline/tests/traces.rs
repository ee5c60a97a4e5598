//! Recorded offsets of real machines, replayed: the bound stays sound arithmetic, and the estimate beats doing nothing.

use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Config, Discipline, Leap, Measurement};
use std::path::{Path, PathBuf};

/// A trace says nothing of its servers' own error; a public pool server is within this.
const ASSUMED_ROOT_DISPERSION: Span = Span::from_ms(10);

/// The traces lie beside the repository on machines that have them.
fn trace(name: &str) -> Option<PathBuf> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/clock-traces");
    let path = directory.join(name);
    if !path.exists() {
        println!("skipped: there is no trace {}", path.display());
    }
    path.exists().then_some(path)
}

/// Elapsed time, offset and delay of each measurement, by the names of the columns, in s, ms and ms.
fn rows(path: &Path, columns: [&str; 3]) -> Vec<[f64; 3]> {
    let text = std::fs::read_to_string(path).expect("a readable trace");
    let mut lines = text.lines();
    let header: Vec<&str> = lines.next().expect("a header").split(',').collect();
    let places = columns.map(|c| header.iter().position(|h| *h == c).expect("a known column"));
    lines
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let number = |i: usize| fields.get(places[i])?.parse::<f64>().ok();
            Some([number(0)?, number(1)?, number(2)?])
        })
        .collect()
}

fn check(name: &str, columns: [&str; 3]) {
    let Some(path) = trace(name) else { return };
    let rows = rows(&path, columns);
    assert!(rows.len() > 100, "{name}: {} measurements", rows.len());
    let mut discipline = Discipline::new(Config::default(), 1);
    let (mut used, mut within, mut squared_error, mut squared_nothing) = (0, 0, 0.0, 0.0);
    let start = MonoTime::from_ns(1_000_000_000_000);
    let wall = Span::from_secs(1_760_000_000);
    for [elapsed_s, offset_ms, delay_ms] in rows {
        let now = start + Span::from_secs_f64(elapsed_s);
        let theta = wall + Span::from_secs_f64(offset_ms / 1e3);
        let delay = Span::from_secs_f64(delay_ms / 1e3);
        let m = Measurement {
            source: 0,
            at: now,
            theta,
            delay,
            round_trip: delay,
            root_delay: Span::ZERO,
            root_dispersion: ASSUMED_ROOT_DISPERSION,
            precision: Span::from_us(1),
            stratum: 2,
            leap: Leap::None,
            poll_interval: Span::from_secs(180),
            authenticated: false,
        };
        if let Some(c) = discipline.correction(now) {
            let predicted = c.corrected.as_ns() - now.as_ns();
            let error_ns = (predicted - theta.as_ns()).abs() as f64;
            assert!(c.max_error >= Span::from_ns(1) && c.offset_sigma > 0.0 && c.rate_sigma > 0.0);
            let bound_ns = c.max_error.as_ns() as f64;
            used += 1;
            within += usize::from(error_ns <= bound_ns + m.root_distance_ns());
            squared_error += error_ns * error_ns;
            squared_nothing += (offset_ms * 1e6).powi(2);
        }
        discipline.measure(now, m);
    }
    let (rms_ms, nothing_ms) =
        ((squared_error / f64::from(used)).sqrt() / 1e6, (squared_nothing / f64::from(used)).sqrt() / 1e6);
    println!(
        "{name}: {used} predictions, {within} within the bounds, rms {rms_ms} ms, uncorrected {nothing_ms} ms"
    );
    assert_eq!(within as u32, used, "{name}: a prediction and a measurement exclude each other");
    assert!(rms_ms < nothing_ms, "{name}: {rms_ms} ms is worse than nothing ({nothing_ms} ms)");
}

#[test]
fn recorded_offsets_are_predicted_within_the_bounds() {
    check("homelab_9h_20251015.csv", ["elapsed_seconds", "ntp_offset_ms", "ntp_delay_ms"]);
    check(
        "overnight_8h_20251014.csv",
        ["elapsed_seconds", "ntp_ground_truth_offset_ms", "ntp_uncertainty_ms"],
    );
}
