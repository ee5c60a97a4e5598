//! The conformance list in Rust, and the pages that the old Python code wrote.
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick::{FixedClocks, Reading, Status, evaluate};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn integer(value: &Value) -> i64 {
    value.as_str().unwrap_or("0").parse().unwrap()
}

fn edge(reading: &Reading, edge: i64) -> Value {
    if reading.bound.is_unbounded() { Value::Null } else { Value::String(edge.to_string()) }
}

#[test]
fn every_case_of_the_conformance_list() {
    let text = std::fs::read_to_string(repository().join("tests/conformance/pages.json")).unwrap();
    let list: Value = serde_json::from_str(&text).unwrap();
    let cases = list["cases"].as_array().unwrap();
    assert!(cases.len() >= 40, "the list has lost its cases");
    for case in cases {
        let name = case["name"].as_str().unwrap();
        let hex = case["page"].as_str().unwrap();
        let page: Vec<u8> =
            (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).unwrap()).collect();
        let clocks = FixedClocks {
            realtime_ns: integer(&case["clocks"]["realtime_ns"]),
            boottime_ns: integer(&case["clocks"]["boottime_ns"]),
            monotonic_raw_ns: integer(&case["clocks"]["monotonic_raw_ns"]),
            counter: case["clocks"]["counter"].as_str().map(|c| c.parse().unwrap()),
        };
        match evaluate(&page, &clocks) {
            Ok(r) => {
                let got = serde_json::json!({
                    "status": r.status.as_str(),
                    "source": r.source.as_str(),
                    "corrected_ns": r.corrected.as_ns().to_string(),
                    "system_ns": r.system.as_ns().to_string(),
                    "earliest_ns": edge(&r, r.bound.earliest().as_ns()),
                    "latest_ns": edge(&r, r.bound.latest().as_ns()),
                    "sigma_ns": r.sigma().as_ns().to_string(),
                    "confidence": f64::from(r.confidence),
                });
                assert_eq!(got, case["expect"], "{name}");
            }
            Err(e) => {
                assert_eq!(e.code().as_str(), case["error"].as_str().unwrap_or("a reading"), "{name}: {e}")
            }
        }
    }
}

#[test]
fn pages_of_the_old_python_writer_read_as_it_reads_them() {
    let dir = repository().join("../shared/data/clock-pages");
    let Ok(text) = std::fs::read_to_string(dir.join("expected.json")) else {
        println!("skipped: {} is not there (it comes with the development machine only)", dir.display());
        return;
    };
    let expected: Value = serde_json::from_str(&text).unwrap();
    for (name, want) in expected.as_object().unwrap() {
        let page = std::fs::read(dir.join(format!("{name}.bin"))).unwrap();
        let record = chronotick::Record::from_bytes(page.as_slice().try_into().unwrap()).unwrap();
        let fields = &want["fields"];
        let check = |field: &str, got: f64| assert_eq!(Some(got), fields[field].as_f64(), "{name}: {field}");
        check("corrected_timestamp", record.corrected_timestamp);
        check("system_timestamp", record.system_timestamp);
        check("offset_correction", record.offset_correction);
        check("drift_rate", record.drift_rate);
        check("offset_uncertainty", record.offset_uncertainty);
        check("drift_uncertainty", record.drift_uncertainty);
        check("prediction_time", record.prediction_time);
        check("valid_until", record.valid_until);
        check("confidence", f64::from(record.confidence));
        check("sequence_number", f64::from(record.sequence));
        check("flags", f64::from(record.flags.0));
        check("source", f64::from(record.source as u32));
        check("measurement_count", f64::from(record.measurement_count));
        check("last_ntp_sync", record.last_ntp_sync);
        check("daemon_uptime", record.daemon_uptime);
        check("total_corrections", f64::from(record.total_corrections));
        check("average_latency_ms", f64::from(record.average_latency_ms));
        for (system, corrected) in want["corrected_time_at_system_time"].as_object().unwrap() {
            let realtime_ns = (system.parse::<f64>().unwrap() * 1e9) as i64;
            let reading = evaluate(&page, &FixedClocks { realtime_ns, ..FixedClocks::default() }).unwrap();
            // The old client computes in f64, whose step is 238 ns here.
            let error_s = (reading.corrected.as_secs_f64() - corrected.as_f64().unwrap()).abs();
            assert!(error_s <= 0.5e-6, "{name} at {system}: off by {error_s} s");
            assert!(reading.bound.is_unbounded(), "an old page has no hard bound");
            let fresh = system.parse::<f64>().unwrap() <= record.valid_until;
            let status = match (name.as_str(), fresh) {
                ("no_data", _) => Status::NoData,
                (_, true) => Status::Legacy,
                (_, false) => Status::Expired,
            };
            assert_eq!(reading.status, status, "{name} at {system}");
        }
        for (elapsed, sigma) in want["time_uncertainty_at_delta"].as_object().unwrap() {
            let elapsed = chronotick::Span::from_secs_f64(elapsed.parse().unwrap());
            let error_s = record.read_at(elapsed).sigma().as_secs_f64() - sigma.as_f64().unwrap();
            assert!(error_s.abs() <= 1e-9, "{name}: sigma at {elapsed} off by {error_s} s");
        }
    }
}
