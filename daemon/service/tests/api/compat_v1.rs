//! `minoots.timer.v1` as its clients know it.

use crate::grpc::channel;
use crate::harness::{Running, Sink};
use chronotick_core::Timestamp;
use minoots::access::quota::Limits;
use minoots::access::secret::{KeyText, system_random};
use minoots::clock::{ManualClock, OsClock};
use minoots::config::AccessConfig;
use minoots::config::access::AuthMode;
use minoots::store::{MemoryControl, MemoryLog};
use minoots_proto::v1;
use prost::Message;
use serde_json::json;
use std::sync::Arc;
use tonic::Code;
use v1::TimerStatus;
use v1::horology_kernel_client::HorologyKernelClient;
use v1::timer_event::Event;
use v1::timer_schedule_request::ScheduleTime;

fn request(name: &str, after_ms: u64) -> v1::TimerScheduleRequest {
    v1::TimerScheduleRequest {
        tenant_id: "default".into(),
        requested_by: "ann".into(),
        name: name.into(),
        schedule_time: Some(ScheduleTime::DurationMs(after_ms)),
        ..Default::default()
    }
}

fn get(tenant: &str, id: &str) -> v1::TimerGetRequest {
    v1::TimerGetRequest { tenant_id: tenant.into(), timer_id: id.into() }
}

fn cancel(tenant: &str, id: &str, by: &str, reason: &str) -> v1::TimerCancelRequest {
    v1::TimerCancelRequest {
        tenant_id: tenant.into(),
        timer_id: id.into(),
        requested_by: by.into(),
        reason: reason.into(),
    }
}

/// The messages' fields: name, then number and type; `[]` is repeated.
const FIELDS: &[(&str, &str)] = &[
    (
        "TimerScheduleRequest",
        "tenant_id=1 requested_by=2 name=3 duration_ms=4:uint64 fire_time_iso=5 action_bundle_json=6 labels=7[] \
         metadata_json=8 agent_binding_json=9",
    ),
    ("TimerScheduleResponse", "timer=1:Timer"),
    (
        "Timer",
        "id=1 tenant_id=2 requested_by=3 name=4 status=5:TimerStatus created_at_iso=6 fire_at_iso=7 fired_at_iso=8 \
         cancelled_at_iso=9 cancel_reason=10 cancelled_by=11 duration_ms=12:uint64 metadata_json=13 \
         action_bundle_json=14 agent_binding_json=15 labels=16[]",
    ),
    ("TimerCancelRequest", "tenant_id=1 timer_id=2 requested_by=3 reason=4"),
    ("TimerGetRequest", "tenant_id=1 timer_id=2"),
    ("TimerListRequest", "tenant_id=1 page_size=2:uint32 page_token=3 statuses=4[]"),
    ("TimerListResponse", "timers=1[] next_page_token=2"),
    ("TimerEventStreamRequest", "tenant_id=1 topics=2[]"),
    ("TimerEvent", "scheduled=1:TimerScheduled fired=2:TimerFired cancelled=3:TimerCancelled"),
    ("TimerScheduled", "timer=1:Timer"),
    ("TimerFired", "timer=1:Timer result=2:ExecutionResult"),
    ("TimerCancelled", "timer=1:Timer reason=2"),
    ("ExecutionResult", "actions=1[] completed_at_iso=2"),
    ("ExecutionError", "message=1 code=2 metadata_json=3"),
    ("ActionResult", "action_id=1 success=2:bool output=3 metadata_json=4"),
];

#[test]
fn the_fields_have_the_numbers_of_old() {
    use prost_types::field_descriptor_proto::{Label, Type};
    let set = prost_types::FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap();
    let file = set.file.iter().find(|f| f.package() == "minoots.timer.v1").unwrap();
    let describe = |m: &prost_types::DescriptorProto| {
        let field = |f: &prost_types::FieldDescriptorProto| {
            let kind = match f.r#type() {
                _ if f.label() == Label::Repeated => "[]".to_string(),
                Type::String => String::new(),
                Type::Uint64 => ":uint64".into(),
                Type::Uint32 => ":uint32".into(),
                Type::Bool => ":bool".into(),
                _ => format!(":{}", f.type_name().rsplit('.').next().unwrap()),
            };
            format!("{}={}{kind}", f.name(), f.number())
        };
        m.field.iter().map(field).collect::<Vec<_>>().join(" ")
    };
    for (name, want) in FIELDS {
        let message = file.message_type.iter().find(|m| m.name() == *name).unwrap();
        assert_eq!(describe(message), *want, "{name}");
    }
    assert_eq!(file.message_type.len(), FIELDS.len());
    // What an unmerged branch of the old system uses is not given to anything else.
    for (name, from, end) in [("TimerScheduleRequest", 10, 12), ("Timer", 17, 24), ("TimerEvent", 4, 5)] {
        let message = file.message_type.iter().find(|m| m.name() == name).unwrap();
        for number in from..end {
            let is_kept = message.reserved_range.iter().any(|r| (r.start()..r.end()).contains(&number));
            assert!(is_kept, "{name} {number}");
        }
    }
    let statuses: Vec<_> = file.enum_type[0].value.iter().map(|v| (v.name(), v.number())).collect();
    assert_eq!(statuses[..2], [("TIMER_STATUS_UNSPECIFIED", 0), ("TIMER_STATUS_SCHEDULED", 1)]);
    assert_eq!(statuses[2..4], [("TIMER_STATUS_ARMED", 2), ("TIMER_STATUS_FIRED", 3)]);
    assert_eq!(statuses[4..6], [("TIMER_STATUS_CANCELLED", 4), ("TIMER_STATUS_FAILED", 5)]);
    assert_eq!(statuses[6..], [("TIMER_STATUS_SETTLED", 6)]);
    let methods: Vec<_> = file.service[0].method.iter().map(|m| m.name()).collect();
    let want = ["ScheduleTimer", "CancelTimer", "GetTimer", "ListTimers", "StreamTimerEvents"];
    assert_eq!((file.service[0].name(), methods.as_slice()), ("HorologyKernel", &want[..]));
    let streams: Vec<_> = file.service[0].method.iter().filter(|m| m.server_streaming()).collect();
    assert_eq!((streams.len(), streams[0].name()), (1, "StreamTimerEvents"));
}

#[tokio::test]
async fn a_record_comes_back_as_it_was_given() {
    let clock = ManualClock::new(Timestamp::from_secs(1_800_000_000));
    let service = Running::on_clock(clock).await;
    let mut client = HorologyKernelClient::new(channel(&service).await);
    let bundle = r#"{"actions":[{"id":"call","kind":"webhook","parameters":{"url":"http://127.0.0.1:9/x","payload":{"n":1.50}},"escalation":{"afterAttempts":2,"escalatesTo":"bob"}}],"concurrency":1,"retryPolicy":{"maxAttempts":3,"backoffInitialMs":5,"backoffMultiplier":2}}"#;
    let binding =
        r#"{"adapter":"mcp","target":"agent-1","payloadTemplate":{"a":1},"acknowledgementTimeoutMs":5}"#;
    let sent = v1::TimerScheduleRequest {
        action_bundle_json: bundle.into(),
        agent_binding_json: binding.into(),
        metadata_json: r#"{"b":1.50,"a":2}"#.into(),
        labels: [("k".to_string(), "v".to_string())].into(),
        ..request("tea", 90_000)
    };
    let timer = client.schedule_timer(sent.clone()).await.unwrap().into_inner().timer.unwrap();
    let want = v1::Timer {
        id: timer.id.clone(),
        tenant_id: "default".into(),
        requested_by: "ann".into(),
        name: "tea".into(),
        status: TimerStatus::Scheduled.into(),
        created_at_iso: "2027-01-15T08:00:00.000000000Z".into(),
        fire_at_iso: "2027-01-15T08:01:30.000000000Z".into(),
        duration_ms: 90_000,
        metadata_json: sent.metadata_json,
        action_bundle_json: bundle.into(),
        agent_binding_json: binding.into(),
        labels: sent.labels,
        ..Default::default()
    };
    assert_eq!(timer, want);
    assert_eq!(client.get_timer(get("default", &timer.id)).await.unwrap().into_inner(), want);

    let asked = cancel("default", &timer.id, "bob", "no tea");
    let cancelled = client.cancel_timer(asked).await.unwrap().into_inner();
    let want = v1::Timer {
        status: TimerStatus::Cancelled.into(),
        cancelled_at_iso: "2027-01-15T08:00:00.000000000Z".into(),
        cancel_reason: "no tea".into(),
        cancelled_by: "bob".into(),
        ..want
    };
    assert_eq!(cancelled, want);
    // The native API reads the same timer.
    let native = service.get(&format!("/v1/timers/{}", timer.id)).await.json();
    assert_eq!(native["cancel_reason"], "no tea (cancelled by bob)");

    let iso = ScheduleTime::FireTimeIso("2027-01-15T10:00:05+02:00".into());
    let sent = v1::TimerScheduleRequest { schedule_time: Some(iso), ..request("iso", 0) };
    let timer = client.schedule_timer(sent).await.unwrap().into_inner().timer.unwrap();
    assert_eq!((timer.fire_at_iso.as_str(), timer.duration_ms), ("2027-01-15T08:00:05.000000000Z", 5000));
    service.stop().await;
}

#[tokio::test]
async fn bad_requests_are_refused() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = HorologyKernelClient::new(channel(&service).await);
    let bundle = |kind: &str| {
        json!({"actions": [{"id": "a", "kind": kind, "parameters": {"command": "ls"}}]}).to_string()
    };
    let base = || request("n", 1000);
    let cases = [
        (v1::TimerScheduleRequest { tenant_id: String::new(), ..base() }, "tenant_id is needed"),
        (v1::TimerScheduleRequest { requested_by: String::new(), ..base() }, "requested_by is needed"),
        (v1::TimerScheduleRequest { schedule_time: None, ..base() }, "duration_ms and fire_time_iso"),
        (request("n", u64::MAX), "292 years"),
        (v1::TimerScheduleRequest { metadata_json: "{".into(), ..base() }, "metadata_json is not valid JSON"),
        (
            v1::TimerScheduleRequest { action_bundle_json: bundle("command"), ..base() },
            "the kinds are webhook",
        ),
        (v1::TimerScheduleRequest { action_bundle_json: bundle("webhook"), ..base() }, "unknown field"),
    ];
    for (sent, detail) in cases {
        let status = client.schedule_timer(sent).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{detail}: {status:?}");
        assert!(status.message().contains(detail), "{detail}: {status:?}");
    }
    const NONE: &str = "01890000-0000-7000-8000-000000000000";
    for (sent, code) in [
        (get("", NONE), Code::InvalidArgument),
        (get("default", "nonsense"), Code::InvalidArgument),
        (get("default", NONE), Code::NotFound),
    ] {
        assert_eq!(client.get_timer(sent.clone()).await.unwrap_err().code(), code, "{sent:?}");
        let sent = cancel(&sent.tenant_id, &sent.timer_id, "ann", "");
        assert_eq!(client.cancel_timer(sent.clone()).await.unwrap_err().code(), code, "{sent:?}");
    }
    let nobody = client.cancel_timer(cancel("default", NONE, "", "")).await.unwrap_err();
    assert_eq!(nobody.code(), Code::InvalidArgument);
    for (tenant, topics) in [("default", vec!["tea".to_string()]), ("", vec![])] {
        let ask = v1::TimerEventStreamRequest { tenant_id: tenant.into(), topics };
        assert_eq!(client.stream_timer_events(ask).await.unwrap_err().code(), Code::InvalidArgument);
    }
    let list = |tenant: &str| v1::TimerListRequest { tenant_id: tenant.into(), ..Default::default() };
    for ask in [
        list(""),
        v1::TimerListRequest { page_token: "x".into(), ..list("default") },
        v1::TimerListRequest { statuses: vec![99], ..list("default") },
        v1::TimerListRequest { page_size: 1_001, ..list("default") },
    ] {
        assert_eq!(
            client.list_timers(ask.clone()).await.unwrap_err().code(),
            Code::InvalidArgument,
            "{ask:?}"
        );
    }
    let iso = ScheduleTime::FireTimeIso("soon".into());
    let sent = v1::TimerScheduleRequest { schedule_time: Some(iso), ..base() };
    assert_eq!(client.schedule_timer(sent).await.unwrap_err().code(), Code::InvalidArgument);
    service.stop().await;
}

#[tokio::test]
async fn listings_have_pages_and_statuses() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = HorologyKernelClient::new(channel(&service).await);
    for n in 0..7 {
        let made = client.schedule_timer(request(&n.to_string(), 3_600_000)).await.unwrap().into_inner();
        if n % 2 == 0 {
            client.cancel_timer(cancel("default", &made.timer.unwrap().id, "ann", "")).await.unwrap();
        }
    }
    for (statuses, size, want) in [
        (vec![], 3, vec!["0 1 2", "3 4 5", "6"]),
        (vec![TimerStatus::Cancelled], 2, vec!["0 2", "4 6"]),
        (vec![TimerStatus::Scheduled], 0, vec!["1 3 5"]),
        (vec![TimerStatus::Scheduled, TimerStatus::Cancelled], 0, vec!["0 1 2 3 4 5 6"]),
        (vec![TimerStatus::Fired], 5, vec![""]),
    ] {
        let (mut pages, mut token) = (Vec::new(), String::new());
        loop {
            let ask = v1::TimerListRequest {
                tenant_id: "default".into(),
                page_size: size,
                page_token: token,
                statuses: statuses.iter().map(|s| i32::from(*s)).collect(),
            };
            let page = client.list_timers(ask).await.unwrap().into_inner();
            pages.push(page.timers.iter().map(|t| t.name.as_str()).collect::<Vec<_>>().join(" "));
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        // A page that ends with the last timer may say that there is another, which is empty then.
        if pages.len() > 1 && pages.last().is_some_and(String::is_empty) {
            pages.pop();
        }
        assert_eq!(pages, want, "{statuses:?}");
    }
    service.stop().await;
}

#[tokio::test]
async fn the_stream_tells_what_happens() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut sink = Sink::start([]).await;
    let mut client = HorologyKernelClient::new(channel(&service).await);
    let ask = |topics: &[&str]| v1::TimerEventStreamRequest {
        tenant_id: "default".into(),
        topics: topics.iter().map(|t| t.to_string()).collect(),
    };
    let mut all = client.stream_timer_events(ask(&[])).await.unwrap().into_inner();
    let mut fires = client.stream_timer_events(ask(&["timer.fired"])).await.unwrap().into_inner();
    let every =
        v1::TimerEventStreamRequest { tenant_id: "__all__".into(), topics: vec!["timer.cancelled".into()] };
    let mut every = client.stream_timer_events(every).await.unwrap().into_inner();

    let bundle =
        json!({"actions": [{"id": "call", "kind": "webhook", "parameters": {"url": sink.url}}]}).to_string();
    let sent = v1::TimerScheduleRequest { action_bundle_json: bundle, ..request("now", 0) };
    let id = client.schedule_timer(sent).await.unwrap().into_inner().timer.unwrap().id;
    let delivery = sink.next().await;
    assert_eq!(delivery.header("x-minoots-timer-id"), id);
    assert_eq!(delivery.header("x-minoots-tenant-id"), "default");
    // A fire whose actions fail is told with their errors; the timer has failed then.
    let mut broken = Sink::start([(400, vec![])]).await;
    let bundle = json!({"actions": [{"id": "call", "kind": "webhook", "parameters": {"url": broken.url}}]})
        .to_string();
    let sent = v1::TimerScheduleRequest { action_bundle_json: bundle, ..request("broken", 0) };
    let failing = client.schedule_timer(sent).await.unwrap().into_inner().timer.unwrap().id;
    broken.next().await;
    let sent = v1::TimerScheduleRequest { tenant_id: "other".into(), ..request("later", 3_600_000) };
    let later = client.schedule_timer(sent).await.unwrap().into_inner().timer.unwrap().id;
    client.cancel_timer(cancel("other", &later, "ann", "over")).await.unwrap();

    let Some(Event::Scheduled(scheduled)) = all.message().await.unwrap().unwrap().event else { panic!() };
    assert_eq!(scheduled.timer.unwrap().id, id);
    for stream in [&mut all, &mut fires] {
        let Some(Event::Fired(fired)) = stream.message().await.unwrap().unwrap().event else { panic!() };
        let (timer, result) = (fired.timer.unwrap(), fired.result.unwrap());
        assert_eq!((timer.id.as_str(), timer.status()), (id.as_str(), TimerStatus::Fired));
        assert!(!timer.fired_at_iso.is_empty() && !result.completed_at_iso.is_empty());
        assert_eq!((result.actions[0].action_id.as_str(), result.actions[0].success), ("call", true));
    }
    let Some(Event::Fired(fired)) = fires.message().await.unwrap().unwrap().event else { panic!() };
    let (timer, action) = (fired.timer.unwrap(), fired.result.unwrap().actions.remove(0));
    assert_eq!((timer.id.as_str(), timer.status()), (failing.as_str(), TimerStatus::Failed));
    assert!(!action.success && !action.output.is_empty(), "{action:?}");
    assert_eq!(action.metadata_json, r#"{"attempts":1}"#);
    let Some(Event::Cancelled(cancelled)) = every.message().await.unwrap().unwrap().event else { panic!() };
    let timer = cancelled.timer.unwrap();
    assert_eq!((timer.id, timer.tenant_id.as_str()), (later, "other"));
    assert_eq!((cancelled.reason.as_str(), timer.cancelled_by.as_str()), ("over", "ann"));
    service.stop().await;
}

/// A service that asks for keys, and the key of its operator.
pub(crate) async fn guarded() -> (Running, String) {
    guarded_by(Limits::default()).await
}

/// The same, with limits.
pub(crate) async fn guarded_by(limits: Limits) -> (Running, String) {
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

/// A key of the default tenant alone.
pub(crate) async fn tenant_key(service: &Running, operator: &str) -> String {
    let body = json!({"name": "tenant", "role": "admin"});
    let answer = service.ask("POST", "/v1/keys", operator, Some(body)).await;
    assert_eq!(answer.status, 201, "{}", answer.text);
    answer.json()["secret"].as_str().unwrap().to_string()
}

#[tokio::test]
async fn anothers_tenant_is_as_one_without_timers() {
    let (service, operator) = guarded().await;
    let key = tenant_key(&service, &operator).await;
    let mut client = HorologyKernelClient::new(channel(&service).await);
    fn with<T>(key: &str, message: T) -> tonic::Request<T> {
        let mut request = tonic::Request::new(message);
        request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
        request
    }
    let sent = v1::TimerScheduleRequest { tenant_id: "other".into(), ..request("n", 3_600_000) };
    let made = client.schedule_timer(with(&operator, sent.clone())).await.unwrap().into_inner();
    let foreign = made.timer.unwrap().id;
    let missing = "01890000-0000-7000-8000-000000000000";
    let mut told = Vec::new();
    for (tenant, id) in
        [("other", foreign.as_str()), ("default", &foreign), ("other", missing), ("default", missing)]
    {
        let got = client.get_timer(with(&key, get(tenant, id))).await.unwrap_err();
        let cancelled = client.cancel_timer(with(&key, cancel(tenant, id, "ann", ""))).await.unwrap_err();
        for status in [got, cancelled] {
            assert_eq!(status.code(), Code::NotFound);
            told.push(status.message().replace(id, "ID"));
        }
    }
    told.dedup();
    assert_eq!(told.len(), 1, "{told:?}");
    let ask = v1::TimerListRequest { tenant_id: "other".into(), ..Default::default() };
    assert_eq!(client.list_timers(with(&key, ask.clone())).await.unwrap().into_inner().timers, []);
    assert_eq!(client.list_timers(with(&operator, ask)).await.unwrap().into_inner().timers.len(), 1);
    assert_eq!(client.schedule_timer(with(&key, sent)).await.unwrap_err().code(), Code::NotFound);
    for (tenant, code) in [("other", Code::NotFound), ("__all__", Code::PermissionDenied)] {
        let ask = v1::TimerEventStreamRequest { tenant_id: tenant.into(), topics: vec![] };
        let refused = client.stream_timer_events(with(&key, ask)).await.unwrap_err();
        assert_eq!(refused.code(), code, "{tenant}");
    }
    service.stop().await;
}

#[tokio::test]
async fn over_a_quota_the_status_carries_the_limit() {
    let (service, operator) = guarded_by(Limits { timers_pending: Some(0), ..Limits::default() }).await;
    let mut client = HorologyKernelClient::new(channel(&service).await);
    let mut sent = tonic::Request::new(request("n", 1_000));
    sent.metadata_mut().insert("x-api-key", operator.parse().unwrap());
    let refused = client.schedule_timer(sent).await.unwrap_err();
    assert_eq!(refused.code(), Code::ResourceExhausted);
    assert_eq!(refused.metadata().get("ratelimit-limit").unwrap(), "0");
    assert_eq!(refused.metadata().get("minoots-code").unwrap(), "quota_exceeded");
    service.stop().await;
}
