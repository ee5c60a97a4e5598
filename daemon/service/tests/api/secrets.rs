//! Secrets over the API: they reach the receiver and nothing else that the service writes.

use crate::harness::{Answer, Running, Sink, check_problem, config};
use minoots::config::SecretsSection;
use serde_json::{Value, json};
use std::path::Path;

const VALUE: &str = "xoxb-top-secret-value-8461";

async fn put(service: &Running, path: &str, body: Value) -> Answer {
    let request = service.client.put(format!("{}{path}", service.url));
    Answer::of(request.header("content-type", "application/json").body(body.to_string())).await
}

/// Every file under a directory that holds the text.
fn holding(dir: &Path, text: &str, found: &mut Vec<String>) -> usize {
    let mut read = 0;
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read += holding(&path, text, found);
        } else {
            let bytes = std::fs::read(&path).unwrap();
            read += 1;
            if bytes.windows(text.len()).any(|w| w == text.as_bytes()) {
                found.push(path.display().to_string());
            }
        }
    }
    read
}

#[tokio::test(flavor = "multi_thread")]
async fn a_value_reaches_the_receiver_and_nothing_that_the_service_writes() {
    let dir = tempfile::tempdir().unwrap();
    let key = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_string();
    let secrets = SecretsSection { from_env: Some(key.into()), ..Default::default() };
    let service = Running::whole(&minoots::config::Config { secrets, ..config(dir.path()) }).await;
    // A receiver that repeats what it was sent, in a refusal whose text the service shows otherwise.
    let mut sink = Sink::start([(400, vec![("x-echo", VALUE)])]).await;
    let mut events = service.events(None).await;
    let mut told = Vec::new();
    let set = put(&service, "/v1/secrets/slack", json!({"value": VALUE})).await;
    assert_eq!(set.status, 201, "{}", set.text);
    told.push(set.text);
    let url = sink.url.clone();
    let timer = |name: &str| {
        json!({"name": "t", "after": "1ms", "actions": [{"id": "call", "kind": "webhook", "parameters": {
            "url": url, "headers": {"authorization": format!("Bearer ${{secret:{name}}}")}}}]})
    };
    let refused = service.post(timer("none").to_string()).await;
    check_problem(&refused, 400, "invalid_action", "PUT /v1/secrets/none");
    check_problem(&service.post(timer("no ne").to_string()).await, 400, "invalid_action", "placeholder");
    let created = service.create(timer("slack")).await;
    let delivery = sink.next().await;
    assert_eq!(delivery.header("authorization"), format!("Bearer {VALUE}"));
    assert!(!delivery.body.contains(VALUE));
    told.extend(events.until("timer.failed").await.iter().map(|e| e.data.to_string()));
    told.push(put(&service, "/v1/secrets/slack", json!({"value": VALUE, "more": 1})).await.text);
    told.push(put(&service, "/v1/secrets/slack", json!({"value": [VALUE]})).await.text);
    let id = created["id"].as_str().unwrap();
    for path in [
        "/v1/secrets",
        "/v1/secrets/slack",
        "/v1/audit",
        "/v1/timers",
        "/v1/status",
        "/metrics",
        &format!("/v1/timers/{id}"),
        &format!("/v1/timers/{id}/history"),
    ] {
        told.push(service.get(path).await.text);
    }
    let rotated = service.post_to("/v1/secrets/rotate", json!({})).await;
    assert_eq!((rotated.status, rotated.json()), (200, json!({"sealed_anew": 1})), "{}", rotated.text);
    service.create(timer("slack")).await;
    assert_eq!(sink.next().await.header("authorization"), format!("Bearer {VALUE}"));
    assert_eq!(service.delete("/v1/secrets/slack").await.status, 204);
    check_problem(&service.delete("/v1/secrets/slack").await, 404, "not_found", "slack");
    service.stop().await;
    for text in told {
        assert!(!text.contains(VALUE), "an answer has the value: {text}");
    }
    let mut found = Vec::new();
    assert!(holding(dir.path(), VALUE, &mut found) > 3);
    assert_eq!(found, [""; 0], "files hold the value");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_master_key_secrets_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::whole(&config(dir.path())).await;
    let refused = put(&service, "/v1/secrets/slack", json!({"value": VALUE})).await;
    check_problem(&refused, 409, "no_master_key", "MINOOTS_MASTER_KEY");
    check_problem(&service.get("/v1/secrets/slack").await, 404, "not_found", "slack");
    service.stop().await;
}
