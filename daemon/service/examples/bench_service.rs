//! Measures a real `minoots serve` from another process, through nothing but its gRPC interface.
//!
//! `bench_service create [--dir DIR]` prints the figure `kernel.create.grpc`: durable creates in streamed batches
//! against a bare log of the same bytes. `bench_service peer FILE` does the work that `benches/peers/run.py` wants of
//! every peer, as the JSON in FILE says, and prints the raw results as one line of JSON. The program `minoots` stands
//! where cargo puts it: in the folder above this example.
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick::os_clock::{boottime, realtime};
use chronotick_core::Span;
use futures::channel::mpsc;
use futures::stream;
use minoots::api::grpc::v2;
use prost_types::{Duration, Timestamp};
use serde::{Deserialize, Serialize};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use tonic::Streaming;
use tonic::transport::Channel;
use v2::create_timer_result::Outcome;
use v2::event::Kind;
use v2::timer_definition::Schedule;

type Client = v2::timer_service_client::TimerServiceClient<Channel>;

const ROUNDS: usize = 9;
const BATCH: usize = 100;
const PAYLOAD_BYTES: usize = 300;
/// Connections of `kernel.create.grpc`, and the streams of each; HTTP/2 lets a stream have a few batches in flight.
const CONNECTIONS: usize = 4;
const STREAMS_EACH: usize = 4;
/// Batches of one stream in one round.
const BATCHES_EACH: usize = 20;

/// A `minoots serve` over an empty directory; killed when dropped, since nobody will want its timers.
struct Service {
    process: Child,
    url: String,
}

impl Service {
    fn start(dir: &Path) -> Self {
        let example = std::env::current_exe().unwrap();
        let program = example.parent().unwrap().with_file_name("minoots");
        let mut command = Command::new(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.join("minoots"));
        // No clock page: due times are then meant on the clock that this program reads, too.
        command.arg("--shm").arg(dir.join("no_page")).env("RUST_LOG", "error").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|e| {
            panic!("{}: {e}; run `cargo build --release --package minoots`", program.display())
        });
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let url = ready.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.expect("minoots says where it listens; why it did not start is on standard error");
        Self { process, url: url.to_string() }
    }

    async fn connect(&self) -> Client {
        Client::connect(self.url.clone()).await.unwrap().max_decoding_message_size(64 << 20)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A timer that does nothing and carries a payload.
fn definition(schedule: Schedule, payload_bytes: usize) -> v2::TimerDefinition {
    v2::TimerDefinition {
        name: "peer".to_string(),
        schedule: Some(schedule),
        metadata_json: Some(format!("{{\"payload\":\"{}\"}}", "x".repeat(payload_bytes))),
        ..Default::default()
    }
}

fn far(payload_bytes: usize) -> v2::TimerDefinition {
    definition(Schedule::After(Duration { seconds: 86_400, nanos: 0 }), payload_bytes)
}

fn at_ms(due_ms: i64, payload_bytes: usize) -> v2::TimerDefinition {
    let (seconds, nanos) = (due_ms.div_euclid(1000), (due_ms.rem_euclid(1000) * 1_000_000) as i32);
    definition(Schedule::At(Timestamp { seconds, nanos }), payload_bytes)
}

fn now_ms() -> i64 {
    realtime().as_ns() / 1_000_000
}

/// Operations in a second.
async fn rate(operations: usize, work: impl Future<Output = ()>) -> f64 {
    let begin = boottime();
    work.await;
    operations as f64 / (boottime() - begin).as_secs_f64()
}

fn check_created(response: &v2::CreateTimersResponse, wanted: usize) {
    let created = |r: &v2::CreateTimerResult| matches!(r.outcome, Some(Outcome::Created(_)));
    assert!(response.results.len() == wanted && response.results.iter().all(created), "{response:?}");
}

/// Batches through one stream, each answered before the next is sent.
async fn create_one_by_one(client: &mut Client, batches: impl Iterator<Item = Vec<v2::TimerDefinition>>) {
    let (send, requests) = mpsc::unbounded();
    // The service answers the call before the first batch.
    let mut answers = client.create_timers(requests).await.unwrap().into_inner();
    for definitions in batches {
        let wanted = definitions.len();
        send.unbounded_send(v2::CreateTimersRequest { definitions }).unwrap();
        check_created(&answers.message().await.unwrap().unwrap(), wanted);
    }
}

/// Batches through one stream, as many in flight as it takes.
async fn create_streamed(mut client: Client) {
    let definitions = vec![far(PAYLOAD_BYTES); BATCH];
    let requests = stream::iter(
        (0..BATCHES_EACH).map(move |_| v2::CreateTimersRequest { definitions: definitions.clone() }),
    );
    let mut answers = client.create_timers(requests).await.unwrap().into_inner();
    for _ in 0..BATCHES_EACH {
        check_created(&answers.message().await.unwrap().unwrap(), BATCH);
    }
}

/// Prints `kernel.create.grpc`. Service and bare log alternate, and the figure is the median over the rounds.
async fn create_figure(dir: &Path) {
    let service = Service::start(dir);
    let mut connections = Vec::new();
    for _ in 0..CONNECTIONS {
        connections.push(service.connect().await);
    }
    let log = std::fs::File::create(dir.join("bare_log")).unwrap();
    let bytes = vec![0x55; PAYLOAD_BYTES * BATCH];
    let log_batches = 500;
    rustix::fs::fallocate(
        &log,
        rustix::fs::FallocateFlags::empty(),
        0,
        (ROUNDS * log_batches * bytes.len()) as u64,
    )
    .unwrap();
    let mut rounds = Vec::new();
    for round in 0..ROUNDS {
        let creates = CONNECTIONS * STREAMS_EACH * BATCHES_EACH * BATCH;
        let subject = rate(creates, async {
            let streams = connections.iter().cycle().take(CONNECTIONS * STREAMS_EACH);
            let streams: Vec<_> = streams.map(|c| tokio::spawn(create_streamed(c.clone()))).collect();
            for stream in streams {
                stream.await.unwrap();
            }
        });
        let subject = subject.await;
        let bare = rate(log_batches * BATCH, async {
            for batch in 0..log_batches {
                log.write_all_at(&bytes, ((round * log_batches + batch) * bytes.len()) as u64).unwrap();
                log.sync_data().unwrap();
            }
        });
        rounds.push((subject, bare.await));
    }
    let median = |of: &dyn Fn(&(f64, f64)) -> f64| {
        let mut values: Vec<_> = rounds.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    println!(
        "{{\"name\":\"kernel.create.grpc\",\"value\":{:.1},\"unit\":\"timers/s\",\"baseline\":\"write+fdatasync\",\
         \"baseline_value\":{:.1},\"ratio\":{:.3}}}",
        median(&|r| r.0),
        median(&|r| r.1),
        median(&|r| r.0 / r.1)
    );
}

/// What `benches/peers/run.py` asks for. A count of zero leaves that part out.
#[derive(Deserialize)]
struct Work {
    dir: PathBuf,
    payload_bytes: usize,
    batch: usize,
    create_single: usize,
    create_batches: usize,
    herd: usize,
    /// When each timer of the lateness part is due, counted from its start.
    offsets_ms: Vec<i64>,
    /// From the first create of a part to its start.
    lead_ms: i64,
}

/// The raw results, as every peer prints them.
#[derive(Default, Serialize)]
struct Results {
    create_single_per_s: Option<f64>,
    create_batch_per_s: Option<f64>,
    /// Lateness of each fire as its receiver saw it.
    herd_ms: Vec<f64>,
    lateness_ms: Vec<f64>,
    /// The same fires as the service recorded them.
    recorded_lateness_ms: Vec<f64>,
}

async fn peer(work: &Work) -> Results {
    let service = Service::start(&work.dir);
    let mut client = service.connect().await;
    let mut results = Results::default();
    if work.create_single > 0 {
        let creates = rate(work.create_single, async {
            for _ in 0..work.create_single {
                let definition = Some(far(work.payload_bytes));
                client.create_timer(v2::CreateTimerRequest { definition }).await.unwrap();
            }
        });
        results.create_single_per_s = Some(creates.await);
    }
    if work.create_batches > 0 {
        let batches = (0..work.create_batches).map(|_| vec![far(work.payload_bytes); work.batch]);
        let creates = rate(work.create_batches * work.batch, create_one_by_one(&mut client, batches));
        results.create_batch_per_s = Some(creates.await);
    }
    let (herd_ms, _) = fire(&mut client, work, &vec![0; work.herd]).await;
    results.herd_ms = herd_ms;
    (results.lateness_ms, results.recorded_lateness_ms) = fire(&mut client, work, &work.offsets_ms).await;
    results
}

/// Creates timers that are due so long after a common start, and gives their lateness when they were received, and as
/// recorded.
async fn fire(client: &mut Client, work: &Work, offsets_ms: &[i64]) -> (Vec<f64>, Vec<f64>) {
    if offsets_ms.is_empty() {
        return (Vec::new(), Vec::new());
    }
    let start_ms = now_ms() + work.lead_ms;
    let batches = offsets_ms.chunks(work.batch);
    let batches = batches.map(|c| c.iter().map(|o| at_ms(start_ms + o, work.payload_bytes)).collect());
    create_one_by_one(client, batches).await;
    // Only what happens from now, so that the creates are not sent back.
    let events = client.watch_events(v2::WatchEventsRequest::default()).await.unwrap();
    assert!(now_ms() < start_ms, "creating took longer than the lead: raise it in run.py");
    let longest = Span::from_secs(60) + Span::from_ms(work.lead_ms + offsets_ms.iter().max().unwrap());
    let fires = receive(events.into_inner(), offsets_ms.len());
    tokio::time::timeout(longest.to_duration(), fires).await.expect("every timer fires")
}

async fn receive(mut events: Streaming<v2::WatchEventsResponse>, wanted: usize) -> (Vec<f64>, Vec<f64>) {
    let (mut received, mut recorded) = (Vec::with_capacity(wanted), Vec::with_capacity(wanted));
    while received.len() < wanted {
        let Some(event) = events.message().await.unwrap().unwrap().event else { continue };
        let now_ns = realtime().as_ns();
        if let Some(Kind::Fired(fired)) = event.kind {
            let due = fired.due_at.unwrap();
            let due_ns = due.seconds * 1_000_000_000 + i64::from(due.nanos);
            received.push((now_ns - due_ns) as f64 / 1e6);
            recorded.push(fired.lateness_ns as f64 / 1e6);
        }
    }
    (received, recorded)
}

#[tokio::main]
async fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["create"] => create_figure(tempfile::tempdir_in("/var/tmp").unwrap().path()).await,
        ["create", "--dir", dir] => create_figure(tempfile::tempdir_in(dir).unwrap().path()).await,
        ["peer", file] => {
            let work = serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap();
            println!("{}", serde_json::to_string(&peer(&work).await).unwrap());
        }
        _ => {
            eprintln!("usage: bench_service create [--dir DIR] | bench_service peer FILE");
            std::process::exit(2);
        }
    }
}
