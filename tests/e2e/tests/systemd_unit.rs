//! The systemd unit of the clock daemon, as systemd itself reads it.

use e2e::{bin, repository};
use std::process::Command;

#[test]
fn systemd_accepts_the_unit_and_finds_it_confined() {
    if Command::new("systemd-analyze").arg("--version").output().is_err() {
        println!("skipped: systemd-analyze is not installed");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let unit = std::fs::read_to_string(repository().join("deploy/systemd/chronotick.service")).unwrap();
    let program = bin("chronotick-daemon");
    let unit = unit.replace("/usr/bin/chronotick-daemon", program.to_str().unwrap());
    let path = dir.path().join("chronotick.service");
    std::fs::write(&path, unit).unwrap();
    let verified = Command::new("systemd-analyze").arg("verify").arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&verified.stderr);
    // Other units of the machine may be complained about too.
    let about_us: Vec<&str> = said.lines().filter(|line| line.contains("chronotick")).collect();
    assert!(about_us.is_empty(), "{about_us:?}");
    let security = ["security", "--offline=true", "--threshold=20"];
    let judged = Command::new("systemd-analyze").args(security).arg(&path).output().unwrap();
    let said = String::from_utf8_lossy(&judged.stderr);
    if said.contains("unrecognized option") || said.contains("Failed to") {
        println!("skipped the exposure: {said}");
        return;
    }
    assert!(judged.status.success(), "{}", String::from_utf8_lossy(&judged.stdout));
}
