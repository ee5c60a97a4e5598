//! A running service, a receiver of webhooks, and a reader of server-sent events.

use axum::Router;
use axum::extract::{Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use http_body_util::BodyExt;
use minoots::access::now::Now;
use minoots::clock::{KernelClock, ManualClock, OsClock};
use minoots::config::{AccessConfig, Config, DEFAULT_SHM};
use minoots::engine::{Engine, EngineConfig, Retention};
use minoots::serve::Service;
use minoots::store::{
    ControlStore, EventLog, LogOptions, MemoryControl, MemoryIndex, MemoryLog, PartitionStore, embedded,
};
use serde_json::Value;
use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};

/// A service on a temporary directory and a free port.
pub(crate) struct Running {
    pub(crate) url: String,
    pub(crate) client: reqwest::Client,
    service: Service,
}

/// Settings for a test: a free port, and retries that do not wait long.
pub(crate) fn config(data_dir: &Path) -> Config {
    Config {
        listen: "127.0.0.1:0".parse().unwrap(),
        data_dir: data_dir.into(),
        shm_name: DEFAULT_SHM.into(),
        partitions: 1,
        retention: Retention::default(),
        retry: minoots::actions::RetryPolicy {
            backoff_initial: Duration::from_millis(2),
            ..Default::default()
        },
        max_in_flight: 8,
        queued_fires_max: None,
        access: Default::default(),
        secrets: Default::default(),
    }
}

pub(crate) fn client() -> reqwest::Client {
    // The connector's client has its TLS settings given; this one finds the process-wide ones.
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().build().unwrap()
}

impl Running {
    /// On the store of a directory and the clock of the operating system.
    pub(crate) async fn on_disk(data_dir: &Path) -> Self {
        let stores = embedded::open(data_dir, 1, LogOptions::default()).unwrap();
        Self::over(&config(data_dir), stores, OsClock).await
    }

    /// On a store that can misbehave.
    pub(crate) async fn on_memory(log: MemoryLog) -> Self {
        Self::over(&config(Path::new("memory")), vec![in_memory(log)], OsClock).await
    }

    /// On a clock that stands.
    pub(crate) async fn on_clock(clock: ManualClock) -> Self {
        Self::over(&config(Path::new("memory")), vec![in_memory(MemoryLog::new())], clock).await
    }

    /// On so many partitions.
    pub(crate) async fn on_partitions(count: usize) -> Self {
        let stores = (0..count).map(|_| in_memory(MemoryLog::new())).collect();
        Self::over(&config(Path::new("memory")), stores, OsClock).await
    }

    /// The whole service as `minoots serve` starts it: with its audit and its own store on the disk.
    pub(crate) async fn whole(config: &Config) -> Self {
        let service = Service::start(config).await.unwrap();
        Self { url: format!("http://{}", service.addr), client: client(), service }
    }

    pub(crate) async fn over(
        config: &Config,
        stores: Vec<PartitionStore>,
        clock: impl KernelClock + Clone + 'static,
    ) -> Self {
        let control = Arc::new(MemoryControl::default());
        let now = Now::new(clock.clone());
        let started = Engine::start(EngineConfig {
            stores,
            clock: Box::new(move || Box::new(clock.clone())),
            ids: minoots::ids::system(),
            retention: config.retention,
        })
        .unwrap();
        let service = Service::start_over(config, started, control, now).await.unwrap();
        Self { url: format!("http://{}", service.addr), client: client(), service }
    }

    /// With settings of who comes in, and a clock by which credentials are judged.
    pub(crate) async fn with_access(
        access: AccessConfig,
        control: Arc<dyn ControlStore>,
        clock: impl KernelClock + 'static,
    ) -> Self {
        let started = Engine::start(EngineConfig {
            stores: vec![in_memory(MemoryLog::new())],
            clock: Box::new(|| Box::new(OsClock)),
            ids: minoots::ids::system(),
            retention: Retention::default(),
        })
        .unwrap();
        let config = Config { access, ..config(Path::new("memory")) };
        let service = Service::start_over(&config, started, control, Now::new(clock)).await.unwrap();
        Self { url: format!("{}://{}", service.scheme, service.addr), client: client(), service }
    }

    /// Asks with an API key or a token; JSON where there is some.
    pub(crate) async fn ask(&self, method: &str, path: &str, bearer: &str, body: Option<Value>) -> Answer {
        let method = method.parse().unwrap();
        let mut request = self.client.request(method, format!("{}{path}", self.url)).bearer_auth(bearer);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::of(request).await
    }

    pub(crate) async fn stop(self) {
        self.service.stop().await;
    }

    /// Creates a timer from its JSON and gives the answer's.
    pub(crate) async fn create(&self, body: Value) -> Value {
        let answer = self.post(body.to_string()).await;
        assert_eq!(answer.status, 201, "{}", answer.text);
        answer.json()
    }

    pub(crate) async fn post(&self, body: impl Into<reqwest::Body>) -> Answer {
        let request = self.client.post(format!("{}/v1/timers", self.url));
        Answer::of(request.header("content-type", "application/json").body(body)).await
    }

    /// Posts JSON to a path.
    pub(crate) async fn post_to(&self, path: &str, body: Value) -> Answer {
        self.post_if_match(path, body, None).await
    }

    /// Posts JSON to a path, for a version of the timer.
    pub(crate) async fn post_if_match(&self, path: &str, body: Value, if_match: Option<&str>) -> Answer {
        let mut request = self.client.post(format!("{}{path}", self.url));
        if let Some(tag) = if_match {
            request = request.header("if-match", tag);
        }
        Answer::of(request.header("content-type", "application/json").body(body.to_string())).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Answer::of(self.client.get(format!("{}{path}", self.url))).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        Answer::of(self.client.delete(format!("{}{path}", self.url))).await
    }

    /// Events after the one with this id.
    pub(crate) async fn events(&self, last_event_id: Option<&str>) -> Events {
        let mut request = self.client.get(format!("{}/v1/events", self.url));
        if let Some(id) = last_event_id {
            request = request.header("last-event-id", id);
        }
        Events::of(request.send().await.unwrap())
    }
}

/// A store that forgets.
pub(crate) fn in_memory(log: impl EventLog + 'static) -> PartitionStore {
    PartitionStore {
        log: Box::new(log),
        index: Arc::new(MemoryIndex::new()),
        snapshots: None,
        place: "memory".into(),
    }
}

/// A whole answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> Self {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Self { status, headers, text: response.text().await.unwrap() }
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }
}

/// An error answer: its status, its code, and a part of its detail; always a problem document.
pub(crate) fn check_problem(answer: &Answer, status: u16, code: &str, detail: &str) {
    assert_eq!(answer.status, status, "{}", answer.text);
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    let problem = answer.json();
    assert_eq!(problem["status"], status, "{problem}");
    assert_eq!(problem["code"], code, "{problem}");
    assert_eq!(problem["type"], format!("urn:minoots:error:{code}"), "{problem}");
    assert!(problem["title"].is_string(), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains(detail), "{problem} lacks {detail:?}");
}

/// The actions of a timer that calls an address.
pub(crate) fn webhook(url: &str) -> Value {
    serde_json::json!([{"id": "call", "kind": "webhook", "parameters": {"url": url}}])
}

/// One server-sent event.
#[derive(Debug)]
pub(crate) struct Sse {
    pub(crate) id: String,
    pub(crate) event: String,
    pub(crate) data: Value,
}

/// A stream of server-sent events.
pub(crate) struct Events {
    response: reqwest::Response,
    buffer: String,
}

impl Events {
    /// From an answer.
    pub(crate) fn of(response: reqwest::Response) -> Self {
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Self { response, buffer: String::new() }
    }

    /// The next event; `None` at a clean end of the stream.
    pub(crate) async fn next(&mut self) -> Option<Sse> {
        loop {
            let block = self.block().await?;
            let field = |name: &str| {
                block.lines().find_map(|l| l.strip_prefix(name)?.strip_prefix(": ")).map(str::to_string)
            };
            if let Some(data) = field("data") {
                return Some(Sse {
                    id: field("id").unwrap_or_default(),
                    event: field("event").unwrap(),
                    data: serde_json::from_str(&data).unwrap(),
                });
            }
        }
    }

    /// The next lines up to an empty one.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some((block, rest)) = self.buffer.split_once("\n\n") {
                let block = block.to_string();
                self.buffer = rest.to_string();
                return Some(block);
            }
            let chunk = self.response.chunk().await.unwrap()?;
            self.buffer.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next events up to the first of this kind.
    pub(crate) async fn until(&mut self, kind: &str) -> Vec<Sse> {
        let mut seen = Vec::new();
        loop {
            let event = self.next().await.expect("the stream ended too early");
            let last = event.event == kind;
            seen.push(event);
            if last {
                return seen;
            }
        }
    }
}

/// A delivered webhook.
#[derive(Debug)]
pub(crate) struct Delivery {
    pub(crate) method: String,
    pub(crate) path: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl Delivery {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |v| v.to_str().unwrap())
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }
}

/// What the receiver answers: a status and a header or two.
pub(crate) type Scripted = (u16, Vec<(&'static str, &'static str)>);

/// A receiver of webhooks on a port of its own. It answers as scripted, then 200.
pub(crate) struct Sink {
    pub(crate) url: String,
    pub(crate) deliveries: UnboundedReceiver<Delivery>,
    answers: Arc<Semaphore>,
}

#[derive(Clone)]
struct SinkState {
    /// One permit for each answer.
    answers: Arc<Semaphore>,
    script: Arc<Mutex<VecDeque<Scripted>>>,
    delivered: UnboundedSender<Delivery>,
}

impl Sink {
    /// Answers at once.
    pub(crate) async fn start(script: impl IntoIterator<Item = Scripted>) -> Self {
        let sink = Self::held(script).await;
        sink.answers.add_permits(1_000_000);
        sink
    }

    /// Answers only when it is told to.
    pub(crate) async fn held(script: impl IntoIterator<Item = Scripted>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (delivered, deliveries) = unbounded_channel();
        let script = Arc::new(Mutex::new(script.into_iter().collect()));
        let answers = Arc::new(Semaphore::new(0));
        let state = SinkState { answers: answers.clone(), script, delivered };
        let app = Router::new().fallback(receive).with_state(state);
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, deliveries, answers }
    }

    /// Lets one answer out.
    pub(crate) fn answer(&self) {
        self.answers.add_permits(1);
    }

    pub(crate) async fn next(&mut self) -> Delivery {
        self.deliveries.recv().await.unwrap()
    }
}

async fn receive(State(state): State<SinkState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.unwrap().to_bytes();
    let delivery = Delivery {
        method: parts.method.to_string(),
        path: parts.uri.path().to_string(),
        headers: parts.headers,
        body: String::from_utf8(body.to_vec()).unwrap(),
    };
    let (status, headers) = state.script.lock().unwrap().pop_front().unwrap_or((200, Vec::new()));
    // The receiver of a test that has ended is gone.
    let _ = state.delivered.send(delivery);
    state.answers.acquire().await.unwrap().forget();
    let mut response = StatusCode::from_u16(status).unwrap().into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
