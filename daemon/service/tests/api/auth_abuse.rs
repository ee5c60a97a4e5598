//! What a stranger may take of the listener: time, connections, headers, bodies.

use crate::harness::{Answer, Running, check_problem};
use minoots::clock::OsClock;
use minoots::config::AccessConfig;
use minoots::config::access::ListenerLimits;
use minoots::store::MemoryControl;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// A test that hangs has failed; how long that takes says nothing.
const LONG: Duration = Duration::from_secs(60);

async fn limited(change: impl FnOnce(&mut ListenerLimits)) -> Running {
    let mut listener = ListenerLimits::default();
    change(&mut listener);
    let access = AccessConfig { listener, ..AccessConfig::default() };
    Running::with_access(access, Arc::new(MemoryControl::default()), OsClock).await
}

async fn connect(service: &Running) -> TcpStream {
    TcpStream::connect(service.url.strip_prefix("http://").unwrap()).await.unwrap()
}

/// What comes until the service closes the connection.
async fn until_closed(stream: &mut TcpStream) -> String {
    let mut all = Vec::new();
    // A reset is an end, too.
    let _ = timeout(LONG, stream.read_to_end(&mut all)).await.expect("the service closes the connection");
    String::from_utf8_lossy(&all).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_sends_headers_too_slowly_is_cut_off() {
    let service = limited(|l| l.header_timeout = Duration::from_millis(50)).await;
    let starts: [&[u8]; 5] =
        [b"", b"PRI * HT", b"GET /healthz HTTP/1.1\r\nhost: loc", b"G", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"];
    for start in starts {
        let mut stream = connect(&service).await;
        stream.write_all(start).await.unwrap();
        let told = until_closed(&mut stream).await;
        assert!(!told.contains("200 OK"), "{start:?}: {told}");
    }
    // And so is who keeps a connection and asks nothing more.
    let mut stream = connect(&service).await;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
    assert!(until_closed(&mut stream).await.contains("200 OK"));
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_is_cut_off_and_streams_are_not() {
    let service = limited(|l| {
        l.body_timeout = Duration::from_millis(50);
        l.header_timeout = Duration::from_millis(200);
        l.idle_timeout = Duration::from_millis(50);
    })
    .await;
    let mut events = service.events(None).await;
    let mut stream = connect(&service).await;
    let head = "POST /v1/timers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 900\r\n\r\n{";
    stream.write_all(head.as_bytes()).await.unwrap();
    let told = until_closed(&mut stream).await;
    assert!(told.contains("too slowly"), "{told}");
    // The stream was open all the while, longer than any of the limits.
    service.create(serde_json::json!({"name": "t", "after": "1h", "actions": []})).await;
    assert_eq!(timeout(LONG, events.next()).await.unwrap().unwrap().event, "timer.scheduled");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_have_a_limit_and_places_come_free() {
    let service = limited(|l| l.connections_per_address_max = 2).await;
    let request = b"GET /healthz HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let mut held = Vec::new();
    for _ in 0..2 {
        let mut stream = connect(&service).await;
        stream.write_all(request).await.unwrap();
        let mut some = [0; 15];
        stream.read_exact(&mut some).await.unwrap();
        assert_eq!(&some, b"HTTP/1.1 200 OK");
        held.push(stream);
    }
    let mut third = connect(&service).await;
    assert_eq!(until_closed(&mut third).await, "");
    held.pop();
    // The place comes free when the service sees the end of the second.
    let answered = async {
        loop {
            let mut stream = connect(&service).await;
            let _ = stream.write_all(request).await;
            let mut some = [0; 15];
            if stream.read_exact(&mut some).await.is_ok() {
                return some;
            }
        }
    };
    assert_eq!(&timeout(LONG, answered).await.unwrap(), b"HTTP/1.1 200 OK");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn headers_have_a_size_and_a_count() {
    let service = limited(|_| {}).await;
    let many: String = (0..101).map(|n| format!("x-{n}: 1\r\n")).collect();
    let long = format!("x-long: {}\r\n", "a".repeat(70_000));
    for headers in [many, long] {
        let mut stream = connect(&service).await;
        let request = format!("GET /healthz HTTP/1.1\r\nhost: localhost\r\n{headers}\r\n");
        // The answer may come before the end of the request.
        let _ = stream.write_all(request.as_bytes()).await;
        let told = until_closed(&mut stream).await;
        assert!(told.is_empty() || told.starts_with("HTTP/1.1 431"), "{told}");
    }
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deep_json_is_refused() {
    let service = limited(|_| {}).await;
    for depth in [200, 500_000] {
        for (open, close) in [("[", "]"), ("{\"a\":", "}")] {
            let deep = format!("{}1{}", open.repeat(depth), close.repeat(depth));
            let body = format!("{{\"name\":\"t\",\"after\":\"1h\",\"metadata\":{deep}}}");
            let answer = service.post(body).await;
            assert!(matches!(answer.status, 201 | 400 | 413), "{depth}: {}", answer.status);
            let answer = service.post(deep).await;
            assert!(matches!(answer.status, 400 | 413), "{depth}: {}", answer.status);
        }
    }
    service.stop().await;
}

/// The memory of this process, which the service is in.
fn resident_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|l| l.strip_prefix("VmRSS:")).unwrap();
    line.split_whitespace().next().unwrap().parse().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_of_a_gibibyte_is_refused_and_not_kept() {
    let service = limited(|_| {}).await;
    check_problem(&service.post(vec![b' '; 2 << 20]).await, 413, "body_too_large", "bytes");
    let before = resident_kib();
    let mut stream = connect(&service).await;
    let head = "POST /v1/timers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n";
    stream.write_all(head.as_bytes()).await.unwrap();
    let chunk = vec![b' '; 1 << 16];
    let mut sent = 0_u64;
    while sent < 1 << 30 && stream.write_all(&chunk).await.is_ok() {
        sent += chunk.len() as u64;
    }
    assert!(sent < 64 << 20, "the service took {sent} bytes of it");
    let grown = resident_kib().saturating_sub(before);
    assert!(grown < 128 * 1024, "{grown} KiB more than before");
    assert_eq!(Answer::of(service.client.get(format!("{}/healthz", service.url))).await.status, 200);
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_nobody_reads_ends_with_its_connection() {
    let service = limited(|l| l.write_timeout = Duration::from_millis(100)).await;
    for n in 0..50 {
        let name = format!("{n}{}", "x".repeat(60));
        service.create(serde_json::json!({"name": name, "after": "1h", "actions": []})).await;
    }
    let mut stream = connect(&service).await;
    // Pipelined requests whose answers fill every buffer on the way.
    let request = b"GET /v1/timers HTTP/1.1\r\nhost: localhost\r\n\r\n";
    let flood = async { while stream.write_all(&request.repeat(100)).await.is_ok() {} };
    timeout(LONG, flood).await.expect("the service closes the connection");
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_grpc_request_of_one_message_has_the_time_of_a_body() {
    use crate::grpc::{channel, definition};
    use futures::{StreamExt, stream};
    use minoots::api::grpc::v2;
    use tonic::Code;
    let service = limited(|l| l.body_timeout = Duration::from_millis(50)).await;
    let channel = channel(&service).await;
    let path = axum::http::uri::PathAndQuery::from_static("/minoots.v2.TimerService/ListTimers");
    let codec = tonic_prost::ProstCodec::<v2::ListTimersRequest, v2::ListTimersResponse>::default;
    // A caller that never says that its message was the last.
    for sent in [0, 1] {
        let mut grpc = tonic::client::Grpc::new(channel.clone());
        grpc.ready().await.unwrap();
        let messages = stream::iter(vec![v2::ListTimersRequest::default(); sent]).chain(stream::pending());
        let call = grpc.client_streaming(tonic::Request::new(messages), path.clone(), codec());
        let refused = timeout(LONG, call).await.expect("it is cut off").unwrap_err();
        assert_eq!(refused.code(), Code::DeadlineExceeded, "{refused:?}");
    }
    // A stream of batches takes as long as it likes.
    let mut client = v2::timer_service_client::TimerServiceClient::new(channel);
    let (batches, mut sent) = tokio::sync::mpsc::unbounded_channel();
    let sent = stream::poll_fn(move |cx| sent.poll_recv(cx));
    let mut answers = client.create_timers(sent).await.unwrap().into_inner();
    for _ in 0..2 {
        let _ = timeout(Duration::from_millis(120), std::future::pending::<()>()).await;
        let batch = v2::CreateTimersRequest { definitions: vec![definition("n", 3600)] };
        batches.send(batch).unwrap();
        assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
    }
    service.stop().await;
}
