//! Schemas over the API: versions never change, metadata is checked, every kind of event fits its schema.

use crate::harness::{Running, check_problem, webhook};
use minoots::schemas::{EVENTS, compile};
use minoots::store::MemoryLog;
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn put(service: &Running, path: &str, body: Value) -> crate::harness::Answer {
    let request = service.client.put(format!("{}{path}", service.url));
    crate::harness::Answer::of(request.header("content-type", "application/json").body(body.to_string()))
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn metadata_is_checked_against_the_version_that_is_named() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let one = json!({"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]});
    let answer = put(&service, "/v1/schemas/order", one.clone()).await;
    assert_eq!((answer.status, answer.json()["version"].clone()), (201, json!(1)), "{}", answer.text);
    assert_eq!(put(&service, "/v1/schemas/order", one.clone()).await.status, 200);
    assert_eq!(put(&service, "/v1/schemas/order", json!({"type": "array"})).await.json()["version"], 2);
    assert_eq!(service.get("/v1/schemas/order/1").await.json()["schema"], one);
    assert_eq!(service.get("/v1/schemas/order").await.json()["version"], 2);
    check_problem(&service.get("/v1/schemas/order/3").await, 404, "not_found", "order");
    let post = async |schema: &str, metadata: Value| {
        let body = json!({"name": "t", "after": "1h", "actions": [], "payload_schema": schema, "metadata": metadata});
        service.post(body.to_string()).await
    };
    assert_eq!(post("order@1", json!({"n": 1})).await.status, 201);
    assert_eq!(post("order", json!([])).await.status, 201);
    check_problem(&post("order@1", json!({"n": "x"})).await, 400, "invalid_payload", "metadata/n");
    check_problem(&post("order", json!({"n": 1})).await, 400, "invalid_payload", "version 2");
    check_problem(&post("order@9", json!([])).await, 400, "unknown_schema", "order@9");
    check_problem(&post("../x", json!([])).await, 400, "unknown_schema", "PUT /v1/schemas");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn schemas_that_reach_out_or_cost_much_are_refused() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut deep = json!({});
    for _ in 0..40 {
        deep = json!({"not": deep});
    }
    for (schema, why) in [
        (json!({"$ref": "http://127.0.0.1/x"}), "leads elsewhere"),
        (json!({"$ref": "file:///etc/passwd"}), "leads elsewhere"),
        (deep, "nested deeper"),
        (json!({"pattern": "((a{1000}){1000}){1000}"}), "cannot be used"),
        (json!({"pattern": "("}), "cannot be used"),
        (json!({"type": "nothing"}), "cannot be used"),
        (json!({"$schema": "http://example.com/x"}), "2020-12"),
        (json!([]), "neither an object"),
    ] {
        check_problem(&put(&service, "/v1/schemas/bad", schema).await, 400, "invalid_field", why);
    }
    check_problem(&put(&service, "/v1/schemas/a%20b", json!({})).await, 400, "invalid_field", "letters");
    check_problem(
        &put(&service, "/v1/schemas/timer.fired", json!({})).await,
        409,
        "already_exists",
        "built in",
    );
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn real_events_fit_their_schemas() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut events = service.events(Some("0")).await;
    let far = |name: &str| json!({"name": name, "after": "1h", "actions": []});
    let id_of = |timer: Value| timer["id"].as_str().unwrap().to_string();
    let id = id_of(service.create(far("a")).await);
    for (what, body) in [
        ("pause", json!({"reason": "r"})),
        ("resume", json!({})),
        ("reschedule", json!({"after": "2h"})),
        ("fire", json!({})),
    ] {
        let answer = service.post_to(&format!("/v1/timers/{id}/{what}"), body).await;
        assert_eq!(answer.status, 200, "{what}: {}", answer.text);
    }
    let id = id_of(service.create(far("b")).await);
    assert_eq!(service.delete(&format!("/v1/timers/{id}")).await.status, 200);
    service.create(json!({"name": "c", "after": "1ms", "actions": webhook("http://127.0.0.1:1")})).await;
    let mut seen = BTreeSet::new();
    while !seen.contains("timer.failed") || !seen.contains("timer.cancelled") {
        let event = events.next().await.unwrap();
        let (_, text) = EVENTS.iter().find(|(kind, _)| *kind == event.event).unwrap();
        let schema = compile(&serde_json::from_str(text).unwrap()).unwrap();
        schema.validate(&event.data).unwrap_or_else(|e| panic!("{}: {e} in {}", event.event, event.data));
        seen.insert(event.event);
    }
    for kind in ["scheduled", "paused", "resumed", "rescheduled", "cancelled", "fired", "completed", "failed"]
    {
        assert!(seen.contains(&format!("timer.{kind}")), "{kind} was not seen: {seen:?}");
    }
    for (_, text) in EVENTS {
        compile(&serde_json::from_str(text).unwrap()).unwrap();
    }
    service.stop().await;
}
