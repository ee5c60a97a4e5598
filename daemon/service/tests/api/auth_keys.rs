//! API keys from outside: made, used, rotated, revoked, over HTTP and gRPC.

use crate::harness::{Answer, Running, check_problem};
use chronotick_core::Timestamp;
use minoots::access::keys;
use minoots::access::now::Now;
use minoots::access::secret::{KeyText, system_random};
use minoots::api::grpc::v2;
use minoots::clock::ManualClock;
use minoots::config::AccessConfig;
use minoots::config::access::AuthMode;
use minoots::store::MemoryControl;
use serde_json::{Value, json};
use std::sync::Arc;

const START_S: i64 = 1_800_000_000;

pub(crate) fn at(s: i64) -> Timestamp {
    Timestamp::from_ns((START_S + s) * 1_000_000_000)
}

/// A service that wants keys, its clock, and the operator's key.
pub(crate) async fn guarded() -> (Running, ManualClock, String) {
    let key = KeyText::random(&system_random()).unwrap();
    let access = AccessConfig {
        mode: AuthMode::Required,
        bootstrap_key: Some(key.clone()),
        ..AccessConfig::default()
    };
    let clock = ManualClock::new(at(0));
    let service = Running::with_access(access, Arc::new(MemoryControl::default()), clock.clone()).await;
    (service, clock, key.reveal().to_string())
}

/// Makes a key and gives its id and its secret.
pub(crate) async fn make(service: &Running, by: &str, body: Value) -> (String, String) {
    let answer = service.ask("POST", "/v1/keys", by, Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    assert_eq!(answer.headers["cache-control"], "no-store");
    let key = answer.json();
    assert_eq!(answer.headers["location"], format!("/v1/keys/{}", key["id"].as_str().unwrap()));
    (key["id"].as_str().unwrap().to_string(), key["secret"].as_str().unwrap().to_string())
}

async fn status_of(service: &Running, key: &str) -> u16 {
    service.ask("GET", "/v1/timers", key, None).await.status
}

fn check_unauthenticated(answer: &Answer, detail: &str) {
    check_problem(answer, 401, "unauthenticated", detail);
    assert!(answer.headers["www-authenticate"].to_str().unwrap().starts_with("Bearer"));
}

#[tokio::test]
async fn without_a_credential_only_health_answers() {
    let (service, _, key) = guarded().await;
    for path in ["/v1/timers", "/v1/keys", "/v1/status", "/v1/events", "/metrics", "/nowhere"] {
        check_unauthenticated(&service.get(path).await, "x-api-key");
    }
    assert_eq!(service.get("/healthz").await.status, 200);
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(status_of(&service, &key).await, 200);
    let wrong = format!("mnt_{}", "0".repeat(64));
    check_unauthenticated(&service.ask("GET", "/v1/timers", &wrong, None).await, "not known");
    let by_header = |key: &str| {
        Answer::of(service.client.get(format!("{}/v1/timers", service.url)).header("x-api-key", key))
    };
    assert_eq!(by_header(&key).await.status, 200);
    // A wrong key is not made good by what else a request brings.
    check_unauthenticated(&by_header(&wrong).await, "not known");
    service.stop().await;
}

#[tokio::test]
async fn a_key_lives_is_rotated_and_ends() {
    let (service, clock, operator) = guarded().await;
    let body = json!({"name": "worker", "role": "operator", "expires_after": "100s"});
    let (id, first) = make(&service, &operator, body).await;
    assert_eq!(status_of(&service, &first).await, 200);
    let path = format!("/v1/keys/{id}");
    let rotate = json!({"overlap": "30s"});
    let rotated = service.ask("POST", &format!("{path}/rotate"), &operator, Some(rotate)).await;
    let second = rotated.json()["secret"].as_str().unwrap().to_string();
    assert_eq!(rotated.json()["id"], id.as_str());
    clock.set(at(29));
    assert_eq!((status_of(&service, &first).await, status_of(&service, &second).await), (200, 200));
    clock.set(at(30));
    check_unauthenticated(&service.ask("GET", "/v1/timers", &first, None).await, "new secret");
    assert_eq!(status_of(&service, &second).await, 200);
    clock.set(at(100));
    check_unauthenticated(&service.ask("GET", "/v1/timers", &second, None).await, "expired");
    // A key that has ended can be given more time.
    let longer = json!({"name": "worker", "role": "viewer", "expires_at": "2030-01-01T00:00:00Z"});
    let updated = service.ask("PUT", &path, &operator, Some(longer)).await;
    assert_eq!((updated.status, updated.json()["role"].as_str()), (200, Some("viewer")));
    assert_eq!(status_of(&service, &second).await, 200);
    // Neither secret is ever told again.
    let read = service.ask("GET", &path, &operator, None).await;
    let list = service.ask("GET", "/v1/keys", &operator, None).await;
    for text in [&read.text, &list.text, &updated.text] {
        assert!(!text.contains("secret") && !text.contains(&second[4..60]), "{text}");
        assert!(text.contains(&second[64..]), "{text}");
    }
    let revoked = service.ask("DELETE", &path, &operator, None).await;
    assert!(revoked.json()["revoked_at"].is_string(), "{}", revoked.text);
    check_unauthenticated(&service.ask("GET", "/v1/timers", &second, None).await, "revoked");
    let again = service.ask("POST", &format!("{path}/rotate"), &operator, None).await;
    check_problem(&again, 415, "unsupported_media_type", "Content-Type");
    let again = service.ask("POST", &format!("{path}/rotate"), &operator, Some(json!({}))).await;
    check_problem(&again, 409, "wrong_state", "revoked");
    service.stop().await;
}

#[tokio::test]
async fn keys_of_another_tenant_are_not_there() {
    let (service, _, operator) = guarded().await;
    let admin_of = |tenant: &'static str| {
        let request = service.client.post(format!("{}/v1/keys", service.url)).bearer_auth(&operator);
        let request = request.header("x-tenant-id", tenant).header("content-type", "application/json");
        Answer::of(request.body(json!({"name": "admin", "role": "admin"}).to_string()))
    };
    let (a, b) = (admin_of("acme").await.json(), admin_of("beta").await.json());
    assert_eq!((a["tenant"].as_str(), b["tenant"].as_str()), (Some("acme"), Some("beta")));
    let (a_key, a_id) = (a["secret"].as_str().unwrap(), a["id"].as_str().unwrap());
    let b_id = b["id"].as_str().unwrap();
    let own = service.ask("GET", "/v1/keys", a_key, None).await.json();
    assert_eq!(own["keys"].as_array().unwrap().len(), 1, "{own}");
    assert_eq!(own["keys"][0]["id"], a_id);
    let body = || Some(json!({"name": "x", "role": "viewer"}));
    for (method, tail, body) in
        [("GET", "", None), ("PUT", "", body()), ("DELETE", "", None), ("POST", "/rotate", Some(json!({})))]
    {
        let mut told = Vec::new();
        for id in [b_id, "key_0000000000000000"] {
            let answer = service.ask(method, &format!("/v1/keys/{id}{tail}"), a_key, body.clone()).await;
            check_problem(&answer, 404, "not_found", id);
            told.push(answer.text.replace(id, "ID"));
        }
        assert_eq!(told[0], told[1], "{method}{tail}");
    }
    // It cannot act for the other tenant, and does not learn whether there is one.
    for tenant in ["beta", "nobody"] {
        let request = service.client.get(format!("{}/v1/timers", service.url)).bearer_auth(a_key);
        let answer = Answer::of(request.header("x-tenant-id", tenant)).await;
        check_problem(&answer, 404, "not_found", "x-tenant-id");
    }
    let more = json!({"name": "x", "role": "admin", "every_tenant": true});
    check_problem(
        &service.ask("POST", "/v1/keys", a_key, Some(more)).await,
        403,
        "forbidden",
        "every_tenant",
    );
    service.stop().await;
}

#[tokio::test]
async fn bodies_of_keys_are_checked() {
    let (service, _, operator) = guarded().await;
    let check = async |body: Value, code: &str, detail: &str| {
        check_problem(&service.ask("POST", "/v1/keys", &operator, Some(body)).await, 400, code, detail);
    };
    check(json!({"name": "x"}), "missing_field", "role").await;
    check(json!({"name": "x", "role": "king"}), "invalid_field", "viewer, agent").await;
    check(json!({"name": "x", "role": "agent"}), "invalid_field", "agent").await;
    check(json!({"name": "x", "role": "viewer", "scopes": ["all"]}), "invalid_field", "timers.read").await;
    check(json!({"name": "x", "role": "viewer", "tenant": "b"}), "unknown_field", "tenant").await;
    check(
        json!({"name": "x", "role": "viewer", "expires_at": "2001-01-01T00:00:00Z"}),
        "time_in_past",
        "passed",
    )
    .await;
    check(json!({"name": "x", "role": "viewer", "expires_after": 5}), "invalid_duration", "2s").await;
    let scoped = json!({"name": "x", "role": "viewer", "scopes": ["timers.list", "timers.read"]});
    let answer = service.ask("POST", "/v1/keys", &operator, Some(scoped)).await;
    assert_eq!(answer.json()["scopes"], json!(["timers.read", "timers.list"]));
    let list = service.ask("GET", "/v1/keys?limit=1", &operator, None).await.json();
    let cursor = list["next_cursor"].as_str().unwrap();
    let rest = service.ask("GET", &format!("/v1/keys?limit=1&cursor={cursor}"), &operator, None).await.json();
    assert!(rest["keys"].as_array().unwrap().len() == 1 && rest["next_cursor"].is_null(), "{rest}");
    service.stop().await;
}

#[tokio::test]
async fn grpc_is_refused_in_its_own_words() {
    let (service, _, key) = guarded().await;
    let mut client =
        v2::timer_service_client::TimerServiceClient::connect(service.url.clone()).await.unwrap();
    let refused = client.list_timers(v2::ListTimersRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
    assert_eq!(refused.metadata().get("minoots-code").unwrap(), "unauthenticated");
    let mut request = tonic::Request::new(v2::ListTimersRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    client.list_timers(request).await.unwrap();
    service.stop().await;
}

#[tokio::test]
async fn a_key_made_beside_a_stopped_service_lets_in() {
    let control = Arc::new(MemoryControl::default());
    let clock = ManualClock::new(at(0));
    let (_, text) = keys::bootstrap(control.clone(), Now::new(clock.clone()).moment()).unwrap();
    let access = AccessConfig { mode: AuthMode::Required, ..AccessConfig::default() };
    let service = Running::with_access(access, control, clock).await;
    assert_eq!(status_of(&service, text.reveal()).await, 200);
    service.stop().await;
}

#[tokio::test]
async fn single_user_mode_answers_this_machine_and_no_web_page() {
    let service = Running::with_access(
        AccessConfig::default(),
        Arc::new(MemoryControl::default()),
        ManualClock::new(at(0)),
    )
    .await;
    let get = |name: &'static str, value: &'static str| {
        Answer::of(service.client.get(format!("{}/v1/timers", service.url)).header(name, value))
    };
    assert_eq!(get("origin", "http://localhost:3000").await.status, 200);
    check_problem(&get("origin", "https://evil.example").await, 403, "forbidden", "another origin");
    check_problem(&get("host", "evil.example").await, 403, "forbidden", "Host");
    // No key is asked for, and none is looked at.
    assert_eq!(get("x-api-key", "mnt_of_another_service").await.status, 200);
    service.stop().await;
}
