//! Measures what the API costs: creates through REST and gRPC before anything reaches the disk, beside a plain handler of
//! the same frameworks that reads the same requests and answers the same bytes; then the creates of a real `minoots serve`
//! with its disk.
//!
//! `bench_api` prints one JSON line for each figure. It starts itself as `bench_api serve memory` (the whole service over
//! logs in memory) and `bench_api serve floor`. The program `minoots` stands where cargo puts it: in the folder above this
//! example.
#![allow(missing_docs, clippy::unwrap_used)]

use axum::body::Body;
use axum::extract::State;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use chronotick::os_clock::boottime;
use chronotick_core::Span;
use futures::future::{Ready, ready};
use minoots::access::now::Now;
use minoots::api::grpc::v2;
use minoots::clock::OsClock;
use minoots::config::{Config, DEFAULT_SHM};
use minoots::engine::{Engine, EngineConfig, Retention};
use minoots::serve::Service;
use minoots::store::{MemoryControl, MemoryIndex, MemoryLog, PartitionStore};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use tonic::server::UnaryService;
use v2::timer_definition::Schedule;

type Client = v2::timer_service_client::TimerServiceClient<tonic::transport::Channel>;

const ROUNDS: usize = 9;
/// One after the other, for the latency.
const SINGLE: usize = 2_000;
/// At once, for the rate.
const CONNECTIONS: usize = 8;
const EACH: usize = 500;
const BODY: &str = r#"{"name":"bench","after":"24h","labels":{"agent":"bench"},"metadata":{"payload":"0123456789012345678901234567890123456789"}}"#;

/// What the plain handler reads.
#[derive(Deserialize)]
#[allow(dead_code, reason = "reading it is the work")]
struct Definition {
    name: String,
    after: String,
    labels: BTreeMap<String, String>,
    metadata: serde_json::Value,
}

/// What the plain handlers answer: what the service answered once.
struct Answers {
    json: String,
    message: v2::CreateTimerResponse,
}

fn definition() -> v2::TimerDefinition {
    v2::TimerDefinition {
        name: "bench".into(),
        schedule: Some(Schedule::After(prost_types::Duration { seconds: 86_400, nanos: 0 })),
        labels: [("agent".to_string(), "bench".to_string())].into(),
        metadata_json: Some(r#"{"payload":"0123456789012345678901234567890123456789"}"#.into()),
        ..Default::default()
    }
}

/// The service as it is, but for the disk.
async fn in_memory() -> Service {
    let started = Engine::start(EngineConfig {
        stores: vec![PartitionStore {
            log: Box::new(MemoryLog::new()),
            index: Arc::new(MemoryIndex::new()),
            snapshots: None,
            place: "memory".into(),
        }],
        clock: Box::new(|| Box::new(OsClock)),
        ids: minoots::ids::system(),
        retention: Retention::default(),
    });
    let config = Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: "memory".into(),
        shm_name: DEFAULT_SHM.into(),
        partitions: 1,
        retention: Retention::default(),
        retry: minoots::actions::RetryPolicy::default(),
        max_in_flight: 8,
        queued_fires_max: None,
        access: Default::default(),
        secrets: Default::default(),
    };
    Service::start_over(&config, started.unwrap(), Arc::new(MemoryControl::default()), Now::default())
        .await
        .unwrap()
}

async fn create_json(State(answers): State<Arc<Answers>>, Json(asked): Json<Definition>) -> Response {
    std::hint::black_box(asked);
    (StatusCode::CREATED, [(header::CONTENT_TYPE, "application/json")], answers.json.clone()).into_response()
}

struct Create(Arc<Answers>);

impl UnaryService<v2::CreateTimerRequest> for Create {
    type Response = v2::CreateTimerResponse;
    type Future = Ready<Result<tonic::Response<Self::Response>, tonic::Status>>;

    fn call(&mut self, request: tonic::Request<v2::CreateTimerRequest>) -> Self::Future {
        std::hint::black_box(request);
        ready(Ok(tonic::Response::new(self.0.message.clone())))
    }
}

async fn create_message(State(answers): State<Arc<Answers>>, request: Request<Body>) -> Response {
    let codec = tonic_prost::ProstCodec::default();
    tonic::server::Grpc::new(codec).unary(Create(answers), request).await.map(Body::new)
}

async fn serve_floor() {
    let service = in_memory().await;
    let address = service.addr.to_string();
    let json = tokio::task::spawn_blocking({
        let address = address.clone();
        move || Connection::open(&address).create()
    });
    let json = json.await.unwrap();
    let mut client = Client::connect(format!("http://{address}")).await.unwrap();
    let request = v2::CreateTimerRequest { definition: Some(definition()) };
    let message = client.create_timer(request).await.unwrap().into_inner();
    service.stop().await;
    let router = Router::new()
        .route("/v1/timers", post(create_json))
        .route("/minoots.v2.TimerService/CreateTimer", post(create_message))
        .with_state(Arc::new(Answers { json, message }));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    println!("listening on http://{}", listener.local_addr().unwrap());
    axum::serve(axum::serve::ListenerExt::tap_io(listener, |s| s.set_nodelay(true).unwrap()), router)
        .await
        .unwrap();
}

/// A program that serves; killed when dropped.
struct Served {
    process: Child,
    address: String,
}

impl Served {
    fn start(command: &mut Command) -> Self {
        let mut process = command.env("RUST_LOG", "error").stdout(Stdio::piped()).spawn().unwrap();
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let url = ready.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let address = url.expect("it says where it listens").to_string();
        Self { process, address }
    }

    fn own(what: &str) -> Self {
        Self::start(Command::new(std::env::current_exe().unwrap()).args(["serve", what]))
    }

    fn whole(dir: &Path) -> Self {
        let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name("minoots");
        let mut command = Command::new(program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.join("data"));
        Self::start(command.arg("--shm").arg(dir.join("no_page")))
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A connection of HTTP/1.1, with as little of a client as there can be.
struct Connection {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Connection {
    fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let request = format!(
            "POST /v1/timers HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{BODY}",
            BODY.len()
        );
        Self { stream, request: request.into_bytes(), buffer: vec![0; 1 << 16] }
    }

    /// Creates a timer; gives the body of the answer.
    fn create(&mut self) -> String {
        self.stream.write_all(&self.request).unwrap();
        let mut filled = 0;
        loop {
            filled += self.stream.read(&mut self.buffer[filled..]).unwrap();
            let Some(end) = self.buffer[..filled].windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let head = std::str::from_utf8(&self.buffer[..end]).unwrap();
            assert!(head.starts_with("HTTP/1.1 201"), "{head}");
            let length = head.to_ascii_lowercase();
            let length = length.lines().find_map(|l| l.strip_prefix("content-length: ")).unwrap();
            let length: usize = length.parse().unwrap();
            if filled == end + 4 + length {
                return String::from_utf8(self.buffer[end + 4..filled].to_vec()).unwrap();
            }
        }
    }
}

/// One round: the latencies of single creates, and how many there are in a second from many connections.
#[derive(Default)]
struct Round {
    p50_us: f64,
    p99_us: f64,
    per_s: f64,
}

impl Round {
    fn of(mut latencies: Vec<Span>, per_s: f64) -> Self {
        latencies.sort();
        let at = |q: usize| latencies[latencies.len() * q / 100].as_ns() as f64 / 1e3;
        Self { p50_us: at(50), p99_us: at(99), per_s }
    }
}

fn by_rest(address: &str) -> Round {
    let mut connection = Connection::open(address);
    let single = || {
        let begin = boottime();
        connection.create();
        boottime() - begin
    };
    let latencies = std::iter::repeat_with(single).take(SINGLE).collect();
    let mut connections: Vec<_> = (0..CONNECTIONS).map(|_| Connection::open(address)).collect();
    let begin = boottime();
    std::thread::scope(|scope| {
        for connection in &mut connections {
            scope.spawn(|| (0..EACH).for_each(|_| drop(connection.create())));
        }
    });
    Round::of(latencies, (CONNECTIONS * EACH) as f64 / (boottime() - begin).as_secs_f64())
}

async fn by_grpc(address: &str) -> Round {
    let url = format!("http://{address}");
    let request = || v2::CreateTimerRequest { definition: Some(definition()) };
    let mut client = Client::connect(url.clone()).await.unwrap();
    let mut latencies = Vec::with_capacity(SINGLE);
    for _ in 0..SINGLE {
        let begin = boottime();
        client.create_timer(request()).await.unwrap();
        latencies.push(boottime() - begin);
    }
    let mut clients = Vec::new();
    for _ in 0..CONNECTIONS {
        clients.push(Client::connect(url.clone()).await.unwrap());
    }
    let begin = boottime();
    let all = clients.into_iter().map(|mut client| async move {
        for _ in 0..EACH {
            client.create_timer(request()).await.unwrap();
        }
    });
    futures::future::join_all(all).await;
    Round::of(latencies, (CONNECTIONS * EACH) as f64 / (boottime() - begin).as_secs_f64())
}

fn median(rounds: &[Round], of: impl Fn(&Round) -> f64) -> f64 {
    let mut values: Vec<_> = rounds.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn print(name: &str, unit: &str, value: f64, baseline: &str, baseline_value: f64) {
    println!(
        "{{\"name\":\"{name}\",\"value\":{value:.1},\"unit\":\"{unit}\",\"baseline\":\"{baseline}\",\
         \"baseline_value\":{baseline_value:.1},\"ratio\":{:.3}}}",
        value / baseline_value
    );
}

fn print_all(name: &str, rounds: &[Round], baseline: &str, base: &[Round]) {
    let figure = |what: &str, unit: &str, of: &dyn Fn(&Round) -> f64| {
        print(&format!("api.{name}.{what}"), unit, median(rounds, of), baseline, median(base, of));
    };
    figure("p50", "us", &|r| r.p50_us);
    figure("p99", "us", &|r| r.p99_us);
    figure("creates", "creates/s", &|r| r.per_s);
}

fn measure() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let (memory, floor, whole) = (Served::own("memory"), Served::own("floor"), Served::whole(dir.path()));
    let mut rest = [Vec::new(), Vec::new(), Vec::new()];
    let mut grpc = [Vec::new(), Vec::new(), Vec::new()];
    // One after the other in each round, so that what else the machine does meets all of them.
    for _ in 0..ROUNDS {
        for (n, served) in [&memory, &floor, &whole].into_iter().enumerate() {
            rest[n].push(by_rest(&served.address));
            grpc[n].push(runtime.block_on(by_grpc(&served.address)));
        }
    }
    print_all("rest", &rest[0], "plain axum handler", &rest[1]);
    print_all("grpc", &grpc[0], "plain axum handler", &grpc[1]);
    print_all("rest.durable", &rest[2], "without the disk", &rest[0]);
    print_all("grpc.durable", &grpc[2], "without the disk", &grpc[0]);
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let serve = || tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => measure(),
        ["serve", "floor"] => serve().block_on(serve_floor()),
        ["serve", "memory"] => serve().block_on(async {
            let service = in_memory().await;
            println!("listening on http://{}", service.addr);
            std::future::pending::<()>().await;
        }),
        _ => {
            eprintln!("usage: bench_api");
            std::process::exit(2);
        }
    }
}
