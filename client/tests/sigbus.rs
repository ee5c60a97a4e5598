//! A clock page that is truncated under its reader, in a process of its own: a failure here is the end of it.
#![allow(missing_docs, clippy::unwrap_used, unsafe_code)]

use chronotick::{Client, Flags, ReadError, Record, Source, Status};
use chronotick_core::page::AnchorClock;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

const ROLE: &str = "CHRONOTICK_TEST_SIGBUS_ROLE";

/// Runs `child` below in a new process with this role.
fn run(role: &str) -> ExitStatus {
    Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child", "--nocapture"])
        .env(ROLE, role)
        .stdout(Stdio::null())
        .status()
        .unwrap()
}

#[test]
fn a_truncated_page_is_survived_and_found_again() {
    assert!(run("truncated").success());
}

#[test]
fn threads_that_read_while_it_is_truncated_go_on() {
    assert!(run("threads").success());
}

#[test]
fn any_other_sigbus_ends_the_process_as_before() {
    assert_eq!(run("foreign").signal(), Some(7));
}

#[test]
fn a_program_can_keep_the_signal() {
    assert_eq!(run("opted_out").signal(), Some(7));
}

#[test]
fn child() {
    let Ok(role) = std::env::var(ROLE) else { return };
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("page");
    write(&path, 2, 0.25);
    match role.as_str() {
        "truncated" => truncated(&path),
        "threads" => threads(&path),
        "foreign" => foreign(&path),
        _ => {
            chronotick::sigbus::opt_out();
            let client = attach(&path);
            shrink(&path, 0);
            let _ = client.now();
        }
    }
}

/// Publishes into the object at `path`, which is made if need be.
fn write(path: &Path, sequence: u32, offset_s: f64) {
    let (real, boot, _) = chronotick::os_clock::realtime_boottime_pair();
    let second = real.as_ns().div_euclid(1_000_000_000);
    let record = Record {
        offset_correction: offset_s,
        prediction_time: second as f64,
        valid_until: second as f64 + 60.0,
        sequence,
        flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE),
        source: Source::Ntp,
        anchor_clock: AnchorClock::Boottime,
        anchor: boot.as_ns() - real.as_ns().rem_euclid(1_000_000_000),
        max_error: 0.001,
        ..Record::default()
    };
    let file = OpenOptions::new().create(true).write(true).truncate(false).open(path).unwrap();
    file.write_all_at(&record.to_bytes(), 0).unwrap();
}

fn attach(path: &Path) -> Client {
    Client::attach_named(path.to_str()).unwrap()
}

fn shrink(path: &Path, length: u64) {
    OpenOptions::new().write(true).open(path).unwrap().set_len(length).unwrap();
}

fn offset_ms(client: &Client) -> i64 {
    let reading = client.now().unwrap();
    assert_eq!(reading.status, Status::Synchronized);
    (reading.corrected - reading.system).as_ms()
}

/// Reads until the page is found again: a reader looks for it ten times a second.
fn until_offset_ms(client: &Client, want: i64) {
    while offset_ms(client) != want {
        std::thread::yield_now();
    }
}

fn truncated(path: &Path) {
    let client = attach(path);
    let unread = attach(path);
    assert_eq!(offset_ms(&client), 250);
    for (turn, length) in (1..).zip([0, 64, 127, 0]) {
        let offset_ms_before = offset_ms(&client);
        shrink(path, length);
        // The last good snapshot is still valid; who has none says that there is no page.
        assert_eq!(offset_ms(&client), offset_ms_before);
        if turn == 1 {
            assert_eq!(unread.now(), Err(ReadError::WriterDied));
        }
        // The same object grows again, with another correction.
        write(path, 2 + 2 * turn, f64::from(turn));
        until_offset_ms(&client, i64::from(turn) * 1_000);
    }
    while unread.now().is_err() {
        std::thread::yield_now();
    }
    until_offset_ms(&unread, 4_000);
    // Another object in its place.
    shrink(path, 0);
    std::fs::remove_file(path).unwrap();
    write(path, 2, 9.0);
    until_offset_ms(&client, 9_000);
}

fn threads(path: &Path) {
    let client = attach(path);
    let stop = std::sync::atomic::AtomicBool::new(false);
    assert_eq!(offset_ms(&client), 250);
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                    offset_ms(&client);
                }
            });
        }
        for turn in 1..20 {
            shrink(path, 0);
            write(path, 2 + 2 * turn, f64::from(turn));
            until_offset_ms(&client, i64::from(turn) * 1_000);
        }
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
    });
}

fn foreign(path: &Path) {
    let _client = attach(path);
    let other = path.with_file_name("other");
    std::fs::write(&other, [1; 128]).unwrap();
    let file = File::open(&other).unwrap();
    let flags = rustix::mm::MapFlags::SHARED;
    // SAFETY: a new mapping at an address that the kernel chooses.
    let address =
        unsafe { rustix::mm::mmap(std::ptr::null_mut(), 128, rustix::mm::ProtFlags::READ, flags, &file, 0) };
    let address = address.unwrap().cast::<u8>();
    shrink(&other, 0);
    // SAFETY: the address is mapped. What it maps is gone, and the signal of that is what is tested.
    let byte = unsafe { address.read_volatile() };
    unreachable!("read {byte} from a file of no length");
}
