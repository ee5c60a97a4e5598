//! An event log that an older program wrote still opens, and still means the same.
//!
//! tests/vectors/event-log holds one directory for each version, written when the format was new. None is written again:
//! a new format gets its own directory beside it.

use minoots::store::disk::OsDisk;
use minoots::store::{EventLog, LogOptions, SegmentLog};
use minoots_kernel::recurrence::{Bounds, CronSpec, FoldPolicy, GapPolicy, IntervalMode, IntervalSpec};
use minoots_kernel::{
    ActionResult, ActionSpec, ClockSource, Event, EventRecord, FiringId, Kernel, MisfirePolicy, Need,
    NothingCold, Occurrence, OverlapPolicy, ScheduleSpec, SkipReason, StartAfter, TenantId, TimerDefinition,
    TimerId, TimerState, Upstream, UpstreamOn,
};
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn vectors() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/vectors/event-log")
}

fn timer(n: u128) -> TimerId {
    TimerId::from_u128(0x0190_0000_0000_7000_8000_0000_0000_0000 | n)
}

fn record(sequence: u64, clock: ClockSource, event: Event) -> EventRecord {
    let at_ns = 1_700_000_000_000_000_000 + sequence as i64;
    EventRecord { sequence, tenant: TenantId::new("acme"), at_ns, clock, event }
}

/// One of each event of version 1, every optional field once with and once without.
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
        ..TimerDefinition::default()
    };
    let bare = TimerDefinition {
        tenant: TenantId::new("acme"),
        name: "bare".to_string(),
        schedule: ScheduleSpec::AtNs(1_700_000_009_000_000_000),
        ..TimerDefinition::default()
    };
    let due_ns = 1_700_000_002_000_000_001;
    let firing = |n| FiringId { timer: timer(n), nominal_ns: due_ns };
    let scheduled = |n, definition: &TimerDefinition| Event::Scheduled {
        timer: timer(n),
        definition: Arc::new(definition.clone()),
        due_ns,
        nominal_ns: None,
    };
    let fired = |n, max_error_ns| Event::Firing {
        firing: firing(n),
        lateness_ns: 75_000,
        max_error_ns,
        due_ns: None,
        armed_ns: None,
        is_extra: false,
        supersedes: vec![],
        next: None,
    };
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
        record(
            9,
            ClockSource::Page,
            Event::Completed { firing: firing(1), results: vec![result(true)], next: None },
        ),
        record(
            10,
            ClockSource::Page,
            Event::Failed { firing: firing(2), results: vec![result(false)], next: None },
        ),
    ]
}

/// One of each event that came with version 2, every optional field once with and once without.
fn records_of_version_2() -> Vec<EventRecord> {
    let base_ns = 1_700_000_000_000_000_000;
    let next = Occurrence { nominal_ns: base_ns + 60, due_ns: base_ns + 61 };
    let full = TimerDefinition {
        tenant: TenantId::new("acme"),
        name: "tea time".to_string(),
        schedule: ScheduleSpec::Cron(CronSpec {
            expression: "0 16 * * *".to_string(),
            zone: "Europe/London".to_string(),
            gap: Some(GapPolicy::Shift),
            overlap: Some(FoldPolicy::Second),
            exclude_dates: vec!["2026-12-25".to_string()],
        }),
        bounds: Bounds { start_ns: Some(base_ns), end_ns: Some(base_ns * 2), count: Some(7) },
        jitter_ns: 5_000_000_000,
        misfire: Some(MisfirePolicy::CatchUp { max: 3, within_ns: 9_000_000_000 }),
        grace_ns: Some(1),
        overlap: OverlapPolicy::BufferOne,
        priority: -3,
        expire_after_ns: Some(60_000_000_000),
        start_after: Some(StartAfter {
            upstreams: vec![Upstream { timer: timer(1), on: UpstreamOn::Completed }],
            need: Need::AtLeast(1),
        }),
        ..TimerDefinition::default()
    };
    let bare = TimerDefinition {
        tenant: TenantId::new("acme"),
        name: "pulse".to_string(),
        schedule: ScheduleSpec::Interval(IntervalSpec {
            every_ns: 60_000_000_000,
            mode: IntervalMode::FixedRate,
            anchor_ns: None,
        }),
        ..TimerDefinition::default()
    };
    let firing = |nominal_ns| FiringId { timer: timer(6), nominal_ns };
    let fired = |nominal_ns, due_ns, armed_ns, is_extra, supersedes, next| Event::Firing {
        firing: firing(nominal_ns),
        lateness_ns: 70_000,
        max_error_ns: None,
        due_ns,
        armed_ns,
        is_extra,
        supersedes,
        next,
    };
    let nominal_ns = base_ns + 60;
    let events = vec![
        Event::Held { timer: timer(5), definition: Arc::new(full) },
        Event::Scheduled {
            timer: timer(6),
            definition: Arc::new(bare),
            due_ns: base_ns + 61,
            nominal_ns: Some(nominal_ns),
        },
        Event::Resolved { timer: timer(5), upstream: timer(1), counts: true, next: Some(next) },
        Event::Rescheduled { timer: timer(5), next },
        Event::Paused { timer: timer(5), reason: Some("lunch".to_string()) },
        Event::Resumed { timer: timer(5) },
        fired(nominal_ns, Some(base_ns + 61), Some(base_ns), false, vec![], Some(next_of(next, 1))),
        Event::Buffered { timer: timer(6), occurrence: next_of(next, 1), next: Some(next_of(next, 2)) },
        Event::Completed { firing: firing(nominal_ns), results: vec![], next: None },
        fired(nominal_ns + 60, None, None, false, vec![], None),
        fired(nominal_ns + 62, None, None, true, vec![nominal_ns + 60], None),
        Event::Skipped {
            timer: timer(6),
            nominal_ns: nominal_ns + 120,
            last_nominal_ns: Some(nominal_ns + 240),
            count: 3,
            reason: SkipReason::Coalesced,
            next: Some(next_of(next, 5)),
        },
        Event::Skipped {
            timer: timer(6),
            nominal_ns: nominal_ns + 300,
            last_nominal_ns: None,
            count: 1,
            reason: SkipReason::Expired,
            next: Some(next_of(next, 6)),
        },
        Event::Acknowledged {
            firing: firing(nominal_ns + 62),
            by: Some("agent 7".to_string()),
            note: Some("on it".to_string()),
        },
        Event::Failed { firing: firing(nominal_ns + 62), results: vec![], next: None },
    ];
    let mut all = records();
    all.extend(events.into_iter().zip(11..).map(|(event, n)| record(n, ClockSource::Page, event)));
    all
}

/// The occurrence so many minutes (of nanoseconds) later.
fn next_of(occurrence: Occurrence, steps: i64) -> Occurrence {
    let Occurrence { nominal_ns, due_ns } = occurrence;
    Occurrence { nominal_ns: nominal_ns + 60 * steps, due_ns: due_ns + 60 * steps }
}

/// Opens the log of a version, and replays it.
#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn open(version: &str) -> (Vec<EventRecord>, Kernel) {
    // A copy: opening a log takes its lock and may tidy its end.
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("log")).unwrap();
    let log = vectors().join(version).join("log");
    for entry in std::fs::read_dir(log).expect("the vectors are part of the repository") {
        let path = entry.unwrap().path();
        std::fs::copy(&path, dir.path().join("log").join(path.file_name().unwrap())).unwrap();
    }
    let mut log = SegmentLog::open(dir.path(), 0, LogOptions::default()).unwrap();
    let (mut found, mut kernel) = (Vec::new(), Kernel::new());
    let recovery = log
        .recover(0, &mut |record| {
            found.push(record.clone());
            kernel.replay(record, &NothingCold).map_err(|e| e.to_string())
        })
        .unwrap();
    assert_eq!((recovery.last_sequence, recovery.cut), (found.len() as u64, None));
    (found, kernel)
}

#[expect(clippy::unwrap_used, reason = "a helper of tests")]
fn states(kernel: &Kernel, timers: std::ops::RangeInclusive<u128>) -> Vec<TimerState> {
    timers.map(|n| kernel.timer(timer(n)).unwrap().status.state).collect()
}

#[test]
fn the_log_of_version_1_still_opens() {
    let (found, kernel) = open("v1");
    assert_eq!(found, records());
    let cancelled = TimerState::Cancelled;
    assert_eq!(states(&kernel, 1..=4), [TimerState::Completed, TimerState::Failed, cancelled, cancelled]);
}

#[test]
fn the_log_of_version_2_still_opens() {
    let (found, kernel) = open("v2");
    assert_eq!(found, records_of_version_2());
    let six = kernel.timer(timer(6)).unwrap();
    assert_eq!(states(&kernel, 5..=6), [TimerState::Scheduled, TimerState::Scheduled]);
    assert_eq!((six.status.fires, six.status.occurrences, six.status.failures), (3, 6, 1));
}

#[test]
fn the_format_of_version_2_is_written_byte_for_byte() {
    let dir = tempfile::tempdir().unwrap();
    write(dir.path());
    let name = "log/00000000000000000001.segment";
    let (written, golden) = (
        std::fs::read(dir.path().join(name)).unwrap(),
        std::fs::read(vectors().join("v2").join(name)).unwrap(),
    );
    assert!(
        written == golden,
        "the bytes have changed: give the new format a new version, and keep reading the old"
    );
}

fn write(dir: &Path) {
    let options = LogOptions { segment_bytes: 1 << 20, reserve_bytes: 256 };
    let mut log = SegmentLog::open_on(Arc::new(OsDisk), dir, 0, options).expect("it opens");
    log.recover(0, &mut |_| Ok(())).expect("it is empty");
    let records = records_of_version_2();
    log.append(&records[..4]).expect("there is room");
    log.append(&records[4..]).expect("there is room");
}

/// Makes the vectors; run it by name when there is a new version, with its directory in place of `v2`.
#[test]
#[ignore = "writes the vectors"]
fn write_vectors() {
    let directory = vectors().join("v2");
    assert!(!directory.exists(), "{} is there: vectors are never written again", directory.display());
    write(&directory);
}
