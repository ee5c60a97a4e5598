//! Signatures over the API: receipts and webhooks verify with the published keys, before and after a rotation.

use crate::harness::{Running, Sink, check_problem, config, webhook};
use chronotick::verify::{Keys, Kind};
use serde_json::{Value, json};

async fn keys(service: &Running) -> Keys {
    let answer = service.get("/.well-known/minoots-keys.json").await;
    assert_eq!(answer.status, 200);
    Keys::from_jwks(&answer.text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_and_webhooks_verify_with_the_published_keys() {
    let dir = tempfile::tempdir().unwrap();
    let service = Running::whole(&config(dir.path())).await;
    let mut sink = Sink::start([]).await;
    let mut events = service.events(None).await;
    let created = service.create(json!({"name": "t", "after": "1ms", "actions": webhook(&sink.url)})).await;
    let id = created["id"].as_str().unwrap();
    let delivery = sink.next().await;
    let before = keys(&service).await;
    let (hook_id, at, signed) = (
        delivery.header("webhook-id"),
        delivery.header("webhook-timestamp"),
        delivery.header("webhook-signature"),
    );
    assert_eq!(before.check_webhook(hook_id, at, signed, delivery.body.as_bytes()), Ok(()));
    assert!(before.check_webhook(hook_id, at, signed, b"other").is_err());
    assert!(before.check_webhook("other", at, signed, delivery.body.as_bytes()).is_err());
    events.until("timer.completed").await;
    let firing = delivery.header("x-minoots-firing-id");
    let path = format!("/v1/timers/{id}/receipts/{firing}");
    let receipt = service.get(&path).await;
    assert_eq!(receipt.status, 200, "{}", receipt.text);
    let payload: Value = serde_json::from_str(&before.open(Kind::Receipt, &receipt.text).unwrap()).unwrap();
    assert_eq!((&payload["timer_id"], &payload["firing_id"]), (&json!(id), &json!(firing)));
    assert_eq!(payload["tenant"], "default");
    assert_eq!(payload["key_id"], receipt.json()["key_id"]);
    let history = service.get(&format!("/v1/timers/{id}/history")).await.json();
    assert_eq!(payload["log"]["sequence"], history["entries"][0]["sequence"].to_string());
    assert!(before.open(Kind::Event, &receipt.text).is_err());
    check_problem(
        &service.get(&format!("/v1/timers/{id}/receipts/none")).await,
        404,
        "fire_not_found",
        "none",
    );

    let rotated = service.post_to("/v1/signing-keys/rotate", json!({})).await.json();
    let after = keys(&service).await;
    assert!(after.open(Kind::Receipt, &receipt.text).is_ok(), "an old receipt needs its old key");
    let again = service.get(&path).await;
    assert_eq!(again.json()["key_id"], rotated["key_id"]);
    assert!(after.open(Kind::Receipt, &again.text).is_ok());
    assert!(before.open(Kind::Receipt, &again.text).is_err());
    service.stop().await;
}
