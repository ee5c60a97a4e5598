//! The figures as one JSON object.

use chronotick_evaluation::replay::Mode;
use chronotick_evaluation::{Evaluation, Options, Summary, Trace};
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
struct Document<'a> {
    predictors: BTreeMap<&'static str, &'a Summary>,
    replay: Replay,
}

/// How the figures came about.
#[derive(Serialize)]
struct Replay {
    every_s: f64,
    root_dispersion_ms: f64,
    truth: &'static str,
    rows: usize,
    measurements: usize,
    given: usize,
    scored: usize,
}

/// One line.
pub(crate) fn render(trace: &Trace, options: &Options, evaluation: &Evaluation) -> Result<String, String> {
    let document = Document {
        predictors: evaluation.predictors.iter().map(|(name, summary)| (*name, summary)).collect(),
        replay: Replay {
            every_s: options.every_s,
            root_dispersion_ms: options.root_dispersion.as_secs_f64() * 1e3,
            truth: match evaluation.mode {
                Mode::Dense => "local_fit",
                Mode::Sparse => "next_measurement",
            },
            rows: trace.rows.len(),
            measurements: trace.samples().count(),
            given: evaluation.given,
            scored: evaluation.scored(),
        },
    };
    serde_json::to_string(&document)
        .map(|text| text + "\n")
        .map_err(|e| format!("cannot write the figures as JSON: {e}"))
}
