//! The old Python layout in both directions, while the writer runs at full rate.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick::os_clock::boottime;
use chronotick::{Client, Record, Status};
use e2e::patience::HUNG;
use e2e::{ClockDaemon, LiarConfig, NtpLiar, eventually, repository};
use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const LIE_S: f64 = 0.25;

/// `python3` with one of the scripts of `tests/e2e/legacy`; `None`, having said so, without Python.
fn python(script: &str) -> Option<Command> {
    if Command::new("python3").arg("--version").output().is_err() {
        println!("skipped: {script}: there is no python3 here");
        return None;
    }
    let mut command = Command::new("python3");
    command.arg(repository().join("tests/e2e/legacy").join(script));
    Some(command)
}

/// A name in /dev/shm for this process, all of whose files are removed in the end.
struct ShmName(String);

impl ShmName {
    fn path(&self) -> PathBuf {
        Path::new("/dev/shm").join(&self.0)
    }
}

impl Drop for ShmName {
    fn drop(&mut self) {
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(&self.0) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

fn range(summary: &Value, name: &str) -> (f64, f64) {
    (summary[name][0].as_f64().unwrap(), summary[name][1].as_f64().unwrap())
}

#[test]
fn an_old_reader_reads_our_page_at_full_rate_and_its_exit_does_not_remove_it() {
    let Some(mut reader) = python("old_reader.py") else { return };
    let name = ShmName(format!("chronotick_e2e_{}", std::process::id()));
    let dir = tempfile::tempdir().unwrap();
    let lie = LiarConfig { offset_ns: (LIE_S * 1e9) as i64, ..LiarConfig::default() };
    let liar = NtpLiar::start(lie).unwrap();
    let daemon = ClockDaemon::start_at(&name.path(), dir.path(), &[liar.address()], "rate_hz = 1000");
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    let inode = std::fs::metadata(daemon.page()).unwrap().ino();
    let before = daemon.status();

    let output = reader.args([&name.0, "400000"]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    println!("{summary}");
    assert_eq!(summary["implausible"], 0, "{summary}");
    assert_eq!(summary["backwards"], 0, "{summary}");
    assert!(summary["sequences"].as_u64() > Some(100), "the page hardly changed: {summary}");
    // The bound of before still grows a little between two measurements; a float of Unix seconds has steps of 238 ns.
    let bound = before["max_error_seconds"].as_f64().unwrap() + 1e-4;
    for name in ["computed", "published"] {
        let (low, high) = range(&summary, name);
        assert!((low - LIE_S).abs() <= bound && (high - LIE_S).abs() <= bound, "{name} {summary}, {bound}");
    }

    // The tracker of the reader's process has removed the name; the daemon gives it back to the same object.
    daemon.wait_for_line("restored");
    assert_eq!(std::fs::metadata(daemon.page()).unwrap().ino(), inode);
    assert_eq!(daemon.client().status(), Ok(Status::Synchronized));
    assert_eq!(client.status(), Ok(Status::Synchronized), "whoever was attached goes on");
}

/// Ends with the test.
struct Writer(Child);

impl Drop for Writer {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Whether every field belongs to the record with this one's sequence; see `old_writer.py`.
///
/// The two counters that the old writer stores last, after the uptime, may be missing: they have a zero in good pages
/// too, so nothing tells a reader that the writer was stopped just before them. No reading is computed from them.
fn is_whole(r: &Record) -> bool {
    let n = r.sequence;
    let x = f64::from(n) / 1024.0;
    let started = r.prediction_time;
    r.corrected_timestamp == started + x
        && r.system_timestamp == started - x
        && r.offset_correction == x
        && r.drift_rate == f64::from(n) * 2f64.powi(-50)
        && r.offset_uncertainty == x
        && r.drift_uncertainty == 0.0
        && r.valid_until == started + 3600.0 + x
        && r.confidence == (n % 256) as f32 / 256.0
        && r.flags.0 == 0x0f
        && r.source as u32 == 1 + n % 4
        && r.measurement_count == n
        && r.last_ntp_sync == started - 2.0 * x
        && r.daemon_uptime == x
        && [0, n].contains(&r.total_corrections)
        && [0.0, (n % 1000) as f32].contains(&r.average_latency_ms)
}

#[test]
fn two_million_reads_of_a_page_that_an_old_writer_rewrites_are_never_torn() {
    let Some(mut writer) = python("old_writer.py") else { return };
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page");
    let mut writer = Writer(writer.arg(&page).stdout(Stdio::piped()).spawn().unwrap());
    let mut line = String::new();
    BufReader::new(writer.0.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert_eq!(line.trim(), "ready");

    let client = Client::attach_named(page.to_str()).unwrap();
    let started = eventually("a first record", || client.snapshot().ok()).prediction_time;
    let (mut last, mut reads, mut changes) = (0, 0u64, 0u64);
    let give_up = boottime() + HUNG;
    // On a busy machine the two may share a processor, and then a reader seldom meets the writer at work.
    while reads < 2_000_000 || changes < 1_000 {
        reads += 1;
        let record = client.snapshot().unwrap();
        assert!(is_whole(&record) && record.prediction_time == started, "torn: {record:?}");
        assert!(record.sequence >= last, "{last} after {}", record.sequence);
        changes += u64::from(record.sequence != last);
        last = record.sequence;
        assert!(
            reads % 4096 != 0 || boottime() < give_up,
            "the page hardly changes: {changes} in {reads} reads"
        );
    }
    println!("{reads} reads, {changes} different records of {last} written");
    assert_eq!(client.status(), Ok(Status::Legacy));
    assert!(client.bounds().unwrap().is_unbounded(), "an old page promises no bound");
    assert!(writer.0.try_wait().unwrap().is_none(), "the writer ran to the end");
}
