//! The verb `status`: the page and the status file, for people or as JSON.

use crate::cli::StatusArgs;
use crate::page_object::is_locked;
use crate::status_file::{ServerStatus, StatusFile};
use chronotick::{Client, Reading, Status};
use chronotick_core::page::{AnchorClock, Record};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// The whole answer, as it is printed with `--json`.
#[derive(Serialize, Debug)]
struct Answer {
    status: &'static str,
    running: bool,
    pid: Option<u32>,
    page: String,
    source: &'static str,
    /// Corrected minus system time; null without a correction.
    offset_seconds: Option<f64>,
    /// Null where there is no bound.
    max_error_seconds: Option<f64>,
    sigma_seconds: Option<f64>,
    rate_ppm: Option<f64>,
    rate_sigma_ppm: Option<f64>,
    confidence: f32,
    /// The clock that readers measure elapsed time with.
    anchor: &'static str,
    measurement_count: u32,
    last_sync_unix_seconds: Option<f64>,
    daemon_uptime_seconds: f64,
    pages_published: u32,
    average_latency_ms: f32,
    publish_rate_hz: Option<u32>,
    agreement: Option<String>,
    servers: Vec<ServerStatus>,
}

/// Prints the status; true when a daemon runs. The error is for the user.
pub(crate) fn status(args: &StatusArgs) -> Result<bool, String> {
    let client = Client::attach_named(args.shm.as_deref()).map_err(|e| e.to_string())?;
    let record = client.snapshot().map_err(|e| e.to_string())?;
    let reading = client.now().map_err(|e| e.to_string())?;
    let path = client.path();
    let running = is_locked(path);
    let answer = Answer::new(path, &record, &reading, StatusFile::read(path).ok(), running);
    let text = if args.json {
        serde_json::to_string_pretty(&answer).map_err(|e| e.to_string())?
    } else {
        answer.table().trim_end().to_owned()
    };
    println!("{text}");
    Ok(running)
}

impl Answer {
    fn new(path: &Path, record: &Record, reading: &Reading, file: Option<StatusFile>, running: bool) -> Self {
        let has_correction = reading.status != Status::NoData;
        let given = |value: f64| has_correction.then_some(value);
        let bound = (!reading.bound.is_unbounded()).then(|| reading.max_error().as_secs_f64());
        Self {
            // A dead daemon's page stays valid for some seconds; whoever asks wants to know now.
            status: if running || reading.status == Status::NoData {
                reading.status.as_str()
            } else {
                Status::Expired.as_str()
            },
            running,
            pid: file.as_ref().filter(|_| running).map(|f| f.pid),
            page: path.display().to_string(),
            source: record.source.as_str(),
            offset_seconds: given((reading.corrected - chronotick::os_clock::realtime()).as_secs_f64()),
            max_error_seconds: bound,
            sigma_seconds: given(reading.sigma().as_secs_f64()),
            rate_ppm: given(record.drift_rate * 1e6),
            rate_sigma_ppm: given(record.drift_uncertainty * 1e6),
            confidence: record.confidence,
            anchor: match record.anchor_clock {
                AnchorClock::None => "none",
                AnchorClock::Boottime => "boottime",
                AnchorClock::MonotonicRaw => "monotonic_raw",
                AnchorClock::Counter { .. } => "counter",
            },
            measurement_count: record.measurement_count,
            last_sync_unix_seconds: given(record.last_ntp_sync),
            daemon_uptime_seconds: record.daemon_uptime,
            pages_published: record.total_corrections,
            average_latency_ms: record.average_latency_ms,
            publish_rate_hz: file.as_ref().map(|f| f.rate_hz),
            agreement: file.as_ref().map(|f| f.agreement.clone()),
            servers: file.map(|f| f.servers).unwrap_or_default(),
        }
    }

    fn table(&self) -> String {
        let mut out = String::new();
        let mut line = |name: &str, value: String| {
            let _ = writeln!(out, "{name:<14}{value}");
        };
        let daemon = match (self.running, self.pid) {
            (true, Some(pid)) => format!("running, pid {pid}, up {:.0} s", self.daemon_uptime_seconds),
            (true, None) => format!("running, up {:.0} s", self.daemon_uptime_seconds),
            (false, _) => {
                "not running: the page is what it left. Start it with: chronotick-daemon run".to_owned()
            }
        };
        line("status", self.status.to_owned());
        line("daemon", daemon);
        line("page", self.page.clone());
        line("source", self.source.to_owned());
        line("offset", milliseconds(self.offset_seconds));
        line("bound", milliseconds(self.max_error_seconds));
        line("sigma", milliseconds(self.sigma_seconds));
        line(
            "rate",
            match (self.rate_ppm, self.rate_sigma_ppm) {
                (Some(rate), Some(sigma)) => format!("{rate:+.3} ppm, sigma {sigma:.3} ppm"),
                _ => "-".to_owned(),
            },
        );
        line("anchor", self.anchor.replace('_', " "));
        line("measurements", self.measurement_count.to_string());
        if let Some(agreement) = &self.agreement {
            line("servers", agreement.replace('_', " "));
        }
        for s in &self.servers {
            let _ = write!(
                out,
                "  {:<28} {:<12} offset {:>14}  delay {:>12}  stratum {:>2}  reach {:08b}  poll {} s",
                s.address,
                s.state,
                milliseconds(s.offset_seconds),
                milliseconds(s.delay_seconds),
                s.stratum.map_or("-".to_owned(), |n| n.to_string()),
                s.reach,
                s.poll_interval_seconds,
            );
            let _ = match &s.last_error {
                Some(e) => writeln!(out, "\n    {e}"),
                None => writeln!(out),
            };
        }
        out
    }
}

fn milliseconds(seconds: Option<f64>) -> String {
    seconds.map_or("-".to_owned(), |s| format!("{:.6} ms", s * 1e3))
}
