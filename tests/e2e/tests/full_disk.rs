//! A disk that is really full, seen over HTTP: creates are refused, nothing is lost, service resumes by itself.
//!
//! Needs the right to mount a small tmpfs; without it the test says so and is skipped.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use e2e::http::Answer;
use e2e::{Http, TimerService, eventually};
use serde_json::json;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A file system of a few megabytes, unmounted in the end.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount(mebibytes: u32) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let size = format!("size={mebibytes}m");
        let mounted =
            Command::new("mount").args(["-t", "tmpfs", "-o", &size, "tmpfs"]).arg(dir.path()).output();
        mounted.is_ok_and(|o| o.status.success()).then_some(Self(dir))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Takes all the room that is left.
    fn fill(&self) -> PathBuf {
        let path = self.path().join("ballast");
        let mut file = File::create(&path).unwrap();
        // One page at a time until there is none.
        while file.write_all(&[0x55; 4096]).is_ok() {}
        path
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).output();
    }
}

fn create(http: &Http, after: &str) -> Answer {
    http.create(&json!({"name": "n", "after": after, "metadata": "x".repeat(20_000)}))
}

/// Creates timers until one is refused for want of room; adds the acknowledged ones to `acknowledged`.
fn create_until_refused(http: &Http, acknowledged: &mut BTreeSet<String>) {
    loop {
        let answer = create(http, "1d");
        if answer.status != 201 {
            assert_eq!((answer.status, answer.text("code")), (503, "store_full"), "{answer:?}");
            return;
        }
        acknowledged.insert(answer.text("id").to_owned());
    }
}

fn ids(http: &Http) -> BTreeSet<String> {
    http.timers().iter().map(|t| t["id"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn a_full_disk_refuses_and_room_resumes() {
    let Some(disk) = SmallDisk::mount(8) else {
        println!("skipped: a full disk: this user may not mount a tmpfs");
        return;
    };
    let (data, no_page) = (disk.path().join("data"), disk.path().join("no-page"));
    let service = TimerService::start(&data, &no_page);
    let http = service.http();
    let mut acknowledged = BTreeSet::from([create(&http, "1d").text("id").to_owned()]);
    assert_eq!(http.get("/readyz").status, 200);
    let ballast = disk.fill();
    create_until_refused(&http, &mut acknowledged);
    assert_eq!(http.get("/readyz").status, 503);
    assert_eq!(http.get("/healthz").status, 200);
    // What was refused was not made, and what there is can be read.
    assert_eq!(ids(&http), acknowledged);

    // A crash on the full disk loses nothing either.
    service.kill();
    let service = TimerService::start(&data, &no_page);
    let http = service.http();
    assert_eq!(ids(&http), acknowledged);
    create_until_refused(&http, &mut acknowledged);

    std::fs::remove_file(ballast).unwrap();
    // It looks for room by itself, with nobody asking for a timer.
    eventually("the service to be ready again", || (http.get("/readyz").status == 200).then_some(()));
    let due = create(&http, "1ms");
    assert_eq!(due.status, 201, "{due:?}");
    let path = format!("/v1/timers/{}", due.text("id"));
    eventually("a timer to fire", || (http.get(&path).text("state") == "completed").then_some(()));
    acknowledged.insert(due.text("id").to_owned());

    service.kill();
    let service = TimerService::start(&data, &no_page);
    assert_eq!(ids(&service.http()), acknowledged);
}
