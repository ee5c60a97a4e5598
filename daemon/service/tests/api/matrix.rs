//! Every route and every gRPC method, asked by every role and by strangers. The table of routes is the one of the OpenAPI
//! document, so a route that is added is asked here as well.

use crate::harness::Running;
use chronotick_core::Timestamp;
use minoots::access::Verb;
use minoots::access::secret::{KeyText, system_random};
use minoots::api::grpc::v2::{self, timer_service_client::TimerServiceClient};
use minoots::api::openapi::{RouteDoc, routes};
use minoots::clock::ManualClock;
use minoots::config::AccessConfig;
use minoots::config::access::AuthMode;
use minoots::store::MemoryControl;
use prost::Message;
use serde_json::{Value, json};
use std::sync::Arc;
use tonic::Code;

/// The callers, with their keys.
pub(crate) struct Cast {
    pub(crate) service: Running,
    pub(crate) operator_of_service: String,
    /// Role, key; of tenant `a`.
    pub(crate) roles: Vec<(&'static str, String)>,
    /// An admin of tenant `b`.
    pub(crate) stranger: String,
    /// Of tenant `a`, agent `y`.
    pub(crate) other_agent: String,
}

impl Cast {
    pub(crate) async fn new() -> Self {
        let key = KeyText::random(&system_random()).unwrap();
        let access = AccessConfig {
            mode: AuthMode::Required,
            bootstrap_key: Some(key.clone()),
            ..AccessConfig::default()
        };
        let clock = ManualClock::new(Timestamp::from_ns(1_800_000_000_000_000_000));
        let service = Running::with_access(access, Arc::new(MemoryControl::default()), clock).await;
        let root = key.reveal().to_string();
        let mut roles = Vec::new();
        for role in ["viewer", "agent", "operator", "admin"] {
            let agent = (role == "agent").then_some("x");
            roles.push((role, make(&service, &root, "a", role, agent).await));
        }
        let stranger = make(&service, &root, "b", "admin", None).await;
        let other_agent = make(&service, &root, "a", "agent", Some("y")).await;
        Self { service, operator_of_service: root, roles, stranger, other_agent }
    }

    pub(crate) fn key(&self, role: &str) -> &str {
        &self.roles.iter().find(|(r, _)| *r == role).unwrap().1
    }

    /// A timer of tenant `a` and agent `x`.
    pub(crate) async fn timer(&self) -> String {
        let body = json!({"name": "n", "after": "1h", "agent": "x"});
        let answer = self.service.ask("POST", "/v1/timers", self.key("operator"), Some(body)).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_string()
    }
}

async fn make(service: &Running, root: &str, tenant: &str, role: &str, agent: Option<&str>) -> String {
    let mut body = json!({"name": format!("{tenant}-{role}"), "role": role});
    if let Some(agent) = agent {
        body["agent"] = agent.into();
    }
    let request = service.client.post(format!("{}/v1/keys", service.url)).bearer_auth(root);
    let answer = request
        .header("x-tenant-id", tenant)
        .header("content-type", "application/json")
        .body(body.to_string())
        .send()
        .await
        .unwrap();
    assert_eq!(answer.status(), 201);
    let key: Value = serde_json::from_str(&answer.text().await.unwrap()).unwrap();
    key["secret"].as_str().unwrap().to_string()
}

pub(crate) fn is_allowed(role: &str, verb: Verb) -> bool {
    use Verb::*;
    match verb {
        ReadTimer | ListTimers | ReadHistory | WatchEvents | ReadStatus | ReadUsage | ReadSchemas => true,
        CreateTimer | CancelTimer | RescheduleTimer | PauseTimer | ResumeTimer | FireTimer
        | AcknowledgeFire | Broadcast => role != "viewer",
        ReadKeys | ManageKeys | ReadSecrets | ManageSecrets | ManageSchemas | ReadAudit => {
            ["admin", "service operator"].contains(&role)
        }
        ReadMetrics | ReadTenants | ManageTenants | ManageSigning => role == "service operator",
    }
}

/// A body that the route takes.
fn body(route: &RouteDoc, timer: &str) -> Option<Value> {
    let schema = route.body.as_ref()?.schema;
    Some(match schema {
        "NewTimer" => json!({"name": "n", "after": "1h"}),
        "NewTimers" => json!({"timers": [{"name": "n", "after": "1h"}]}),
        "Reason" | "NoFields" | "Rotation" | "JsonSchema" => json!({}),
        "NewDue" => json!({"after": "1h"}),
        "Acknowledgement" => json!({"firing_id": format!("{timer}:1")}),
        "ChangeOfMany" | "ResumeOfMany" => json!({"filter": {"labels": {"none": "such"}}}),
        "NewKey" => json!({"name": "k", "role": "viewer"}),
        "NewSecret" => json!({"value": "v"}),
        "NewTenant" => json!({"name": "t"}),
        "TenantChange" => json!({}),
        other => panic!("{} has the body {other}: say here what it takes", route.operation),
    })
}

/// The path with its parameters.
fn path(route: &RouteDoc, timer: &str, name: &str) -> String {
    let firing = format!("{timer}:1");
    let path = route.path.replace("{id}", timer).replace("{firing_id}", &firing).replace("{version}", "1");
    path.replace("{key}", name).replace("{name}", name).replace("{tenant}", name)
}

/// Status and text; of a stream only the status.
async fn ask(
    cast: &Cast,
    route: &RouteDoc,
    path: &str,
    key: Option<&str>,
    body: Option<Value>,
) -> (u16, String) {
    let method = reqwest::Method::from_bytes(route.method.as_bytes()).unwrap();
    let mut request = cast.service.client.request(method, format!("{}{path}", cast.service.url));
    if let Some(key) = key {
        request = request.bearer_auth(key);
    }
    if let Some(body) = body {
        request = request.header("content-type", "application/json").body(body.to_string());
    }
    let answer = request.send().await.unwrap();
    let status = answer.status().as_u16();
    let is_stream = answer.headers().get("content-type").is_some_and(|t| t == "text/event-stream");
    (status, if is_stream { String::new() } else { answer.text().await.unwrap() })
}

#[tokio::test]
async fn every_route_answers_every_role_as_it_should() {
    let cast = Cast::new().await;
    let mut roles = cast.roles.clone();
    roles.push(("service operator", cast.operator_of_service.clone()));
    for route in routes() {
        let Some(verb) = route.verb else {
            let (status, text) = ask(&cast, route, route.path, None, None).await;
            assert_eq!(status, 200, "{} is open to anybody: {text}", route.path);
            continue;
        };
        // The operator's timers are of its default tenant.
        for (role, key) in &roles {
            let timer = cast.timer().await;
            let (status, text) =
                ask(&cast, route, &path(route, &timer, "n"), Some(key), body(route, &timer)).await;
            let told = format!("{} {} by {role}: {status} {text}", route.method, route.path);
            assert!(status < 500, "{told}");
            if is_allowed(role, verb) {
                assert!(![401, 403].contains(&status), "{told}");
            } else {
                // Each timer of a batch has an answer of its own, and tenants are nothing to who runs no service.
                let want = match route.path {
                    "/v1/timers/batch" => 200,
                    path if path.starts_with("/v1/tenants") => 404,
                    _ => 403,
                };
                assert_eq!(status, want, "{told}");
                if want == 404 {
                    continue;
                }
                assert!(text.contains("\"forbidden\"") && text.contains(verb.as_str()), "{told}");
            }
        }
        let timer = cast.timer().await;
        let (status, text) = ask(&cast, route, &path(route, &timer, "n"), None, body(route, &timer)).await;
        assert_eq!(status, 401, "{} {} by nobody: {text}", route.method, route.path);
    }
    cast.service.stop().await;
}

#[tokio::test]
async fn what_is_foreign_is_answered_as_what_is_missing() {
    const MISSING: &str = "01900000-0000-7000-8000-000000000000";
    let cast = Cast::new().await;
    for route in routes().filter(|r| r.path.contains("{id}")) {
        for (who, key) in
            [("an admin of another tenant", &cast.stranger), ("another agent", &cast.other_agent)]
        {
            let timer = cast.timer().await;
            let foreign = ask(&cast, route, &path(route, &timer, ""), Some(key), body(route, &timer)).await;
            let missing = ask(&cast, route, &path(route, MISSING, ""), Some(key), body(route, MISSING)).await;
            let told = format!("{} {} by {who}", route.method, route.path);
            assert_eq!(foreign.0, 404, "{told}: {}", foreign.1);
            assert_eq!((foreign.0, foreign.1.replace(&timer, MISSING)), missing, "{told}");
            // Nothing has happened to it.
            let read =
                cast.service.ask("GET", &format!("/v1/timers/{timer}"), cast.key("viewer"), None).await;
            assert_eq!((read.status, &read.json()["version"]), (200, &json!(1)), "{told}: {}", read.text);
        }
    }
    // Names: a key, a secret and a schema of tenant `a` are nothing to an admin of `b`.
    let admin = cast.key("admin").to_string();
    let made =
        cast.service.ask("POST", "/v1/keys", &admin, Some(json!({"name": "k", "role": "viewer"}))).await;
    let key_id = made.json()["id"].as_str().unwrap().to_string();
    let put = cast.service.ask("PUT", "/v1/schemas/mine", &admin, Some(json!({"type": "object"}))).await;
    assert_eq!(put.status, 201, "{}", put.text);
    for route in
        routes().filter(|r| r.path.contains("{key}") || r.path.contains("{name}") && r.method != "PUT")
    {
        let (there, not_there) =
            if route.path.contains("{key}") { (&*key_id, "0000000000000000") } else { ("mine", "none") };
        let foreign =
            ask(&cast, route, &path(route, MISSING, there), Some(&cast.stranger), body(route, MISSING)).await;
        let missing =
            ask(&cast, route, &path(route, MISSING, not_there), Some(&cast.stranger), body(route, MISSING))
                .await;
        let told = format!("{} {}", route.method, route.path);
        assert_eq!(foreign.0, 404, "{told}: {}", foreign.1);
        assert_eq!((foreign.0, foreign.1.replace(there, not_there)), missing, "{told}");
    }
    // A listing and a stream of one tenant hold nothing of another.
    cast.timer().await;
    let listed = cast.service.ask("GET", "/v1/timers", &cast.stranger, None).await;
    assert_eq!(listed.json()["timers"], json!([]));
    let listed = cast.service.ask("GET", "/v1/timers", &cast.other_agent, None).await;
    assert_eq!(listed.json()["timers"], json!([]));
    cast.service.stop().await;
}

/// The methods of the service in the wire definitions.
fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap();
    let of_v2 = set.file.into_iter().filter(|f| f.package.as_deref() == Some("minoots.v2"));
    of_v2.flat_map(|f| f.service).flat_map(|s| s.method).map(|m| m.name.unwrap()).collect()
}

/// Calls a method about a timer; the code that came back.
async fn call(cast: &Cast, method: &str, key: &str, id: &str) -> Code {
    let channel = tonic::transport::Channel::from_shared(cast.service.url.clone()).unwrap();
    let mut client = TimerServiceClient::new(channel.connect().await.unwrap());
    fn asked<T>(message: T, key: &str) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("x-api-key", key.parse().unwrap());
        request
    }
    let id = id.to_string();
    let after = prost_types::Duration { seconds: 3600, nanos: 0 };
    let definition = || v2::TimerDefinition {
        name: "n".into(),
        schedule: Some(v2::timer_definition::Schedule::After(after)),
        ..Default::default()
    };
    let none = [("none".to_string(), "such".to_string())].into();
    let filter = v2::TimerFilter { labels: none, ..Default::default() };
    let code = |answer: Result<(), tonic::Status>| answer.map_or_else(|status| status.code(), |()| Code::Ok);
    macro_rules! unary {
        ($name:ident, $message:expr) => {
            client.$name(asked($message, key)).await.map(|_| ())
        };
    }
    code(match method {
        "CreateTimer" => unary!(create_timer, v2::CreateTimerRequest { definition: Some(definition()) }),
        "CreateTimers" => {
            let batch = v2::CreateTimersRequest { definitions: vec![definition()] };
            let stream = futures::stream::iter([batch]);
            match client.create_timers(asked(stream, key)).await {
                Err(status) => Err(status),
                // One that is refused does not stop the others, so the refusal is in the answer.
                Ok(answers) => match answers.into_inner().message().await {
                    Err(status) => Err(status),
                    Ok(answer) => {
                        match answer.and_then(|a| a.results.into_iter().next()).and_then(|r| r.outcome) {
                            Some(v2::create_timer_result::Outcome::Refused(r)) if r.code == "forbidden" => {
                                Err(tonic::Status::permission_denied(r.detail))
                            }
                            _ => Ok(()),
                        }
                    }
                },
            }
        }
        "GetTimer" => unary!(get_timer, v2::GetTimerRequest { id }),
        "ListTimers" => unary!(list_timers, v2::ListTimersRequest::default()),
        "CancelTimer" => unary!(cancel_timer, v2::CancelTimerRequest { id, ..Default::default() }),
        "RescheduleTimer" => unary!(
            reschedule_timer,
            v2::RescheduleTimerRequest {
                id,
                to: Some(v2::reschedule_timer_request::To::After(after)),
                ..Default::default()
            }
        ),
        "PauseTimer" => unary!(pause_timer, v2::PauseTimerRequest { id, ..Default::default() }),
        "ResumeTimer" => unary!(resume_timer, v2::ResumeTimerRequest { id, ..Default::default() }),
        "FireTimer" => unary!(fire_timer, v2::FireTimerRequest { id, ..Default::default() }),
        "AcknowledgeFire" => unary!(
            acknowledge_fire,
            v2::AcknowledgeFireRequest { firing_id: format!("{id}:1"), ..Default::default() }
        ),
        "ChangeTimers" => unary!(
            change_timers,
            v2::ChangeTimersRequest {
                which: Some(v2::change_timers_request::Which::Filter(filter)),
                change: Some(v2::change_timers_request::Change::Cancel(v2::CancelChange { reason: None })),
            }
        ),
        "ListHistory" => unary!(list_history, v2::ListHistoryRequest { id, ..Default::default() }),
        "WatchEvents" => unary!(watch_events, v2::WatchEventsRequest::default()),
        other => panic!("the method {other} is not in the matrix: say here how it is called"),
    })
}

#[tokio::test]
async fn every_method_answers_every_role_as_it_should() {
    const MISSING: &str = "01900000-0000-7000-8000-000000000000";
    let cast = Cast::new().await;
    let unknown = format!("mnt_{}", "0".repeat(64));
    for method in methods() {
        let is_read = ["GetTimer", "ListTimers", "ListHistory", "WatchEvents"].contains(&&*method);
        let is_of_one =
            !["CreateTimer", "CreateTimers", "ListTimers", "ChangeTimers", "WatchEvents"].contains(&&*method);
        for (role, key) in &cast.roles {
            let timer = cast.timer().await;
            let code = call(&cast, &method, key, &timer).await;
            if is_read || *role != "viewer" {
                let refused = [Code::PermissionDenied, Code::Unauthenticated, Code::Internal, Code::Unknown];
                assert!(!refused.contains(&code), "{method} by {role}: {code:?}");
            } else {
                assert_eq!(code, Code::PermissionDenied, "{method} by {role}");
            }
        }
        let timer = cast.timer().await;
        assert_eq!(call(&cast, &method, &unknown, &timer).await, Code::Unauthenticated, "{method}");
        if is_of_one {
            for key in [&cast.stranger, &cast.other_agent] {
                assert_eq!(call(&cast, &method, key, &timer).await, Code::NotFound, "{method}");
                assert_eq!(call(&cast, &method, key, MISSING).await, Code::NotFound, "{method}");
            }
        }
    }
    cast.service.stop().await;
}
