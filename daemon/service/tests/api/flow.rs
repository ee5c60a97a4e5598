//! A timer from its creation to its webhook, and the stream of what happened.

use crate::harness::{Running, Sink, webhook};
use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::store::{MemoryFault, MemoryLog};
use serde_json::{Value, json};

fn kinds(events: &[crate::harness::Sse]) -> Vec<&str> {
    events.iter().map(|e| e.event.as_str()).collect()
}

#[tokio::test]
async fn a_timer_fires_into_a_webhook_once_and_the_stream_tells_it_in_order() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::on_disk(dir.path()).await;
    let mut sink = Sink::start([]).await;
    let mut live = service.events(None).await;
    let timer = service
        .create(json!({
            "name": "tea", "after": "20ms", "actions": webhook(&format!("{}/hook", sink.url)),
            "labels": {"room": "kitchen"}, "metadata": {"cups": 2},
        }))
        .await;
    let id = timer["id"].as_str().unwrap();
    assert_eq!(timer["state"], "scheduled");
    assert_eq!(timer["clock"]["source"], "os");
    assert_eq!(timer["schedule"], json!({"after": "20ms"}));
    assert_eq!(timer["due_at"].as_str().unwrap().len(), "2026-01-01T00:00:00.000000000Z".len());

    let delivery = sink.next().await;
    let body = delivery.json();
    let firing = body["firing_id"].as_str().unwrap();
    assert!(firing.starts_with(&format!("{id}:")), "{firing}");
    assert_eq!((delivery.method.as_str(), delivery.path.as_str()), ("POST", "/hook"));
    assert_eq!(delivery.header("content-type"), "application/json");
    assert_eq!(delivery.header("idempotency-key"), format!("{firing}/call"));
    assert_eq!(delivery.header("x-minoots-timer-id"), id);
    assert_eq!(delivery.header("x-minoots-tenant-id"), "default");
    assert_eq!(delivery.header("x-minoots-firing-id"), firing);
    assert_eq!(delivery.header("x-minoots-attempt"), "1");
    assert_eq!(body["type"], "timer.fired");
    assert_eq!(body["due_at"], timer["due_at"]);
    assert!(body["lateness_ns"].as_i64().unwrap() >= 0, "{body}");
    assert_eq!(
        body["clock"],
        json!({"source": "os", "max_error_ns": null}),
        "this service has no clock page"
    );
    assert_eq!(body["timer"]["metadata"], json!({"cups": 2}));
    assert_eq!(body["timer"].get("actions"), None, "another action's parameters are not this receiver's");

    let seen = live.until("timer.completed").await;
    assert_eq!(kinds(&seen), ["timer.scheduled", "timer.fired", "timer.completed"]);
    assert_eq!(seen.iter().map(|e| e.id.as_str()).collect::<Vec<_>>(), ["1", "2", "3"]);
    assert!(seen.iter().all(|e| e.data["timer_id"] == id && e.data["type"] == e.event));
    assert_eq!(seen[1].data["firing_id"], firing);
    assert_eq!(seen[1].data["lateness_ns"], body["lateness_ns"]);
    assert_eq!(seen[1].data["max_error_ns"], Value::Null);
    assert_eq!(
        seen[2].data["results"][0],
        json!({"action": "call", "ok": true, "attempts": 1, "detail": "200 OK"})
    );

    let ended = service.get(&format!("/v1/timers/{id}")).await.json();
    assert_eq!(ended["state"], "completed");
    assert_eq!(ended["fired_at"], body["fired_at"]);
    assert_eq!(ended["version"], 3);
    assert!(sink.deliveries.try_recv().is_err(), "delivered twice");

    // What was missed is told again, from any place.
    let mut resumed = service.events(Some("1")).await;
    assert_eq!(kinds(&resumed.until("timer.completed").await), ["timer.fired", "timer.completed"]);
    let mut all = service.events(Some("0")).await;
    assert_eq!(all.until("timer.completed").await.len(), 3);

    let metrics = service.get("/metrics").await.text;
    for line in [
        "minoots_timers_created_total 1",
        "minoots_timers_fired_total 1",
        "minoots_fire_lateness_seconds_count 1",
        "minoots_action_attempts_total{kind=\"webhook\",outcome=\"done\"} 1",
        "minoots_log_last_sequence 3",
        "minoots_clock_source{source=\"os\"} 1",
    ] {
        assert!(metrics.lines().any(|l| l == line), "{metrics}\nlacks {line}");
    }
    service.stop().await;
    let end = all.next().await.unwrap();
    assert_eq!((end.event.as_str(), end.id.as_str()), ("end", "3"));
    assert_eq!(end.data["error"]["code"], "shutting_down");
    assert!(all.next().await.is_none(), "the stream ends cleanly at shutdown");
}

#[tokio::test]
async fn a_receiver_that_is_down_for_a_moment_is_tried_again_with_the_same_key() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut sink = Sink::start([(503, vec![]), (429, vec![("retry-after", "0")])]).await;
    let mut live = service.events(None).await;
    service.create(json!({"name": "n", "after": "0s", "actions": webhook(&sink.url)})).await;
    let tries = [sink.next().await, sink.next().await, sink.next().await];
    assert_eq!(tries.each_ref().map(|t| t.header("x-minoots-attempt")), ["1", "2", "3"]);
    assert!(tries.iter().all(|t| t.header("idempotency-key") == tries[0].header("idempotency-key")));
    assert!(tries.iter().all(|t| t.body == tries[0].body));
    let seen = live.until("timer.completed").await;
    assert_eq!(seen.last().unwrap().data["results"][0]["attempts"], 3);
    service.stop().await;
}

#[tokio::test]
async fn failures_for_good_end_the_fire() {
    /// The script of the receiver, how often it was tried, and a part of the detail.
    async fn check(script: Vec<(u16, Vec<(&'static str, &'static str)>)>, attempts: u64, detail: &str) {
        let service = Running::on_memory(MemoryLog::new()).await;
        let sink = Sink::start(script).await;
        let mut live = service.events(None).await;
        let mut actions = webhook(&sink.url);
        let second = json!({"id": "never", "kind": "webhook", "parameters": {"url": sink.url}});
        actions.as_array_mut().unwrap().push(second);
        service.create(json!({"name": "n", "after": "0s", "actions": actions})).await;
        let seen = live.until("timer.failed").await;
        let results = seen.last().unwrap().data["results"].as_array().unwrap().clone();
        assert_eq!(results.len(), 1, "the second action must not run: {results:?}");
        assert_eq!((&results[0]["ok"], &results[0]["attempts"]), (&json!(false), &json!(attempts)));
        assert!(results[0]["detail"].as_str().unwrap().contains(detail), "{results:?}");
        service.stop().await;
    }
    check(vec![(404, vec![])], 1, "404 Not Found").await;
    check(vec![(302, vec![("location", "/elsewhere")])], 1, "redirects are not followed").await;
    check(vec![(500, vec![]); 5], 5, "500").await;
}

#[tokio::test]
async fn a_webhook_can_be_shaped() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut sink = Sink::start([]).await;
    let parameters = json!({
        "url": format!("{}/p?q=1", sink.url), "method": "PUT", "headers": {"X-Mine": "yes"},
        "body": {"text": "tea", "n": 1}, "timeout_ms": 5000,
    });
    let action = json!([{"id": "a", "kind": "webhook", "parameters": parameters}]);
    service.create(json!({"name": "n", "after": "0s", "actions": action})).await;
    let delivery = sink.next().await;
    assert_eq!((delivery.method.as_str(), delivery.path.as_str()), ("PUT", "/p"));
    assert_eq!(delivery.header("x-mine"), "yes");
    assert_eq!(delivery.json(), json!({"text": "tea", "n": 1}));
    service.stop().await;
}

#[tokio::test]
async fn a_fire_that_a_restart_interrupts_is_delivered_again_with_the_same_key() {
    let dir = tempfile::tempdir().unwrap();
    let mut sink = Sink::start([(503, vec![("retry-after", "300")])]).await;
    let service = Running::on_disk(dir.path()).await;
    service.create(json!({"name": "n", "after": "0s", "actions": webhook(&sink.url)})).await;
    let before = sink.next().await;
    service.stop().await;

    let service = Running::on_disk(dir.path()).await;
    let after = sink.next().await;
    assert_eq!(before.header("idempotency-key"), after.header("idempotency-key"));
    assert_eq!(after.header("x-minoots-attempt"), "1");
    let mut all = service.events(Some("0")).await;
    let seen = all.until("timer.completed").await;
    assert_eq!(kinds(&seen), ["timer.scheduled", "timer.fired", "timer.completed"]);
    assert!(service.get("/metrics").await.text.contains("minoots_fires_resumed_total 1"));
    service.stop().await;
}

#[tokio::test]
async fn the_end_of_a_fire_waits_for_room_in_the_store() {
    let log = MemoryLog::new();
    let service = Running::on_memory(log.clone()).await;
    let mut sink = Sink::held([]).await;
    let mut live = service.events(None).await;
    service.create(json!({"name": "n", "after": "0s", "actions": webhook(&sink.url)})).await;
    sink.next().await;
    log.set_fault(MemoryFault::Full);
    sink.answer();
    // Nothing else is written, so it is the end of this fire that the store refuses.
    while service.get("/v1/status").await.json()["accepts_changes"] == true {}
    log.set_fault(MemoryFault::None);
    let seen = live.until("timer.completed").await;
    assert_eq!(seen.last().unwrap().data["results"][0]["ok"], true);
    service.stop().await;
}

#[tokio::test]
async fn timers_are_listed_by_page_state_and_label() {
    let service = Running::on_clock(ManualClock::new(Timestamp::from_secs(1_800_000_000))).await;
    let mut ids = Vec::new();
    for i in 0..5 {
        let label = if i % 2 == 0 { "even" } else { "odd" };
        let timer = service
            .create(json!({"name": format!("t{i}"), "after": "1h", "labels": {"parity": label}}))
            .await;
        ids.push(timer["id"].as_str().unwrap().to_string());
    }
    let cancelled = service.delete(&format!("/v1/timers/{}?reason=not%20needed", ids[4])).await.json();
    assert_eq!(
        (&cancelled["state"], &cancelled["cancel_reason"]),
        (&json!("cancelled"), &json!("not needed"))
    );

    let mut paged = Vec::new();
    let mut path = "/v1/timers?limit=2".to_string();
    loop {
        let page = service.get(&path).await.json();
        let timers = page["timers"].as_array().unwrap();
        assert!(timers.len() <= 2);
        paged.extend(timers.iter().map(|t| t["id"].as_str().unwrap().to_string()));
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        path = format!("/v1/timers?limit=2&cursor={cursor}");
    }
    assert_eq!(paged, ids, "in order of creation");
    let names = async |query: &str| {
        let page = service.get(&format!("/v1/timers?{query}")).await.json();
        let timers = page["timers"].as_array().unwrap().iter();
        timers.map(|t| t["name"].as_str().unwrap().to_string()).collect::<Vec<_>>()
    };
    assert_eq!(names("state=cancelled").await, ["t4"]);
    assert_eq!(names("label=parity:even").await, ["t0", "t2", "t4"]);
    assert_eq!(names("label=parity:even&state=scheduled").await, ["t0", "t2"]);
    assert_eq!(names("label=parity:none").await, [""; 0]);
    service.stop().await;
}

#[tokio::test]
async fn json_comes_back_as_it_was_sent_and_times_in_any_offset() {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let service = Running::on_clock(clock.clone()).await;
    let body = r#"{"name":"n","at":"2027-01-15T10:00:00.5+02:00","metadata":{"big": 12345678901234567890123, "f": 1.50}}"#;
    let created = service.post(body).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert!(
        created.text.contains(r#""metadata":{"big":12345678901234567890123,"f":1.50}"#),
        "{}",
        created.text
    );
    let timer = created.json();
    assert_eq!(timer["due_at"], "2027-01-15T08:00:00.500000000Z");
    assert_eq!(timer["created_at"], "2027-01-15T08:00:00.000000000Z");
    let id = timer["id"].as_str().unwrap();
    assert_eq!(created.headers["location"], format!("/v1/timers/{id}"));

    let mut live = service.events(None).await;
    clock.set(Timestamp::from_ns(1_800_000_000_750_000_000));
    let fired = live.until("timer.completed").await;
    assert_eq!(fired[0].data["lateness_ns"], 250_000_000, "lateness is on the kernel's clock");
    service.stop().await;
}
