//! What only an index on a disk can suffer: restarts, damage, other versions, a full disk.

use super::super::super::StoreError;
use super::super::conformance::scratch;
use super::super::{StateCounts, TimerIndex, TimerQuery};
use super::batch::Batch;
use super::database::{Engine, Space};
use super::meta::{FORMAT, Meta};
use super::{DiskIndex, IndexOptions, keys};
use chronotick_core::Timestamp;
use minoots_kernel::{
    Change, ClockStamp, Command, Committed, DueKey, Kernel, NothingCold, ScheduleSpec, TenantId,
    TimerDefinition, TimerId, TimerInstance, TimerState,
};
use std::collections::BTreeSet;
use std::path::Path;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

fn at(ns: i64) -> ClockStamp {
    ClockStamp::os(Timestamp::from_ns(ns))
}

fn id(n: u64) -> TimerId {
    TimerId::from_u128(u128::from(n) << 64)
}

fn everything() -> DueKey {
    DueKey::start_of(i64::MIN)
}

fn create(kernel: &mut Kernel, n: u64, due_ns: i64, text: &str) {
    let definition = Arc::new(TimerDefinition {
        name: "n".to_string(),
        schedule: ScheduleSpec::AtNs(due_ns),
        metadata_json: Some(text.to_string()),
        ..TimerDefinition::default()
    });
    kernel.handle(Command::Create { id: id(n), definition }, &at(0), &NothingCold).unwrap();
}

fn change(kernel: &mut Kernel, n: u64, change: Change) {
    let tenant = TenantId::default();
    let command = Command::Change { tenant, id: id(n), expected_version: None, change };
    kernel.handle(command, &at(0), &NothingCold).unwrap();
}

/// An index with `count` timers that are due at 1, 2, 3, ..., in commits of ten.
fn filled(path: &Path, count: u64) -> (DiskIndex, Kernel) {
    let index = DiskIndex::open(path).unwrap();
    let mut kernel = Kernel::new();
    let mut committed = Vec::new();
    for n in 1..=count {
        create(&mut kernel, n, n as i64, "");
        if n % 10 == 0 || n == count {
            committed.push(kernel.commit());
        }
    }
    index.apply(&committed).unwrap();
    (index, kernel)
}

fn due(index: &DiskIndex) -> Vec<TimerId> {
    index.due(everything(), usize::MAX).unwrap().iter().map(|t| t.id).collect()
}

fn all(count: u64) -> Vec<TimerId> {
    (1..=count).map(id).collect()
}

#[test]
fn what_is_left_without_a_checkpoint_agrees_with_what_was_applied() {
    let dir = scratch();
    let (index, kernel) = filled(dir.path(), 95);
    assert_eq!(index.applied(), kernel.last_sequence());
    drop(index);
    let index = DiskIndex::open(dir.path()).unwrap();
    assert_eq!((index.applied(), due(&index)), (95, all(95)));
    assert_eq!(index.counts().of(TimerState::Scheduled), 95);
}

#[test]
fn two_commits_that_change_one_timer_are_taken_in_at_once() {
    let dir = scratch();
    let (index, mut kernel) = filled(dir.path(), 3);
    let steps = [
        Change::Pause { reason: None },
        Change::Resume,
        Change::Reschedule(minoots_kernel::NewDue::AtNs(50)),
        Change::Reschedule(minoots_kernel::NewDue::AtNs(1)),
        Change::Reschedule(minoots_kernel::NewDue::AtNs(70)),
        Change::Pause { reason: None },
    ];
    let mut committed: Vec<Committed> = Vec::new();
    for step in steps {
        change(&mut kernel, 1, step);
        committed.push(kernel.commit());
    }
    index.apply(&committed).unwrap();
    let timer = index.timer(&TenantId::default(), id(1)).unwrap();
    assert_eq!(timer.as_ref(), kernel.timer(id(1)));
    assert_eq!(due(&index), [id(2), id(3)]);
    assert_eq!((index.counts().of(TimerState::Paused), index.counts().total()), (1, 3));
    change(&mut kernel, 1, Change::Resume);
    index.apply(&[kernel.commit()]).unwrap();
    let paused = TimerQuery { state: Some(TimerState::Paused), limit: 9, ..TimerQuery::default() };
    assert_eq!(index.list(&paused).unwrap().timers, []);
    assert_eq!(due(&index), [id(2), id(3), id(1)]);
}

#[test]
fn the_floor_of_due_times_rises_with_what_is_gone_and_falls_with_what_comes() {
    let dir = scratch();
    let (mut index, mut kernel) = filled(dir.path(), 40);
    let floor = |index: &DiskIndex| index.writer().state.meta.due_floor;
    let place = |n: u64| keys::due(DueKey::new(n as i64, 0, id(n)));
    assert_eq!(floor(&index), place(1));
    (1..=30).for_each(|n| change(&mut kernel, n, Change::Cancel { reason: None }));
    index.apply(&[kernel.commit()]).unwrap();
    assert_eq!(floor(&index), place(1), "only a checkpoint looks");
    index.checkpoint().unwrap();
    assert_eq!(floor(&index), place(31));
    drop(index);
    index = DiskIndex::open(dir.path()).unwrap();
    assert_eq!(floor(&index), place(31));
    create(&mut kernel, 41, 0, "");
    index.apply(&[kernel.commit()]).unwrap();
    let want: Vec<_> = [41].into_iter().chain(31..=40).map(id).collect();
    assert_eq!(due(&index), want);
    // Nothing is left, and then something comes.
    (31..=41).for_each(|n| change(&mut kernel, n, Change::Cancel { reason: None }));
    index.apply(&[kernel.commit()]).unwrap();
    index.checkpoint().unwrap();
    assert_eq!((floor(&index), due(&index)), ([u8::MAX; 25], vec![]));
    create(&mut kernel, 42, 7, "");
    index.apply(&[kernel.commit()]).unwrap();
    assert_eq!(due(&index), [id(42)]);
}

#[test]
fn a_reader_sees_a_write_whole_or_not_at_all() {
    const TIMERS: u64 = 20;
    let dir = scratch();
    let (index, mut kernel) = filled(dir.path(), TIMERS);
    let is_over = AtomicBool::new(false);
    let paused = TimerQuery { state: Some(TimerState::Paused), limit: 100, ..TimerQuery::default() };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                assert!([0, TIMERS].contains(&(due(&index).len() as u64)));
                assert!([0, TIMERS].contains(&(index.list(&paused).unwrap().timers.len() as u64)));
                let mut states = BTreeSet::new();
                let mut each = |_, timer: &TimerInstance, _: &[_]| {
                    states.insert(timer.status.state as u8);
                    Ok(())
                };
                index.dump(&mut each).unwrap();
                assert_eq!(states.len(), 1);
            }
        });
        for _ in 0..100 {
            (1..=TIMERS).for_each(|n| change(&mut kernel, n, Change::Pause { reason: None }));
            index.apply(&[kernel.commit()]).unwrap();
            (1..=TIMERS).for_each(|n| change(&mut kernel, n, Change::Resume));
            index.apply(&[kernel.commit()]).unwrap();
            index.checkpoint().unwrap();
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let dir = scratch();
    drop(filled(dir.path(), 3));
    let engine = Engine::open(dir.path(), &IndexOptions::default(), false).unwrap();
    let write = |format: u32| {
        let mut row = Meta { applied: 3, ..Meta::default() }.encode();
        row[..4].copy_from_slice(&format.to_be_bytes());
        let mut batch = Batch::default();
        batch.insert(Space::Misc, &keys::META_KEY, &row);
        engine.write(&mut batch).unwrap();
    };
    write(FORMAT + 1);
    drop(engine);
    let error = DiskIndex::open(dir.path()).err().unwrap();
    assert!(
        matches!(error, StoreError::NewerFormat { found, newest: FORMAT, .. } if found == FORMAT + 1),
        "{error}"
    );
    let engine = Engine::open(dir.path(), &IndexOptions::default(), false).unwrap();
    assert!(engine.view().get(Space::Timer, &keys::id(id(1))).unwrap().is_some());
}

#[test]
fn what_cannot_be_used_is_made_again() {
    fn check(damage: impl FnOnce(&Path)) {
        let dir = scratch();
        let (index, mut kernel) = filled(dir.path(), 20);
        drop(index);
        damage(dir.path());
        let index = DiskIndex::open(dir.path()).unwrap();
        assert_eq!((index.applied(), index.counts(), due(&index)), (0, StateCounts::default(), vec![]));
        // And it takes everything that an empty one takes.
        kernel = Kernel::starting_after(kernel.last_sequence());
        create(&mut kernel, 99, 5, "");
        index.apply(&[kernel.commit()]).unwrap();
        assert_eq!((index.applied(), due(&index)), (21, vec![id(99)]));
    }
    check(|dir| std::fs::write(dir.join("version"), b"nothing").unwrap());
    check(|dir| std::fs::remove_file(dir.join("version")).unwrap());
    check(|dir| std::fs::remove_dir_all(dir.join("keyspaces").join("3")).unwrap());
    check(|dir| std::fs::remove_dir_all(dir.join("keyspaces")).unwrap());
    check(|dir| {
        super::empty(dir).unwrap();
        std::fs::write(dir.join("something else"), b"text").unwrap();
    });
    // No row that says what it holds, or one that says nothing.
    let overwrite = |dir: &Path, row: Option<&[u8]>| {
        let engine = Engine::open(dir, &IndexOptions::default(), false).unwrap();
        let mut batch = Batch::default();
        match row {
            Some(row) => batch.insert(Space::Misc, &keys::META_KEY, row),
            None => batch.remove(Space::Misc, &keys::META_KEY),
        }
        engine.write(&mut batch).unwrap();
    };
    check(|dir| overwrite(dir, None));
    check(|dir| overwrite(dir, Some(b"?")));
    // A filling from a snapshot that was cut short.
    check(|dir| overwrite(dir, Some(&Meta::default().encode())));
}

#[test]
fn a_value_that_makes_no_sense_is_an_error_that_says_what_to_do() {
    let dir = scratch();
    let (index, _) = filled(dir.path(), 20);
    let damage = |space, key: &[u8], value: &[u8]| {
        let mut batch = Batch::default();
        batch.insert(space, key, value);
        index.engine().as_ref().unwrap().write(&mut batch).unwrap();
    };
    let check = |n: u64| {
        let error = index.timer(&TenantId::default(), id(n)).unwrap_err().to_string();
        assert!(
            error.contains("remove that directory") && error.contains(dir.path().to_str().unwrap()),
            "{error}"
        );
    };
    let whole = index.read(|view| view.get(Space::Timer, &keys::id(id(1)))).unwrap().unwrap();
    for length in 0..whole.len() {
        damage(Space::Timer, &keys::id(id(1)), &whole[..length]);
        check(1);
    }
    damage(Space::Timer, &keys::id(id(2)), b"\x09anything at all that is long enough for it");
    check(2);
    damage(Space::State, &keys::id(id(3)), b"\x01?");
    check(3);
    assert!(index.due(everything(), 100).is_err());
    (1..=20).for_each(|n| damage(Space::Timer, &keys::id(id(n)), &whole));
    damage(Space::State, &keys::id(id(3)), b"");
    damage(Space::Due, b"\xffshort", b"");
    assert!(index.due(DueKey::start_of(20), 100).is_err());
    assert_eq!(index.due(DueKey::start_of(4), 3).unwrap().len(), 3);
}

#[test]
fn an_index_that_another_has_open_is_refused_and_left_alone() {
    let dir = scratch();
    let (index, _) = filled(dir.path(), 5);
    assert!(matches!(DiskIndex::open(dir.path()), Err(StoreError::Locked { .. })));
    assert_eq!(due(&index), all(5));
}

/// Needs the right to mount a small tmpfs; without it the test says so and is skipped.
#[test]
fn a_full_disk_is_told_and_the_same_changes_are_taken_when_there_is_room() {
    let dir = scratch();
    let mount = |args: &[&str]| process::Command::new("mount").args(args).arg(dir.path()).output();
    if !mount(&["-t", "tmpfs", "-o", "size=16m", "tmpfs"]).is_ok_and(|o| o.status.success()) {
        println!("skipped: this user may not mount a tmpfs");
        return;
    }
    let path = dir.path().join("index");
    let (mut index, mut kernel) = filled(&path, 10);
    let ballast = dir.path().join("ballast");
    let mut number = 10;
    for is_forced in [false, true] {
        let disk = rustix::fs::statvfs(dir.path()).unwrap();
        let free = (disk.f_bavail * disk.f_frsize) as usize;
        std::fs::write(&ballast, vec![1; free - (2 << 20)]).unwrap();
        let mut committed = Vec::new();
        let error = loop {
            number += 1;
            create(&mut kernel, number, number as i64, &"x".repeat(100_000));
            committed.push(kernel.commit());
            let result = if is_forced {
                // Past the check for room, as where something else takes what was left.
                force(&index, &committed)
            } else {
                index.apply(&committed)
            };
            match result {
                Ok(()) => committed.clear(),
                Err(error) => break error,
            }
        };
        assert!(matches!(&error, StoreError::Full { path: p } if *p == path), "{error}");
        // All that was there can be read.
        assert_eq!((index.applied(), due(&index)), (number - 1, all(number - 1)));
        std::fs::remove_file(&ballast).unwrap();
        index.apply(&committed).unwrap();
        index.checkpoint().unwrap();
        assert_eq!((index.applied(), due(&index)), (number, all(number)));
        drop(index);
        index = DiskIndex::open(&path).unwrap();
        assert_eq!((index.applied(), due(&index)), (number, all(number)));
    }
    drop(index);
    let _ = process::Command::new("umount").arg("-l").arg(dir.path()).output();
}

/// Applies without asking for room.
fn force(index: &DiskIndex, committed: &[Committed]) -> Result<(), StoreError> {
    index.write_where(|_, _| Ok(()), |pending, view| super::write::apply(pending, view, committed))
}
