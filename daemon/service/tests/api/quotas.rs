//! Quotas and tenants from outside: what is refused, what is told of it, and what an operator changes.

use crate::harness::{Answer, Running, check_problem};
use minoots::access::Verb;
use minoots::access::quota::Limits;
use minoots::access::secret::{KeyText, system_random};
use minoots::api::grpc::v2;
use minoots::api::openapi::routes;
use minoots::clock::OsClock;
use minoots::config::AccessConfig;
use minoots::config::access::AuthMode;
use minoots::store::MemoryControl;
use serde_json::{Value, json};
use std::sync::Arc;

/// A service with limits that wants keys, and the operator's key.
async fn guarded(limits: Limits) -> (Running, String) {
    let key = KeyText::random(&system_random()).unwrap();
    let access = AccessConfig {
        mode: AuthMode::Required,
        bootstrap_key: Some(key.clone()),
        limits,
        ..AccessConfig::default()
    };
    let service = Running::with_access(access, Arc::new(MemoryControl::default()), OsClock).await;
    (service, key.reveal().to_string())
}

/// An admin's key of a tenant.
async fn admin_of(service: &Running, operator: &str, tenant: &str) -> String {
    let body = json!({"name": "admin", "role": "admin"});
    let request = service
        .client
        .post(format!("{}/v1/keys", service.url))
        .bearer_auth(operator)
        .header("x-tenant-id", tenant)
        .header("content-type", "application/json")
        .body(body.to_string());
    let answer = Answer::of(request).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["secret"].as_str().unwrap().to_string()
}

async fn create(service: &Running, key: &str, name: &str) -> Answer {
    service.ask("POST", "/v1/timers", key, Some(json!({"name": name, "after": "1h"}))).await
}

async fn usage(service: &Running, key: &str) -> Value {
    let answer = service.ask("GET", "/v1/usage", key, None).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()
}

#[tokio::test]
async fn pending_timers_are_counted_for_each_tenant() {
    let limits = Limits { timers_pending: Some(3), payload_bytes: Some(1_000), ..Limits::default() };
    let (service, operator) = guarded(limits).await;
    let (a, b) = (admin_of(&service, &operator, "a").await, admin_of(&service, &operator, "b").await);
    let first = create(&service, &a, "1").await.json()["id"].as_str().unwrap().to_string();
    let batch = |n: usize| json!({"timers": vec![json!({"name": "n", "after": "1h"}); n]});
    let answer = service.ask("POST", "/v1/timers/batch", &a, Some(batch(3))).await;
    check_problem(&answer, 429, "quota_exceeded", "1 pending timers and may have 3");
    assert_eq!(answer.json()["remaining"], 2, "{}", answer.text);
    assert_eq!(service.ask("POST", "/v1/timers/batch", &a, Some(batch(2))).await.status, 200);
    let refused = create(&service, &a, "4").await;
    check_problem(&refused, 429, "quota_exceeded", "cancel some");
    assert_eq!((&refused.json()["limit"], &refused.json()["used"]), (&json!(3), &json!(3)));
    assert_eq!(
        (&refused.headers["ratelimit-limit"], &refused.headers["ratelimit-remaining"]),
        (&"3".parse().unwrap(), &"0".parse().unwrap())
    );
    // Another tenant has its own, and the end of a timer makes room.
    assert_eq!(create(&service, &b, "1").await.status, 201);
    assert_eq!(service.ask("DELETE", &format!("/v1/timers/{first}"), &a, None).await.status, 200);
    assert_eq!(usage(&service, &a).await["timers_pending"], 2);
    assert_eq!(create(&service, &a, "4").await.status, 201);
    // Many at once never get past the limit.
    let many = (0..20).map(|_| create(&service, &b, "n"));
    let made = futures::future::join_all(many).await.iter().filter(|a| a.status == 201).count();
    assert!(made <= 2, "{made}");
    assert_eq!(usage(&service, &b).await["timers_pending"], 1 + made);
    let large = create(&service, &operator, &"x".repeat(1_100)).await;
    assert!(large.status == 429 || large.status == 400, "{}", large.text);
    service.stop().await;
}

#[tokio::test]
async fn a_rate_says_when_to_come_again() {
    let (service, operator) = guarded(Limits { reads_per_s: Some(1), ..Limits::default() }).await;
    let refused = loop {
        let answer = service.ask("GET", "/v1/timers", &operator, None).await;
        if answer.status != 200 {
            break answer;
        }
    };
    check_problem(&refused, 429, "rate_limited", "1 reads in a second");
    assert_eq!(refused.headers["retry-after"], "1");
    assert!(refused.json()["retry_after_ms"].as_u64().is_some_and(|ms| ms <= 1_001), "{}", refused.text);
    let mut client =
        v2::timer_service_client::TimerServiceClient::connect(service.url.clone()).await.unwrap();
    let status = loop {
        let mut request = tonic::Request::new(v2::ListTimersRequest::default());
        request.metadata_mut().insert("authorization", format!("Bearer {operator}").parse().unwrap());
        if let Err(status) = client.list_timers(request).await {
            break status;
        }
    };
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    for name in ["retry-after", "ratelimit-limit", "ratelimit-remaining", "ratelimit-reset"] {
        assert!(status.metadata().get(name).is_some(), "{name}: {status:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn every_question_counts() {
    use Verb::{ReadMetrics, ReadStatus, WatchEvents};
    let (service, operator) = guarded(Limits { reads_per_s: Some(1), ..Limits::default() }).await;
    let id = "01900000-0000-7000-8000-000000000000";
    // Streams have a limit of their own; how the service is doing can always be asked.
    let is_counted = |verb| ![ReadMetrics, ReadStatus, WatchEvents].contains(&verb);
    for route in routes().filter(|r| r.method == "GET" && r.verb.is_some_and(is_counted)) {
        let path = route.path.replace("{id}", id).replace("{firing_id}", &format!("{id}:1"));
        let path = path.replace("{version}", "1").replace("{name}", "n").replace("{key}", "n");
        let mut refused = false;
        for _ in 0..20 {
            refused |= service.ask("GET", &path, &operator, None).await.status == 429;
        }
        assert!(refused, "GET {path} can be asked without end");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_stream_holds_its_place() {
    let (service, operator) = guarded(Limits { streams: Some(1), ..Limits::default() }).await;
    let open = || service.client.get(format!("{}/v1/events", service.url)).bearer_auth(&operator).send();
    let first = open().await.unwrap();
    assert_eq!((first.status().as_u16(), &usage(&service, &operator).await["streams"]), (200, &json!(1)));
    assert_eq!(open().await.unwrap().status().as_u16(), 429);
    drop(first);
    // The service sees the end of the connection in its own time.
    while usage(&service, &operator).await["streams"] != 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(open().await.unwrap().status().as_u16(), 200);
    service.stop().await;
}

#[tokio::test]
async fn tenants_are_the_operators() {
    let (service, operator) = guarded(Limits { timers_pending: Some(9), ..Limits::default() }).await;
    let a = admin_of(&service, &operator, "a").await;
    let body = json!({"name": "a", "limits": {"timers_pending": 1}});
    for (method, path) in [
        ("GET", "/v1/tenants"),
        ("POST", "/v1/tenants"),
        ("GET", "/v1/tenants/a"),
        ("PUT", "/v1/tenants/a"),
        ("DELETE", "/v1/tenants/a"),
    ] {
        let sent = ["POST", "PUT"].contains(&method).then(|| body.clone());
        check_problem(&service.ask(method, path, &a, sent).await, 404, "not_found", "not the caller's");
    }
    let made = service.ask("POST", "/v1/tenants", &operator, Some(body.clone())).await;
    assert_eq!((made.status, &made.headers["location"]), (201, &"/v1/tenants/a".parse().unwrap()));
    check_problem(
        &service.ask("POST", "/v1/tenants", &operator, Some(body)).await,
        409,
        "already_exists",
        "PUT",
    );
    check_problem(&service.ask("GET", "/v1/tenants/b", &operator, None).await, 404, "not_found", "no such");
    let wrong = json!({"name": "b", "limits": {"timers": 1}});
    assert_eq!(service.ask("POST", "/v1/tenants", &operator, Some(wrong)).await.status, 400);
    assert_eq!(create(&service, &a, "1").await.status, 201);
    assert_eq!(create(&service, &a, "2").await.status, 429);
    assert_eq!(usage(&service, &a).await["limits"], json!({"timers_pending": 1}));
    // A disabled tenant is not let in; its timers are still there.
    let put = |body: Value| service.ask("PUT", "/v1/tenants/a", &operator, Some(body));
    assert_eq!(put(json!({"disabled": true})).await.json()["disabled"], true);
    check_problem(&service.ask("GET", "/v1/timers", &a, None).await, 403, "forbidden", "disabled");
    assert_eq!(put(json!({"limits": {"timers_pending": 2}})).await.status, 200);
    assert_eq!(usage(&service, &a).await["timers_pending"], 1);
    assert_eq!((create(&service, &a, "2").await.status, create(&service, &a, "3").await.status), (201, 429));
    let listed = service.ask("GET", "/v1/tenants?limit=1", &operator, None).await.json();
    assert_eq!((&listed["tenants"][0]["name"], &listed["next_cursor"]), (&json!("a"), &Value::Null));
    assert_eq!(service.ask("DELETE", "/v1/tenants/a", &operator, None).await.status, 204);
    assert_eq!(usage(&service, &a).await["limits"], json!({"timers_pending": 9}));
    service.stop().await;
}

#[tokio::test]
async fn a_repetition_counts_for_nothing() {
    let limits = Limits { timers_pending: Some(1), creates_per_s: Some(1), ..Limits::default() };
    let (service, operator) = guarded(limits).await;
    let keyed = |name: &str| json!({"name": name, "after": "1h", "idempotency_key": "k"});
    let first = service.ask("POST", "/v1/timers", &operator, Some(keyed("n"))).await;
    assert_eq!(first.status, 201, "{}", first.text);
    // The quota is full and the rate used up; each repetition is answered as the first.
    for _ in 0..5 {
        let again = service.ask("POST", "/v1/timers", &operator, Some(keyed("n"))).await;
        assert_eq!((again.status, &again.json()["id"]), (200, &first.json()["id"]), "{}", again.text);
        let batch = json!({"timers": [keyed("n")]});
        let again = service.ask("POST", "/v1/timers/batch", &operator, Some(batch)).await;
        assert_eq!(again.status, 200, "{}", again.text);
        assert!(again.text.contains(first.json()["id"].as_str().unwrap()), "{}", again.text);
    }
    let other = service.ask("POST", "/v1/timers", &operator, Some(keyed("other"))).await;
    check_problem(&other, 409, "idempotency_conflict", "");
    assert_eq!(create(&service, &operator, "2").await.status, 429);
    service.stop().await;
}

#[tokio::test]
async fn whoever_drops_its_requests_does_not_pass_the_limit() {
    let (service, operator) = guarded(Limits { timers_pending: Some(5), ..Limits::default() }).await;
    for _ in 0..40 {
        let body = json!({"name": "n", "after": "1h"}).to_string();
        let request = service.client.post(format!("{}/v1/timers", service.url)).bearer_auth(&operator);
        let sent = request.header("content-type", "application/json").body(body).send();
        // Given up somewhere between the request and its answer.
        let _ = tokio::time::timeout(std::time::Duration::from_micros(300), sent).await;
    }
    let many = (0..40).map(|_| create(&service, &operator, "n"));
    futures::future::join_all(many).await;
    let pending = usage(&service, &operator).await["timers_pending"].as_u64().unwrap();
    assert!(pending <= 5, "{pending}");
    service.stop().await;
}

#[tokio::test]
async fn a_change_by_filter_counts_what_it_changes() {
    let (service, operator) = guarded(Limits { changes_per_s: Some(10), ..Limits::default() }).await;
    let batch = json!({"timers": vec![json!({"name": "n", "after": "1h"}); 25]});
    assert_eq!(service.ask("POST", "/v1/timers/batch", &operator, Some(batch)).await.status, 200);
    let began = chronotick::os_clock::boottime();
    let body = json!({"filter": {}});
    let answer = service.ask("POST", "/v1/timers/batch/cancel", &operator, Some(body)).await;
    assert_eq!((answer.status, &answer.json()["changed"]), (200, &json!(25)), "{}", answer.text);
    // Ten at once, ten a second later, five after another half.
    let elapsed_ms = (chronotick::os_clock::boottime() - began).as_ns() / 1_000_000;
    assert!(elapsed_ms >= 1_400, "{elapsed_ms}");
    service.stop().await;
}
