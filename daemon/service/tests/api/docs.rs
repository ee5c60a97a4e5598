//! The samples of the reference are true: each one runs.

use crate::harness::Running;
use minoots::store::MemoryLog;
use std::process::Command;

/// The commands of every `sh` block, in order.
fn samples(markdown: &str) -> Vec<&str> {
    markdown.split("```sh\n").skip(1).filter_map(|block| block.split("\n```").next()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_curl_sample_of_the_rest_reference_succeeds() {
    if Command::new("curl").arg("--version").output().is_err() {
        println!("skipped: there is no curl here");
        return;
    }
    let service = Running::on_memory(MemoryLog::new()).await;
    let samples = samples(include_str!("../../../../docs/api/rest.md"));
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
    for want in
        ["\"name\":\"tea\"", "\"next_cursor\"", "\"cancel_reason\":\"not needed\"", "event: timer.scheduled"]
    {
        assert!(stdout.contains(want), "{stdout} lacks {want}");
    }
    service.stop().await;
}
