//! The matrix of the older interfaces: every route of both dialects and every method of HorologyKernel, asked by every role
//! and by strangers, for their own tenant and for another's.

use crate::grpc::channel;
use crate::harness::Answer;
use crate::matrix::{Cast, is_allowed};
use minoots::access::Verb;
use minoots_proto::v1::{self, horology_kernel_client::HorologyKernelClient};
use prost::Message;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use tonic::Code;

const MISSING: &str = "01900000-0000-7000-8000-000000000000";

/// One call of a dialect.
struct Call {
    method: &'static str,
    path: &'static str,
    /// `None` where any caller is answered.
    verb: Option<Verb>,
    /// Speaks the control plane's dialect, for a tenant that it names.
    is_b: bool,
    body: Option<Value>,
}

fn calls() -> Vec<Call> {
    use Verb::*;
    let a = |method, path, verb: Verb, body| Call { method, path, verb: Some(verb), is_b: false, body };
    let b = |method, path, verb: Verb, body| Call { is_b: true, ..a(method, path, verb, body) };
    let name = || Some(json!({"name": "k"}));
    vec![
        a("GET", "/timers", ListTimers, None),
        a("POST", "/timers", CreateTimer, Some(json!({"name": "n", "duration": "1h"}))),
        a("GET", "/timers/{id}", ReadTimer, None),
        a("DELETE", "/timers/{id}", CancelTimer, None),
        a("POST", "/quick/wait", CreateTimer, Some(json!({"duration": "1h"}))),
        a("POST", "/teams/{team}/broadcast", Broadcast, Some(json!({"message": "m"}))),
        a("GET", "/account/api-keys", ReadKeys, None),
        a("POST", "/account/api-keys", ManageKeys, name()),
        a("PUT", "/account/api-keys/{id}", ManageKeys, name()),
        a("DELETE", "/account/api-keys/{id}", ManageKeys, None),
        a("GET", "/account/usage", ReadUsage, None),
        Call { method: "GET", path: "/mcp/config", verb: None, is_b: false, body: None },
        b("GET", "/timers", ListTimers, None),
        b("POST", "/timers", CreateTimer, Some(json!({"requestedBy": "ann", "duration": "1h"}))),
        b("GET", "/timers/{id}", ReadTimer, None),
        b("POST", "/timers/{id}/cancel", CancelTimer, Some(json!({"requestedBy": "ann"}))),
    ]
}

/// Where a request names its tenant.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Named {
    Body,
    Query,
    Header,
}

impl Call {
    fn told(&self, who: &str) -> String {
        format!("{} {} ({}) by {who}", self.method, self.path, if self.is_b { "B" } else { "A" })
    }

    /// Asks about a timer, or about the key or team of that name; B for a tenant.
    async fn ask(&self, cast: &Cast, key: Option<&str>, id: &str, tenant: Option<(Named, &str)>) -> Answer {
        let mut path = self.path.replace("{id}", id).replace("{team}", "kitchen");
        let mut body = self.body.clone();
        match (tenant, &mut body) {
            (Some((Named::Body, tenant)), Some(body)) => body["tenantId"] = tenant.into(),
            (Some((Named::Body | Named::Query, tenant)), _) => path.push_str(&format!("?tenantId={tenant}")),
            _ => {}
        }
        let url = format!("{}{path}", cast.service.url);
        let mut request = cast.service.client.request(self.method.parse().unwrap(), url);
        if let Some((Named::Header, tenant)) = tenant {
            request = request.header("x-tenant-id", tenant);
        }
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::of(request).await
    }
}

/// An error in the words of its dialect.
fn check_words(call: &Call, answer: &Answer, told: &str) {
    let body = answer.json();
    match call.is_b {
        true => assert!(body["message"].is_string() && body.get("success").is_none(), "{told}: {body}"),
        false => assert!(body["success"] == false && body["error"].is_string(), "{told}: {body}"),
    }
}

/// How many timers tenant `a` has, of any state.
async fn count(cast: &Cast) -> usize {
    let listed = cast.service.ask("GET", "/v1/timers?limit=1000", cast.key("viewer"), None).await;
    listed.json()["timers"].as_array().unwrap().len()
}

#[test]
fn every_route_of_the_dialects_is_in_the_matrix() {
    let source = include_str!("../../src/api/dialects/mod.rs");
    let mut routed = BTreeSet::new();
    for line in source.lines().filter_map(|l| l.trim().strip_prefix(".route(\"")) {
        let (path, methods) = line.split_once('"').unwrap();
        for method in ["get", "post", "put", "delete", "patch", "any"] {
            let is_there =
                methods.split(|c: char| !c.is_ascii_alphanumeric() && c != '_').any(|w| w == method);
            if is_there && path != "/health" {
                routed.insert((method.to_uppercase(), path.to_string()));
            }
        }
    }
    let asked: BTreeSet<_> = calls().iter().map(|c| (c.method.to_string(), c.path.to_string())).collect();
    assert_eq!(routed, asked, "say in calls() how each route is asked");
}

#[tokio::test]
async fn every_call_answers_every_role_as_it_should() {
    let cast = Cast::new().await;
    let mut roles = cast.roles.clone();
    roles.push(("service operator", cast.operator_of_service.clone()));
    for call in calls() {
        let tenant = call.is_b.then_some((Named::Body, "a"));
        for (role, key) in &roles {
            let timer = cast.timer().await;
            let answer = call.ask(&cast, Some(key), &timer, tenant).await;
            let told = format!("{}: {} {}", call.told(role), answer.status, answer.text);
            assert!(answer.status < 500, "{told}");
            if call.verb.is_none_or(|verb| is_allowed(role, verb)) {
                assert!(![401, 403].contains(&answer.status), "{told}");
            } else {
                assert_eq!(answer.status, 403, "{told}");
                check_words(&call, &answer, &told);
            }
        }
        let timer = cast.timer().await;
        for key in [None, Some("mnt_0000")] {
            let answer = call.ask(&cast, key, &timer, tenant).await;
            assert_eq!(answer.status, 401, "{}: {}", call.told("nobody"), answer.text);
            // Before the body is read, it says nothing of the dialect.
            check_words(
                &Call { is_b: call.is_b && call.body.is_none(), ..call_of(&call) },
                &answer,
                "nobody",
            );
        }
    }
    let health = cast.service.get("/health").await;
    assert_eq!(health.status, 200);
    cast.service.stop().await;
}

fn call_of(call: &Call) -> Call {
    Call { method: call.method, path: call.path, verb: call.verb, is_b: call.is_b, body: call.body.clone() }
}

#[tokio::test]
async fn what_is_foreign_is_answered_as_what_is_missing() {
    let cast = Cast::new().await;
    let strangers = [
        ("an admin of another tenant", cast.stranger.clone(), "b"),
        ("another agent", cast.other_agent.clone(), "a"),
    ];
    for call in calls().iter().filter(|c| c.path.starts_with("/timers/{id}")) {
        for (who, key, own) in &strangers {
            let mut tenants = vec![None];
            if call.is_b {
                tenants = [Named::Body, Named::Query, Named::Header]
                    .into_iter()
                    .flat_map(|place| ["a", own, "nobody"].map(|tenant| Some((place, tenant))))
                    .collect();
            }
            for tenant in tenants {
                let timer = cast.timer().await;
                let foreign = call.ask(&cast, Some(key), &timer, tenant).await;
                let missing = call.ask(&cast, Some(key), MISSING, tenant).await;
                let told = format!("{} for {tenant:?}", call.told(who));
                assert_eq!(foreign.status, 404, "{told}: {}", foreign.text);
                assert_eq!((foreign.status, &foreign.text), (missing.status, &missing.text), "{told}");
                check_words(call, &foreign, &told);
                let read =
                    cast.service.ask("GET", &format!("/v1/timers/{timer}"), cast.key("viewer"), None).await;
                assert_eq!((read.status, &read.json()["version"]), (200, &json!(1)), "{told}: {}", read.text);
            }
        }
    }
    cast.service.stop().await;
}

#[tokio::test]
async fn a_tenant_is_honoured_only_for_who_may_speak_for_it() {
    let cast = Cast::new().await;
    cast.timer().await;
    let all = calls();
    let of = |method: &str, path: &str, is_b: bool| {
        all.iter().find(|c| c.method == method && c.path == path && c.is_b == is_b).unwrap()
    };
    let (list, create) = (of("GET", "/timers", true), of("POST", "/timers", true));
    let stranger = Some(cast.stranger.as_str());
    let before = count(&cast).await;
    for place in [Named::Body, Named::Query, Named::Header] {
        // Another's tenant and one that there is not have one answer.
        for call in [list, create] {
            let foreign = call.ask(&cast, stranger, "", Some((place, "a"))).await;
            let missing = call.ask(&cast, stranger, "", Some((place, "z"))).await;
            let told = format!("{} {place:?}: {}", call.told("a stranger"), foreign.text);
            assert_eq!(foreign.status, missing.status, "{told}");
            assert_eq!(
                foreign.text.replace("\\\"a\\\"", "T"),
                missing.text.replace("\\\"z\\\"", "T"),
                "{told}"
            );
            let is_empty = call.method == "GET" && place != Named::Header;
            let want = if is_empty { (200, json!([])) } else { (404, foreign.json()) };
            assert_eq!((foreign.status, foreign.json()), want, "{told}");
        }
        // An operator of the service may name any.
        let root = Some(cast.operator_of_service.as_str());
        let seen = list.ask(&cast, root, "", Some((place, "a"))).await.json();
        assert_eq!(seen.as_array().unwrap().len(), before, "{place:?}: {seen}");
    }
    // A header for the own tenant does not lend its leave to a body that names another, and the other way round.
    for (header, body) in [("b", "a"), ("a", "b"), ("a", "a")] {
        let text = json!({"tenantId": body, "requestedBy": "ann", "duration": "1h"}).to_string();
        let request = cast.service.client.post(format!("{}/timers", cast.service.url));
        let request = request.bearer_auth(&cast.stranger).header("x-tenant-id", header);
        let answer = Answer::of(request.header("content-type", "application/json").body(text)).await;
        assert_eq!(answer.status, 404, "{header} {body}: {}", answer.text);
    }
    // The SDK's calls have no tenant but the caller's own.
    for call in all.iter().filter(|c| !c.is_b && c.method == "POST" && c.path != "/account/api-keys") {
        let asked = Call { is_b: false, ..call_of(call) };
        let _ = asked.ask(&cast, stranger, "", Some((Named::Body, "a"))).await;
        let answer = call.ask(&cast, stranger, "", None).await;
        assert!([200, 201].contains(&answer.status), "{}: {}", call.told("a stranger"), answer.text);
    }
    assert_eq!(count(&cast).await, before, "nothing was made for tenant a");
    let listed = of("GET", "/timers", false).ask(&cast, Some(&cast.other_agent), "", None).await.json();
    assert_eq!(listed["count"], 0, "another agent's timers: {listed}");
    // Keys: those of tenant a are neither listed nor reached.
    let made =
        cast.service.ask("POST", "/account/api-keys", cast.key("admin"), Some(json!({"name": "k"}))).await;
    let id = made.json()["apiKey"]["id"].as_str().unwrap().to_string();
    let keys = of("GET", "/account/api-keys", false).ask(&cast, stranger, "", None).await;
    assert!(!keys.text.contains(&id), "{}", keys.text);
    for method in ["PUT", "DELETE"] {
        let call = of(method, "/account/api-keys/{id}", false);
        let foreign = call.ask(&cast, stranger, &id, None).await;
        let missing = call.ask(&cast, stranger, "0000000000000000", None).await;
        assert_eq!(foreign.status, 404, "{method}: {}", foreign.text);
        assert_eq!(foreign.text.replace(&id, "0000000000000000"), missing.text, "{method}");
    }
    cast.service.stop().await;
}

fn methods() -> Vec<String> {
    let set = prost_types::FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap();
    let of_v1 = set.file.into_iter().filter(|f| f.package.as_deref() == Some("minoots.timer.v1"));
    of_v1.flat_map(|f| f.service).flat_map(|s| s.method).map(|m| m.name.unwrap()).collect()
}

fn with<T>(key: &str, message: T) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    request.metadata_mut().insert("x-api-key", key.parse().unwrap());
    request
}

type Kernel = HorologyKernelClient<tonic::transport::Channel>;

/// Calls a method; the code and the text that came back, and how many timers were listed.
async fn call(client: &mut Kernel, method: &str, key: &str, tenant: &str, id: &str) -> (Code, String) {
    let (tenant_id, timer_id, requested_by) = (tenant.to_string(), id.to_string(), "ann".to_string());
    let answer = match method {
        "ScheduleTimer" => {
            let schedule_time = Some(v1::timer_schedule_request::ScheduleTime::DurationMs(3_600_000));
            let sent =
                v1::TimerScheduleRequest { tenant_id, requested_by, schedule_time, ..Default::default() };
            client.schedule_timer(with(key, sent)).await.map(|_| String::new())
        }
        "CancelTimer" => {
            let sent = v1::TimerCancelRequest { tenant_id, timer_id, requested_by, reason: String::new() };
            client.cancel_timer(with(key, sent)).await.map(|_| String::new())
        }
        "GetTimer" => {
            let sent = v1::TimerGetRequest { tenant_id, timer_id };
            client.get_timer(with(key, sent)).await.map(|_| String::new())
        }
        "ListTimers" => {
            let sent = v1::TimerListRequest { tenant_id, ..Default::default() };
            client.list_timers(with(key, sent)).await.map(|a| a.into_inner().timers.len().to_string())
        }
        "StreamTimerEvents" => {
            let sent = v1::TimerEventStreamRequest { tenant_id, topics: vec![] };
            client.stream_timer_events(with(key, sent)).await.map(|_| String::new())
        }
        other => panic!("the method {other} is not in the matrix: say here how it is called"),
    };
    answer.map_or_else(|s| (s.code(), s.message().to_string()), |told| (Code::Ok, told))
}

#[tokio::test]
async fn every_method_of_the_kernel_answers_every_role_as_it_should() {
    let cast = Cast::new().await;
    let mut client = HorologyKernelClient::new(channel(&cast.service).await);
    let unknown = format!("mnt_{}", "0".repeat(64));
    let mut roles = cast.roles.clone();
    roles.push(("service operator", cast.operator_of_service.clone()));
    for method in methods() {
        let is_read = ["GetTimer", "ListTimers", "StreamTimerEvents"].contains(&&*method);
        for (role, key) in &roles {
            let timer = cast.timer().await;
            let (code, told) = call(&mut client, &method, key, "a", &timer).await;
            let want = if is_read || *role != "viewer" { Code::Ok } else { Code::PermissionDenied };
            assert_eq!(code, want, "{method} by {role}: {told}");
            let (code, _) = call(&mut client, &method, key, "", &timer).await;
            assert_eq!(code, Code::InvalidArgument, "{method} by {role} without a tenant");
        }
        let timer = cast.timer().await;
        let before = count(&cast).await;
        let (code, _) = call(&mut client, &method, &unknown, "a", &timer).await;
        assert_eq!(code, Code::Unauthenticated, "{method}");
        for (key, own) in [(&cast.stranger, "b"), (&cast.other_agent, "a")] {
            if ["GetTimer", "CancelTimer"].contains(&&*method) {
                for tenant in ["a", own, "z"] {
                    let (code, foreign) = call(&mut client, &method, key, tenant, &timer).await;
                    let (_, missing) = call(&mut client, &method, key, tenant, MISSING).await;
                    assert_eq!(code, Code::NotFound, "{method} {tenant}: {foreign}");
                    assert_eq!(foreign.replace(&timer, MISSING), missing, "{method} {tenant}");
                }
            }
        }
        if ["ScheduleTimer", "ListTimers", "StreamTimerEvents"].contains(&&*method) {
            let (foreign, text) = call(&mut client, &method, &cast.stranger, "a", "").await;
            let (missing, other) = call(&mut client, &method, &cast.stranger, "z", "").await;
            let want = if method == "ListTimers" { Code::Ok } else { Code::NotFound };
            assert_eq!((foreign, missing), (want, want), "{method}");
            assert_eq!(text.replace("\"a\"", "T"), other.replace("\"z\"", "T"), "{method}");
        }
        if method == "ListTimers" {
            for (key, tenant) in [(&cast.stranger, "a"), (&cast.stranger, "b"), (&cast.other_agent, "a")] {
                let listed = call(&mut client, &method, key, tenant, "").await;
                assert_eq!(listed, (Code::Ok, "0".into()), "{tenant}");
            }
        }
        assert_eq!(count(&cast).await, before, "{method}: nothing was made for tenant a");
        let read = cast.service.ask("GET", &format!("/v1/timers/{timer}"), cast.key("viewer"), None).await;
        assert_eq!(read.json()["version"], 1, "{method}");
    }
    cast.service.stop().await;
}

#[tokio::test]
async fn a_stream_of_every_tenant_is_for_an_operator_and_the_others_hold_nothing_foreign() {
    let cast = Cast::new().await;
    let mut client = HorologyKernelClient::new(channel(&cast.service).await);
    let every = || v1::TimerEventStreamRequest { tenant_id: "__all__".into(), topics: vec![] };
    let others = cast.roles.iter().map(|(_, key)| key).chain([&cast.stranger, &cast.other_agent]);
    for key in others {
        let refused = client.stream_timer_events(with(key, every())).await.unwrap_err();
        assert_eq!(refused.code(), Code::PermissionDenied);
    }
    let mut all =
        client.stream_timer_events(with(&cast.operator_of_service, every())).await.unwrap().into_inner();
    let of = |tenant: &str| v1::TimerEventStreamRequest { tenant_id: tenant.into(), topics: vec![] };
    let mut streams = Vec::new();
    for (key, tenant) in [(&cast.stranger, "b"), (&cast.other_agent, "a")] {
        streams.push(client.stream_timer_events(with(key, of(tenant))).await.unwrap().into_inner());
    }
    let foreign = cast.timer().await;
    let mut own = Vec::new();
    for key in [&cast.stranger, &cast.other_agent] {
        let made =
            cast.service.ask("POST", "/v1/timers", key, Some(json!({"name": "n", "after": "1h"}))).await;
        own.push(made.json()["id"].as_str().unwrap().to_string());
    }
    let id = |event: v1::TimerEvent| match event.event {
        Some(v1::timer_event::Event::Scheduled(s)) => s.timer.unwrap().id,
        other => panic!("{other:?}"),
    };
    // The first that each of them sees is its own, though the other's was made before.
    for (stream, own) in streams.iter_mut().zip(&own) {
        assert_eq!(&id(stream.message().await.unwrap().unwrap()), own);
    }
    let mut seen = BTreeSet::new();
    for _ in 0..3 {
        seen.insert(id(all.message().await.unwrap().unwrap()));
    }
    assert_eq!(seen, [foreign, own.remove(0), own.remove(0)].into());
    cast.service.stop().await;
}
