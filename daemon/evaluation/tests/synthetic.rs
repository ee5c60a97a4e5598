//! Seeded traces of a simulated clock, and traces of nonsense: what holds of every replay.

use chronotick_core::Span;
use chronotick_evaluation::replay::Mode;
use chronotick_evaluation::{Evaluation, Options, Trace, evaluate};
use proptest::prelude::*;

/// A small generator (splitmix64): the same seed gives the same trace everywhere.
struct Random(u64);

impl Random {
    /// From 0 to 1.
    fn uniform(&mut self) -> f64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((z ^ (z >> 31)) >> 11) as f64 / (1_u64 << 53) as f64
    }

    /// Mean 1.
    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}

/// A crystal whose rate wanders by a part in a thousand million each second, seen through queues in both directions.
fn synthetic(seed: u64, rows: u32, spacing_s: u32) -> String {
    let mut random = Random(seed);
    let (mut offset_s, mut rate) = (0.003, (random.uniform() - 0.5) * 20e-6);
    let mut text = String::from("time_s,offset_s,delay_s,temperature_c\n");
    for i in 0..rows {
        rate += (random.uniform() - 0.5) * 2e-9 * f64::from(spacing_s).sqrt();
        offset_s += rate * f64::from(spacing_s);
        let out_s = 0.002 + 0.001 * random.exponential();
        let back_s = 0.002 + 0.001 * random.exponential();
        let measured_s = offset_s + (out_s - back_s) / 2.0;
        text += &format!("{},{measured_s:.9},{:.9},40\n", i * spacing_s, out_s + back_s);
    }
    text
}

fn replay(text: &str, every_s: f64) -> Evaluation {
    let trace = Trace::parse(text).expect("a trace");
    evaluate(&trace, &Options { every_s, root_dispersion: Span::from_ms(1) })
}

fn mae_ms(got: &Evaluation, name: &str) -> f64 {
    got.summary(name).and_then(|s| s.mae_ms).expect("a scored predictor")
}

#[test]
fn a_dense_trace_is_judged_by_its_local_fit() {
    for seed in 0..5 {
        let got = replay(&synthetic(seed, 10_000, 2), 64.0);
        assert_eq!((got.mode, got.given, got.scored()), (Mode::Dense, 313, 9_000), "seed {seed}");
        let ours = got.summary("chronotick").expect("ours");
        assert_eq!((ours.bound_violations, ours.silent), (Some(0), 0), "seed {seed}");
        assert!(mae_ms(&got, "chronotick") < mae_ms(&got, "hold_last"), "seed {seed}: {:?}", got.predictors);
        assert!(mae_ms(&got, "chronotick") < mae_ms(&got, "none"), "seed {seed}: {:?}", got.predictors);
    }
}

#[test]
fn a_sparse_trace_is_judged_by_its_next_measurement() {
    let text = synthetic(7, 300, 100);
    let got = replay(&text, 64.0);
    assert_eq!((got.mode, got.given, got.scored()), (Mode::Sparse, 300, 270));
    assert_eq!(got.summary("chronotick").map(|s| (s.bound_violations, s.silent)), Some((Some(0), 0)));
    // Every third is given, and all are predicted.
    let got = replay(&text, 300.0);
    assert_eq!((got.mode, got.given, got.scored()), (Mode::Sparse, 100, 270));
}

/// What a predictor says at a moment depends on nothing later.
#[test]
fn predictions_are_causal() {
    for spacing_s in [2, 100] {
        let text = synthetic(3, 400, spacing_s);
        let cut = text.lines().take(301).collect::<Vec<_>>().join("\n");
        let (whole, part) = (replay(&text, 64.0), replay(&cut, 64.0));
        for (a, b) in whole.points.iter().zip(&part.points) {
            assert_eq!((a.time_s, &a.predictions), (b.time_s, &b.predictions));
        }
    }
}

#[test]
fn the_old_system_is_scored_on_the_same_rows() {
    let mut text = String::from("time_s,offset_s,delay_s,old_prediction_s,old_sigma_s\n");
    for i in 0..20 {
        let old = if i == 15 { "," } else { "0.003,0.002" };
        text += &format!("{},0.001,0.01,{old}\n", i * 100);
    }
    let got = replay(&text, 0.0);
    let old = got.summary("old_system").expect("the trace has it");
    assert_eq!((old.predictions, old.silent, old.bound_violations), (17, 1, None));
    assert!((mae_ms(&got, "old_system") - 2.0).abs() < 1e-9 && old.coverage_95 == Some(1.0), "{old:?}");
    assert!((mae_ms(&got, "none") - 1.0).abs() < 1e-9 && mae_ms(&got, "hold_last") == 0.0);
    assert!(replay(&synthetic(1, 50, 100), 0.0).summary("old_system").is_none());
}

/// Numbers of every size that a file may hold.
fn any_number() -> impl Strategy<Value = String> {
    prop_oneof![
        (-1e9..1e9_f64).prop_map(|x| x.to_string()),
        (-1.0..1.0_f64).prop_map(|x| x.to_string()),
        Just(String::from("1e9")),
        Just(String::from("-1e9")),
        Just(String::from("0")),
        Just(String::from("1e-300")),
        Just(String::new()),
    ]
}

proptest! {
    #[test]
    fn no_text_panics(text in "(time_s,offset_s,delay_s\n)?[-0-9a-z.,\"\n\r \u{e9}]{0,200}") {
        if let Ok(trace) = Trace::parse(&text) {
            evaluate(&trace, &Options::default());
        }
    }

    #[test]
    fn no_numbers_panic(
        rows in prop::collection::vec((0.0..1e8_f64, any_number(), any_number(), any_number()), 1..40),
        every_s in prop_oneof![Just(0.0), Just(1e-9), 0.0..1e5_f64],
    ) {
        let mut rows = rows;
        rows.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut text = String::from("time_s,offset_s,delay_s,load\n");
        for (time_s, offset, delay, load) in rows {
            text += &format!("{time_s},{offset},{delay},{load}\n");
        }
        if let Ok(trace) = Trace::parse(&text) {
            evaluate(&trace, &Options { every_s, root_dispersion: Span::from_secs(60) });
        }
    }
}
