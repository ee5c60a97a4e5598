//! The program's `eval`, as a user calls it.

use std::path::Path;
use std::process::{Command, Output};

fn eval(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_chronotick-daemon"))
        .arg("eval")
        .args(arguments)
        .output()
        .expect("the program starts")
}

/// An hour of a clock that is 3 ms wrong.
fn trace(directory: &Path) -> String {
    let mut text = String::from("delay_s,time_s,host,offset_s,old_prediction_s\n");
    for i in 0..1800 {
        text += &format!("0.01,{},a,0.003,0.0025\n", i * 2);
    }
    let path = directory.join("trace.csv");
    std::fs::write(&path, text).expect("a writable directory");
    path.to_str().expect("UTF-8").to_owned()
}

#[test]
fn one_json_object() {
    let directory = tempfile::tempdir().expect("a directory");
    let path = trace(directory.path());
    let plot = directory.path().join("plot.svg");
    let plot = plot.to_str().expect("UTF-8");
    let output = eval(&[&path, "--every", "64", "--json", "--plot", plot]);
    assert!(output.status.success(), "{output:?}");
    let got: serde_json::Value = serde_json::from_slice(&output.stdout).expect("one JSON value");
    let predictors = got["predictors"].as_object().expect("an object");
    let names: Vec<&str> = predictors.keys().map(String::as_str).collect();
    let want = [
        "chronotick",
        "chrony_like",
        "hold_last",
        "linear_regression",
        "minimum_delay_8",
        "none",
        "old_system",
    ];
    assert_eq!(names, want);
    for (name, mae_ms) in [("none", 3.0), ("hold_last", 0.0), ("old_system", 0.5)] {
        let got_ms = predictors[name]["mae_ms"].as_f64().expect("a number");
        assert!((got_ms - mae_ms).abs() < 1e-6, "{name}: {got_ms}");
    }
    let ours = &predictors["chronotick"];
    assert_eq!((&ours["bound_violations"], &ours["coverage_95"]), (&0.into(), &1.0.into()));
    assert!(ours["p99_ms"].as_f64().expect("a number") < 0.01, "{ours}");
    assert!(predictors["none"]["coverage_95"].is_null() && predictors["none"]["bound_violations"].is_null());
    assert!(std::fs::read_to_string(plot).expect("a plot").contains("</svg>"));
}

#[test]
fn a_table() {
    let directory = tempfile::tempdir().expect("a directory");
    let output = eval(&[&trace(directory.path())]);
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    assert!(output.status.success() && text.contains("\nchronotick "), "{text}");
    assert!(text.contains("1800 rows over 3598 s, 1800 measurements, 57 given (one in 64 s)"), "{text}");
}

#[test]
fn bad_input_is_named() {
    let directory = tempfile::tempdir().expect("a directory");
    let good = trace(directory.path());
    let bad = directory.path().join("bad.csv");
    let bad = bad.to_str().expect("UTF-8");
    std::fs::write(bad, "time_s,offset_s,delay_s\n0,0,0\n1,x,0\n").expect("a writable directory");
    let check = |arguments: &[&str], want: &str| {
        let output = eval(arguments);
        let message = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && output.stdout.is_empty(), "{arguments:?}: {output:?}");
        assert!(message.contains(want) && !message.contains("panicked"), "{arguments:?}: {message}");
    };
    check(&[bad], "bad.csv: line 3: `offset_s` must be a number in range, not `x`");
    check(&["nowhere.csv"], "cannot read the trace nowhere.csv");
    check(&[&good, "--plot", "a.pdf"], "must end in .svg or .png");
    check(&[&good, "--plot", "no/such/directory/a.svg"], "cannot write the plot");
    check(&[&good, "--every", "-1"], "must be a number from 0");
    check(&[&good, "--every", "nan"], "must be a number from 0");
}
