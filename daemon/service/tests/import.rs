//! The old system's folder of timers, imported twice.

use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::engine::{Engine, EngineConfig, Retention};
use minoots::import::{EngineSink, Options, Report, folder};
use minoots::store::{MemoryIndex, MemoryLog, PartitionStore, TimerQuery};
use minoots_kernel::{MisfirePolicy, TenantId, TimerState};
use serde_json::{Value, json};
use std::path::Path;
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
    let first = folder(path, &sink, options).await.expect("the folder is there");
    // Later, when the end of more of them has passed.
    let later = Options { now_ns: options.now_ns + 1_000_000_000_000_000, ..options };
    let second = folder(path, &sink, later).await.expect("the folder is there");
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

#[tokio::test]
async fn real_files_are_taken_over() {
    let Some(path) = std::env::var_os("MINOOTS_LEGACY_TIMERS") else {
        println!("skipped: MINOOTS_LEGACY_TIMERS names no folder of old timers");
        return;
    };
    let (first, second, timers) = import_twice(Path::new(&path), NOW_MS, MisfirePolicy::FireNow).await;
    assert!(first.refused.is_empty() && !timers.is_empty(), "{first}");
    assert_eq!(second.already_there.len(), timers.len(), "{second}");
    println!("{first}");
}
