//! The SDK's dialect: the calls of its clients, replayed.

use crate::compat_v1::{guarded, guarded_by, tenant_key};
use crate::harness::{Running, Sink};
use chronotick_core::Timestamp;
use minoots::access::quota::Limits;
use minoots::clock::ManualClock;
use minoots::store::MemoryLog;
use serde_json::{Value, json};

// In the past: ids have the system's time, and what was made today is found by them.
const START_MS: i64 = 1_700_000_000_000;

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
    let timer = json!({
        "id": id, "name": "tea", "agentId": "sdk_agent", "team": "kitchen", "duration": 600_000,
        "startTime": START_MS, "endTime": START_MS + 600_000, "status": "running", "events": events,
        "metadata": {"n": 1}, "timeRemaining": 600_000, "progress": 0.0,
    });
    let usage = json!({
        "daily": {"used": 1, "limit": null, "remaining": null},
        "concurrent": {"current": 1, "limit": null, "remaining": null},
    });
    assert_eq!(made, json!({"success": true, "timer": timer, "usage": usage}));
    let read = service.get(&format!("/timers/{id}")).await;
    assert_eq!((read.status, read.json()), (200, json!({"success": true, "timer": timer})));
    clock.set(Timestamp::from_secs(START_MS / 1000 + 150));
    let read = service.get(&format!("/timers/{id}")).await.json();
    check_fields(&read, &[("/timer/timeRemaining", json!(450_000)), ("/timer/progress", json!(0.25))]);

    // A number is milliseconds, and what is left out is empty.
    let made = service.post_to("/timers", json!({"duration": 5000})).await.json();
    let plain = [
        ("/timer/name", json!("timer")),
        ("/timer/agentId", Value::Null),
        ("/timer/team", Value::Null),
        ("/timer/duration", json!(5000)),
        ("/timer/events", json!({})),
        ("/timer/metadata", json!({})),
    ];
    check_fields(&made, &plain);
    for (query, want) in [
        ("", 2),
        ("?agent_id=sdk_agent", 1),
        ("?team=kitchen&status=running", 1),
        ("?team=hall", 0),
        ("?status=running", 2),
        ("?status=cancelled", 0),
    ] {
        let listed = service.get(&format!("/timers{query}")).await.json();
        assert_eq!(listed.as_object().unwrap().len(), 3, "success, timers, count: {listed}");
        check_fields(&listed, &[("/success", json!(true)), ("/count", json!(want))]);
        assert_eq!(listed["timers"].as_array().unwrap().len(), want, "{query}");
    }

    for _ in 0..2 {
        let deleted = service.delete(&format!("/timers/{id}")).await;
        assert_eq!((deleted.status, deleted.json()), (200, json!({"success": true})));
    }
    let read = service.get(&format!("/timers/{id}")).await.json();
    check_fields(&read, &[("/timer/status", json!("cancelled")), ("/timer/timeRemaining", json!(0))]);
    let listed = service.get("/timers?status=cancelled").await.json();
    check_fields(&listed, &[("/count", json!(1)), ("/timers/0", read["timer"].clone())]);
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
    for (path, body, error) in [
        ("/quick/wait", json!({"name": "w"}), "Missing required field: duration"),
        ("/quick/wait", json!({"duration": "1x"}), "Unknown unit: x"),
        ("/teams/kitchen/broadcast", json!({"data": 1}), "Missing required field: message"),
    ] {
        let refused = service.post_to(path, body).await;
        assert_eq!((refused.status, refused.json()), (400, json!({"success": false, "error": error})));
    }
    let refused = service.get("/timers?status=armed").await;
    assert_eq!((refused.status, &refused.json()["success"]), (400, &json!(false)));
    let missing = service.delete("/account/api-keys/0000000000000000").await;
    assert_eq!((missing.status, &missing.json()["success"]), (404, &json!(false)));
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
    for (webhook, of_event, message, data) in [
        (json!(sink.url), Value::Null, json!("from the event"), Value::Null),
        (json!(sink.url), json!([1]), json!("from the event"), json!([1])),
        (json!({"url": sink.url}), Value::Null, json!("from the event"), Value::Null),
        (
            json!({"url": sink.url, "message": "own", "data": {"k": [1]}}),
            json!("other"),
            json!("own"),
            json!({"k": [1]}),
        ),
    ] {
        let events =
            json!({"on_expire": {"message": "from the event", "webhook": webhook, "data": of_event}});
        let body = json!({"name": "tea", "duration": "1ms", "agent_id": "a", "events": events});
        let made = service.post_to("/timers", body).await.json();
        let called = sink.next().await;
        assert_eq!((called.method.as_str(), called.header("content-type")), ("POST", "application/json"));
        let called = called.json();
        assert_eq!(called.as_object().unwrap().len(), 4, "event, timer, message, data: {called}");
        assert_eq!(called["timer"].as_object().unwrap().len(), 12, "{called}");
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
    check_fields(
        &sink.next().await.json(),
        &[("/event", json!("timer_expired")), ("/timer/name", json!("w"))],
    );
    // The SDK polls until the status is another one.
    let id = waited.json()["timer"]["id"].as_str().unwrap().to_string();
    let expired = json!({"success": true, "status": "expired"});
    let read = service.get(&format!("/timers/{id}")).await.json();
    assert_eq!(json!({"success": read["success"], "status": read["timer"]["status"]}), expired);
    service.stop().await;
}

#[tokio::test]
async fn the_other_calls_answer() {
    let clock = ManualClock::new(Timestamp::from_secs(START_MS / 1000));
    let service = Running::on_clock(clock).await;
    let now = "2023-11-14T22:13:20.000000000Z";
    for (body, data) in [
        (json!({"message": "tea", "data": {"n": 1}}), json!({"n": 1})),
        (json!({"message": "tea"}), Value::Null),
    ] {
        let told = service.post_to("/teams/kitchen/broadcast", body).await;
        let broadcast = json!({"team": "kitchen", "message": "tea", "data": data, "timestamp": now});
        assert_eq!((told.status, told.json()), (200, json!({"success": true, "broadcast": broadcast})));
    }
    let listed = service.get("/timers?team=kitchen").await.json();
    check_fields(&listed, &[("/timers/0/metadata", json!({"message": "tea", "data": {"n": 1}}))]);
    let waited = service.post_to("/quick/wait", json!({"duration": "30s", "agent_id": "a"})).await.json();
    assert_eq!(waited.as_object().unwrap().len(), 2, "success, timer: {waited}");
    let want = [
        ("/success", json!(true)),
        ("/timer/name", json!("quick_wait")),
        ("/timer/agentId", json!("a")),
        ("/timer/duration", json!(30_000)),
    ];
    check_fields(&waited, &want);

    let health = service.get("/health").await;
    let want = json!({
        "status": "healthy", "timestamp": now, "service": "minoots", "version": env!("CARGO_PKG_VERSION"),
        "features": ["timers", "webhooks", "teams", "api-keys", "mcp"],
    });
    assert_eq!((health.status, health.json()), (200, want));
    for (query, days) in [("?days=3", 3), ("", 7)] {
        let usage = service.get(&format!("/account/usage{query}")).await.json();
        let want = [
            ("/success", json!(true)),
            ("/days", json!(days)),
            ("/usage/daily/used", json!(3)),
            (&format!("/history/{}", days - 1), json!({"date": "2023-11-14", "timers": 3})),
            (&format!("/history/{}", days - 2), json!({"date": "2023-11-13", "timers": 0})),
        ];
        check_fields(&usage, &want);
        assert_eq!(usage["history"].as_array().unwrap().len(), days);
    }
    for days in ["0", "91", "x"] {
        assert_eq!(service.get(&format!("/account/usage?days={days}")).await.status, 400);
    }
    let config = service.get("/mcp/config").await.json();
    let server = json!({"command": "minoots", "args": ["mcp"], "env": {"MINOOTS_API_BASE": service.url}});
    assert_eq!(config, json!({"success": true, "mcpServers": {"minoots": server}}));
    service.stop().await;
}

#[tokio::test]
async fn over_a_quota_it_says_what_is_used_and_the_limit() {
    let limits = Limits { timers_pending: Some(2), payload_bytes: Some(2_000), ..Limits::default() };
    let (service, operator) = guarded_by(limits).await;
    let key = tenant_key(&service, &operator).await;
    let create = |name: &str| json!({"name": name, "duration": "1h"});
    for (current, remaining) in [(1, 1), (2, 0)] {
        let made = service.ask("POST", "/timers", &key, Some(create("n"))).await.json();
        let want = json!({
            "daily": {"used": current, "limit": null, "remaining": null},
            "concurrent": {"current": current, "limit": 2, "remaining": remaining},
        });
        assert_eq!(made["usage"], want, "{made}");
    }
    let usage = service.ask("GET", "/account/usage", &key, None).await.json();
    check_fields(&usage, &[("/usage/concurrent", json!({"current": 2, "limit": 2, "remaining": 0}))]);
    for path in ["/timers", "/quick/wait"] {
        let refused = service.ask("POST", path, &key, Some(create("n"))).await;
        let body = refused.json();
        assert_eq!((refused.status, body.as_object().unwrap().len()), (429, 4), "{body}");
        check_fields(&body, &[("/success", json!(false)), ("/current", json!(2)), ("/limit", json!(2))]);
        assert!(body["error"].as_str().unwrap().contains("2 pending timers"), "{body}");
        assert_eq!(refused.headers["ratelimit-limit"], "2");
    }
    let large = service.ask("POST", "/timers", &key, Some(create(&"x".repeat(2_001)))).await;
    if large.status == 429 {
        assert!(large.json()["used"].as_u64().is_some_and(|used| used > 2_000), "{}", large.text);
    }
    // B tells the same in its details.
    let body = json!({"tenantId": "default", "requestedBy": "ann", "duration": "1h"});
    let refused = service.ask("POST", "/timers", &key, Some(body)).await;
    let details = json!({"code": "quota_exceeded", "limit": 2, "remaining": 0, "used": 2});
    assert_eq!((refused.status, &refused.json()["details"]), (429, &details));
    service.stop().await;

    let (service, operator) = guarded_by(Limits { reads_per_s: Some(1), ..Limits::default() }).await;
    let refused = loop {
        let answer = service.ask("GET", "/timers", &operator, None).await;
        if answer.status != 200 {
            break answer;
        }
    };
    assert_eq!((refused.status, &refused.headers["retry-after"]), (429, &"1".parse().unwrap()));
    check_fields(&refused.json(), &[("/success", json!(false)), ("/used", json!(1)), ("/limit", json!(1))]);
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
    let keys = listed["apiKeys"].as_array().unwrap();
    assert_eq!((&listed["success"], &listed["count"]), (&json!(true), &json!(keys.len())));
    let found = keys.iter().find(|k| k["id"] == id).unwrap();
    let want = json!({
        "id": id, "name": "cd", "last4": &key[key.len() - 4..], "createdAt": made["createdAt"],
        "expiresAt": null, "revokedAt": null, "active": true,
    });
    assert_eq!(found, &want);
    assert!(!listed.to_string().contains(key));
    assert_eq!(service.ask("DELETE", &path, &admin, None).await.json(), json!({"success": true}));
    for refused in [service.ask("GET", "/timers", key, None).await, service.get("/timers").await] {
        assert_eq!((refused.status, &refused.json()["success"]), (401, &json!(false)));
        assert!(refused.json()["error"].is_string());
    }
    assert_eq!(service.get("/health").await.status, 200);
    service.stop().await;
}
