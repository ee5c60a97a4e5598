//! Measures the lateness of fires and the memory of a real `minoots serve` while strangers abuse its listener: open
//! streams, slow headers, 100,000 requests for nothing in a second and then as many as it takes, a body of 1 GiB, deep
//! JSON. The quiet run before is the baseline.
//!
//! `bench_abuse [STREAMS]` prints one JSON line for each figure. The program `minoots` stands where cargo puts it: in the
//! folder above this example.
#![allow(missing_docs, clippy::unwrap_used)]

use chronotick::os_clock::{boottime, realtime};
use chronotick_core::Span;
use minoots::api::grpc::v2;
use prost_types::Timestamp;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;
use v2::event::Kind;

type Client = v2::timer_service_client::TimerServiceClient<tonic::transport::Channel>;

const FIRES: usize = 500;
const FIRE_EVERY_MS: i64 = 10;
const LEAD_MS: i64 = 1_000;
const SLOW_LORISES: usize = 500;
const GARBAGE_CONNECTIONS: usize = 16;
const PIPELINED: usize = 64;
/// So many requests for nothing in a second.
const GARBAGE_PER_S: usize = 100_000;

struct Service {
    process: Child,
    address: String,
}

impl Service {
    fn start(dir: &Path) -> Self {
        let config = dir.join("minoots.toml");
        std::fs::write(&config, "[listener]\nconnections_per_address_max = 16000\n").unwrap();
        let program = std::env::current_exe().unwrap().parent().unwrap().with_file_name("minoots");
        let mut command = Command::new(&program);
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(dir.join("data"));
        command.arg("--config").arg(&config).arg("--shm").arg(dir.join("no_page"));
        command.env("RUST_LOG", "error").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let mut ready = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut ready).unwrap();
        let url = ready.split_whitespace().find_map(|word| word.strip_prefix("http://"));
        let address = url.expect("minoots says where it listens").to_string();
        Self { process, address }
    }

    /// The most memory that it had so far.
    fn peak_mib(&self) -> f64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id())).unwrap();
        let line = status.lines().find_map(|l| l.strip_prefix("VmHWM:")).unwrap();
        line.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1024.0
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// The lateness of fires that are spread over a few seconds, as the service recorded it: p99 in milliseconds.
async fn lateness_p99_ms(client: &mut Client) -> f64 {
    let start_ms = realtime().as_ns() / 1_000_000 + LEAD_MS;
    let definitions = (0..FIRES as i64)
        .map(|n| {
            let due_ms = start_ms + n * FIRE_EVERY_MS;
            let at = Timestamp { seconds: due_ms / 1000, nanos: (due_ms % 1000 * 1_000_000) as i32 };
            let schedule = Some(v2::timer_definition::Schedule::At(at));
            v2::TimerDefinition { name: "fire".into(), schedule, ..Default::default() }
        })
        .collect();
    let mut events = client.watch_events(v2::WatchEventsRequest::default()).await.unwrap().into_inner();
    let requests = futures::stream::iter([v2::CreateTimersRequest { definitions }]);
    let mut answers = client.create_timers(requests).await.unwrap().into_inner();
    while answers.message().await.unwrap().is_some() {}
    let mut lateness = Vec::with_capacity(FIRES);
    while lateness.len() < FIRES {
        let event = events.message().await.unwrap().and_then(|m| m.event).unwrap();
        if let Some(Kind::Fired(fired)) = event.kind {
            lateness.push(fired.lateness_ns as f64 / 1e6);
        }
    }
    lateness.sort_by(f64::total_cmp);
    lateness[FIRES * 99 / 100]
}

/// An open stream of a tenant that has nothing to tell.
async fn open_stream(address: &str) -> Option<TcpStream> {
    let mut stream = TcpStream::connect(address).await.ok()?;
    let request = b"GET /v1/events HTTP/1.1\r\nhost: localhost\r\nx-tenant-id: idle\r\n\r\n";
    stream.write_all(request).await.ok()?;
    let mut some = [0; 12];
    stream.read_exact(&mut some).await.ok()?;
    (&some == b"HTTP/1.1 200").then_some(stream)
}

/// Requests for nothing, pipelined; one batch in each period, or as many as are taken.
async fn garbage(address: String, every: Option<Duration>, stop: Arc<AtomicBool>, sent: Arc<AtomicU64>) {
    let mut due = boottime();
    let request = b"GET /%00/../garbage?x=1 HTTP/1.1\r\nhost: localhost\r\n\r\n".repeat(PIPELINED);
    while !stop.load(Ordering::Relaxed) {
        let Ok(stream) = TcpStream::connect(&address).await else { continue };
        let (mut read, mut write) = stream.into_split();
        let drain = tokio::spawn(async move {
            let mut bytes = vec![0; 1 << 16];
            while matches!(read.read(&mut bytes).await, Ok(n) if n > 0) {}
        });
        while !stop.load(Ordering::Relaxed) && write.write_all(&request).await.is_ok() {
            sent.fetch_add(PIPELINED as u64, Ordering::Relaxed);
            if let Some(every) = every {
                due += Span::from_ns(every.as_nanos() as i64);
                let early = (due - boottime()).max(Span::ZERO);
                let _ = timeout(early.to_duration(), std::future::pending::<()>()).await;
            }
        }
        drain.abort();
    }
}

async fn huge_body(address: String, stop: Arc<AtomicBool>) {
    let head = "POST /v1/timers HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\ncontent-length: 1073741824\r\n\r\n";
    let chunk = vec![b'['; 1 << 16];
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut stream) = TcpStream::connect(&address).await else { continue };
        let mut sent = 0;
        let mut taken = stream.write_all(head.as_bytes()).await.is_ok();
        while taken && sent < 1 << 30 && !stop.load(Ordering::Relaxed) {
            taken = stream.write_all(&chunk).await.is_ok();
            sent += chunk.len();
        }
    }
}

/// The rate of garbage and the lateness of fires under it, with a huge body and deep JSON beside it.
async fn under_garbage(address: &str, client: &mut Client, every: Option<Duration>) -> (f64, f64) {
    let (stop, sent) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let mut tasks: Vec<_> = (0..GARBAGE_CONNECTIONS)
        .map(|_| tokio::spawn(garbage(address.to_string(), every, stop.clone(), sent.clone())))
        .collect();
    tasks.push(tokio::spawn(huge_body(address.to_string(), stop.clone())));
    let begin = boottime();
    let lateness_ms = lateness_p99_ms(client).await;
    let rate = sent.load(Ordering::Relaxed) as f64 / (boottime() - begin).as_secs_f64();
    stop.store(true, Ordering::Relaxed);
    for task in tasks {
        let _ = timeout(Duration::from_secs(5), task).await;
    }
    (rate, lateness_ms)
}

fn print(name: &str, value: f64, unit: &str, baseline: Option<(&str, f64)>) {
    let (baseline, baseline_value) = baseline.unwrap_or(("none", f64::NAN));
    let number = |n: f64| if n.is_finite() { format!("{n:.3}") } else { "null".into() };
    println!(
        "{{\"name\":\"{name}\",\"value\":{},\"unit\":\"{unit}\",\"baseline\":\"{baseline}\",\"baseline_value\":{},\
         \"ratio\":{}}}",
        number(value),
        number(baseline_value),
        number(value / baseline_value)
    );
}

#[tokio::main]
async fn main() {
    let wanted = std::env::args().nth(1).map_or(10_000, |n| n.parse().expect("a number of streams"));
    let limit = getrlimit(Resource::Nofile);
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let dir = tempfile::tempdir_in("/var/tmp").unwrap();
    let service = Service::start(dir.path());
    let mut client = Client::connect(format!("http://{}", service.address)).await.unwrap();
    lateness_p99_ms(&mut client).await;
    let quiet_ms = lateness_p99_ms(&mut client).await;
    let quiet_mib = service.peak_mib();
    let mut streams = Vec::with_capacity(wanted);
    while streams.len() < wanted {
        let Some(stream) = open_stream(&service.address).await else { break };
        streams.push(stream);
    }
    let mut slow = Vec::new();
    for _ in 0..SLOW_LORISES {
        let mut stream = TcpStream::connect(&service.address).await.unwrap();
        stream.write_all(b"GET /healthz HTTP/1.1\r\nx: ").await.unwrap();
        slow.push(stream);
    }
    let with_streams_ms = lateness_p99_ms(&mut client).await;
    let batches_per_s = GARBAGE_PER_S / GARBAGE_CONNECTIONS / PIPELINED;
    let every = Duration::from_secs(1) / batches_per_s as u32;
    let (rate, abused_ms) = under_garbage(&service.address, &mut client, Some(every)).await;
    let (rate_flat_out, flat_out_ms) = under_garbage(&service.address, &mut client, None).await;
    print("abuse.streams", streams.len() as f64, "streams", None);
    print("abuse.garbage", rate, "requests/s", None);
    print("abuse.garbage.flat_out", rate_flat_out, "requests/s", None);
    print("abuse.lateness.p99.streams", with_streams_ms, "ms", Some(("quiet", quiet_ms)));
    print("abuse.lateness.p99.garbage", abused_ms, "ms", Some(("quiet", quiet_ms)));
    print("abuse.lateness.p99.flat_out", flat_out_ms, "ms", Some(("quiet", quiet_ms)));
    print("abuse.memory.peak", service.peak_mib(), "MiB", Some(("quiet", quiet_mib)));
}
