//! The stream: what each kind of event tells, chains with the linker running, places in several partitions, how far a
//! consumer is behind, and places that are no longer kept.

use crate::harness::{Answer, Running, Sink, check_problem, config, in_memory, webhook};
use chronotick_core::Timestamp;
use minoots::clock::{ManualClock, OsClock};
use minoots::store::{EventLog, LogReader, MemoryLog, Recovery, StoreError};
use minoots_kernel::EventRecord;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

const START_S: i64 = 1_800_000_000;

fn path(timer: &Value) -> String {
    format!("/v1/timers/{}", timer["id"].as_str().unwrap())
}

fn at(minute: u32) -> String {
    format!("2027-01-15T08:{minute:02}:00.000000000Z")
}

/// What an event has besides what every event has.
fn details(data: &Value) -> Value {
    let mut data = data.clone();
    let fields = data.as_object_mut().unwrap();
    for common in ["partition", "sequence", "cursor", "behind", "type", "timer_id", "at", "clock"] {
        assert!(fields.remove(common).is_some(), "no {common}: {fields:?}");
    }
    data
}

#[tokio::test]
async fn each_kind_of_event_tells_what_happened() {
    let clock = ManualClock::new(Timestamp::from_secs(START_S));
    let service = Running::on_clock(clock.clone()).await;
    let mut live = service.events(None).await;
    let sink = Sink::held([]).await;
    let occurrence = |minute| json!({"nominal_at": at(minute), "due_at": at(minute)});
    let body = json!({
        "name": "n", "every": "1m", "overlap": "buffer_one", "labels": {"a": "b"}, "actions": webhook(&sink.url),
    });
    let timer = service.create(body).await;
    let id = timer["id"].as_str().unwrap();
    let fire = |minute: i64| format!("{id}:{}", (START_S + 60 * minute) * 1_000_000_000);
    let first = live.until("timer.scheduled").await.pop().unwrap();
    assert_eq!(
        first.data,
        json!({
            "partition": 0, "sequence": 1, "cursor": "1", "behind": 0, "type": "timer.scheduled", "timer_id": id,
            "at": at(0), "clock": {"source": "os"},
            "name": "n", "nominal_at": at(1), "due_at": at(1), "labels": {"a": "b"},
        })
    );
    let mut next = async |kind: &str| details(&live.until(kind).await.pop().unwrap().data);
    let verb = async |verb: &str, body: Value| {
        let answer = service.post_to(&format!("{}/{verb}", path(&timer)), body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    };
    verb("pause", json!({"reason": "lunch"})).await;
    assert_eq!(next("timer.paused").await, json!({"reason": "lunch"}));
    verb("resume", json!({})).await;
    assert_eq!(next("timer.resumed").await, json!({}));
    verb("reschedule", json!({"extend_by": "30s"})).await;
    let due = "2027-01-15T08:01:30.000000000Z";
    assert_eq!(next("timer.rescheduled").await, json!({"next": {"nominal_at": at(1), "due_at": due}}));
    clock.set(Timestamp::from_secs(START_S + 91));
    assert_eq!(
        next("timer.fired").await,
        json!({
            "firing_id": fire(1), "nominal_at": at(1), "due_at": due, "armed_at": at(0),
            "lateness_ns": 1_000_000_000, "max_error_ns": null, "by_hand": false, "supersedes": [],
            "next": occurrence(2),
        })
    );
    verb("acknowledge", json!({"firing_id": fire(1), "by": "me", "note": "on it"})).await;
    let acknowledged = json!({"firing_id": fire(1), "by": "me", "note": "on it"});
    assert_eq!(next("timer.acknowledged").await, acknowledged);
    clock.set(Timestamp::from_secs(START_S + 120));
    let buffered = json!({"nominal_at": at(2), "due_at": at(2), "next": occurrence(3)});
    assert_eq!(next("timer.buffered").await, buffered);
    clock.set(Timestamp::from_secs(START_S + 180));
    assert_eq!(
        next("timer.skipped").await,
        json!({
            "nominal_at": at(3), "last_nominal_at": at(3), "count": 1, "reason": "buffer_full",
            "next": occurrence(4),
        })
    );
    sink.answer();
    let results = json!([{"action": "call", "ok": true, "attempts": 1, "detail": "200 OK"}]);
    let completed = json!({"firing_id": fire(1), "results": results, "next": null});
    assert_eq!(next("timer.completed").await, completed);
    verb("cancel", json!({"reason": "enough"})).await;
    assert_eq!(next("timer.cancelled").await, json!({"reason": "enough"}));
    sink.answer();
    assert_eq!(next("timer.completed").await["firing_id"], fire(2), "a fire under way goes on");
    service.stop().await;
}

#[tokio::test]
async fn a_chain_starts_when_what_it_waits_for_has_come() {
    let service = Running::on_partitions(4).await;
    let mut live = service.events(None).await;
    let wait = |ids: &[&Value], on: &str, need: Value| {
        let timers: Vec<_> = ids.iter().map(|id| json!({"id": id, "on": on})).collect();
        json!({"name": "chained", "after": "0s", "start_after": {"timers": timers, "need": need}})
    };
    let (a, b) = (json!({"name": "a", "after": "1h"}), json!({"name": "b", "after": "1h"}));
    let (a, b) = (service.create(a).await, service.create(b).await);
    let chained = service.create(wait(&[&a["id"], &b["id"]], "completed", json!("all"))).await;
    assert_eq!((&chained["state"], &chained["due_at"]), (&json!("waiting"), &Value::Null));
    let upstream =
        |timer: &Value, counts: Value| json!({"id": timer["id"], "on": "completed", "counts": counts});
    let waits_for = json!({"need": "all", "timers": [upstream(&a, Value::Null), upstream(&b, Value::Null)]});
    assert_eq!(chained["waits_for"], waits_for);
    let held = live.until("timer.held").await.pop().unwrap();
    assert_eq!(details(&held.data), json!({"name": "chained", "labels": {}, "waits_for": waits_for}));

    let either = service.create(wait(&[&a["id"], &b["id"]], "fired", json!("any"))).await;
    let hopeless = service.create(wait(&[&b["id"]], "failed", json!(1))).await;
    for timer in [&a, &b] {
        service.post_to(&format!("{}/fire", path(timer)), json!({})).await;
    }
    // The stream of all partitions is in no particular order between them.
    let mut told = std::collections::BTreeMap::<(String, String), Vec<Value>>::new();
    let is_over = |told: &std::collections::BTreeMap<(String, String), Vec<Value>>| {
        let has = |timer: &Value, kind: &str| {
            told.contains_key(&(timer["id"].as_str().unwrap().to_string(), kind.to_string()))
        };
        has(&chained, "timer.completed")
            && has(&either, "timer.completed")
            && has(&hopeless, "timer.cancelled")
    };
    while !is_over(&told) {
        let event = live.next().await.unwrap();
        let key = (event.data["timer_id"].as_str().unwrap().to_string(), event.event.clone());
        told.entry(key).or_default().push(event.data);
    }
    let of = |timer: &Value, kind: &str| {
        told[&(timer["id"].as_str().unwrap().to_string(), kind.to_string())].clone()
    };
    let resolved = of(&chained, "timer.resolved");
    assert_eq!(resolved.len(), 2);
    assert_eq!((&resolved[0]["counts"], &resolved[0]["next"]), (&json!(true), &Value::Null));
    assert!(resolved[1]["next"]["due_at"].is_string(), "{resolved:?}");
    let upstreams: BTreeSet<_> = resolved.iter().map(|r| r["upstream_id"].as_str().unwrap()).collect();
    assert_eq!(upstreams, [&a, &b].map(|t| t["id"].as_str().unwrap()).into());
    assert_eq!(of(&hopeless, "timer.resolved")[0]["counts"], false);
    let lost = service.get(&path(&hopeless)).await.json();
    assert_eq!(lost["waits_for"]["timers"][0]["counts"], false);
    assert!(lost["cancel_reason"].as_str().unwrap().contains(b["id"].as_str().unwrap()), "{lost}");
    let done = service.get(&path(&chained)).await.json();
    assert_eq!(done["waits_for"]["timers"], json!([upstream(&a, json!(true)), upstream(&b, json!(true))]));
    service.stop().await;
}

#[tokio::test]
async fn a_place_in_several_partitions_is_one_cursor() {
    let service = Running::on_partitions(3).await;
    let timers: Vec<_> = (0..20).map(|i| json!({"name": format!("t{i}"), "after": "1h"})).collect();
    service.post_to("/v1/timers/batch", json!({"timers": timers})).await;
    let mut all = service.events(Some("0")).await;
    let mut seen = Vec::new();
    for left in (0..20).rev() {
        let event = all.next().await.unwrap();
        assert_eq!(event.id, event.data["cursor"].as_str().unwrap());
        assert_eq!(event.data["behind"], left, "{}", event.data);
        seen.push(event);
    }
    let partitions: BTreeSet<_> = seen.iter().map(|e| e.data["partition"].as_u64().unwrap()).collect();
    assert_eq!(partitions, [0, 1, 2].into());
    let mut rest = service.events(Some(&seen[7].id)).await;
    let ids = |e: &crate::harness::Sse| e.data["timer_id"].as_str().unwrap().to_string();
    let mut again = BTreeSet::new();
    for _ in 8..20 {
        again.insert(ids(&rest.next().await.unwrap()));
    }
    assert_eq!(again, seen[8..].iter().map(ids).collect::<BTreeSet<_>>());
    for bad in ["5", "1.2", "1.2.3.4", "1.2.x", ""] {
        let answer = service.get(&format!("/v1/events?after={bad}")).await;
        check_problem(&answer, 400, "invalid_query", "give the id of the last event seen");
    }
    service.stop().await;
}

/// A log whose oldest events are gone.
struct Trimmed {
    log: MemoryLog,
    oldest: Arc<AtomicU64>,
}

struct TrimmedReader {
    log: Arc<dyn LogReader>,
    oldest: Arc<AtomicU64>,
}

impl EventLog for Trimmed {
    fn recover(
        &mut self,
        after: u64,
        each: &mut dyn FnMut(EventRecord) -> Result<(), String>,
    ) -> Result<Recovery, StoreError> {
        self.log.recover(after, each)
    }

    fn append(&mut self, records: &[EventRecord]) -> Result<(), StoreError> {
        self.log.append(records)
    }

    fn check_room(&mut self) -> Result<(), StoreError> {
        self.log.check_room()
    }

    fn reader(&self) -> Arc<dyn LogReader> {
        Arc::new(TrimmedReader { log: self.log.reader(), oldest: self.oldest.clone() })
    }
}

impl LogReader for TrimmedReader {
    fn oldest_sequence(&self) -> Option<u64> {
        self.log.oldest_sequence().map(|oldest| oldest.max(self.oldest.load(Ordering::Relaxed)))
    }

    fn read(&self, from: u64, limit: usize) -> Result<Vec<EventRecord>, StoreError> {
        let oldest = self.oldest.load(Ordering::Relaxed);
        if from < oldest {
            Err(StoreError::Gone { sequence: from, oldest })
        } else {
            self.log.read(from, limit)
        }
    }
}

/// A service whose oldest events can be taken away: the number is the oldest that is kept.
pub(crate) async fn trimmable() -> (Running, Arc<AtomicU64>) {
    let oldest = Arc::new(AtomicU64::new(0));
    let log = Trimmed { log: MemoryLog::new(), oldest: oldest.clone() };
    (Running::over(&config(Path::new("memory")), vec![in_memory(log)], OsClock).await, oldest)
}

/// A service with four events, of which the first two are no longer kept.
pub(crate) async fn trimmed() -> Running {
    let (service, oldest) = trimmable().await;
    for name in ["a", "b", "c", "d"] {
        service.create(json!({"name": name, "after": "1h"})).await;
    }
    oldest.store(3, Ordering::Relaxed);
    service
}

#[tokio::test]
async fn a_place_that_is_no_longer_kept_is_an_answer_of_its_own() {
    let service = trimmed().await;
    for after in ["0", "1"] {
        let answer = service.get(&format!("/v1/events?after={after}")).await;
        check_problem(&answer, 410, "events_gone", "go on after 2, the oldest place");
        let request = service.client.get(format!("{}/v1/events", service.url)).header("last-event-id", after);
        check_problem(&Answer::of(request).await, 410, "events_gone", "read the timers as they stand");
    }
    let mut rest = service.events(Some("2")).await;
    assert_eq!(rest.next().await.unwrap().data["name"], "c");
    service.stop().await;
}
