//! What every store must do, run for each one, plus what only files can suffer.

use super::{EventLog, LogOptions, MemoryFault, MemoryLog, SegmentLog, StoreError};
use minoots_kernel::{ClockSource, Event, EventRecord, ScheduleSpec, TenantId, TimerDefinition, TimerId};
use std::fs::{self, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

fn record(sequence: u64) -> EventRecord {
    let timer = TimerId::from_u128(u128::from(sequence / 2 + 1));
    let event = if sequence % 2 == 1 {
        let definition = Arc::new(TimerDefinition {
            tenant: TenantId::default(),
            name: format!("timer {sequence}"),
            schedule: ScheduleSpec::AfterNs(5),
            actions: vec![],
            labels: [("k".to_string(), "v".repeat(sequence as usize % 50))].into(),
            metadata_json: Some("{\"a\":1}".to_string()),
            ..TimerDefinition::default()
        });
        Event::Scheduled { timer, definition, due_ns: i64::MAX, nominal_ns: None }
    } else {
        Event::Cancelled { timer, reason: None }
    };
    EventRecord { sequence, tenant: TenantId::default(), at_ns: -1, clock: ClockSource::Os, event }
}

fn records(range: std::ops::RangeInclusive<u64>) -> Vec<EventRecord> {
    range.map(record).collect()
}

fn recover(log: &mut dyn EventLog) -> Result<Vec<EventRecord>, StoreError> {
    recover_after(log, 0)
}

fn recover_after(log: &mut dyn EventLog, after: u64) -> Result<Vec<EventRecord>, StoreError> {
    let mut found = Vec::new();
    let recovery = log.recover(after, &mut |r| {
        found.push(r);
        Ok(())
    })?;
    assert_eq!(recovery.last_sequence, after + found.len() as u64);
    Ok(found)
}

/// Every store passes this. `open` opens the same storage again and again.
fn conformance(open: &mut dyn FnMut() -> Box<dyn EventLog>) {
    let mut log = open();
    assert_eq!(recover(&mut *log).unwrap(), []);
    assert_eq!(log.reader().read(1, 10).unwrap(), []);
    log.check_room().unwrap();
    log.append(&[]).unwrap();
    log.append(&records(1..=3)).unwrap();
    log.append(&records(4..=4)).unwrap();
    drop(log);

    let mut log = open();
    assert_eq!(recover(&mut *log).unwrap(), records(1..=4));
    let reader = log.reader();
    for batch in 0..50 {
        log.append(&records(5 + batch * 7..=11 + batch * 7)).unwrap();
    }
    let last = 4 + 50 * 7;
    assert_eq!(reader.read(0, 2).unwrap(), records(1..=2));
    assert_eq!(reader.read(3, 100).unwrap(), records(3..=102));
    assert_eq!(reader.read(200, 1000).unwrap(), records(200..=last));
    assert_eq!(reader.read(last, 1000).unwrap(), records(last..=last));
    assert_eq!(reader.read(last + 1, 1000).unwrap(), []);
    assert_eq!(reader.read(1, 0).unwrap(), []);

    // A gap and a repeat are the caller's mistake; nothing of them is kept.
    assert!(matches!(log.append(&records(last + 2..=last + 3)), Err(StoreError::Failed { .. })));
    assert!(matches!(log.append(&records(last..=last)), Err(StoreError::Failed { .. })));
    drop(log);
    let mut log = open();
    assert_eq!(recover(&mut *log).unwrap(), records(1..=last));
    drop(log);
    // A recovery that knows the beginning reads the rest, and every event can still be read.
    for after in [1, 4, 5, 200, last - 1, last] {
        let mut log = open();
        assert_eq!(recover_after(&mut *log, after).unwrap(), records(after + 1..=last));
        assert_eq!(log.reader().oldest_sequence(), Some(1));
        assert_eq!(log.reader().read(2, 3).unwrap(), records(2..=4));
        assert_eq!(log.reader().read(after, 10).unwrap(), records(after..=last.min(after + 9)));
    }
    let mut log = open();
    assert!(recover_after(&mut *log, last + 1).is_err(), "acknowledged events are missing");
    // What does not fit together, in the eyes of the caller, stops the recovery.
    drop(log);
    assert!(open().recover(0, &mut |_| Err("no".to_string())).is_err());
}

const SMALL: LogOptions = LogOptions { segment_bytes: 4096, reserve_bytes: 1024 };

#[test]
fn the_memory_log_conforms() {
    let log = MemoryLog::new();
    conformance(&mut || Box::new(log.clone()));
}

#[test]
fn the_segment_log_conforms() {
    for options in [LogOptions::default(), SMALL] {
        let dir = tempfile::tempdir().unwrap();
        conformance(&mut || Box::new(SegmentLog::open(dir.path(), 0, options).unwrap()));
    }
}

#[test]
fn the_memory_log_fails_on_demand_and_recovers() {
    let mut log = MemoryLog::new();
    log.set_fault(MemoryFault::Full);
    assert!(matches!(log.append(&records(1..=1)), Err(StoreError::Full { .. })));
    log.set_fault(MemoryFault::None);
    log.append(&records(1..=1)).unwrap();
}

#[test]
fn a_second_process_is_told_who_holds_the_directory() {
    let dir = tempfile::tempdir().unwrap();
    let held = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
    let error = SegmentLog::open(dir.path(), 0, SMALL).unwrap_err().to_string();
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    drop(held);
    SegmentLog::open(dir.path(), 0, SMALL).unwrap();
}

/// The segments of a log that was closed, in order.
fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut paths: Vec<_> = fs::read_dir(dir.join("log")).unwrap().map(|e| e.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A log of four batches of ten events in one segment, and where each batch starts and the last one ends.
fn four_batches(dir: &Path) -> Vec<u64> {
    let mut log = SegmentLog::open(dir, 0, LogOptions::default()).unwrap();
    recover(&mut log).unwrap();
    let mut ends = vec![64];
    for batch in 0..4u64 {
        log.append(&records(batch * 10 + 1..=batch * 10 + 10)).unwrap();
        let bytes = fs::read(&segments(dir)[0]).unwrap();
        ends.push(bytes.iter().rposition(|b| *b != 0).unwrap() as u64 + 1);
    }
    ends
}

#[test]
fn a_torn_tail_is_cut_off_and_any_other_damage_is_refused() {
    /// `want` is how many events are left, or a part of the error.
    fn check(damage: impl FnOnce(&fs::File, &[u64]), want: Result<u64, &str>) {
        let dir = tempfile::tempdir().unwrap();
        let ends = four_batches(dir.path());
        let path = segments(dir.path()).remove(0);
        damage(&OpenOptions::new().write(true).open(&path).unwrap(), &ends);
        let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
        match (recover(&mut log), want) {
            (Ok(found), Ok(left)) => {
                assert_eq!(found, records(1..=left));
                log.append(&records(left + 1..=left + 3)).unwrap();
                drop(log);
                let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
                assert_eq!(recover(&mut log).unwrap(), records(1..=left + 3));
            }
            (Err(error), Err(part)) => {
                let error = error.to_string();
                assert!(error.contains(part) && error.contains(path.to_str().unwrap()), "{error}");
            }
            (found, want) => panic!("{found:?}, not {want:?}"),
        }
    }
    let flip = |file: &fs::File, at: u64| file.write_all_at(&[0xA5], at).unwrap();
    check(|_, _| {}, Ok(40));
    // The file ends inside the last batch, wherever a crash may have stopped the write.
    check(|f, ends| f.set_len(ends[4]).unwrap(), Ok(40));
    check(|f, ends| f.set_len(ends[4] - 1).unwrap(), Ok(39));
    check(|f, ends| f.set_len(ends[3] + 7).unwrap(), Ok(30));
    check(|f, ends| f.set_len(ends[3] + 20).unwrap(), Ok(30));
    // The pages of the last batch came to the disk out of order: its start is blank, or wrong, its end is there.
    check(|f, ends| f.write_all_at(&[0; 100], ends[3]).unwrap(), Ok(30));
    check(|f, ends| flip(f, ends[3] + 30), Ok(30));
    check(|f, ends| f.write_all_at(&[0xFF; 4], ends[3]).unwrap(), Ok(30));
    // Something was written past the end and never became a batch.
    check(|f, ends| f.write_all_at(b"torn", ends[4] + 1).unwrap(), Ok(40));
    // A batch that is followed by another was durable: no crash explains this.
    check(|f, ends| flip(f, ends[2] + 30), Err("checksum is wrong, and a later batch is at byte"));
    check(|f, ends| f.write_all_at(&[0; 100], ends[2]).unwrap(), Err("later batch"));
    check(|f, ends| f.write_all_at(&[0xFF; 4], ends[0]).unwrap(), Err("damaged at byte 64"));
    check(|f, _| flip(f, 20), Err("header's checksum is wrong"));
    check(|f, _| flip(f, 0), Err("this is no event log"));
    check(|f, _| flip(f, 8), Err("use a newer program"));
    check(|f, _| flip(f, 24), Err("header's checksum is wrong"));
    check(|f, _| f.set_len(10).unwrap(), Err("ends inside the header"));
}

#[test]
fn damage_in_a_finished_segment_is_refused() {
    fn check(damage: impl FnOnce(&[PathBuf]), want: &str) {
        let dir = tempfile::tempdir().unwrap();
        let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
        recover(&mut log).unwrap();
        for batch in 0..20 {
            log.append(&records(batch * 10 + 1..=batch * 10 + 10)).unwrap();
        }
        drop(log);
        let paths = segments(dir.path());
        assert!(paths.len() > 3, "{paths:?}");
        damage(&paths);
        let error = recover(&mut SegmentLog::open(dir.path(), 0, SMALL).unwrap()).unwrap_err().to_string();
        assert!(error.contains(want), "{error}");
    }
    let cut = |path: &Path, by: u64| {
        let file = OpenOptions::new().write(true).open(path).unwrap();
        file.set_len(file.metadata().unwrap().len() - by).unwrap();
    };
    check(|paths| cut(&paths[0], 3), "the file ends inside a record");
    check(|paths| fs::remove_file(&paths[1]).unwrap(), "a segment file is missing");
    check(|paths| fs::remove_file(&paths[0]).unwrap(), "a segment file is missing");
    check(|paths| fs::rename(&paths[2], &paths[1]).unwrap(), "a segment file is missing");
}

#[test]
fn what_a_crash_left_of_a_new_segment_is_removed() {
    let dir = tempfile::tempdir().unwrap();
    four_batches(dir.path());
    let unfinished = dir.path().join("log/00000000000000000041.new");
    fs::write(&unfinished, b"MINO").unwrap();
    let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
    assert_eq!(recover(&mut log).unwrap(), records(1..=40));
    assert!(!unfinished.exists());
}

#[test]
fn another_partitions_log_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    four_batches(dir.path());
    let mut log = SegmentLog::open(dir.path(), 1, SMALL).unwrap();
    let error = recover(&mut log).unwrap_err().to_string();
    assert!(error.contains("belongs to partition 0, not 1"), "{error}");
}

#[test]
fn old_segments_go_and_readers_are_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
    recover(&mut log).unwrap();
    let at = |sequence: u64| sequence as i64 * 10;
    for batch in 0..40 {
        let mut batch = records(batch * 10 + 1..=batch * 10 + 10);
        batch.iter_mut().for_each(|r| r.at_ns = at(r.sequence));
        log.append(&batch).unwrap();
    }
    let (reader, trimmer) = (log.reader(), log.trimmer());
    let before = segments(dir.path()).len();
    assert!(before > 5);
    // Not what the snapshot does not know, and not what is too young.
    assert_eq!((trimmer.trim(0, i64::MAX).unwrap(), trimmer.trim(400, at(1)).unwrap()), (0, 0));
    assert!(trimmer.old_bytes(200, i64::MAX).unwrap() > 0);
    assert!(trimmer.trim(200, i64::MAX).unwrap() > 0);
    let oldest = reader.oldest_sequence().unwrap();
    assert!((2..=201).contains(&oldest), "{oldest}");
    assert!(matches!(reader.read(oldest - 1, 1), Err(StoreError::Gone { oldest: o, .. }) if o == oldest));
    assert_eq!(reader.read(oldest, 500).unwrap().len() as u64, 401 - oldest);
    assert!(trimmer.trim(400, at(300)).unwrap() > 0);
    assert!(reader.oldest_sequence().unwrap() <= 300);
    drop(log);
    // What is left opens where a snapshot knows the rest, and not where none does.
    let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
    assert_eq!(recover_after(&mut log, 350).unwrap().len(), 50);
    drop(log);
    let mut log = SegmentLog::open(dir.path(), 0, SMALL).unwrap();
    assert!(recover(&mut log).unwrap_err().to_string().contains("a segment file is missing"));
}
