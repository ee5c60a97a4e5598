//! An event log that an older program wrote still opens, and still means the same.
//!
//! tests/vectors/event-log/v1 was written by `write_vectors` below when the format was new. It is never written again:
//! a new format gets its own directory beside it.

use minoots::store::{EventLog, LogOptions, SegmentLog};
use minoots_kernel::{
    ActionResult, ActionSpec, ClockSource, Event, EventRecord, FiringId, Kernel, ScheduleSpec, TenantId,
    TimerDefinition, TimerId, TimerState,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/event-log/v1")
}

fn timer(n: u128) -> TimerId {
    TimerId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | n)
}

fn record(sequence: u64, clock: ClockSource, event: Event) -> EventRecord {
    let at_ns = 1_700_000_000_000_000_000 + sequence as i64;
    EventRecord { sequence, tenant: TenantId::new("acme"), at_ns, clock, event }
}

/// One of each event, every optional field once with and once without.
fn records() -> Vec<EventRecord> {
    let full = TimerDefinition {
        tenant: TenantId::new("acme"),
        name: "kettle ☕".to_string(),
        schedule: ScheduleSpec::AfterNs(2_000_000_000),
        actions: vec![ActionSpec {
            id: "notify".to_string(),
            kind: "webhook".to_string(),
            parameters_json: r#"{"url":"http://127.0.0.1:9/hook"}"#.to_string(),
        }],
        labels: [("team".to_string(), "kitchen".to_string())].into(),
        metadata_json: Some(r#"{"cups":2}"#.to_string()),
        idempotency_key: Some("kettle-1".to_string()),
    };
    let bare = TimerDefinition {
        tenant: TenantId::new("acme"),
        name: "bare".to_string(),
        schedule: ScheduleSpec::AtNs(1_700_000_009_000_000_000),
        actions: vec![],
        labels: Default::default(),
        metadata_json: None,
        idempotency_key: None,
    };
    let due_ns = 1_700_000_002_000_000_001;
    let firing = |n| FiringId { timer: timer(n), nominal_ns: due_ns };
    let scheduled = |n, definition: &TimerDefinition| Event::Scheduled {
        timer: timer(n),
        definition: Arc::new(definition.clone()),
        due_ns,
    };
    let fired = |n, max_error_ns| Event::Firing { firing: firing(n), lateness_ns: 75_000, max_error_ns };
    let result = |ok| ActionResult {
        action: "notify".to_string(),
        ok,
        attempts: 3,
        detail: if ok { "200 OK" } else { "connection refused" }.to_string(),
    };
    let other = TimerDefinition { idempotency_key: None, ..full.clone() };
    vec![
        record(1, ClockSource::Os, scheduled(1, &full)),
        record(2, ClockSource::Page, scheduled(2, &other)),
        record(3, ClockSource::PageHoldover, scheduled(3, &bare)),
        record(4, ClockSource::Page, scheduled(4, &bare)),
        record(
            5,
            ClockSource::Page,
            Event::Cancelled { timer: timer(3), reason: Some("not today".to_string()) },
        ),
        record(6, ClockSource::Page, Event::Cancelled { timer: timer(4), reason: None }),
        record(7, ClockSource::Page, fired(1, Some(250_000))),
        record(8, ClockSource::Os, fired(2, None)),
        record(9, ClockSource::Page, Event::Completed { firing: firing(1), results: vec![result(true)] }),
        record(10, ClockSource::Page, Event::Failed { firing: firing(2), results: vec![result(false)] }),
    ]
}

#[test]
fn the_log_of_version_1_still_opens() {
    // A copy: opening a log takes its lock and may tidy its end.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    for entry in std::fs::read_dir(vectors().join("log")).expect("the vectors are part of the repository") {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join("log").join(path.file_name().unwrap())).unwrap();
    }
    let mut log = SegmentLog::open(dir.path(), LogOptions::default()).unwrap();
    let (mut found, mut kernel) = (Vec::new(), Kernel::new());
    let recovery = log
        .recover(&mut |record| {
            kernel.replay(&record).map_err(|e| e.to_string())?;
            found.push(record);
            Ok(())
        })
        .unwrap();
    assert_eq!((recovery.last_sequence, recovery.cut), (10, None));
    assert_eq!(found, records());
    let states: Vec<_> = (1..=4).map(|n| kernel.timer(timer(n)).unwrap().state).collect();
    let cancelled = TimerState::Cancelled;
    assert_eq!(states, [TimerState::Completed, TimerState::Failed, cancelled, cancelled]);
}

#[test]
fn the_format_of_version_1_is_written_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let name = "log/00000000000000000001.segment";
    let (written, golden) =
        (std::fs::read(dir.path().join(name)).unwrap(), std::fs::read(vectors().join(name)).unwrap());
    assert!(
        written == golden,
        "the bytes have changed: give the new format a new version, and keep reading the old"
    );
}

fn write(dir: &Path) {
    let mut log =
        SegmentLog::open(dir, LogOptions { segment_bytes: 1 << 20, reserve_bytes: 256 }).expect("it opens");
    log.recover(&mut |_| Ok(())).expect("it is empty");
    let records = records();
    log.append(&records[..4]).expect("there is room");
    log.append(&records[4..]).expect("there is room");
}

/// Makes the vectors; run it by name when there is a new version, with its directory in `vectors`.
#[test]
#[ignore = "writes the vectors"]
fn write_vectors() {
    assert!(!vectors().exists(), "{} is there: vectors are never written again", vectors().display());
    write(&vectors());
    std::fs::remove_file(vectors().join("lock")).unwrap();
}
