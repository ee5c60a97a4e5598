//! Each error of the API, over HTTP.

use crate::harness::{Answer, Running, check_problem as check};
use minoots::store::{MemoryFault, MemoryLog};
use serde_json::json;

#[tokio::test]
async fn bad_bodies_are_refused_and_nothing_is_created() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let webhook = |parameters: &str| {
        format!(
            r#"{{"name":"n","after":"1s","actions":[{{"id":"a","kind":"webhook","parameters":{parameters}}}]}}"#
        )
    };
    let table: Vec<(String, u16, &str, &str)> = vec![
        ("{".into(), 400, "invalid_json", "line 1 column 1"),
        ("".into(), 400, "invalid_json", "EOF"),
        ("{\"name\":\n oops}".into(), 400, "invalid_json", "line 2 column"),
        (r#"["n","2s"]"#.into(), 400, "invalid_field", "a JSON object"),
        (r#"{"name":"n","after":"1s","colour":1}"#.into(), 400, "unknown_field", "`colour`"),
        (r#"{"after":"1s"}"#.into(), 400, "missing_field", "`name`"),
        (r#"{"name":5,"after":"1s"}"#.into(), 400, "invalid_field", "name: invalid type"),
        (r#"{"name":"","after":"1s"}"#.into(), 400, "invalid_timer", "name is empty"),
        (r#"{"name":"n"}"#.into(), 400, "invalid_schedule", "none of"),
        (
            r#"{"name":"n","after":"1s","at":"2100-01-01T00:00:00Z"}"#.into(),
            400,
            "invalid_schedule",
            "both after and at",
        ),
        (r#"{"name":"n","after":"soon"}"#.into(), 400, "invalid_duration", "expected a number"),
        (r#"{"name":"n","after":"5"}"#.into(), 400, "invalid_duration", "5ms for milliseconds"),
        (r#"{"name":"n","after":5}"#.into(), 400, "invalid_duration", "with its unit"),
        (r#"{"name":"n","after":"-1s"}"#.into(), 400, "invalid_duration", "negative"),
        (r#"{"name":"n","after":"100000d"}"#.into(), 400, "time_too_far", "2262"),
        (r#"{"name":"n","at":"tomorrow"}"#.into(), 400, "invalid_time", "RFC 3339"),
        (r#"{"name":"n","at":"2100-01-01T00:00:00"}"#.into(), 400, "invalid_time", "with its offset"),
        (r#"{"name":"n","at":4102444800}"#.into(), 400, "invalid_time", "RFC 3339"),
        (r#"{"name":"n","at":"2001-01-01T00:00:00+02:00"}"#.into(), 400, "time_in_past", "passed"),
        (r#"{"name":"n","at":"1066-10-14T09:00:00Z"}"#.into(), 400, "time_in_past", "passed"),
        (r#"{"name":"n","at":"3000-01-01T00:00:00Z"}"#.into(), 400, "time_too_far", "2262"),
        (
            r#"{"name":"n","after":"1s","actions":[{"id":"a","kind":"pigeon"}]}"#.into(),
            400,
            "unknown_action_kind",
            "the kinds are webhook",
        ),
        (
            r#"{"name":"n","after":"1s","actions":[{"kind":"webhook"}]}"#.into(),
            400,
            "missing_field",
            "actions[0]",
        ),
        (
            r#"{"name":"n","after":"1s","actions":[["a","webhook"]]}"#.into(),
            400,
            "invalid_field",
            "actions[0]",
        ),
        (
            r#"{"name":"n","after":"1s","actions":[{"id":"a b","kind":"webhook"}]}"#.into(),
            400,
            "invalid_field",
            "actions[0].id",
        ),
        (webhook("{}"), 400, "invalid_action", "missing field `url`"),
        (webhook("[]"), 400, "invalid_action", "a JSON object"),
        (webhook(r#"{"url":"gopher://h/"}"#), 400, "invalid_action", "http or https"),
        (webhook(r#"{"url":"http://h/","retries":3}"#), 400, "invalid_action", "`retries`"),
        (r#"{"name":"n","after":"1s","labels":{"a":1}}"#.into(), 400, "invalid_field", "labels.a"),
        (r#"{"name":"n","after":"1s","metadata":}"#.into(), 400, "invalid_json", "line 1"),
    ];
    for (body, status, code, detail) in table {
        check(&service.post(body).await, status, code, detail);
    }
    let list = service.get("/v1/timers").await.json();
    assert_eq!(list, json!({"timers": [], "next_cursor": null}));
    service.stop().await;
}

#[tokio::test]
async fn bodies_have_a_size_and_a_type() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let url = format!("{}/v1/timers", service.url);
    let padded = |bytes: usize| {
        let frame = r#"{"name":"n","after":"1h","metadata":""}"#;
        frame.replace("\"\"", &format!("\"{}\"", "x".repeat(bytes - frame.len())))
    };
    check(&service.post(padded(1024 * 1024 + 1)).await, 413, "body_too_large", "1048576 bytes");
    check(&service.post("[".repeat(3_000_000)).await, 413, "body_too_large", "1048576 bytes");
    // The largest body is read; whether the kernel keeps a definition of that size is another limit.
    let largest = service.post(padded(1024 * 1024)).await;
    assert!(largest.status == 201 || largest.json()["code"] == "invalid_timer", "{}", largest.text);
    let body = r#"{"name":"n","after":"1s"}"#;
    let form =
        service.client.post(&url).header("content-type", "application/x-www-form-urlencoded").body(body);
    check(&Answer::of(form).await, 415, "unsupported_media_type", "x-www-form-urlencoded");
    check(
        &Answer::of(service.client.post(&url).body(body)).await,
        415,
        "unsupported_media_type",
        "no Content-Type",
    );
    let charset =
        service.client.post(&url).header("content-type", "Application/JSON; charset=utf-8").body(body);
    assert_eq!(Answer::of(charset).await.status, 201);
    service.stop().await;
}

#[tokio::test]
async fn unknown_things_are_told_apart() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let absent = "01890000-0000-7000-8000-000000000000";
    check(&service.get(&format!("/v1/timers/{absent}")).await, 404, "timer_not_found", absent);
    check(&service.delete(&format!("/v1/timers/{absent}")).await, 404, "timer_not_found", absent);
    check(&service.get("/v1/timers/nonsense").await, 404, "timer_not_found", "nonsense");
    check(&service.get("/v1/timers/01890000000070008000000000000000").await, 404, "timer_not_found", "0189");
    check(&service.get("/").await, 404, "route_not_found", "/v1/timers");
    check(&service.get("/v2/timers").await, 404, "route_not_found", "/v2/timers");
    let put = Answer::of(service.client.put(format!("{}/v1/timers", service.url))).await;
    check(&put, 405, "method_not_allowed", "PUT");
    assert_eq!(put.headers["allow"], "GET,HEAD,POST");
    check(&service.delete("/healthz").await, 405, "method_not_allowed", "DELETE");
    service.stop().await;
}

#[tokio::test]
async fn queries_are_checked() {
    let service = Running::on_memory(MemoryLog::new()).await;
    for (path, detail) in [
        ("/v1/timers?state=asleep", "use waiting, scheduled"),
        ("/v1/timers?label=blue", "key:value"),
        ("/v1/timers?limit=0", "from 1 to 1000"),
        ("/v1/timers?limit=1001", "from 1 to 1000"),
        ("/v1/timers?limit=many", "from 1 to 1000"),
        ("/v1/timers?cursor=x", "next_cursor"),
        ("/v1/timers?stat=scheduled", "state, agent, team, label, tag, due_from, due_until, limit, cursor"),
        ("/v1/events?after=x", "0 for the beginning"),
        ("/v1/events?since=1", "after"),
    ] {
        check(&service.get(path).await, 400, "invalid_query", detail);
    }
    let bad_header = service.client.get(format!("{}/v1/events", service.url)).header("last-event-id", "-1");
    check(&Answer::of(bad_header).await, 400, "invalid_query", "Last-Event-ID");
    service.stop().await;
}

#[tokio::test]
async fn conflicts() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let timer = service.create(json!({"name": "n", "after": "1h"})).await;
    let path = format!("/v1/timers/{}", timer["id"].as_str().unwrap());
    assert_eq!(service.delete(&path).await.status, 200);
    check(&service.delete(&path).await, 409, "wrong_state", "cancelled");

    let keyed = json!({"name": "n", "after": "1h", "metadata": {"a": 1}, "idempotency_key": "k"});
    let first = service.post(keyed.to_string()).await;
    assert_eq!(first.status, 201);
    let laid_out = serde_json::to_string_pretty(&keyed).unwrap();
    let again = service.post(laid_out).await;
    assert_eq!((again.status, again.json()["id"].clone()), (200, first.json()["id"].clone()));
    assert_eq!(again.headers["location"], first.headers["location"]);
    let other = json!({"name": "other", "after": "1h", "idempotency_key": "k"});
    check(&service.post(other.to_string()).await, 409, "idempotency_conflict", "use a new key");

    let with_header = |key: &'static str, body: &serde_json::Value| {
        let request = service.client.post(format!("{}/v1/timers", service.url));
        request
            .header("content-type", "application/json")
            .header("idempotency-key", key)
            .body(body.to_string())
    };
    let unkeyed = json!({"name": "n", "after": "1h", "metadata": {"a": 1}});
    assert_eq!(Answer::of(with_header("k", &unkeyed)).await.status, 200);
    assert_eq!(Answer::of(with_header("k", &keyed)).await.status, 200);
    check(&Answer::of(with_header("else", &keyed)).await, 400, "invalid_field", "Idempotency-Key");
    service.stop().await;
}

#[tokio::test]
async fn a_full_store_refuses_then_takes_up_again() {
    let log = MemoryLog::new();
    let service = Running::on_memory(log.clone()).await;
    let body = r#"{"name":"n","after":"1h"}"#;
    log.set_fault(MemoryFault::Full);
    let refused = service.post(body).await;
    check(&refused, 503, "store_full", "free some space");
    assert_eq!(refused.headers["retry-after"], "5");
    check(&service.get("/readyz").await, 503, "store_full", "free some space");
    assert_eq!(service.get("/healthz").await.status, 200);
    assert_eq!(service.get("/v1/status").await.json()["accepts_changes"], false);
    assert_eq!(service.get("/v1/timers").await.json()["timers"], json!([]));
    assert!(service.get("/metrics").await.text.contains("minoots_store_accepts_changes 0"));
    log.set_fault(MemoryFault::None);
    // The engine looks for room by itself: once it has found some, creates are taken again.
    while service.get("/readyz").await.status != 200 {}
    assert_eq!(service.post(body).await.status, 201);
    log.set_fault(MemoryFault::Broken);
    check(&service.post(body).await, 503, "store_failed", "restarted");
    check(&service.get("/readyz").await, 503, "store_failed", "restarted");
    service.stop().await;
}
