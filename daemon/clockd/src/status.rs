//! The verb `status`: the page and the status file, for people or as JSON.

use crate::cli::StatusArgs;
use crate::environment::Environment;
use crate::models::desk::ModelStatus;
use crate::page_object::is_locked;
use crate::status_file::{Happened, ServerStatus, StatusFile};
use crate::tracking::Tracking;
use chronotick::{Client, Reading, Status};
use chronotick_core::page::{AnchorClock, Flags, Record};
use serde::Serialize;
use std::fmt::Write as _;
use std::path::Path;

/// The whole answer, as it is printed with `--json`. Names are only ever added.
#[derive(Serialize, Debug)]
pub(crate) struct Answer {
    pub(crate) status: &'static str,
    pub(crate) running: bool,
    pid: Option<u32>,
    page: String,
    /// What the correction was computed from; `model` is the same under the name it has in `tracking`.
    source: &'static str,
    pub(crate) model: &'static str,
    /// Corrected minus system time; null without a correction.
    pub(crate) offset_seconds: Option<f64>,
    /// Null where there is no bound.
    pub(crate) max_error_seconds: Option<f64>,
    pub(crate) sigma_seconds: Option<f64>,
    pub(crate) rate_ppm: Option<f64>,
    pub(crate) rate_sigma_ppm: Option<f64>,
    pub(crate) confidence: f32,
    /// The clock that readers measure elapsed time with.
    pub(crate) anchor: &'static str,
    pub(crate) measurement_count: u32,
    pub(crate) last_sync_unix_seconds: Option<f64>,
    pub(crate) daemon_uptime_seconds: f64,
    pub(crate) pages_published: u32,
    pub(crate) average_latency_ms: f32,
    pub(crate) publish_rate_hz: Option<u32>,
    agreement: Option<String>,
    pub(crate) servers: Vec<ServerStatus>,
    pub(crate) valid: bool,
    pub(crate) ntp_ready: bool,
    pub(crate) models_ready: bool,
    pub(crate) warmup_complete: bool,
    pub(crate) holdover: bool,
    pub(crate) disrupted: bool,
    /// The system clock was stepped within the last second.
    pub(crate) stepped: bool,
    pub(crate) authenticated: bool,
    smeared: bool,
    /// Null where it is unknown.
    tai_offset_seconds: Option<i8>,
    /// Wraps at 256.
    pub(crate) disruption_count: u8,
    last_disruption: Option<Happened>,
    pub(crate) step_count: Option<u32>,
    last_step: Option<Happened>,
    pub(crate) tracking: Option<Tracking>,
    pub(crate) environment: Option<Environment>,
    /// Models from outside, in the order of the configuration.
    pub(crate) models: Vec<ModelStatus>,
}

/// Prints the status; true when a daemon runs. The error is for the user.
pub(crate) fn status(args: &StatusArgs) -> Result<bool, String> {
    let answer = ask(args.shm.as_deref())?;
    let text = if args.json {
        serde_json::to_string_pretty(&answer).map_err(|e| e.to_string())?
    } else {
        answer.table().trim_end().to_owned()
    };
    println!("{text}");
    Ok(answer.running)
}

/// The page with this name and what its daemon says of itself. The error is for the user.
pub(crate) fn ask(shm: Option<&str>) -> Result<Answer, String> {
    let client = Client::attach_named(shm).map_err(|e| e.to_string())?;
    let (path, running) = (client.path(), is_locked(client.path()));
    look(&client, StatusFile::read(path).ok(), running)
}

/// The same for a page that is attached already.
pub(crate) fn look(client: &Client, file: Option<StatusFile>, running: bool) -> Result<Answer, String> {
    let record = client.snapshot().map_err(|e| e.to_string())?;
    let reading = client.now().map_err(|e| e.to_string())?;
    Ok(Answer::new(client.path(), &record, &reading, file, running))
}

impl Answer {
    /// From the page, a reading of it, and the status file if there is one.
    pub(crate) fn new(
        path: &Path,
        record: &Record,
        reading: &Reading,
        file: Option<StatusFile>,
        running: bool,
    ) -> Self {
        let has_correction = reading.status != Status::NoData;
        let flag = |bits: u32| record.flags.has(bits);
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
            model: record.source.as_str(),
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
            valid: flag(Flags::VALID),
            ntp_ready: flag(Flags::NTP_READY),
            models_ready: flag(Flags::MODELS_READY),
            warmup_complete: flag(Flags::WARMUP_COMPLETE),
            holdover: flag(Flags::HOLDOVER),
            disrupted: flag(Flags::DISRUPTED),
            stepped: flag(Flags::STEPPED),
            authenticated: flag(Flags::AUTHENTICATED),
            smeared: flag(Flags::SMEARED),
            tai_offset_seconds: Some(record.flags.tai_offset_s()).filter(|&s| s != 0),
            disruption_count: record.flags.disruption_count(),
            last_disruption: file.as_ref().and_then(|f| f.last_disruption.clone()),
            step_count: file.as_ref().map(|f| f.steps),
            last_step: file.as_ref().and_then(|f| f.last_step.clone()),
            tracking: file.as_ref().map(|f| f.tracking.clone()),
            environment: file.as_ref().map(|f| f.environment),
            models: file.as_ref().map(|f| f.models.clone()).unwrap_or_default(),
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
        if self.disruption_count > 0 || self.last_disruption.is_some() {
            let last = self.last_disruption.as_ref();
            let last = last.map_or(String::new(), |h| format!(", {:.0} s ago: {}", h.seconds_ago, h.what));
            line("disruptions", format!("{}{last}", self.disruption_count));
        }
        if let Some(step) = &self.last_step {
            line("system clock", format!("{} {:.0} s ago", step.what, step.seconds_ago));
        }
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
        for m in &self.models {
            let _ = write!(out, "  model {:<22} {:<12}", m.name, m.state);
            if let (Some(rate), Some(sigma), Some(used)) = (m.rate_ppb, m.sigma_ppb, m.calibrated_sigma_ppb) {
                let _ = write!(out, " rate {rate:+.3} ppb  sigma {sigma:.3} ppb, taken as {used:.3} ppb");
            }
            let _ = match &m.last_error {
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
