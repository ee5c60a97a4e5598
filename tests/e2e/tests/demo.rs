//! The demo is as it says.

use std::process::Command;

#[test]
fn the_demo_ends_well_and_says_so() {
    let output = Command::new(env!("CARGO_BIN_EXE_demo")).output().unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    println!("{stdout}");
    assert!(output.status.success(), "{}: {}", output.status, String::from_utf8_lossy(&output.stderr));
    for line in [
        "whose clock is 250 ms ahead and gains 40 ppm more",
        "synchronized",
        "Acknowledged, so it is on disk",
        "signal: 9 (SIGKILL)",
        "On corrected time it came",
        "Deliveries: 1.",
        "\"type\":\"timer.fired\"",
        "Demo: all as said.",
    ] {
        assert!(stdout.contains(line), "the demo did not say {line:?}");
    }
    assert_eq!(stdout.matches("\"type\":\"timer.fired\"").count(), 1);
}
