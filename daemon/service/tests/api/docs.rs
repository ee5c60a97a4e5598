//! The samples of the reference are true: each one runs.

use crate::harness::{Running, config};
use minoots::config::{Config, SecretsSection};
use minoots::store::MemoryLog;
use serde_json::Value;
use std::process::Command;

const TIMERS: &str = include_str!("../../../../docs/timers.md");

/// The contents of every block in a language, in order.
pub(crate) fn blocks<'a>(markdown: &'a str, language: &str) -> Vec<&'a str> {
    let start = format!("```{language}\n");
    markdown.split(&start).skip(1).filter_map(|block| block.split("\n```").next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_curl_sample_of_the_rest_reference_succeeds() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl here");
        return;
    }
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut samples = blocks(include_str!("../../../../docs/api/rest.md"), "sh");
    samples.extend(blocks(TIMERS, "sh"));
    samples.extend(blocks(include_str!("../../../../docs/compat.md"), "sh"));
    assert!(samples.len() >= 6 && samples[0].starts_with("URL="), "{samples:?}");
    // Any error answer ends the script, in a pipe too.
    let mut script =
        String::from("set -eu\ncurl() { command curl --fail-with-body \"$@\" || echo FAILED; }\n");
    script.push_str(&format!("URL={}\n", service.url));
    for sample in &samples[1..] {
        script.push_str(sample);
        script.push_str("\necho\n");
    }
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(!stdout.contains("FAILED") && !stdout.contains("urn:minoots:error"), "{stdout}");
    for want in [
        "\"name\":\"tea\"",
        "\"cron\":\"0 9 * * mon-fri\"",
        "\"replayed\":false",
        "\"next_cursor\"",
        "\"pause_reason\":\"maintenance\"",
        "\"by_hand\":true",
        "\"acknowledged_at\":\"",
        "\"cancel_reason\":\"not needed\"",
        "{\"changed\":1}",
        "\"cancel_reason\":\"over\"",
        "\"entries\":[{",
        "event: timer.scheduled",
        "\"state\":\"waiting\"",
    ] {
        assert!(stdout.contains(want), "{stdout} lacks {want}");
    }
    service.stop().await;
}

#[tokio::test]
async fn every_timer_of_the_guide_can_be_created() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let bodies = blocks(TIMERS, "json");
    assert!(bodies.len() >= 9);
    for body in bodies {
        service.create(serde_json::from_str(body).unwrap()).await;
    }
    service.stop().await;
}

#[tokio::test]
async fn the_reference_names_every_field_of_an_answer() {
    fn names(value: &Value, into: &mut Vec<String>) {
        match value {
            Value::Object(fields) => fields.iter().for_each(|(name, value)| {
                into.push(name.clone());
                // What is in these is the user's.
                if !matches!(name.as_str(), "labels" | "metadata" | "parameters") {
                    names(value, into);
                }
            }),
            Value::Array(values) => values.iter().for_each(|v| names(v, into)),
            _ => {}
        }
    }
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut live = service.events(Some("0")).await;
    let timer = service.create(serde_json::json!({"name": "n", "cron": "@daily"})).await;
    let path = format!("/v1/timers/{}", timer["id"].as_str().unwrap());
    service.post_to(&format!("{path}/fire"), serde_json::json!({})).await;
    let mut seen = Vec::new();
    live.until("timer.completed").await.iter().for_each(|e| names(&e.data, &mut seen));
    for path in [path.clone(), format!("{path}/history")] {
        names(&service.get(&path).await.json(), &mut seen);
    }
    let reference = include_str!("../../../../docs/api/rest.md");
    for name in seen {
        let is_there = [format!("`{name}`"), format!("\"{name}\"")].iter().any(|n| reference.contains(n));
        assert!(is_there, "docs/api/rest.md does not name {name}");
    }
    service.stop().await;
}

/// Every name of a function in the Rust files under a directory.
fn functions(directory: &std::path::Path, into: &mut std::collections::BTreeSet<String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            functions(&path, into);
        } else if path.extension().is_some_and(|e| e == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names = text.split("fn ").skip(1).filter_map(|rest| rest.split(['(', '<']).next());
            into.extend(names.map(str::to_string));
        }
    }
}

#[test]
fn every_test_of_the_threat_model_is_there() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut there = std::collections::BTreeSet::new();
    functions(&root.join("src"), &mut there);
    functions(&root.join("tests"), &mut there);
    let model = include_str!("../../../../docs/threat-model.md");
    let rows = model.lines().filter(|l| l.starts_with("| ") && !l.starts_with("| threat"));
    for row in rows {
        let tests = row.trim_end_matches('|').rsplit('|').next().unwrap();
        let named: Vec<_> = tests.split('`').skip(1).step_by(2).collect();
        assert!(!named.is_empty(), "no test for: {row}");
        for name in named {
            assert!(there.contains(name), "docs/threat-model.md names the test {name}, which is not there");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_curl_sample_of_the_pages_on_trust_succeeds() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl here");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let master = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_string();
    let secrets = SecretsSection { from_env: Some(master.into()), ..Default::default() };
    let service = Running::whole(&Config { secrets, ..config(dir.path()) }).await;
    let (schemas, secrets, signing, audit) = (
        include_str!("../../../../docs/schemas.md"),
        include_str!("../../../../docs/secrets.md"),
        include_str!("../../../../docs/signing.md"),
        include_str!("../../../../docs/audit.md"),
    );
    let mut script =
        String::from("set -eu\ncurl() { command curl --fail-with-body \"$@\" || echo FAILED; }\n");
    script.push_str(&format!("URL={}\n", service.url));
    for page in [schemas, secrets, signing, audit] {
        let samples = blocks(page, "sh");
        assert!(!samples.is_empty(), "{page}");
        for sample in samples {
            let lines = sample.lines().filter(|line| !line.starts_with("URL="));
            lines.for_each(|line| script.extend([line, "\n"]));
            script.push_str("echo\n");
        }
    }
    let output = Command::new("sh").arg("-c").arg(script).output().unwrap();
    let stdout = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(!stdout.contains("FAILED") && !stdout.contains("urn:minoots:error"), "{stdout}");
    for want in ["\"payload_schema\":\"order@1\"", "\"name\":\"slack\"", "\"kty\":\"OKP\"", "\"next_after\":"]
    {
        assert!(stdout.contains(want), "{stdout} lacks {want}");
    }
    // The action of the page on secrets can be created, now that there is one.
    let action: Value = serde_json::from_str(blocks(secrets, "json")[0]).unwrap();
    service.create(serde_json::json!({"name": "n", "after": "1h", "actions": [action]})).await;
    // A line of the audit has the fields that its page shows.
    let page = service.get("/v1/audit?limit=1").await.json();
    let line: Value = serde_json::from_str(page["lines"][0].as_str().unwrap()).unwrap();
    let shown: Value = serde_json::from_str(blocks(audit, "json")[0]).unwrap();
    let names = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&line), names(&shown));
    service.stop().await;
}
