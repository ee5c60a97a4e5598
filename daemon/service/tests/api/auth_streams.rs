//! Open streams end when the credential that opened them does, over every protocol.

use crate::auth_keys::{at, guarded, make};
use crate::harness::{Events, Running};
use futures::StreamExt;
use minoots::api::grpc::v2;
use minoots::api::grpc::v2::timer_service_client::TimerServiceClient;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

async fn by_events(service: &Running, key: &str) -> Events {
    let request = service.client.get(format!("{}/v1/events", service.url)).bearer_auth(key);
    let mut events = Events::of(request.send().await.unwrap());
    assert!(events.block().await.unwrap().contains("place"));
    events
}

/// The data of the last message of a stream.
async fn last_of(mut events: Events) -> Value {
    let mut last = None;
    while let Some(event) = events.next().await {
        last = Some(event);
    }
    last.expect("a last message").data
}

#[tokio::test]
async fn a_revoked_key_ends_its_streams() {
    let (service, _, operator) = guarded().await;
    let (id, key) = make(&service, &operator, json!({"name": "watcher", "role": "viewer"})).await;
    let events = by_events(&service, &key).await;
    let mut others = by_events(&service, &operator).await;

    let mut request = format!("{}/v1/events/ws?type=fired", service.url.replace("http", "ws"))
        .into_client_request()
        .unwrap();
    request.headers_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let (mut socket, _) = tokio_tungstenite::connect_async(request).await.unwrap();

    let mut client = TimerServiceClient::connect(service.url.clone()).await.unwrap();
    let mut request = tonic::Request::new(v2::WatchEventsRequest::default());
    request.metadata_mut().insert("authorization", format!("Bearer {key}").parse().unwrap());
    let mut calls = client.watch_events(request).await.unwrap().into_inner();

    let revoked = service.ask("DELETE", &format!("/v1/keys/{id}"), &operator, None).await;
    assert!(revoked.status < 300, "{}", revoked.text);

    let last = last_of(events).await;
    assert_eq!(last["error"]["code"], "unauthenticated", "{last}");
    let refused = loop {
        match calls.message().await {
            Ok(Some(_)) => {}
            ended => break ended.unwrap_err(),
        }
    };
    assert_eq!(refused.code(), tonic::Code::Unauthenticated, "{refused:?}");
    let close = loop {
        if let Message::Close(frame) = socket.next().await.unwrap().unwrap() {
            break frame.unwrap();
        }
    };
    assert_eq!(close.code, CloseCode::Policy);
    // Nobody else's stream ends with it.
    let created =
        service.ask("POST", "/v1/timers", &operator, Some(json!({"name": "t", "after": "1h"}))).await;
    assert_eq!(created.status, 201, "{}", created.text);
    assert_eq!(others.next().await.unwrap().event, "timer.scheduled");
    service.stop().await;
}

#[tokio::test]
async fn an_expired_key_ends_its_streams() {
    let (service, clock, operator) = guarded().await;
    let body = json!({"name": "brief", "role": "viewer", "expires_at": "2027-01-15T08:01:00Z"});
    let (_, key) = make(&service, &operator, body).await;
    let events = by_events(&service, &key).await;
    clock.set(at(61));
    let last = last_of(events).await;
    assert_eq!(last["error"]["code"], "unauthenticated", "{last}");
    assert!(last["error"]["detail"].as_str().unwrap().contains("expired"), "{last}");
    service.stop().await;
}
