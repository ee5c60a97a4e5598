//! The SDK's dialect: the calls of its clients, replayed.

use crate::compat_v1::{guarded, tenant_key};
use crate::harness::{Running, Sink};
use chronotick_core::Timestamp;
use minoots::clock::ManualClock;
use minoots::store::MemoryLog;
use serde_json::{Value, json};

const START_MS: i64 = 1_800_000_000_000;

/// The value of each of these paths.
fn check_fields(answer: &Value, want: &[(&str, Value)]) {
    for (path, value) in want {
        assert_eq!(answer.pointer(path), Some(value), "{path} in {answer}");
    }
}

#[tokio::test]
async fn a_timer_is_made_read_listed_and_deleted() {
    let clock = ManualClock::new(Timestamp::from_secs(START_MS / 1000));
    let service = Running::on_clock(clock.clone()).await;
    let events = json!({"on_expire": {"message": "done", "webhook": "http://127.0.0.1:9/x"}});
    let body = json!({
        "name": "tea", "duration": "10m", "agent_id": "sdk_agent", "team": "kitchen",
        "events": events, "metadata": {"n": 1}, "scenario": "unknown fields are passed over",
    });
    let made = service.post_to("/timers", body).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json();
    let id = made["timer"]["id"].as_str().unwrap().to_string();
    let want = [
        ("/success", json!(true)),
        ("/timer/name", json!("tea")),
        ("/timer/agentId", json!("sdk_agent")),
        ("/timer/team", json!("kitchen")),
        ("/timer/duration", json!(600_000)),
        ("/timer/startTime", json!(START_MS)),
        ("/timer/endTime", json!(START_MS + 600_000)),
        ("/timer/status", json!("running")),
        ("/timer/events", events),
        ("/timer/metadata", json!({"n": 1})),
        ("/timer/timeRemaining", json!(600_000)),
        ("/timer/progress", json!(0.0)),
    ];
    check_fields(&made, &want);
    let read = service.get(&format!("/timers/{id}")).await;
    assert_eq!((read.status, &read.json()["timer"]), (200, &made["timer"]));
    for group in ["daily", "concurrent"] {
        let usage = &made["usage"][group];
        assert!(usage.get("limit").is_some() && usage.get("remaining").is_some(), "{made}");
    }

    service.post_to("/timers", json!({"name": "other", "duration": 5000})).await;
    for (query, want) in [
        ("", 2),
        ("?agent_id=sdk_agent", 1),
        ("?team=kitchen&status=running", 1),
        ("?team=hall", 0),
        ("?status=running", 2),
        ("?status=cancelled", 0),
    ] {
        let listed = service.get(&format!("/timers{query}")).await.json();
        check_fields(&listed, &[("/success", json!(true)), ("/count", json!(want))]);
        assert_eq!(listed["timers"].as_array().unwrap().len(), want, "{query}");
    }

    for _ in 0..2 {
        let deleted = service.delete(&format!("/timers/{id}")).await;
        assert_eq!((deleted.status, deleted.json()), (200, json!({"success": true})));
    }
    let read = service.get(&format!("/timers/{id}")).await.json();
    check_fields(&read, &[("/timer/status", json!("cancelled")), ("/timer/timeRemaining", json!(0))]);
    service.stop().await;
}

#[tokio::test]
async fn errors_are_in_its_words() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let on_expire = |value: Value| json!({"name": "n", "duration": "1m", "events": {"on_expire": value}});
    for (body, error) in [
        (json!({"name": "n", "duration": "soon"}), "Invalid duration: soon"),
        (json!({"name": "n", "duration": "5y"}), "Unknown unit: y"),
        (json!({"name": "n"}), "Missing required field: duration"),
        (on_expire(json!({"command": {"command": "ls"}})), "events.on_expire.command is not carried out"),
        (
            on_expire(json!({"file_write": {"file": "f", "content": "c"}})),
            "events.on_expire.file_write is not",
        ),
        (on_expire(json!({"webhook": "nowhere"})), "https://host/path"),
        (on_expire(json!({"email": "x"})), "unknown field `email`"),
    ] {
        let refused = service.post_to("/timers", body.clone()).await;
        assert_eq!((refused.status, &refused.json()["success"]), (400, &json!(false)), "{body}");
        assert!(refused.json()["error"].as_str().unwrap().contains(error), "{error}: {}", refused.text);
        assert_eq!(refused.headers["content-type"], "application/json");
    }
    for id in ["nonsense", "01890000-0000-7000-8000-000000000000"] {
        let want = json!({"success": false, "error": "Timer not found"});
        for answer in
            [service.get(&format!("/timers/{id}")).await, service.delete(&format!("/timers/{id}")).await]
        {
            assert_eq!((answer.status, answer.json()), (404, want.clone()));
        }
    }
    service.stop().await;
}

#[tokio::test]
async fn an_expiry_calls_the_webhook_in_its_words() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut sink = Sink::start([]).await;
    for (webhook, message, data) in [
        (json!(sink.url), json!("from the event"), Value::Null),
        (json!({"url": sink.url}), json!("from the event"), Value::Null),
        (json!({"url": sink.url, "message": "own", "data": {"k": [1]}}), json!("own"), json!({"k": [1]})),
    ] {
        let events = json!({"on_expire": {"message": "from the event", "webhook": webhook}});
        let body = json!({"name": "tea", "duration": "1ms", "agent_id": "a", "events": events});
        let made = service.post_to("/timers", body).await.json();
        let called = sink.next().await.json();
        let want = [
            ("/event", json!("timer_expired")),
            ("/message", message),
            ("/data", data),
            ("/timer/id", made["timer"]["id"].clone()),
            ("/timer/status", json!("expired")),
            ("/timer/agentId", json!("a")),
            ("/timer/events", events),
            ("/timer/timeRemaining", json!(0)),
            ("/timer/progress", json!(1.0)),
            ("/timer/endTime", made["timer"]["endTime"].clone()),
        ];
        check_fields(&called, &want);
    }
    let body = json!({"duration": "1ms", "name": "w", "agent_id": "a", "callback": sink.url});
    let waited = service.post_to("/quick/wait", body).await;
    assert_eq!((waited.status, &waited.json()["success"]), (200, &json!(true)), "{}", waited.text);
    check_fields(&sink.next().await.json(), &[("/timer/name", json!("w"))]);
    service.stop().await;
}

#[tokio::test]
async fn the_other_calls_answer() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let told = service.post_to("/teams/kitchen/broadcast", json!({"message": "tea", "data": {"n": 1}})).await;
    assert_eq!(told.status, 200, "{}", told.text);
    let want = [
        ("/success", json!(true)),
        ("/broadcast/team", json!("kitchen")),
        ("/broadcast/message", json!("tea")),
        ("/broadcast/data", json!({"n": 1})),
    ];
    check_fields(&told.json(), &want);
    assert!(told.json()["broadcast"]["timestamp"].is_string());
    let listed = service.get("/timers?team=kitchen").await.json();
    check_fields(&listed, &[("/timers/0/metadata", json!({"message": "tea", "data": {"n": 1}}))]);

    let health = service.get("/health").await.json();
    for field in ["status", "timestamp", "service", "version", "features"] {
        assert!(health.get(field).is_some(), "{health}");
    }
    let usage = service.get("/account/usage?days=3").await.json();
    check_fields(&usage, &[("/success", json!(true)), ("/usage/daily/used", json!(1))]);
    assert_eq!(usage["history"].as_array().unwrap().len(), 3);
    assert_eq!(service.get("/account/usage?days=0").await.status, 400);
    assert!(service.get("/mcp/config").await.json()["mcpServers"].is_object());
    service.stop().await;
}

#[tokio::test]
async fn keys_are_made_used_renamed_and_revoked() {
    let (service, operator) = guarded().await;
    let admin = tenant_key(&service, &operator).await;
    let made = service.ask("POST", "/account/api-keys", &admin, Some(json!({"name": "ci"}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let made = made.json()["apiKey"].clone();
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    assert!(key.starts_with("mnt_") && key.len() == 68, "{key}");
    let path = format!("/account/api-keys/{id}");
    assert_eq!(service.ask("GET", "/timers", key, None).await.json()["count"], 0);
    let by_header = service.client.get(format!("{}/timers", service.url)).header("x-api-key", key);
    assert_eq!(by_header.send().await.unwrap().status(), 200);
    let renamed = service.ask("PUT", &path, &admin, Some(json!({"name": "cd"}))).await.json();
    check_fields(&renamed, &[("/success", json!(true)), ("/apiKey/name", json!("cd"))]);
    let listed = service.ask("GET", "/account/api-keys", &admin, None).await.json();
    assert!(
        listed["apiKeys"].as_array().unwrap().iter().any(|k| k["id"] == id)
            && !listed.to_string().contains(key)
    );
    assert_eq!(service.ask("DELETE", &path, &admin, None).await.json(), json!({"success": true}));
    for refused in [service.ask("GET", "/timers", key, None).await, service.get("/timers").await] {
        assert_eq!((refused.status, &refused.json()["success"]), (401, &json!(false)));
        assert!(refused.json()["error"].is_string());
    }
    assert_eq!(service.get("/health").await.status, 200);
    service.stop().await;
}
