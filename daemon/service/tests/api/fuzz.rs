//! Whatever is sent, over gRPC and REST: an answer that blames the request, and a service that goes on. Seeded, so that a
//! run repeats itself.

use crate::grpc::{channel, create};
use crate::harness::{Answer, Running};
use axum::http::uri::PathAndQuery;
use futures::stream;
use minoots::api::grpc::v2::timer_service_client::TimerServiceClient;
use minoots::api::openapi::routes;
use minoots::store::MemoryLog;
use prost::Message;
use prost::bytes::{Buf, BufMut};
use prost::encoding::WireType::{LengthDelimited, SixtyFourBit, ThirtyTwoBit, Varint};
use prost::encoding::{encode_key, encode_varint};
use prost_types::field_descriptor_proto::{Label, Type};
use prost_types::{DescriptorProto, FieldDescriptorProto, FileDescriptorSet};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::timeout;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::{Code, Request, Status};

/// A call that hangs has failed; how long that takes says nothing.
const LONG: Duration = Duration::from_secs(60);
const CALLS_OF_A_METHOD: usize = 40;

/// A generator of its own: its numbers are the same on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() >> 11) as usize % n
    }

    fn one_of<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        (0..self.below(max)).map(|_| self.next() as u8).collect()
    }
}

/// The messages of the wire definitions, and what fills their fields.
struct Messages {
    by_name: BTreeMap<String, DescriptorProto>,
    random: Random,
    /// A timer that is there.
    timer: String,
}

impl Messages {
    fn new(set: &FileDescriptorSet, timer: String) -> Self {
        fn add(prefix: &str, message: &DescriptorProto, into: &mut BTreeMap<String, DescriptorProto>) {
            let name = format!("{prefix}.{}", message.name());
            message.nested_type.iter().for_each(|m| add(&name, m, into));
            into.insert(name, message.clone());
        }
        let mut by_name = BTreeMap::new();
        for file in &set.file {
            let prefix = format!(".{}", file.package());
            file.message_type.iter().for_each(|m| add(&prefix, m, &mut by_name));
        }
        Self { by_name, random: Random(0x5eed_2026_1125), timer }
    }

    fn message(&mut self, name: &str, depth: usize) -> Vec<u8> {
        let mut bytes = Vec::new();
        // What nests without an end is left empty at some depth.
        let fields = match self.by_name.get(name) {
            Some(message) if depth < 6 => message.field.clone(),
            _ => return bytes,
        };
        for field in &fields {
            let most = if field.label() == Label::Repeated { 4 } else { 2 };
            for _ in 0..self.random.below(most) {
                self.field(field, depth, &mut bytes);
            }
        }
        bytes
    }

    fn field(&mut self, field: &FieldDescriptorProto, depth: usize, into: &mut Vec<u8>) {
        const NUMBERS: [u64; 12] = [
            0,
            1,
            2,
            5,
            1_000_000_000,
            i32::MAX as u64,
            i32::MIN as i64 as u64,
            u32::MAX as u64,
            i64::MAX as u64,
            i64::MIN as u64,
            u64::MAX,
            253_402_300_800,
        ];
        let tag = field.number() as u32;
        let number = match self.random.below(4) {
            0 => self.random.next(),
            _ => self.random.one_of(&NUMBERS),
        };
        match field.r#type() {
            Type::Double | Type::Fixed64 | Type::Sfixed64 => {
                encode_key(tag, SixtyFourBit, into);
                into.put_u64_le(number);
            }
            Type::Float | Type::Fixed32 | Type::Sfixed32 => {
                encode_key(tag, ThirtyTwoBit, into);
                into.put_u32_le(number as u32);
            }
            Type::String => self.delimited(tag, into, Self::text),
            Type::Bytes | Type::Group => self.delimited(tag, into, |own| own.random.bytes(64)),
            Type::Message => {
                let name = field.type_name().to_string();
                self.delimited(tag, into, |own| own.message(&name, depth + 1));
            }
            _ => {
                encode_key(tag, Varint, into);
                encode_varint(number, into);
            }
        }
    }

    fn delimited(&mut self, tag: u32, into: &mut Vec<u8>, make: impl FnOnce(&mut Self) -> Vec<u8>) {
        let content = make(self);
        encode_key(tag, LengthDelimited, into);
        encode_varint(content.len() as u64, into);
        into.extend(content);
    }

    fn text(&mut self) -> Vec<u8> {
        const TEXTS: [&str; 22] = [
            "",
            "a",
            "default",
            "agent",
            "webhook",
            "\u{0}",
            "a\nb",
            "\u{202e}\u{feff}",
            "\u{1f570}\u{fe0f}",
            "../../etc/passwd",
            "* * * * *",
            "61 25 32 13 8",
            "@yearly",
            "Europe/Paris",
            "Mars/Olympus",
            "2030-02-30",
            "0",
            "18446744073709551615.1",
            "{\"url\":\"http://127.0.0.1:9/\"}",
            "{\"a\":[1e999]}",
            "[[[[[[[[",
            "__all__",
        ];
        match self.random.below(8) {
            0 => self.timer.clone().into_bytes(),
            1 => format!("{}:{}", self.timer, self.random.next() as i64).into_bytes(),
            2 => "x".repeat(self.random.below(70_000)).into_bytes(),
            3 => "[".repeat(self.random.below(100_000)).into_bytes(),
            // Not UTF-8, now and then.
            4 if self.random.below(4) == 0 => self.random.bytes(40),
            _ => self.random.one_of(&TEXTS).into(),
        }
    }
}

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        *self
    }
    fn decoder(&mut self) -> Self {
        *self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn encode(&mut self, item: Vec<u8>, into: &mut EncodeBuf<'_>) -> Result<(), Status> {
        into.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;
    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut bytes = vec![0; from.remaining()];
        from.copy_to_slice(&mut bytes);
        Ok(Some(bytes))
    }
}

fn check_status(status: &Status, told: &str) {
    // These three say that the service is at fault; nothing that is sent may bring them about.
    let faults = [Code::Internal, Code::Unknown, Code::DataLoss];
    assert!(!faults.contains(&status.code()), "{told}: {status:?}");
}

struct Method {
    path: PathAndQuery,
    request: String,
    is_endless: bool,
}

fn methods(set: &FileDescriptorSet) -> Vec<Method> {
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            for method in &service.method {
                let path = format!("/{}.{}/{}", file.package(), service.name(), method.name());
                methods.push(Method {
                    path: path.parse().unwrap(),
                    request: method.input_type().to_string(),
                    is_endless: method.server_streaming() && !method.client_streaming(),
                });
            }
        }
    }
    methods
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_over_grpc_the_service_is_not_at_fault() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let channel = channel(&service).await;
    let mut client = TimerServiceClient::new(channel.clone());
    let timer = client.create_timer(create("n", 3600)).await.unwrap().into_inner().timer.unwrap().id;
    let set = FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap();
    let methods = methods(&set);
    assert_eq!(methods.len(), 18, "methods of both packages");
    let mut messages = Messages::new(&set, timer);
    let mut taken = 0;
    for method in &methods {
        for call in 0..CALLS_OF_A_METHOD {
            let told = format!("call {call} of {}", method.path);
            let count = if call % 8 == 7 { messages.random.below(4) } else { 1 };
            let sent: Vec<_> = (0..count)
                .map(|_| match call % 5 {
                    4 => messages.random.bytes(200),
                    _ => messages.message(&method.request, 0),
                })
                .collect();
            let mut grpc = tonic::client::Grpc::new(channel.clone());
            grpc.ready().await.unwrap();
            let request = Request::new(stream::iter(sent));
            let answer = timeout(LONG, grpc.streaming(request, method.path.clone(), Raw)).await;
            match answer.unwrap_or_else(|_| panic!("{told} hangs")) {
                Err(status) => check_status(&status, &told),
                // What goes on for ever is left.
                Ok(_) if method.is_endless => taken += 1,
                Ok(answer) => {
                    let mut answers = answer.into_inner();
                    loop {
                        let next = timeout(LONG, answers.message()).await;
                        match next.unwrap_or_else(|_| panic!("{told} hangs")) {
                            Ok(Some(_)) => taken += 1,
                            Ok(None) => break,
                            Err(status) => {
                                check_status(&status, &told);
                                break;
                            }
                        }
                    }
                }
            }
        }
    }
    assert!(taken > 20, "hardly anything was taken: {taken}");
    client.create_timer(create("after", 3600)).await.unwrap();
    service.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_frame_and_a_broken_stream_are_the_callers() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let client = reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap();
    let set = FileDescriptorSet::decode(minoots_proto::DESCRIPTORS).unwrap();
    let frames: [&[u8]; 9] = [
        b"",
        b"\0",
        b"\0\0\0\0",
        // Less than it says, and far more than may be.
        b"\0\0\0\0\x09abc",
        b"\0\xff\xff\xff\xffabc",
        // Compressed, which was not said; and a flag that means nothing.
        b"\x01\0\0\0\x01a",
        b"\x07\0\0\0\x01a",
        b"\0\0\0\0\0\0\0\0\0\0\0\0\0",
        b"\0\0\0\0\x03\xff\xff\xff",
    ];
    for method in methods(&set).iter().filter(|m| !m.is_endless) {
        for (i, frame) in frames.into_iter().enumerate() {
            for media in
                ["application/grpc", "application/grpc+proto", "application/grpc-web", "application/grpc+x"]
            {
                let request = client
                    .post(format!("{}{}", service.url, method.path))
                    .header("content-type", media)
                    .header("te", "trailers")
                    .body(frame.to_vec());
                let told = format!("frame {i} as {media} to {}", method.path);
                let answer =
                    timeout(LONG, Answer::of(request)).await.unwrap_or_else(|_| panic!("{told} hangs"));
                assert!(answer.status < 500, "{told}: {answer:?}");
                let status = answer.headers.get("grpc-status").map(|s| s.to_str().unwrap());
                assert!(!["2", "13", "15"].contains(&status.unwrap_or_default()), "{told}: {answer:?}");
            }
        }
    }
    // A bulk stream whose sender goes away in the middle leaves what was answered.
    let mut grpc = TimerServiceClient::new(channel(&service).await);
    for _ in 0..20 {
        let batch = minoots::api::grpc::v2::CreateTimersRequest {
            definitions: vec![crate::grpc::definition("bulk", 3600)],
        };
        let endless = futures::StreamExt::chain(stream::iter([batch]), stream::pending());
        let mut answers = grpc.create_timers(endless).await.unwrap().into_inner();
        assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
    }
    let listed = service.get("/v1/timers?limit=1000").await.json();
    assert_eq!(listed["timers"].as_array().unwrap().len(), 20);
    service.stop().await;
}

/// Bodies that no JSON API should be troubled by.
fn bodies() -> Vec<Vec<u8>> {
    let timer = |field: &str| format!(r#"{{"name":"n","after":"1h",{field}}}"#).into_bytes();
    let (deep, digits) = (100_000, "9".repeat(400));
    let mut bodies = vec![
        "[".repeat(deep).into_bytes(),
        r#"{"a":"#.repeat(deep).into_bytes(),
        format!("{}{}", "[".repeat(deep), "]".repeat(deep)).into_bytes(),
        timer(&format!("\"metadata\":{}{}", "[".repeat(deep), "]".repeat(deep))),
        timer(&format!("\"agent_binding\":{}1{}", r#"{"a":"#.repeat(deep), "}".repeat(deep))),
        timer(&format!("\"metadata\":{digits}")),
        timer(&format!("\"metadata\":1e{digits}")),
        timer(&format!("\"count\":{digits}")),
        timer("\"priority\":-1e308"),
        timer("\"priority\":-0.0"),
        timer("\"count\":1.0"),
        timer("\"name\":\"twice\""),
        timer("\"labels\":{\"a\":\"1\",\"a\":\"2\"}"),
        timer("\"labels\":{\"\\u0000\":\"\\ud800\"}"),
        timer("\"metadata\":\"\\ud800\""),
        timer("\"tags\":[\"\\u0000\"]"),
        br#"{"name":"\u0000","after":"1h"}"#.to_vec(),
        b"{\"name\":\"\xff\xfe\",\"after\":\"1h\"}".to_vec(),
        b"\xef\xbb\xbf{}".to_vec(),
        b"\xff\xfe{\0}\0".to_vec(),
        b"\0".repeat(70_000),
        b"NaN".to_vec(),
        b"1e999".to_vec(),
        b"\"\\".to_vec(),
        br#"{"name":"n","after":"99999999999999999999d"}"#.to_vec(),
        br#"{"name":"n","at":"+262143-12-31T23:59:59Z"}"#.to_vec(),
        br#"{"name":"n","at":"-009999-01-01T00:00:00Z"}"#.to_vec(),
        br#"{"name":"n","every":"1ns"}"#.to_vec(),
        br#"{"name":"n","cron":"0 0 30 2 *"}"#.to_vec(),
        br#"{"name":"n","cron":"* * * * * * * * *"}"#.to_vec(),
        br#"{"type":"string","pattern":"(a{1,1000}){1,1000}"}"#.to_vec(),
        br##"{"$ref":"#"}"##.to_vec(),
        br##"{"$defs":{"a":{"$ref":"#/$defs/a"}},"$ref":"#/$defs/a"}"##.to_vec(),
        br#"{"$ref":"http://127.0.0.1:1/x"}"#.to_vec(),
    ];
    bodies.push(timer(&format!("\"metadata\":\"{}\"", "\\u0000".repeat(100_000))));
    bodies
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_is_sent_over_rest_the_service_is_not_at_fault() {
    let service = Running::on_memory(MemoryLog::new()).await;
    let id = service.create(serde_json::json!({"name": "n", "after": "1h"})).await["id"].clone();
    let bodies = bodies();
    for route in routes().filter(|r| r.body.is_some()) {
        let path = route.path.replace("{id}", id.as_str().unwrap());
        let path = ["{key}", "{name}"].iter().fold(path, |path, name| path.replace(name, "n"));
        for (i, body) in bodies.iter().enumerate() {
            for media in ["application/json", "application/json; charset=utf-16", "text/xml"] {
                let request = service
                    .client
                    .request(route.method.parse().unwrap(), format!("{}{path}", service.url))
                    .header("content-type", media)
                    .body(body.clone());
                let told = format!("body {i} as {media} to {} {path}", route.method);
                let answer =
                    timeout(LONG, Answer::of(request)).await.unwrap_or_else(|_| panic!("{told} hangs"));
                assert!(answer.status < 500, "{told}: {}", answer.text);
                assert!(media != "text/xml" || answer.status == 415, "{told}: {}", answer.text);
            }
        }
    }
    let long = "x".repeat(60_000);
    let paths = [
        "/v1/timers/%00".to_string(),
        "/v1/timers/%ff%fe".into(),
        "/v1/timers/..%2f..%2fetc".into(),
        "/v1//timers".into(),
        "/v1/timers/".into(),
        format!("/v1/timers/{}", &long[..8_000]),
        format!("/v1/timers?tag={}", &long[..8_000]),
        "/v1/timers?limit=-1".into(),
        "/v1/timers?limit=99999999999999999999".into(),
        "/v1/timers?limit=1&limit=2".into(),
        "/v1/timers?%ff=%00&&&==".into(),
        "/v1/timers?cursor=%00".into(),
        "/v1/timers?due_from=+262143-12-31T23:59:59Z".into(),
        "/v1/events?after=18446744073709551616".into(),
        "/v1/events?after=1.2.3.4".into(),
        "/v1/schemas/%F0%9F%95%B0/99999999999999999999".into(),
        "/v1/audit?after=-1".into(),
    ];
    for path in &paths {
        for method in ["GET", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "BREW"] {
            let request = service.client.request(method.parse().unwrap(), format!("{}{path}", service.url));
            // A stream is an answer too.
            let answer = timeout(LONG, request.send()).await.expect("no hang").unwrap();
            assert!(answer.status().as_u16() < 500, "{method} {path}: {answer:?}");
        }
    }
    for (name, value) in [
        ("x-long", long.as_str()),
        ("if-match", long.as_str()),
        ("idempotency-key", &long[..5_000]),
        ("content-length", "99999999999999999999"),
        ("authorization", "Bearer \u{7f}"),
        ("last-event-id", "-1"),
        ("host", "[::"),
    ] {
        let request = service.client.post(format!("{}/v1/timers", service.url)).header(name, value);
        // The listener closes the connection of who sends too much.
        if let Ok(answer) = timeout(LONG, request.body("{}").send()).await.expect("no hang") {
            assert!(answer.status().as_u16() < 500, "{name}: {answer:?}");
        }
    }
    assert_eq!(service.get("/readyz").await.status, 200);
    assert_eq!(service.get(&format!("/v1/timers/{}", id.as_str().unwrap())).await.status, 200);
    service.stop().await;
}
