//! The stream over WebSocket, with a real client: where it begins and goes on, what a slow client is told, how it ends.

use crate::events::trimmable;
use crate::harness::{Answer, Running, check_problem};
use futures::{SinkExt, StreamExt};
use minoots::store::MemoryLog;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use tokio::net::TcpSocket;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{Error, Message};

/// A client of the stream.
struct Client {
    socket: WebSocketStream<tokio::net::TcpStream>,
}

impl Client {
    async fn open(service: &Running, query: &str) -> Self {
        Self::with_buffer(service, query, None).await
    }

    /// With a receive buffer of so many bytes: what is not read waits in the service.
    async fn with_buffer(service: &Running, query: &str, bytes: Option<u32>) -> Self {
        let address = service.url.strip_prefix("http://").unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(bytes) = bytes {
            socket.set_recv_buffer_size(bytes).unwrap();
        }
        let stream = socket.connect(address.parse().unwrap()).await.unwrap();
        let url = format!("ws://{address}/v1/events/ws{query}");
        let (socket, _) = tokio_tungstenite::client_async(url, stream).await.unwrap();
        Self { socket }
    }

    async fn say(&mut self, message: Value) {
        self.socket.send(Message::text(message.to_string())).await.unwrap();
    }

    /// The next message of JSON.
    async fn next(&mut self) -> Value {
        loop {
            match self.socket.next().await.expect("the socket is open").unwrap() {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Ping(_) | Message::Pong(_) => {}
                other => panic!("{other:?}"),
            }
        }
    }

    /// The next event; heartbeats are passed over.
    async fn event(&mut self) -> Value {
        loop {
            let mut message = self.next().await;
            match message["type"].as_str().unwrap() {
                "event" => return message["event"].take(),
                "heartbeat" => {}
                _ => panic!("{message}"),
            }
        }
    }

    /// The last message, and the code with which the service closes.
    async fn end(mut self) -> (Value, u16) {
        let mut last = Value::Null;
        loop {
            match self.socket.next().await {
                Some(Ok(Message::Text(text))) => last = serde_json::from_str(&text).unwrap(),
                Some(Ok(Message::Close(frame))) => return (last, frame.unwrap().code.into()),
                Some(Ok(_)) => {}
                other => panic!("no close: {other:?}, after {last}"),
            }
        }
    }
}

#[tokio::test]
async fn the_address_or_the_first_message_says_what_is_wanted() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let first = service.create(json!({"name": "a", "after": "1h", "agent": "bo", "tags": ["x"]})).await;
    let by_address = Client::open(&service, "?after=0&type=scheduled,timer.cancelled&agent=bo").await;
    let mut by_message = Client::open(&service, "").await;
    let filters = json!({"types": ["scheduled", "timer.cancelled"], "agent": "bo", "tags": ["x"]});
    by_message.say(json!({"type": "subscribe", "after": "0", "filters": filters})).await;
    service.create(json!({"name": "b", "after": "1h", "agent": "al", "tags": ["x"]})).await;
    let id = first["id"].as_str().unwrap();
    service.post_to(&format!("/v1/timers/{id}/pause"), json!({})).await;
    service.delete(&format!("/v1/timers/{id}")).await;
    for mut client in [by_address, by_message] {
        let begin = client.next().await;
        assert_eq!((&begin["type"], &begin["cursor"]), (&json!("heartbeat"), &json!("0")), "{begin}");
        let scheduled = client.event().await;
        assert_eq!((&scheduled["type"], &scheduled["name"]), (&json!("timer.scheduled"), &json!("a")));
        let cancelled = client.event().await;
        assert_eq!((&cancelled["type"], &cancelled["cursor"]), (&json!("timer.cancelled"), &json!("4")));
        // Another subscription takes the place of the one before.
        client.say(json!({"type": "subscribe", "after": "1", "filters": {"timers": [id]}})).await;
        assert_eq!(client.next().await["cursor"], "1");
        assert_eq!(client.event().await["type"], "timer.paused");
    }
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_reconnects_again_and_again_has_each_event_once() {
    let service = Running::on_partitions(3).await;
    let mut place = {
        let mut client = Client::open(&service, "").await;
        client.say(json!({"type": "subscribe"})).await;
        client.next().await["cursor"].as_str().unwrap().to_string()
    };
    let (mut seen, mut made) = (Vec::new(), 0);
    for round in 1..=20_usize {
        let timers: Vec<_> =
            (0..round).map(|i| json!({"name": format!("{}", made + i), "after": "1h"})).collect();
        made += round;
        service.post_to("/v1/timers/batch", json!({"timers": timers})).await;
        let mut client = Client::open(&service, &format!("?after={place}")).await;
        // Sometimes less than there is is read, and the connection is dropped with the rest in it.
        for _ in 0..(made - seen.len()).min(round + round % 3 - 1) {
            let event = client.event().await;
            place = event["cursor"].as_str().unwrap().to_string();
            seen.push(event["name"].as_str().unwrap().parse::<usize>().unwrap());
        }
    }
    let mut client = Client::open(&service, &format!("?after={place}")).await;
    while seen.len() < made {
        seen.push(client.event().await["name"].as_str().unwrap().parse().unwrap());
    }
    seen.sort_unstable();
    assert_eq!(seen, (0..made).collect::<Vec<_>>());
    service.stop().await;
}

/// Makes events that no socket buffer holds.
async fn flood(service: &Running, batches: usize) {
    let label = "x".repeat(200);
    let labels: Value =
        (0..10).map(|i| (format!("l{i}"), json!(label))).collect::<serde_json::Map<_, _>>().into();
    for _ in 0..batches {
        let timers: Vec<_> =
            (0..1000).map(|_| json!({"name": "n", "after": "1h", "labels": labels})).collect();
        let answer = service.post_to("/v1/timers/batch", json!({"timers": timers})).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }
}

#[tokio::test]
async fn a_slow_client_is_told_how_far_it_is_behind_and_loses_nothing() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = Client::with_buffer(&service, "?type=scheduled", Some(4096)).await;
    assert_eq!(client.next().await["type"], "heartbeat");
    flood(&service, 13).await;
    let (mut lags, mut next) = (Vec::new(), 1);
    while next <= 13_000 {
        let message = client.next().await;
        match message["type"].as_str().unwrap() {
            "event" => {
                assert_eq!(message["event"]["sequence"], next);
                next += 1;
            }
            "lag" => {
                assert_eq!(message["cursor"], (next - 1).to_string(), "{message}");
                lags.push(message["behind"].as_u64().unwrap());
            }
            "heartbeat" => {}
            _ => panic!("{message}"),
        }
    }
    assert!(!lags.is_empty() && lags[0] > 5_000, "{lags:?}");
    service.stop().await;
}

#[tokio::test]
async fn a_client_that_is_behind_what_is_kept_is_told_where_it_can_go_on() {
    let (service, oldest) = trimmable().await;
    let mut client = Client::with_buffer(&service, "?after=0", Some(4096)).await;
    assert_eq!(client.next().await["type"], "heartbeat");
    flood(&service, 13).await;
    oldest.store(13_000, Ordering::Relaxed);
    let (last, code) = client.end().await;
    assert_eq!(code, 4410);
    assert_eq!((&last["error"]["code"], &last["oldest"]), (&json!("events_gone"), &json!("12999")), "{last}");
    let place = last["oldest"].as_str().unwrap();
    let mut again = Client::open(&service, &format!("?after={place}")).await;
    assert_eq!(again.event().await["sequence"], 13_000);
    service.stop().await;
}

#[tokio::test]
async fn a_shutdown_is_told_with_the_place_to_go_on_from() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = Client::open(&service, "?after=0").await;
    let mut silent = Client::open(&service, "").await;
    service.create(json!({"name": "a", "after": "1h"})).await;
    client.event().await;
    let (told, told_silent, ()) = tokio::join!(
        client.end(),
        async {
            // Both ends are up before the service stops.
            silent.socket.flush().await.unwrap();
            silent.end().await
        },
        service.stop()
    );
    let (last, code) = told;
    assert_eq!((&last["error"]["code"], &last["cursor"], code), (&json!("shutting_down"), &json!("1"), 1001));
    assert_eq!((&told_silent.0["error"]["code"], told_silent.1), (&json!("shutting_down"), 1001));
}

#[tokio::test]
async fn an_idle_stream_shows_its_place_and_a_filtered_one_moves_on() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let mut client = Client::open(&service, "?type=fired&heartbeat=1s").await;
    assert_eq!(client.next().await["cursor"], "0");
    service.create(json!({"name": "a", "after": "1h"})).await;
    let mut places = Vec::new();
    while places.last() != Some(&json!("1")) {
        let message = client.next().await;
        assert_eq!((&message["type"], &message["behind"]), (&json!("heartbeat"), &json!(0)), "{message}");
        places.push(message["cursor"].clone());
    }
    service.stop().await;
}

#[tokio::test]
async fn what_cannot_be_had_is_refused_in_the_words_of_the_api() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let upgrade = |query: &str, origin: Option<&str>| {
        let mut request = service
            .client
            .get(format!("{}/v1/events/ws{query}", service.url))
            .header("connection", "upgrade")
            .header("upgrade", "websocket")
            .header("sec-websocket-version", "13")
            .header("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ==");
        if let Some(origin) = origin {
            request = request.header("origin", origin);
        }
        Answer::of(request)
    };
    check_problem(&service.get("/v1/events/ws").await, 426, "upgrade_required", "WebSocket client");
    check_problem(&upgrade("?colour=x", None).await, 400, "invalid_query", "after, heartbeat, type");
    check_problem(&upgrade("?after=x", None).await, 400, "invalid_query", "0 for the beginning");
    check_problem(&upgrade("?type=exploded", None).await, 400, "invalid_query", "timer.fired");
    check_problem(&upgrade("?heartbeat=1ms", None).await, 400, "invalid_query", "from 1s to 5m");
    check_problem(&upgrade("?timer=x", None).await, 404, "timer_not_found", "x");
    check_problem(&upgrade("", Some("http://example.com")).await, 403, "forbidden", "another site");

    let refused = async |message: &str, code: &str, detail: &str| {
        let mut client = Client::open(&service, "").await;
        client.socket.send(Message::text(message)).await.unwrap();
        let (last, close) = client.end().await;
        assert_eq!((&last["error"]["code"], close), (&json!(code), 1008), "{message}: {last}");
        assert!(last["error"]["detail"].as_str().unwrap().contains(detail), "{last}");
    };
    refused("{", "invalid_json", "line 1").await;
    refused("[]", "invalid_field", "a JSON object").await;
    refused(r#"{"type":"sing"}"#, "invalid_field", "subscribe").await;
    refused(r#"{"type":"subscribe","after":"1.2.3"}"#, "invalid_field", "after is").await;
    refused(r#"{"type":"subscribe","after":5}"#, "invalid_field", "after: invalid type").await;
    refused(r#"{"type":"subscribe","filters":{"colour":"x"}}"#, "unknown_field", "filters.colour").await;
    refused(r#"{"type":"subscribe","filters":{"types":["x"]}}"#, "invalid_field", "timer.fired").await;
    refused(r#"{"type":"subscribe","heartbeat":"0s"}"#, "invalid_field", "heartbeat").await;
    // A message over 64 KiB is not read to its end.
    let mut client = Client::open(&service, "").await;
    let _ = client.socket.send(Message::text("x".repeat(70_000))).await;
    loop {
        match client.socket.next().await {
            None | Some(Err(Error::Protocol(_) | Error::Io(_)) | Ok(Message::Close(_))) => break,
            Some(other) => println!("{other:?}"),
        }
    }
    assert_eq!(service.get("/readyz").await.status, 200);
    service.stop().await;
}
