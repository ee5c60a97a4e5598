//! A model that is an ONNX file, run by tract. The contract of its input and output is in `docs/models.md`.

use crate::models::history::{History, Observation};
use crate::models::{Prediction, RateModel, USUAL_VALIDITY};
use chronotick_core::Span;
use std::io::Cursor;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use tract_onnx::prelude::*;
use tract_onnx::tract_hir::infer::Factoid;

/// Observations that the model is shown.
const ROWS: usize = 64;
/// Numbers of each: rate, age, temperature, load.
const COLUMNS: usize = 4;
/// From one to the next.
const STEP: Span = Span::from_secs(30);
/// Bytes of a file.
const MAX_FILE: u64 = 64 << 20;

/// What a model must take and give.
const CONTRACT: &str =
    "a rate model has one input, float32 [1, 64, 4], and one output, float32 [1, 2] (docs/models.md)";

/// See the module.
#[derive(Debug)]
pub(crate) struct OnnxModel {
    plan: Arc<TypedRunnableModel>,
}

impl OnnxModel {
    /// Reads the file and checks its shapes. The error is for the user.
    pub(crate) fn load(file: &Path) -> Result<Self, String> {
        let failed = |e: String| format!("{}: {e}", file.display());
        let bytes = std::fs::metadata(file)
            .and_then(|m| if m.len() > MAX_FILE { Ok(None) } else { std::fs::read(file).map(Some) })
            .map_err(|e| failed(format!("cannot read the ONNX file: {e}")))?
            .ok_or_else(|| failed(format!("the ONNX file is larger than {} MiB", MAX_FILE >> 20)))?;
        // The parser is not ours, and a damaged file should not end `check-config` with a backtrace.
        catch_unwind(AssertUnwindSafe(|| Self::parse(&bytes)))
            .unwrap_or_else(|_| Err("it is no ONNX file that can be run (see the message above)".to_owned()))
            .map_err(failed)
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let mut model = tract_onnx::onnx()
            .model_for_read(&mut Cursor::new(bytes))
            .map_err(|e| format!("it is no ONNX file that can be run: {e:#}"))?;
        let (inputs, outputs) = (model.inputs.len(), model.outputs.len());
        if (inputs, outputs) != (1, 1) {
            return Err(format!("it has {inputs} inputs and {outputs} outputs; {CONTRACT}"));
        }
        let wanted = InferenceFact::dt_shape(f32::datum_type(), [1, ROWS, COLUMNS]);
        let declared = model.input_fact(0).map_err(|e| format!("{e:#}"))?.clone();
        if declared.unify(&wanted).is_err() {
            return Err(format!("its input is {}; {CONTRACT}", declared.format_dt_shape()));
        }
        model.set_input_fact(0, wanted).map_err(|e| format!("{e:#}"))?;
        let model = model.into_optimized().map_err(|e| format!("it cannot be run: {e:#}; {CONTRACT}"))?;
        let output = model.output_fact(0).map_err(|e| format!("{e:#}"))?;
        if output.datum_type != f32::datum_type() || output.shape.as_concrete() != Some(&[1, 2]) {
            return Err(format!("its output is {:?} {:?}; {CONTRACT}", output.datum_type, output.shape));
        }
        let plan = model.into_runnable().map_err(|e| format!("it cannot be run: {e:#}"))?;
        Ok(Self { plan })
    }

    fn run(&self, input: &[f32]) -> TractResult<[f32; 2]> {
        let tensor = Tensor::from_shape(&[1, ROWS, COLUMNS], input)?;
        let outputs = self.plan.run(tvec![tensor.into_tvalue()])?;
        let view = outputs[0].try_as_plain_ram()?;
        let values = view.as_slice::<f32>()?;
        Ok([values[0], values[1]])
    }
}

/// The rows of the input, oldest first: at each of 64 moments, 30 s apart and the last that of the newest observation,
/// what had been observed last; before the first observation, that one.
fn input(history: &History) -> Option<Vec<f32>> {
    let newest = history.observations.last()?;
    let mut numbers = Vec::with_capacity(ROWS * COLUMNS);
    let mut held = history.observations.iter().peekable();
    let mut current = held.next()?;
    let mut moment = newest.at - Span::from_ns(STEP.as_ns() * (ROWS as i64 - 1));
    for _ in 0..ROWS {
        while let Some(next) = held.next_if(|o| o.at <= moment) {
            current = next;
        }
        numbers.extend(row(current, newest, history).map(|n| n as f32));
        moment += STEP;
    }
    Some(numbers)
}

fn row(o: &Observation, newest: &Observation, history: &History) -> [f64; COLUMNS] {
    let age_h = (history.now - o.at).as_secs_f64() / 3600.0;
    let warmer = o.temperature_c.zip(newest.temperature_c).map_or(0.0, |(then, now)| then - now);
    [(o.rate - newest.rate) * 1e9, age_h, warmer, o.load.unwrap_or(0.0)]
}

impl RateModel for OnnxModel {
    fn predict(&mut self, history: &History) -> Result<Option<Prediction>, String> {
        let (Some(input), Some(newest)) = (input(history), history.observations.last()) else {
            return Ok(None);
        };
        let [mean_ppb, log_sigma] = self.run(&input).map_err(|e| format!("it cannot be run: {e:#}"))?;
        Ok(Some(Prediction {
            rate: newest.rate + f64::from(mean_ppb) / 1e9,
            sigma: f64::from(log_sigma).exp() / 1e9,
            valid_for: USUAL_VALIDITY,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::models::history::tests::observation;
    use chronotick_core::MonoTime;
    use std::path::PathBuf;

    fn shipped() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/models/rate_mean.onnx")
    }

    /// A rate every 7 s for 40 minutes: a ramp with a wave.
    fn history() -> History {
        let observations: Vec<Observation> = (0..343)
            .map(|i| {
                let s = f64::from(i) * 7.0;
                Observation {
                    load: Some(0.5),
                    ..observation(s, 20e-6 + s * 1e-11 + 3e-8 * (s / 100.0).sin())
                }
            })
            .collect();
        History { now: MonoTime::from_ns(2_400_000_000_000), observations, epoch: 0 }
    }

    #[test]
    fn the_input_holds_what_was_observed_last() {
        let mut h = history();
        h.observations = vec![observation(100.0, 1e-6), observation(160.5, 3e-6), observation(1_000.0, 2e-6)];
        h.observations[0].temperature_c = Some(37.5);
        h.observations[1].temperature_c = None;
        h.observations[2].load = Some(0.25);
        h.now = MonoTime::from_ns(1_036_000_000_000);
        let numbers = input(&h).unwrap();
        let rows: Vec<&[f32]> = numbers.chunks(COLUMNS).collect();
        assert_eq!(rows.len(), ROWS);
        assert_eq!(rows[63], [0.0, 0.01, 0.0, 0.25]);
        // Held from 160.5 s until just before 1000 s, and before that the first, however long ago.
        assert_eq!(rows[62][..1], [1000.0]);
        assert_eq!(rows[62][2], 0.0, "unknown");
        assert_eq!((rows[36][0], rows[35][0], rows[0][0]), (1000.0, -1000.0, -1000.0));
        assert_eq!((rows[35][2], rows[0][2]), (-2.5, -2.5));
        assert!((rows[0][1] - 0.26).abs() < 1e-6, "{:?}", rows[0]);
        h.observations.clear();
        assert_eq!(input(&h), None);
    }

    #[test]
    fn the_shipped_model_is_the_weighted_mean_that_it_says() {
        let h = history();
        let mut model = OnnxModel::load(&shipped()).unwrap();
        let got = model.predict(&h).unwrap().unwrap();
        let rates: Vec<f64> = input(&h).unwrap().chunks(COLUMNS).map(|r| f64::from(r[0])).collect();
        let weights: Vec<f64> = (0..ROWS).map(|i| 0.95_f64.powi(63 - i as i32)).collect();
        let total: f64 = weights.iter().sum();
        let mean = rates.iter().zip(&weights).map(|(r, w)| r * w).sum::<f64>() / total;
        let deviation = rates.iter().zip(&weights).map(|(r, w)| (r - mean).abs() * w).sum::<f64>() / total;
        let newest = h.observations.last().unwrap().rate;
        assert!((got.rate - (newest + mean * 1e-9)).abs() < 1e-12, "{got:?}");
        let sigma = (1.25 * deviation + 20.0) * 1e-9;
        assert!((got.sigma / sigma - 1.0).abs() < 1e-4, "{got:?} {sigma}");
        got.forecast().unwrap();
    }

    #[test]
    fn files_that_are_no_rate_model_say_so() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("m.onnx");
        let good = std::fs::read(shipped()).unwrap();
        // Dimensions of the shapes, as protobuf has them.
        let dims = |sizes: &[u8]| -> Vec<u8> { sizes.iter().flat_map(|&n| [0x0a, 2, 8, n]).collect() };
        let changed = |from: &[u8], to: &[u8]| {
            let (from, mut bytes) = (dims(from), good.clone());
            let at = bytes.windows(from.len()).rposition(|w| w == from).expect("the shape is there");
            bytes[at..at + from.len()].copy_from_slice(&dims(to));
            bytes
        };
        let check = |bytes: &[u8], wanted: &str| {
            std::fs::write(&file, bytes).unwrap();
            let e = OnnxModel::load(&file).expect_err(wanted);
            assert!(e.contains("m.onnx") && e.contains(wanted), "{wanted}: {e}");
        };
        check(b"", "no ONNX file");
        check(b"this is a text\n", "no ONNX file");
        check(&changed(&[1, 64, 4], &[1, 32, 4]), "float32 [1, 64, 4]");
        check(&changed(&[1, 64, 4], &[1, 64, 5]), "float32 [1, 64, 4]");
        // The shape that the last operator gives its output.
        let shape = [1_i64, 2].map(i64::to_le_bytes).concat();
        let at = good.windows(16).position(|w| w == shape).expect("the shape is there");
        let mut turned = good.clone();
        turned[at..at + 16].copy_from_slice(&[2_i64, 1].map(i64::to_le_bytes).concat());
        check(&turned, "float32 [1, 2]");
        for length in (0..good.len()).step_by(7) {
            std::fs::write(&file, &good[..length]).unwrap();
            let _ = OnnxModel::load(&file);
        }
        assert!(OnnxModel::load(&directory.path().join("none")).unwrap_err().contains("cannot read"));
        assert!(OnnxModel::load(directory.path()).unwrap_err().contains("cannot read"));
    }
}
