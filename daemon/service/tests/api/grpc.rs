//! The same service over gRPC, on the same port.

use crate::harness::Running;
use futures::{StreamExt, stream};
use minoots::api::grpc::v2;
use minoots::store::MemoryLog;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;
use tonic_reflection::pb::v1::ServerReflectionRequest;
use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
use v2::event::Kind;
use v2::timer_service_client::TimerServiceClient;

pub(crate) async fn channel(service: &Running) -> Channel {
    Channel::from_shared(service.url.clone()).unwrap().connect().await.unwrap()
}

pub(crate) fn definition(name: &str, after_secs: i64) -> v2::TimerDefinition {
    v2::TimerDefinition {
        name: name.into(),
        schedule: Some(v2::timer_definition::Schedule::After(prost_types::Duration {
            seconds: after_secs,
            nanos: 0,
        })),
        metadata_json: Some(r#"{"n": 1.50}"#.into()),
        ..Default::default()
    }
}

pub(crate) fn create(name: &str, after_secs: i64) -> v2::CreateTimerRequest {
    v2::CreateTimerRequest { definition: Some(definition(name, after_secs)) }
}

/// An error status: its code, ours, and a part of its message.
pub(crate) fn check(status: &Status, grpc: Code, code: &str, detail: &str) {
    assert_eq!(status.code(), grpc, "{status:?}");
    assert!(status.message().starts_with(&format!("{code}: ")), "{status:?}");
    assert!(status.message().contains(detail), "{status:?}");
    assert_eq!(status.metadata().get("minoots-code").unwrap(), code);
}

#[tokio::test]
async fn create_get_list_cancel_watch() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let created = client.create_timer(create("a", 3600)).await.unwrap().into_inner();
    let timer = created.timer.unwrap();
    assert!(!created.replayed);
    assert_eq!(timer.state(), v2::TimerState::Scheduled);
    assert_eq!(timer.created_clock(), v2::ClockSource::Os);
    assert_eq!(timer.definition.as_ref().unwrap().metadata_json.as_deref(), Some(r#"{"n":1.50}"#));

    let id = v2::GetTimerRequest { id: timer.id.clone() };
    assert_eq!(client.get_timer(id).await.unwrap().into_inner().timer.as_ref(), Some(&timer));
    let listed = client.list_timers(v2::ListTimersRequest::default()).await.unwrap().into_inner();
    assert_eq!((listed.timers.as_slice(), listed.next_cursor.as_str()), (&[timer.clone()][..], ""));

    let cancel =
        v2::CancelTimerRequest { id: timer.id.clone(), reason: Some("done".into()), ..Default::default() };
    let cancelled = client.cancel_timer(cancel.clone()).await.unwrap().into_inner().timer.unwrap();
    assert_eq!(cancelled.state(), v2::TimerState::Cancelled);
    assert_eq!(cancelled.cancel_reason.as_deref(), Some("done"));

    let watch = v2::WatchEventsRequest { after_sequence: Some(0), ..Default::default() };
    let mut events = client.watch_events(watch).await.unwrap().into_inner();
    let mut next = async || events.message().await.unwrap().unwrap().event.unwrap();
    assert!(matches!(next().await.kind, Some(Kind::Scheduled(_))));
    let second = next().await;
    assert_eq!((second.sequence, second.timer_id.as_str()), (2, timer.id.as_str()));
    assert!(matches!(second.kind, Some(Kind::Cancelled(v2::Cancelled { reason: Some(r) })) if r == "done"));
    client.create_timer(create("b", 0)).await.unwrap();
    assert!(matches!(next().await.kind, Some(Kind::Scheduled(_))));
    let Some(Kind::Fired(fired)) = next().await.kind else { panic!("not a fire") };
    assert!(fired.lateness_ns >= 0 && fired.max_error_ns.is_none(), "{fired:?}");
    assert!(matches!(next().await.kind, Some(Kind::Completed(_))));

    service.stop().await;
    let end = events.message().await.unwrap_err();
    assert_eq!(end.code(), Code::Unavailable, "{end:?}");
}

#[tokio::test]
async fn batches_are_answered_in_order_and_a_bad_one_does_not_stop_the_others() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let batch = |names: &[&str]| v2::CreateTimersRequest {
        definitions: names.iter().map(|n| definition(n, 3600)).collect(),
    };
    let mut bad = batch(&["c", "d"]);
    bad.definitions[0].schedule = None;
    let mut answers =
        client.create_timers(stream::iter([batch(&["a", "b"]), bad])).await.unwrap().into_inner();
    let mut told = Vec::new();
    while let Some(answer) = answers.message().await.unwrap() {
        for result in answer.results {
            told.push(match result.outcome.unwrap() {
                v2::create_timer_result::Outcome::Created(c) => c.timer.unwrap().definition.unwrap().name,
                v2::create_timer_result::Outcome::Refused(r) => r.code,
            });
        }
    }
    assert_eq!(told, ["a", "b", "invalid_schedule", "d"]);
    service.stop().await;
}

#[tokio::test]
async fn errors_are_the_same_ones_as_over_http() {
    let log = MemoryLog::new();
    let service = Running::on_memory(log.clone()).await;
    let mut client = TimerServiceClient::new(channel(&service).await);
    let refused = client.create_timer(v2::CreateTimerRequest::default()).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "missing_field", "definition");
    let refused = client.create_timer(create("n", -1)).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "invalid_duration", "negative");
    let mut bad_json = create("n", 1);
    bad_json.definition.as_mut().unwrap().metadata_json = Some("{".into());
    let refused = client.create_timer(bad_json).await.unwrap_err();
    check(&refused, Code::InvalidArgument, "invalid_json", "metadata_json");
    let mut past = create("n", 1);
    past.definition.as_mut().unwrap().schedule =
        Some(v2::timer_definition::Schedule::At(prost_types::Timestamp { seconds: 1, nanos: 0 }));
    check(&client.create_timer(past).await.unwrap_err(), Code::InvalidArgument, "time_in_past", "passed");
    let unknown = v2::GetTimerRequest { id: "x".into() };
    check(&client.get_timer(unknown).await.unwrap_err(), Code::NotFound, "timer_not_found", "x");

    let mut keyed = create("n", 3600);
    keyed.definition.as_mut().unwrap().idempotency_key = Some("k".into());
    let id = client.create_timer(keyed.clone()).await.unwrap().into_inner().timer.unwrap().id;
    assert!(client.create_timer(keyed.clone()).await.unwrap().into_inner().replayed);
    keyed.definition.as_mut().unwrap().name = "other".into();
    let refused = client.create_timer(keyed).await.unwrap_err();
    check(&refused, Code::AlreadyExists, "idempotency_conflict", "new key");
    let cancel = v2::CancelTimerRequest { id, ..Default::default() };
    client.cancel_timer(cancel.clone()).await.unwrap();
    let refused = client.cancel_timer(cancel).await.unwrap_err();
    check(&refused, Code::FailedPrecondition, "wrong_state", "cancelled");

    log.set_fault(minoots::store::MemoryFault::Full);
    let refused = client.create_timer(create("n", 1)).await.unwrap_err();
    check(&refused, Code::ResourceExhausted, "store_full", "free some space");
    assert_eq!(refused.metadata().get("retry-after").unwrap(), "5");
    service.stop().await;
}

#[tokio::test]
async fn health_and_reflection_answer() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let channel = channel(&service).await;
    let mut health = HealthClient::new(channel.clone());
    for name in ["", "minoots.v2.TimerService"] {
        let request = HealthCheckRequest { service: name.into() };
        let status = health.check(request).await.unwrap().into_inner().status();
        assert_eq!(status, ServingStatus::Serving, "{name:?}");
    }
    let mut reflection = ServerReflectionClient::new(channel.clone());
    let ask = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = reflection.server_reflection_info(stream::iter([ask])).await.unwrap().into_inner();
    let answer = answers.next().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("{answer:?}") };
    let names: Vec<_> = list.service.iter().map(|s| s.name.as_str()).collect();
    for name in ["minoots.v2.TimerService", "grpc.health.v1.Health"] {
        assert!(names.contains(&name), "{names:?}");
    }
    // An unknown method is a gRPC status too, not a web page.
    let mut grpc = tonic::client::Grpc::new(channel);
    grpc.ready().await.unwrap();
    let path = axum::http::uri::PathAndQuery::from_static("/minoots.v2.TimerService/Nothing");
    let codec = tonic_prost::ProstCodec::<v2::GetTimerRequest, v2::GetTimerResponse>::default();
    let request = tonic::Request::new(v2::GetTimerRequest::default());
    assert_eq!(grpc.unary(request, path, codec).await.unwrap_err().code(), Code::Unimplemented);
    service.stop().await;
}
