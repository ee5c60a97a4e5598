//! The ledger of a timer: one line for each occurrence, whatever became of it.

use crate::harness::{Running, Sink, check_problem, webhook};
use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::store::MemoryLog;
use serde_json::{Value, json};

const START_S: i64 = 1_800_000_000;

fn path(timer: &Value) -> String {
    format!("/v1/timers/{}", timer["id"].as_str().unwrap())
}

fn at(minute: u32) -> String {
    format!("2027-01-15T08:{minute:02}:00.000000000Z")
}

#[tokio::test]
async fn each_occurrence_has_a_line_whatever_became_of_it() {
    let clock = ManualClock::new(Timestamp::from_secs(START_S));
    let service = Running::on_clock(clock.clone()).await;
    let mut live = service.events(None).await;
    let sink = Sink::held([]).await;
    let body = json!({"name": "n", "every": "1m", "overlap": "buffer_one", "actions": webhook(&sink.url)});
    let timer = service.create(body).await;
    let id = timer["id"].as_str().unwrap();
    let history = format!("{}/history", path(&timer));
    assert_eq!(service.get(&history).await.json(), json!({"entries": [], "next_after": null}));

    // One fires and is under way, the next waits for it, the third finds the place taken.
    for (minute, kind) in [(1, "timer.fired"), (2, "timer.buffered"), (3, "timer.skipped")] {
        clock.set(Timestamp::from_secs(START_S + 60 * minute));
        live.until(kind).await;
    }
    let waiting = service.get(&path(&timer)).await.json();
    assert_eq!(waiting["buffered"], json!({"nominal_at": at(2), "due_at": at(2)}));
    assert_eq!(waiting["in_flight"], json!([format!("{id}:{}", (START_S + 60) * 1_000_000_000)]));
    let lines = service.get(&history).await.json()["entries"].clone();
    assert_eq!(lines[1]["outcome"], "buffered");
    assert_eq!(lines[1]["buffered_at"], at(2));
    sink.answer();
    live.until("timer.completed").await;
    live.until("timer.fired").await;
    sink.answer();
    live.until("timer.completed").await;
    // Three are missed and the last fires for all; then a pause; then a fire by hand.
    clock.set(Timestamp::from_secs(START_S + 365));
    live.until("timer.fired").await;
    sink.answer();
    live.until("timer.completed").await;
    service.post_to(&format!("{}/pause", path(&timer)), json!({})).await;
    clock.set(Timestamp::from_secs(START_S + 490));
    service.post_to(&format!("{}/resume", path(&timer)), json!({})).await;
    service.post_to(&format!("{}/fire", path(&timer)), json!({})).await;
    live.until("timer.fired").await;

    let page = service.get(&history).await.json();
    assert_eq!(page["next_after"], Value::Null);
    let lines = page["entries"].as_array().unwrap();
    let short: Vec<_> = lines
        .iter()
        .map(|l| {
            let word = |field: &str| l[field].as_str().unwrap_or("-").to_string();
            (word("nominal_at"), word("outcome"), l["count"].as_u64().unwrap(), word("reason"), word("end"))
        })
        .collect();
    let line = |nominal: String, outcome: &str, count: u64, reason: &str, end: &str| {
        (nominal, outcome.to_string(), count, reason.to_string(), end.to_string())
    };
    assert_eq!(
        short,
        [
            line(at(1), "fired", 1, "-", "completed"),
            line(at(2), "fired", 1, "-", "completed"),
            line(at(3), "skipped", 1, "buffer_full", "-"),
            line(at(4), "skipped", 2, "coalesced", "-"),
            line(at(6), "fired", 1, "-", "completed"),
            line(at(7), "skipped", 2, "paused", "-"),
            line("2027-01-15T08:08:10.000000000Z".into(), "fired", 1, "-", "-"),
        ]
    );
    assert_eq!(
        lines[0],
        json!({
            "nominal_at": at(1), "outcome": "fired", "sequence": 2,
            "firing_id": format!("{id}:{}", (START_S + 60) * 1_000_000_000),
            "due_at": at(1), "armed_at": at(0), "fired_at": at(1), "lateness_ns": 0,
            "clock": {"source": "os", "max_error_ns": null}, "by_hand": false,
            "delivered_at": at(3), "end": "completed", "buffered_at": null, "skipped_at": null,
            "reason": null, "count": 1, "last_nominal_at": at(1),
        })
    );
    assert_eq!(lines[1]["lateness_ns"], 60_000_000_000_i64, "it waited for the first");
    assert_eq!(
        (&lines[3]["last_nominal_at"], &lines[3]["skipped_at"]),
        (&json!(at(5)), &json!("2027-01-15T08:06:05.000000000Z"))
    );
    assert_eq!((&lines[5]["last_nominal_at"], &lines[5]["sequence"].is_u64()), (&json!(at(8)), &true));
    assert_eq!((&lines[6]["by_hand"], &lines[6]["armed_at"]), (&json!(true), &Value::Null));

    // Page by page it is the same.
    let mut paged = Vec::new();
    let mut next = format!("{history}?limit=3");
    loop {
        let page = service.get(&next).await.json();
        paged.extend(page["entries"].as_array().unwrap().clone());
        let Some(after) = page["next_after"].as_str() else { break };
        next = format!("{history}?limit=3&after={after}");
    }
    assert_eq!(&paged, lines);
    sink.answer();
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_asked_of_a_history_is_refused() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let timer = service.create(json!({"name": "n", "after": "1h"})).await;
    for (query, detail) in [
        ("after=5", "after is \"5\": write a time"),
        ("after=2030-01-01T00:00:00+01:00", "a + is written %2B"),
        ("limit=0", "from 1 to 1000"),
        ("limit=1&limit=2", "limit is given twice"),
        ("cursor=x", "after, limit"),
    ] {
        let answer = service.get(&format!("{}/history?{query}", path(&timer))).await;
        check_problem(&answer, 400, "invalid_query", detail);
    }
    let absent = "/v1/timers/01890000-0000-7000-8000-000000000000/history";
    check_problem(&service.get(absent).await, 404, "timer_not_found", "0189");
    service.stop().await;
}

#[tokio::test]
async fn listings_are_filtered_by_state_and_due_time() {
    let clock = ManualClock::new(Timestamp::from_secs(START_S));
    let service = Running::on_clock(clock.clone()).await;
    let mut live = service.events(None).await;
    let held = Sink::held([]).await;
    let make = async |name: &str, fields: Value| {
        let mut body = json!({"name": name});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        service.create(body).await
    };
    let failing = json!([{"id": "a", "kind": "webhook", "parameters": {"url": "http://127.0.0.1:1/", "timeout_ms": 1}}]);
    let upstream = make("scheduled", json!({"at": "2027-01-15T10:00:00Z"})).await;
    make("waiting", json!({"after": "1s", "start_after": {"timers": [{"id": upstream["id"]}]}})).await;
    let paused = make("paused", json!({"at": "2027-01-15T11:00:00Z"})).await;
    service.post_to(&format!("{}/pause", path(&paused)), json!({})).await;
    let cancelled = make("cancelled", json!({"after": "1h"})).await;
    service.delete(&path(&cancelled)).await;
    make("firing", json!({"after": "0s", "actions": webhook(&held.url)})).await;
    make("completed", json!({"after": "0s"})).await;
    live.until("timer.completed").await;
    make("failed", json!({"after": "0s", "actions": failing})).await;
    live.until("timer.failed").await;
    make("expired", json!({"after": "1m", "misfire": "skip"})).await;
    clock.set(Timestamp::from_secs(START_S + 600));
    live.until("timer.skipped").await;
    let names = async |query: &str| {
        let page = service.get(&format!("/v1/timers?{query}")).await.json();
        let timers = page["timers"].as_array().unwrap().iter();
        timers.map(|t| t["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    let states = ["waiting", "scheduled", "paused", "firing", "completed", "failed", "cancelled", "expired"];
    for state in states {
        assert_eq!(names(&format!("state={state}")).await, [state]);
        assert_eq!(service.get("/v1/status").await.json()["timers"][state], 1, "{state}");
        let metrics = service.get("/metrics").await.text;
        assert!(metrics.contains(&format!("minoots_timers{{state=\"{state}\"}} 1")), "{metrics}");
    }
    assert_eq!(names("due_from=2027-01-15T09:30:00Z").await, ["scheduled", "paused"]);
    assert_eq!(
        names("due_from=2027-01-15T11:00:00%2B01:00&due_until=2027-01-15T11:00:00Z").await,
        ["scheduled"]
    );
    assert_eq!(names("due_until=2027-01-15T08:00:01Z").await, ["firing", "completed", "failed"]);
    for (query, detail) in [
        ("due_from=5", "due_from is \"5\""),
        ("due_until=2027-01-15", "due_until is"),
        ("state=waiting,asleep", "state is \"asleep\": use waiting"),
    ] {
        check_problem(&service.get(&format!("/v1/timers?{query}")).await, 400, "invalid_query", detail);
    }
    held.answer();
    service.stop().await;
}
