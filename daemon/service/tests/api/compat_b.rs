//! The control plane's dialect: the calls of its clients, replayed.

use crate::compat_v1::{guarded, tenant_key};
use crate::harness::{Answer, Events, Running, Sink};
use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::store::MemoryLog;
use serde_json::{Value, json};

const NONE: &str = "01890000-0000-7000-8000-000000000000";

async fn get_as(service: &Running, path: &str, tenant: &str) -> Answer {
    Answer::of(service.client.get(format!("{}{path}", service.url)).header("x-tenant-id", tenant)).await
}

#[tokio::test]
async fn a_record_is_made_read_listed_and_cancelled() {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let service = Running::on_clock(clock).await;
    let bundle = json!({
        "actions": [{
            "id": "call", "kind": "webhook", "parameters": {"url": "http://127.0.0.1:9/x"},
            "escalation": {"afterAttempts": 2, "escalatesTo": "bob"},
        }],
        "concurrency": 1,
        "retryPolicy": {"maxAttempts": 3, "backoffInitialMs": 5, "backoffMultiplier": 2},
    });
    let binding =
        json!({"adapter": "mcp", "target": "t", "payloadTemplate": {"a": 1}, "acknowledgementTimeoutMs": 5});
    let body = json!({
        "tenantId": "acme", "requestedBy": "ann", "name": "tea", "duration": "90s", "metadata": {"n": 1},
        "labels": {"k": "v"}, "actionBundle": bundle, "agentBinding": binding,
    });
    let made = service.post_to("/timers", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let id = made["id"].as_str().unwrap().to_string();
    let want = json!({
        "id": id, "tenantId": "acme", "requestedBy": "ann", "name": "tea", "status": "scheduled",
        "durationMs": 90_000, "createdAt": "2027-01-15T08:00:00.000000000Z",
        "fireAt": "2027-01-15T08:01:30.000000000Z", "metadata": {"n": 1}, "labels": {"k": "v"},
        "actionBundle": bundle, "agentBinding": binding,
    });
    assert_eq!(made, want);
    let path = format!("/timers/{id}");
    assert_eq!(get_as(&service, &path, "acme").await.json(), want);
    assert_eq!(service.get(&format!("{path}?tenantId=acme")).await.json(), want);
    assert_eq!(service.get("/timers?tenantId=acme").await.json(), json!([want]));
    assert_eq!(get_as(&service, "/timers", "acme").await.json(), json!([want]));
    assert_eq!(get_as(&service, "/timers", "other").await.json(), json!([]));
    // Without a tenant it is the SDK's dialect, for the caller's own tenant.
    assert_eq!(service.get("/timers").await.json()["count"], 0);

    let cancel = json!({"tenantId": "acme", "requestedBy": "bob", "reason": "no tea"});
    let cancelled = service.post_to(&format!("{path}/cancel"), cancel).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    for (field, value) in [
        ("status", "cancelled"),
        ("cancelReason", "no tea"),
        ("cancelledBy", "bob"),
        ("cancelledAt", "2027-01-15T08:00:00.000000000Z"),
    ] {
        assert_eq!(cancelled.json()[field], value, "{}", cancelled.text);
    }
    assert_eq!(get_as(&service, &path, "acme").await.json(), cancelled.json());
    // It has ended: that is told, and changes nothing.
    let again = json!({"tenantId": "acme", "requestedBy": "eve"});
    let again = service.post_to(&format!("{path}/cancel"), again).await;
    assert_eq!((again.status, again.json().as_object().unwrap().len()), (409, 1), "{}", again.text);
    // The tenant may stand in the header or in the query of a POST as well; without one, and without a name, it is
    // the SDK's dialect or a timer called so.
    let plain = json!({"requestedBy": "ann", "duration": 1000});
    let by_header = service.client.post(format!("{}/timers", service.url)).header("x-tenant-id", "acme");
    let by_header =
        Answer::of(by_header.header("content-type", "application/json").body(plain.to_string())).await;
    let by_query = service.post_to("/timers?tenantId=acme", plain).await;
    for made in [by_header, by_query] {
        assert_eq!(made.status, 201, "{}", made.text);
        let want = json!({
            "id": made.json()["id"], "tenantId": "acme", "requestedBy": "ann", "name": "timer",
            "status": "scheduled", "durationMs": 1000, "createdAt": "2027-01-15T08:00:00.000000000Z",
            "fireAt": "2027-01-15T08:00:01.000000000Z", "metadata": null, "labels": {},
        });
        assert_eq!(made.json(), want);
        let id = made.json()["id"].as_str().unwrap().to_string();
        let cancel = json!({"requestedBy": "ann"});
        let cancel = service
            .client
            .post(format!("{}/timers/{id}/cancel?tenantId=acme", service.url))
            .body(cancel.to_string());
        let cancelled = Answer::of(cancel.header("content-type", "application/json")).await.json();
        assert_eq!((&cancelled["cancelledBy"], cancelled.get("cancelReason")), (&json!("ann"), None));
    }
    service.stop().await;
}

#[tokio::test]
async fn schedules_are_read() {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let service = Running::on_clock(clock).await;
    for (fields, duration_ms) in [
        (json!({"duration": 1500}), 1500),
        (json!({"duration": "2h"}), 7_200_000),
        (json!({"fireAt": "2027-01-15T08:00:05Z"}), 5000),
    ] {
        let mut body = json!({"tenantId": "t", "requestedBy": "ann", "name": "n"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        assert_eq!(service.post_to("/timers", body).await.json()["durationMs"], duration_ms);
    }
    service.stop().await;
}

#[tokio::test]
async fn errors_are_in_its_words() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let bundle = |kind: &str| json!({"actions": [{"id": "a", "kind": kind, "parameters": {}}]});
    for (fields, message) in [
        (json!({"duration": "1s", "requestedBy": ""}), "requestedBy is needed"),
        (json!({"duration": "1s", "tenantId": ""}), "tenantId is needed"),
        (json!({"duration": "1s", "tenantId": 5}), "tenantId: give it as text"),
        (json!({}), "give one of duration and fireAt"),
        (json!({"duration": "5y"}), "Unknown unit: y"),
        (json!({"fireAt": "soon"}), "fireAt"),
        (json!({"duration": "1s", "actionBundle": bundle("command")}), "the kinds are webhook"),
        (json!({"duration": "1s", "actionBundle": bundle("webhook")}), "missing field `url`"),
    ] {
        let mut body = json!({"tenantId": "t", "requestedBy": "ann", "name": "n"});
        body.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        let refused = service.post_to("/timers", body).await;
        assert_eq!(refused.status, 400, "{}", refused.text);
        assert!(refused.json()["message"].as_str().unwrap().contains(message), "{message}: {}", refused.text);
        assert!(refused.json()["details"]["code"].is_string(), "{}", refused.text);
        assert_eq!(refused.headers["content-type"], "application/json");
    }
    for (cancel, message) in [
        (json!({"requestedBy": "ann"}), "tenantId is needed"),
        (json!({"tenantId": "t"}), "requestedBy is needed"),
    ] {
        let refused = service.post_to(&format!("/timers/{NONE}/cancel"), cancel).await;
        let want = json!({"message": message, "details": {"code": "missing_field"}});
        assert_eq!((refused.status, refused.json()), (400, want));
    }
    for id in ["nonsense", NONE] {
        let missing = get_as(&service, &format!("/timers/{id}"), "t").await;
        assert_eq!((missing.status, missing.json()), (404, json!({"message": "Timer not found"})));
        let cancel = json!({"tenantId": "t", "requestedBy": "ann"});
        let missing = service.post_to(&format!("/timers/{id}/cancel"), cancel).await;
        assert_eq!((missing.status, missing.json()), (404, json!({"message": "Timer not found"})));
    }
    service.stop().await;
}

#[tokio::test]
async fn a_fire_carries_its_headers_and_shows_in_the_record() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut sink = Sink::start([(200, vec![]), (400, vec![])]).await;
    let bundle = json!({"actions": [{"id": "call", "kind": "webhook", "parameters": {"url": sink.url}}]});
    let body =
        json!({"tenantId": "acme", "requestedBy": "ann", "name": "n", "duration": 1, "actionBundle": bundle});
    let id = service.post_to("/timers", body).await.json()["id"].as_str().unwrap().to_string();
    let called = sink.next().await;
    assert_eq!(called.method, "POST");
    assert_eq!((called.header("x-minoots-timer-id"), called.header("x-minoots-tenant-id")), (&*id, "acme"));
    let record = get_as(&service, &format!("/timers/{id}"), "acme").await.json();
    assert!(record["firedAt"].is_string() && record["status"] == "fired", "{record}");
    let bundle = json!({"actions": [{"kind": "webhook", "parameters": {"url": sink.url}}]});
    let failing =
        json!({"tenantId": "acme", "requestedBy": "ann", "name": "n", "duration": 1, "actionBundle": bundle});
    let id = service.post_to("/timers", failing).await.json()["id"].as_str().unwrap().to_string();
    sink.next().await;
    let live = service.client.get(format!("{}/v1/events", service.url)).header("x-tenant-id", "acme");
    let mut live = Events::of(live.header("last-event-id", "0").send().await.unwrap());
    live.until("timer.failed").await;
    let record = get_as(&service, &format!("/timers/{id}"), "acme").await.json();
    assert!(record["firedAt"].is_string() && record["status"] == "failed", "{record}");
    let health = service.get("/healthz").await.json();
    assert_eq!((&health["status"], &health["service"]), (&json!("ok"), &json!("minoots")));
    service.stop().await;
}

#[tokio::test]
async fn anothers_tenant_is_as_one_without_timers() {
    let (service, operator) = guarded().await;
    let key = tenant_key(&service, &operator).await;
    let body = json!({"tenantId": "other", "requestedBy": "ann", "name": "n", "duration": "1h"});
    let made = service.ask("POST", "/timers", &operator, Some(body.clone())).await.json();
    let foreign = made["id"].as_str().unwrap();
    for id in [foreign, NONE, "nonsense"] {
        for tenant in ["other", "default"] {
            let read = service.ask("GET", &format!("/timers/{id}?tenantId={tenant}"), &key, None).await;
            let cancel = json!({"tenantId": tenant, "requestedBy": "ann"});
            let cancelled = service.ask("POST", &format!("/timers/{id}/cancel"), &key, Some(cancel)).await;
            for answer in [read, cancelled] {
                assert_eq!((answer.status, answer.json()), (404, json!({"message": "Timer not found"})));
            }
        }
    }
    assert_eq!(service.ask("GET", "/timers?tenantId=other", &key, None).await.json(), json!([]));
    assert_eq!(service.ask("POST", "/timers", &key, Some(body)).await.status, 404);
    let refused = get_as(&service, "/timers", "other").await;
    assert_eq!(refused.status, 401);
    assert!(matches!(refused.json()["message"], Value::String(_)));
    service.stop().await;
}
