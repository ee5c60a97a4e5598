//! The verbs of a timer, compare-and-set, and the same change to many.

use crate::harness::{Answer, Running, Sink, check_problem, webhook};
use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::store::MemoryLog;
use serde_json::{Value, json};

fn clock() -> ManualClock {
    ManualClock::new(Timestamp::from_secs(1_800_000_000))
}

fn path(timer: &Value) -> String {
    format!("/v1/timers/{}", timer["id"].as_str().unwrap())
}

#[tokio::test]
async fn each_verb_changes_the_timer_and_answers_with_it() {
    let service = Running::on_clock(clock()).await;
    let verb = async |timer: &Value, verb: &str, body: Value| {
        let answer = service.post_to(&format!("{}/{verb}", path(timer)), body).await;
        assert_eq!(answer.status, 200, "{verb}: {}", answer.text);
        let changed = answer.json();
        assert_eq!(answer.headers["etag"], format!("\"{}\"", changed["version"]), "{verb}");
        assert_eq!(service.get(&path(timer)).await.json()["id"], changed["id"]);
        changed
    };
    let timer = service.create(json!({"name": "n", "every": "1h"})).await;
    let paused = verb(&timer, "pause", json!({"reason": "lunch"})).await;
    assert_eq!((&paused["state"], &paused["pause_reason"]), (&json!("paused"), &json!("lunch")));
    assert_eq!(paused["cancel_reason"], Value::Null);
    let resumed = verb(&timer, "resume", json!({})).await;
    assert_eq!((&resumed["state"], &resumed["pause_reason"]), (&json!("scheduled"), &Value::Null));

    // A moved occurrence keeps its name; a one-shot gets the name of its new time.
    let check = async |timer: &Value, body: Value, nominal: &str, due: &str| {
        let moved = verb(timer, "reschedule", body).await;
        let want = json!({
            "nominal_at": format!("2027-01-15T{nominal}.000000000Z"),
            "due_at": format!("2027-01-15T{due}.000000000Z"),
        });
        assert_eq!(moved["next"], want);
    };
    check(&timer, json!({"at": "2027-01-15T08:30:00Z"}), "09:00:00", "08:30:00").await;
    check(&timer, json!({"after": "2h"}), "09:00:00", "10:00:00").await;
    check(&timer, json!({"extend_by": "-90m"}), "09:00:00", "08:30:00").await;
    let one_shot = service.create(json!({"name": "n", "after": "1h"})).await;
    check(&one_shot, json!({"extend_by": "10m"}), "09:10:00", "09:10:00").await;

    let fired = verb(&timer, "fire", json!({})).await;
    assert_eq!((&fired["fires"], &fired["occurrences"]), (&json!(1), &json!(0)), "beside its schedule");
    let firing_id = fired["last_fire"]["firing_id"].as_str().unwrap();
    let answered =
        verb(&timer, "acknowledge", json!({"firing_id": firing_id, "by": "me", "note": "on it"})).await;
    assert_eq!(answered["last_fire"]["acknowledged_at"], "2027-01-15T08:00:00.000000000Z");
    let again = verb(&timer, "acknowledge", json!({"firing_id": firing_id})).await;
    assert_eq!(again["version"], service.get(&path(&timer)).await.json()["version"], "the first one stands");

    let cancelled = verb(&timer, "cancel", json!({"reason": "enough"})).await;
    assert_eq!((&cancelled["state"], &cancelled["cancel_reason"]), (&json!("cancelled"), &json!("enough")));
    assert_eq!((&cancelled["next"], &cancelled["in_flight"]), (&Value::Null, &json!([])));

    // A body may be left out where nothing needs saying; its type may not.
    let empty = service.client.post(format!("{}{}/pause", service.url, path(&one_shot)));
    check_problem(&Answer::of(empty).await, 415, "unsupported_media_type", "Content-Type");
    let empty = service.client.post(format!("{}{}/pause", service.url, path(&one_shot)));
    assert_eq!(Answer::of(empty.header("content-type", "application/json")).await.json()["state"], "paused");
    service.stop().await;
}

#[tokio::test]
async fn what_a_verb_cannot_do_is_refused() {
    let service = Running::on_clock(clock()).await;
    let timer = service.create(json!({"name": "n", "after": "1h"})).await;
    let other = service.create(json!({"name": "n", "after": "1h"})).await;
    let fire_of_other = format!("{}:5", other["id"].as_str().unwrap());
    let no_fire = format!("{}:5", timer["id"].as_str().unwrap());
    let table: Vec<(&str, Value, u16, &str, &str)> = vec![
        ("cancel", json!({"because": "x"}), 400, "unknown_field", "`because`"),
        ("cancel", json!({"reason": 5}), 400, "invalid_field", "reason: invalid type"),
        ("cancel", json!({"reason": "x".repeat(1025)}), 400, "invalid_timer", "the reason has 1025 bytes"),
        ("cancel", json!([]), 400, "invalid_field", "a JSON object"),
        ("pause", json!({"until": "x"}), 400, "unknown_field", "`until`"),
        ("resume", json!({"reason": "x"}), 400, "unknown_field", "`reason`"),
        ("resume", json!({}), 409, "wrong_state", "scheduled, so it cannot be resumed"),
        ("fire", json!({"at": "x"}), 400, "unknown_field", "`at`"),
        ("reschedule", json!({}), 400, "invalid_field", "exactly one of at"),
        (
            "reschedule",
            json!({"at": "2030-01-01T00:00:00Z", "after": "1s"}),
            400,
            "invalid_field",
            "exactly one",
        ),
        ("reschedule", json!({"at": "soon"}), 400, "invalid_time", "RFC 3339"),
        ("reschedule", json!({"at": "2001-01-01T00:00:00Z"}), 400, "time_in_past", "passed"),
        ("reschedule", json!({"after": "-1s"}), 400, "invalid_duration", "negative"),
        ("reschedule", json!({"after": 5}), 400, "invalid_duration", "after is 5"),
        ("reschedule", json!({"extend_by": "-2h"}), 400, "time_in_past", "passed"),
        ("reschedule", json!({"extend_by": "106751d"}), 400, "time_too_far", "2262"),
        ("acknowledge", json!({}), 400, "missing_field", "`firing_id`"),
        ("acknowledge", json!({"firing_id": "x"}), 404, "fire_not_found", "\"x\""),
        ("acknowledge", json!({"firing_id": no_fire}), 404, "fire_not_found", "no fire"),
        ("acknowledge", json!({"firing_id": fire_of_other}), 404, "fire_not_found", "of another timer"),
        ("explode", json!({}), 404, "route_not_found", "explode"),
    ];
    for (verb, body, status, code, detail) in table {
        check_problem(
            &service.post_to(&format!("{}/{verb}", path(&timer)), body).await,
            status,
            code,
            detail,
        );
    }
    let absent = "/v1/timers/01890000-0000-7000-8000-000000000000";
    for verb in ["cancel", "pause", "resume", "fire"] {
        check_problem(
            &service.post_to(&format!("{absent}/{verb}"), json!({})).await,
            404,
            "timer_not_found",
            "0189",
        );
        let get = service.get(&format!("{}/{verb}", path(&timer))).await;
        check_problem(&get, 405, "method_not_allowed", verb);
        let with_parameter = service.post_to(&format!("{}/{verb}?force=1", path(&timer)), json!({})).await;
        check_problem(&with_parameter, 400, "invalid_query", "force");
    }
    // None of it has changed anything.
    assert_eq!(service.get(&path(&timer)).await.json(), timer);
    service.post_to(&format!("{}/cancel", path(&timer)), json!({})).await;
    for (verb, participle) in [("cancel", "cancelled"), ("pause", "paused"), ("fire", "fired by hand")] {
        let answer = service.post_to(&format!("{}/{verb}", path(&timer)), json!({})).await;
        check_problem(&answer, 409, "wrong_state", &format!("is cancelled, so it cannot be {participle}"));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_change_is_made_to_the_version_that_was_read() {
    let service = Running::on_clock(clock()).await;
    let timer = service.create(json!({"name": "n", "after": "1h"})).await;
    let (pause, resume) = (format!("{}/pause", path(&timer)), format!("{}/resume", path(&timer)));
    let read = service.get(&path(&timer)).await;
    let tag = read.headers["etag"].to_str().unwrap();
    assert_eq!(tag, "\"1\"");
    let paused = service.post_if_match(&pause, json!({}), Some(tag)).await;
    assert_eq!((paused.status, paused.headers["etag"].to_str().unwrap()), (200, "\"2\""));
    let stale = service.post_if_match(&resume, json!({}), Some(tag)).await;
    check_problem(&stale, 412, "version_conflict", "has version 2 now");
    let stale = service.client.delete(format!("{}{}", service.url, path(&timer))).header("if-match", tag);
    check_problem(&Answer::of(stale).await, 412, "version_conflict", "has version 2 now");
    for tag in ["2", "W/\"2\"", "\"2\", \"3\"", "\"two\""] {
        let refused = service.post_if_match(&resume, json!({}), Some(tag)).await;
        check_problem(&refused, 400, "invalid_query", "as in \"3\"");
    }
    let acknowledge = format!("{}/acknowledge", path(&timer));
    let refused = service.post_if_match(&acknowledge, json!({"firing_id": "x"}), Some("\"2\"")).await;
    check_problem(&refused, 400, "invalid_query", "firing_id says which");
    assert_eq!(service.post_if_match(&resume, json!({}), Some("*")).await.status, 200);
    let last = service.client.delete(format!("{}{}", service.url, path(&timer))).header("if-match", "\"3\"");
    assert_eq!(Answer::of(last).await.json()["state"], "cancelled");
    service.stop().await;
}

/// What became of each item of a batch: its state, or its code.
fn outcomes(answer: &Answer) -> Vec<String> {
    assert_eq!(answer.status, 200, "{}", answer.text);
    let results = answer.json()["results"].as_array().unwrap().clone();
    let word = |r: &Value| match r.get("error") {
        Some(error) => {
            assert_eq!(error["type"], format!("urn:minoots:error:{}", error["code"].as_str().unwrap()));
            assert!(error["status"].is_u64() && error["detail"].is_string(), "{error}");
            error["code"].as_str().unwrap().to_string()
        }
        None => r["timer"]["state"].as_str().unwrap().to_string(),
    };
    results.iter().map(word).collect()
}

#[tokio::test]
async fn a_batch_of_creates_is_answered_one_by_one() {
    let service = Running::on_partitions(3).await;
    let answer = service
        .post_to(
            "/v1/timers/batch",
            json!({"timers": [
                {"name": "a", "after": "1h", "idempotency_key": "k"},
                {"name": "b"},
                5,
                {"name": "c", "cron": "@daily", "tags": ["x"]},
                {"name": "", "after": "1h"},
                {"name": "d", "after": "1h", "colour": 1},
            ]}),
        )
        .await;
    let want =
        ["scheduled", "invalid_schedule", "invalid_field", "scheduled", "invalid_timer", "unknown_field"];
    assert_eq!(outcomes(&answer), want);
    assert_eq!(answer.json()["results"][0]["replayed"], false);
    let again = json!({"timers": [{"name": "a", "after": "1h", "idempotency_key": "k"}]});
    let again = service.post_to("/v1/timers/batch", again).await.json();
    assert_eq!(again["results"][0]["replayed"], true);
    assert_eq!(again["results"][0]["timer"]["id"], answer.json()["results"][0]["timer"]["id"]);

    let large: Vec<_> = (0..1000).map(|i| json!({"name": format!("t{i}"), "after": "1h"})).collect();
    let made = service.post_to("/v1/timers/batch", json!({"timers": large})).await;
    assert_eq!(outcomes(&made), ["scheduled"; 1000]);
    let metrics = service.get("/metrics").await.text;
    assert!(metrics.contains("minoots_timers_created_total 1002"), "{metrics}");
    assert!(metrics.contains("minoots_timers{state=\"scheduled\"} 1002"), "{metrics}");

    let too_many = json!({"timers": vec![json!({}); 1001]});
    let post = async |body: Value| service.post_to("/v1/timers/batch", body).await;
    check_problem(&post(too_many).await, 400, "invalid_field", "1001 timers: send 1000");
    check_problem(&post(json!({"timer": []})).await, 400, "unknown_field", "`timers`");
    check_problem(&post(json!({})).await, 400, "missing_field", "`timers`");
    let url = format!("{}/v1/timers/batch", service.url);
    let with_key = service.client.post(&url).header("content-type", "application/json");
    let with_key = with_key.header("idempotency-key", "k").body("{\"timers\":[]}");
    check_problem(&Answer::of(with_key).await, 400, "invalid_query", "its idempotency_key");
    let too_large = service.client.post(&url).header("content-type", "application/json");
    let too_large = too_large.body("[".repeat(9 * 1024 * 1024));
    check_problem(&Answer::of(too_large).await, 413, "body_too_large", "8388608 bytes");
    service.stop().await;
}

#[tokio::test]
async fn many_timers_are_changed_by_name_or_by_what_they_are() {
    let service = Running::on_partitions(3).await;
    let mut ids = Vec::new();
    for i in 0..6 {
        let tag = if i % 2 == 0 { "even" } else { "odd" };
        let timer = service
            .create(json!({"name": "n", "after": "1h", "tags": [tag], "labels": {"i": i.to_string()}}));
        ids.push(timer.await["id"].clone());
    }
    let change =
        async |verb: &str, body: Value| service.post_to(&format!("/v1/timers/batch/{verb}"), body).await;
    let paused = change("pause", json!({"ids": [ids[0], "x", ids[1], ids[0]], "reason": "lunch"})).await;
    assert_eq!(outcomes(&paused), ["paused", "timer_not_found", "paused", "wrong_state"]);
    assert_eq!(paused.json()["results"][0]["timer"]["pause_reason"], "lunch");
    assert_eq!(change("resume", json!({"filter": {"state": "paused"}})).await.json(), json!({"changed": 2}));
    assert_eq!(change("pause", json!({"filter": {"tags": ["even"]}})).await.json(), json!({"changed": 3}));
    assert_eq!(outcomes(&change("resume", json!({"ids": [ids[2]]})).await), ["scheduled"]);
    assert_eq!(
        change("cancel", json!({"filter": {"labels": {"i": "5"}}})).await.json(),
        json!({"changed": 1})
    );
    let past = json!({"filter": {"due_until": "2020-01-01T00:00:00Z"}});
    assert_eq!(change("cancel", past).await.json(), json!({"changed": 0}));
    let future = json!({"filter": {"due_from": "2020-01-01T00:00:00Z", "tags": ["odd"]}, "reason": "over"});
    // The one that is cancelled already is passed over.
    assert_eq!(change("cancel", future).await.json(), json!({"changed": 2}));
    assert_eq!(change("cancel", json!({"filter": {}})).await.json(), json!({"changed": 3}));
    let left = service.get("/v1/timers?state=cancelled").await.json();
    assert_eq!(left["timers"].as_array().unwrap().len(), 6);
    assert!(service.get("/metrics").await.text.contains("minoots_timers_cancelled_total 6"));

    let many: Vec<_> = (0..1001).map(|_| "x").collect();
    let table: Vec<(&str, Value, &str, &str)> = vec![
        ("cancel", json!({}), "invalid_field", "exactly one of ids"),
        ("cancel", json!({"ids": [], "filter": {}}), "invalid_field", "exactly one of ids"),
        ("cancel", json!({"ids": many}), "invalid_field", "1001 ids"),
        ("cancel", json!({"filter": {"colour": "x"}}), "unknown_field", "`colour`"),
        ("cancel", json!({"filter": {"state": "x"}}), "invalid_field", "filter.state is \"x\": use waiting"),
        ("cancel", json!({"filter": {"due_from": 5}}), "invalid_time", "filter.due_from is 5"),
        ("resume", json!({"ids": [], "reason": "x"}), "invalid_field", "keeps no reason"),
    ];
    for (verb, body, code, detail) in table {
        check_problem(&change(verb, body).await, 400, code, detail);
    }
    let conditional =
        service.post_if_match("/v1/timers/batch/cancel", json!({"ids": []}), Some("\"1\"")).await;
    check_problem(&conditional, 400, "invalid_query", "one by one");
    service.stop().await;
}

#[tokio::test]
async fn a_later_fire_stops_the_one_it_supersedes() {
    let clock = clock();
    let service = Running::on_clock(clock.clone()).await;
    let mut sink = Sink::held([]).await;
    let mut live = service.events(None).await;
    let actions = webhook(&sink.url);
    let body = json!({"name": "n", "every": "1m", "overlap": "cancel_previous", "actions": actions});
    let timer = service.create(body).await;
    clock.set(Timestamp::from_secs(1_800_000_060));
    let first = sink.next().await.json()["firing_id"].clone();
    live.until("timer.fired").await;
    clock.set(Timestamp::from_secs(1_800_000_120));
    let second = sink.next().await.json()["firing_id"].clone();
    let fired = live.until("timer.fired").await.pop().unwrap();
    assert_eq!(fired.data["supersedes"], json!([first]));
    // One answer for each request that is open: the first has been given up, so its end is never told.
    sink.answer();
    sink.answer();
    let ended = live.until("timer.completed").await.pop().unwrap();
    assert_eq!(ended.data["firing_id"], second);
    let after = service.get(&path(&timer)).await.json();
    assert_eq!((&after["fires"], &after["completions"]), (&json!(2), &json!(1)));
    let history = service.get(&format!("{}/history", path(&timer))).await.json();
    let ends: Vec<_> = history["entries"].as_array().unwrap().iter().map(|e| e["end"].clone()).collect();
    assert_eq!(ends, [json!("superseded"), json!("completed")]);
    let metrics = service.get("/metrics").await.text;
    assert!(metrics.contains("minoots_fires_superseded_total 1"), "{metrics}");
    service.stop().await;
}

#[tokio::test]
async fn verbs_refuse_while_the_store_is_full() {
    let log = MemoryLog::new();
    let service = Running::on_memory(log.clone()).await;
    let timer = service.create(json!({"name": "n", "after": "1h"})).await;
    log.set_fault(minoots::store::MemoryFault::Full);
    for verb in ["pause", "cancel", "fire"] {
        let answer = service.post_to(&format!("{}/{verb}", path(&timer)), json!({})).await;
        check_problem(&answer, 503, "store_full", "free some space");
    }
    let batch = json!({"timers": [{"name": "n", "after": "1h"}]});
    assert_eq!(outcomes(&service.post_to("/v1/timers/batch", batch).await), ["store_full"]);
    assert_eq!(service.get(&path(&timer)).await.json(), timer);
    service.stop().await;
}
