//! The old system's folder of timers, imported twice.
#![expect(clippy::unwrap_used, reason = "the helpers of tests, which clippy does not know as tests")]

use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::engine::{Engine, EngineConfig, Retention};
use minoots::import::{EngineSink, Options, Report, folder};
use minoots::store::{MemoryIndex, MemoryLog, PartitionStore, TimerQuery};
use minoots_kernel::{MisfirePolicy, TenantId, TimerState};
use serde_json::{Value, json};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;

const NOW_MS: i64 = 1_800_000_000_000;

fn legacy(id: &str, status: &str, end_ms: i64, on_expire: Value) -> Value {
    json!({
        "id": id, "name": format!("n-{id}"), "agentId": "cli_agent", "duration": 1000, "startTime": end_ms - 1000,
        "endTime": end_ms, "status": status, "events": {"on_expire": on_expire}, "metadata": {"k": id},
        "createdAt": "2025-07-12T21:15:43.447Z",
    })
}

/// Imports a folder twice with one engine, which stands at a moment; the reports, and the timers by name.
async fn import_twice(
    path: &Path,
    now_ms: i64,
    misfire: MisfirePolicy,
) -> (Report, Report, Vec<(String, TimerState)>) {
    let clock = ManualClock::new(Timestamp::from_ns(now_ms * 1_000_000));
    let started = Engine::start(EngineConfig {
        stores: vec![PartitionStore {
            log: Box::new(MemoryLog::new()),
            index: Arc::new(MemoryIndex::new()),
            snapshots: None,
            place: "memory".into(),
        }],
        clock: Box::new(move || Box::new(clock.clone())),
        ids: minoots::ids::system(),
        retention: Retention::default(),
    })
    .expect("an engine over memory starts");
    let sink = EngineSink::new(started.handle.clone(), TenantId::default());
    let options = Options { misfire, ..Options::at(now_ms * 1_000_000) };
    let first = folder(path, &sink, options, &|_, _| {}).await.expect("the folder is there");
    // Later, when the end of more of them has passed.
    let later = Options { now_ns: options.now_ns + 1_000_000_000_000_000, ..options };
    let second = folder(path, &sink, later, &|_, _| {}).await.expect("the folder is there");
    let query = TimerQuery { limit: 1000, ..TimerQuery::default() };
    let page = started.handle.list(query).await.expect("the engine answers");
    let timers = page.timers.iter().map(|t| (t.definition.name.clone(), t.status.state)).collect();
    started.handle.shutdown();
    (first, second, timers)
}

#[tokio::test]
async fn running_ones_are_scheduled_and_ended_ones_become_history() {
    let dir = tempfile::tempdir().unwrap();
    let write = |name: &str, text: String| std::fs::write(dir.path().join(name), text).unwrap();
    let webhook = json!({"message": "m", "webhook": {"url": "http://127.0.0.1:9/x", "data": {"n": 1}}});
    let command = json!({"command": {"command": "ls"}});
    for timer in [
        legacy("ahead", "running", NOW_MS + 60_000, webhook),
        legacy("shell", "running", NOW_MS + 60_000, command),
        legacy("expired", "expired", NOW_MS - 60_000, json!({})),
        legacy("cancelled", "cancelled", NOW_MS + 60_000, json!({})),
        legacy("error", "error", NOW_MS - 60_000, json!({})),
    ] {
        write(&format!("{}.json", timer["id"].as_str().unwrap()), timer.to_string());
    }
    write("ahead_log.txt", "a log is no timer".into());
    write("bad1.json", "{".into());
    write("bad2.json", "{}".into());
    write("bad3.json", legacy("x", "sleeping", NOW_MS, json!({})).to_string());
    write("bad4.json", legacy("y", "running", i64::MAX, json!({})).to_string());
    std::fs::create_dir(dir.path().join("bad5.json")).unwrap();

    let (first, second, timers) = import_twice(dir.path(), NOW_MS, MisfirePolicy::FireNow).await;
    assert_eq!(first.scheduled, ["ahead", "shell"]);
    assert_eq!(first.history, ["cancelled", "error", "expired"]);
    assert_eq!(first.without, [("shell".to_string(), "command".to_string())]);
    assert_eq!(first.refused.len(), 5, "{first}");
    assert_eq!(
        (second.scheduled.len(), second.history.len(), second.already_there.len()),
        (0, 0, 5),
        "{second}"
    );
    let count = |state| timers.iter().filter(|(_, s)| *s == state).count();
    assert_eq!(
        (timers.len(), count(TimerState::Scheduled), count(TimerState::Cancelled)),
        (5, 2, 3),
        "{timers:?}"
    );
}

#[tokio::test]
async fn late_ones_go_by_the_misfire_policy() {
    let dir = tempfile::tempdir().unwrap();
    let timer = legacy("late", "running", NOW_MS - 60_000, json!({}));
    std::fs::write(dir.path().join("late.json"), timer.to_string()).unwrap();
    let (first, ..) = import_twice(dir.path(), NOW_MS, MisfirePolicy::FireNow).await;
    assert_eq!((first.scheduled.len(), first.history.len()), (1, 0));
    let (first, _, timers) = import_twice(dir.path(), NOW_MS, MisfirePolicy::Skip).await;
    assert_eq!((first.scheduled.len(), first.history.len()), (0, 1));
    assert_eq!(timers[0].1, TimerState::Cancelled);
}

/// The old system's real files, where they lie beside the repository.
fn real_files() -> Option<PathBuf> {
    let above = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors();
    let found = above.map(|a| a.join("shared/data/legacy-timers")).find(|p| p.is_dir());
    if found.is_none() {
        println!("skipped: there is no folder shared/data/legacy-timers beside the repository");
    }
    found
}

#[tokio::test]
async fn real_files_are_taken_over() {
    let Some(path) = real_files() else { return };
    let (first, second, timers) = import_twice(&path, NOW_MS, MisfirePolicy::FireNow).await;
    assert!(first.refused.is_empty() && !timers.is_empty(), "{first}");
    assert_eq!(second.already_there.len(), timers.len(), "{second}");
}

fn minoots() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minoots"));
    for name in ["MINOOTS_LISTEN", "MINOOTS_DATA", "MINOOTS_API_KEY", "MINOOTS_TENANT", "RUST_LOG"] {
        command.env_remove(name);
    }
    command.env("CHRONOTICK_SHM", "/nowhere/page");
    command
}

struct Served {
    child: Child,
    url: String,
}

impl Served {
    fn start(data: &Path) -> Self {
        let mut command = minoots();
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let url = line.split(' ').find(|w| w.starts_with("http://")).unwrap().to_string();
        Self { child, url }
    }

    fn run(&self, args: &[&str]) -> Output {
        minoots().args(args).args(["--url", &self.url]).output().unwrap()
    }

    /// The report of `import --json`, and the exit code.
    fn import(&self, dir: &Path, args: &[&str]) -> (Value, i32) {
        let output = self.run(&[&["import", dir.to_str().unwrap(), "--json"], args].concat());
        let report = serde_json::from_slice(&output.stdout);
        (report.unwrap_or_else(|e| panic!("{e}: {output:?}")), output.status.code().unwrap())
    }

    /// The timers, as the command line lists them.
    fn timers(&self) -> Vec<Value> {
        let output = self.run(&["timers", "list", "--json"]);
        let text = String::from_utf8(output.stdout).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn the_program_takes_a_folder_over_once() {
    let (data, old) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let served = Served::start(data.path());
    const FAR_MS: i64 = 4_000_000_000_000;
    let shell = json!({"message": "m", "command": {"command": "ls"}});
    for timer in [
        legacy("ahead", "running", FAR_MS, json!({"webhook": {"url": "http://127.0.0.1:9/x", "data": 1}})),
        legacy("shell", "running", FAR_MS, shell),
        legacy("late", "running", 1_752_355_843_447, json!({"message": "m"})),
        legacy("gone", "expired", 1_752_355_843_447, json!({})),
    ] {
        std::fs::write(old.path().join(format!("{}.json", timer["id"].as_str().unwrap())), timer.to_string())
            .unwrap();
    }
    std::fs::write(old.path().join("bad.json"), "{").unwrap();

    let dry = json!({
        "dry_run": true, "scheduled": ["ahead", "late", "shell"], "history": ["gone"], "already_there": [],
        "without": [{"id": "shell", "action": "command"}],
    });
    let check = |(report, code): (Value, i32), want: &Value| {
        assert_eq!(code, 1, "one file is no timer: {report}");
        let mut told = report.clone();
        let refused = told.as_object_mut().unwrap().remove("refused").unwrap();
        assert_eq!(&told, want);
        assert!(refused[0]["file"].as_str().unwrap().ends_with("bad.json"), "{refused}");
        assert!(refused[0]["why"].as_str().unwrap().starts_with("is no timer"), "{refused}");
    };
    check(served.import(old.path(), &["--dry-run"]), &dry);
    assert!(served.timers().is_empty());

    let mut done = dry.clone();
    done["dry_run"] = false.into();
    check(served.import(old.path(), &[]), &done);
    let timers = served.timers();
    let by = |name: &str| timers.iter().find(|t| t["labels"]["imported"] == name).unwrap();
    for (name, states) in [
        ("ahead", &["scheduled"][..]),
        ("shell", &["scheduled"]),
        ("late", &["firing", "completed", "scheduled"]),
        ("gone", &["cancelled"]),
    ] {
        let timer = by(name);
        assert!(states.contains(&timer["state"].as_str().unwrap()), "{timer}");
        assert_eq!(
            (&timer["name"], &timer["labels"]["agent"]),
            (&json!(format!("n-{name}")), &json!("cli_agent"))
        );
        assert_eq!(
            (&timer["metadata"]["k"], &timer["metadata"]["legacy"]["id"]),
            (&json!(name), &json!(name))
        );
    }
    assert_eq!(by("ahead")["due_at"], "2096-10-02T07:06:40.000000000Z");
    assert_eq!(by("gone")["cancel_reason"], "imported as expired");

    // Again, and with the late one judged otherwise: there is nothing new.
    let again = json!({
        "scheduled": [], "history": [], "already_there": ["ahead", "gone", "late", "shell"], "without": [],
    });
    for args in [&[][..], &["--late", "skip"], &["--dry-run"]] {
        let mut want = again.clone();
        want["dry_run"] = args.contains(&"--dry-run").into();
        check(served.import(old.path(), args), &want);
        assert_eq!(served.timers().len(), 4);
    }
    // For people: a table, and a line that sums it up; no bar where there is no terminal.
    let told = served.run(&["import", old.path().to_str().unwrap()]);
    let text = String::from_utf8(told.stdout).unwrap();
    assert!(text.contains("0 scheduled, 0 as history, 4 there already, 1 refused"), "{text}");
    assert!(text.lines().any(|l| l.starts_with("bad.json") && l.contains("refused")), "{text}");
    assert!(String::from_utf8(told.stderr).unwrap().starts_with("minoots: 1 files were refused"));
    let nowhere = minoots().args(["import", "/", "--url", "http://127.0.0.1:1"]).output().unwrap();
    assert_eq!(nowhere.status.code(), Some(4));
}

#[test]
fn the_samples_of_the_reference_run() {
    let (data, home) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let served = Served::start(data.path());
    let old = home.path().join("active_timers");
    std::fs::create_dir(&old).unwrap();
    let timer = legacy("ahead", "running", 4_000_000_000_000, json!({}));
    std::fs::write(old.join("ahead.json"), timer.to_string()).unwrap();
    let reference = include_str!("../../../docs/compat.md");
    let block = reference.split("```console\n").nth(1).unwrap().split("```").next().unwrap();
    for line in block.lines() {
        let mut words = line.split(' ');
        assert_eq!(words.next(), Some("minoots"), "{line}");
        let mut command = minoots();
        let output = command.args(words).env("MINOOTS_URL", &served.url).current_dir(home.path()).output();
        let output = output.unwrap();
        assert!(output.status.success(), "{line}: {output:?}");
        assert!(String::from_utf8(output.stdout).unwrap().contains("1 scheduled"), "{line}");
    }
    assert_eq!(served.timers().len(), 1);
}

#[test]
fn the_program_takes_real_files_over_once() {
    let Some(path) = real_files() else { return };
    let data = tempfile::tempdir().unwrap();
    let served = Served::start(data.path());
    let (first, code) = served.import(&path, &[]);
    assert_eq!((code, &first["refused"]), (0, &json!([])), "{first}");
    let files = std::fs::read_dir(&path).unwrap().count();
    assert_eq!(served.timers().len(), files);
    let (second, code) = served.import(&path, &[]);
    assert_eq!((code, second["already_there"].as_array().unwrap().len()), (0, files), "{second}");
    assert_eq!(served.timers().len(), files);
}
