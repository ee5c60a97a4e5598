//! One writer of the page at full rate, readers in Rust, C and Python at once: not one reading may be torn.
//!
//! Every field of a record follows from one number, so a mix of two records shows in what a reader gets. The short form
//! makes five million readings; `CHRONOTICK_STRESS_READS=100000000` (best with `--release`) makes as many as it says.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

mod page_support;

use chronotick::os_clock::boottime;
use chronotick::{Client, Record};
use chronotick_core::page::PageWriter;
use page_support::{Dice, Epoch, SharedPage};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};

const SHORT_FORM: u64 = 5_000_000;

fn readings_wanted() -> u64 {
    match std::env::var("CHRONOTICK_STRESS_READS") {
        Ok(n) => n.parse().expect("CHRONOTICK_STRESS_READS is a number"),
        Err(_) => SHORT_FORM,
    }
}

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).unwrap().to_owned()
}

/// Builds a library of this workspace and says which of its files has this extension.
fn library(package: &str, extension: &str) -> PathBuf {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["build", "--quiet", "--lib", "--message-format=json", "--package", package]);
    if !cfg!(debug_assertions) {
        cargo.arg("--release");
    }
    // Otherwise it would be linked with a libpython that need not be there.
    cargo.env("PYO3_BUILD_EXTENSION_MODULE", "1").current_dir(repository());
    let output = cargo.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "cargo build --package {package} failed");
    let manifest = |m: &Value| m["manifest_path"].as_str().map(str::to_owned).unwrap_or_default();
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|m| m["reason"] == "compiler-artifact" && Path::new(&manifest(m)).starts_with(repository()))
        .flat_map(|m| m["filenames"].as_array().cloned().unwrap_or_default())
        .map(|f| PathBuf::from(f.as_str().unwrap()))
        .rfind(|f| f.extension().is_some_and(|e| e == extension))
        .unwrap_or_else(|| panic!("{package} has no .{extension}"))
}

fn c_reader(directory: &Path) -> Command {
    let program = directory.join("page_reader");
    let status = Command::new("cc")
        .args(["-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-pedantic", "-I"])
        .arg(repository().join("include"))
        .arg(fixture("page_reader.c"))
        .arg(library("chronotick-ffi", "a"))
        .args(["-lm", "-lpthread", "-ldl", "-o"])
        .arg(&program)
        .status()
        .unwrap();
    assert!(status.success(), "cc failed");
    Command::new(program)
}

/// The Python package as it is in the repository, with a native module built just now. `None` without a Python.
fn python_reader(directory: &Path) -> Option<Command> {
    if !Command::new("python3").arg("--version").output().is_ok_and(|o| o.status.success()) {
        println!("skipped: the Python reader of the stress test: no python3 here");
        return None;
    }
    let package = directory.join("chronotick");
    std::fs::create_dir(&package).unwrap();
    for file in std::fs::read_dir(repository().join("bindings-python/python/chronotick")).unwrap() {
        let file = file.unwrap();
        if !file.file_name().to_string_lossy().starts_with("_native") || file.file_name() == "_native.pyi" {
            std::os::unix::fs::symlink(file.path(), package.join(file.file_name())).unwrap();
        }
    }
    std::os::unix::fs::symlink(library("chronotick-python", "so"), package.join("_native.abi3.so")).unwrap();
    let mut command = Command::new("python3");
    command.arg(fixture("page_reader.py")).env("PYTHONPATH", directory).env("PYTHONDONTWRITEBYTECODE", "1");
    Some(command)
}

/// A reader in another process that has made its first reading and waits.
struct Reader {
    what: &'static str,
    child: Child,
    stdout: BufReader<ChildStdout>,
}

impl Reader {
    fn start(
        what: &'static str,
        mut command: Command,
        page: &SharedPage,
        epoch: Epoch,
        readings: u64,
    ) -> Self {
        command.arg(page.name()).args([
            readings.to_string(),
            epoch.unix_s.to_string(),
            epoch.boottime_ns.to_string(),
        ]);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdout = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        stdout.read_line(&mut line).unwrap();
        assert_eq!(line, "ready\n", "the reader in {what}");
        Self { what, child, stdout }
    }

    fn go(&mut self) {
        self.child.stdin.take().unwrap().write_all(b"go\n").unwrap();
    }

    /// How many readings it found whole.
    fn finish(mut self) -> u64 {
        let mut line = String::new();
        self.stdout.read_line(&mut line).unwrap();
        assert!(
            self.child.wait().unwrap().success(),
            "the reader in {} failed; it has said why above",
            self.what
        );
        line.trim().parse().unwrap()
    }
}

/// Ends the writer when the readers are done, also by a panic.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn readers_in_three_languages_never_see_a_torn_page() {
    let wanted = readings_wanted();
    let (in_python, in_c) = (wanted / 100, wanted / 5);
    let in_rust = wanted - in_python - in_c;
    let directory = tempfile::tempdir().unwrap();
    let epoch = Epoch::now();
    let page = SharedPage::create(&Record { sequence: 2, ..epoch.record(0) });
    let mut readers = vec![Reader::start("C", c_reader(directory.path()), &page, epoch, in_c)];
    if let Some(command) = python_reader(directory.path()) {
        readers.push(Reader::start("Python", command, &page, epoch, in_python));
    }

    let done = AtomicBool::new(false);
    let ready = Barrier::new(3);
    let begin = boottime();
    let (published, whole) = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut writer, _) = PageWriter::new(page.cell());
            ready.wait();
            let mut n = 0u32;
            while !done.load(Ordering::Relaxed) {
                n = n.wrapping_add(1);
                writer.publish(&epoch.record(n));
            }
            n
        });
        // One reader takes readings, the other takes the whole record: between them they look at every word.
        let readings = scope.spawn(|| {
            let client = Client::attach_named(Some(page.name())).unwrap();
            client.now().unwrap();
            ready.wait();
            for _ in 0..in_rust / 2 {
                let before = boottime();
                let reading = client.now().unwrap();
                epoch.check_reading(&reading, before, boottime());
            }
            in_rust / 2
        });
        let records = scope.spawn(|| {
            let client = Client::attach_named(Some(page.name())).unwrap();
            client.now().unwrap();
            ready.wait();
            let mut different = 0u64;
            let mut last = 0;
            for _ in 0..in_rust - in_rust / 2 {
                let n = epoch.check_record(&client.snapshot().unwrap());
                different += u64::from(n != last);
                last = n;
            }
            assert!(different > 100, "the reader saw only {different} different records");
            in_rust - in_rust / 2
        });
        let stop = Stop(&done);
        readers.iter_mut().for_each(Reader::go);
        let outside: Vec<_> = readers.into_iter().map(|r| (r.what, r.finish())).collect();
        let inside = [readings, records].map(|r| r.join().unwrap());
        drop(stop);
        let mut whole = vec![("Rust, now()", inside[0]), ("Rust, snapshot()", inside[1])];
        whole.extend(outside);
        (writer.join().unwrap(), whole)
    });
    let total: u64 = whole.iter().map(|(_, n)| n).sum();
    println!(
        "{total} readings, none torn, while {published} pages were published in {}: {whole:?}",
        boottime() - begin
    );
    let skipped = if whole.len() == 4 { 0 } else { in_python };
    assert_eq!(total + skipped, wanted);
    assert!(u64::from(published) > total / 1_000, "the writer published only {published} pages");
}

#[test]
fn threads_that_share_a_client_never_see_a_torn_reading() {
    const THREADS: usize = 3;
    let readings = SHORT_FORM / 5;
    let epoch = Epoch::now();
    let page = SharedPage::create(&Record { sequence: 2, ..epoch.record(0) });
    let client = Client::attach_named(Some(page.name())).unwrap();
    let done = AtomicBool::new(false);
    let published = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            let (mut writer, _) = PageWriter::new(page.cell());
            let mut dice = Dice(1);
            let mut n = 0u32;
            while !done.load(Ordering::Relaxed) {
                n = n.wrapping_add(1);
                writer.publish(&epoch.record(n));
                // Long enough for some readings of each page, so that what a client keeps between readings is used.
                for _ in 0..dice.roll(400) {
                    std::hint::spin_loop();
                }
            }
            n
        });
        let stop = Stop(&done);
        let readers: Vec<_> = (0..THREADS)
            .map(|_| {
                scope.spawn(|| {
                    for _ in 0..readings {
                        let before = boottime();
                        let reading = client.now().unwrap();
                        epoch.check_reading(&reading, before, boottime());
                    }
                })
            })
            .collect();
        readers.into_iter().for_each(|r| r.join().unwrap());
        drop(stop);
        writer.join().unwrap()
    });
    println!("{THREADS} threads made {readings} readings each through one client, of {published} pages");
    assert!(published > 1_000);
}
