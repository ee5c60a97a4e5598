//! Takes over the timers that the old timer system kept as files: one `<id>.json` for each, in `active_timers`.
//!
//! A running timer is scheduled for its end; one whose end has passed while nothing ran is due at once and fires late. A
//! timer that has ended becomes history: one that is made without actions and cancelled at once, with what it was in its
//! metadata or origin and in the reason, so that nothing happens a second time. Each timer has the idempotency key
//! `legacy:<old id>`, so a second run changes nothing.

use crate::render;
use crate::render::NS_PER_MS;
use futures::future::BoxFuture;
use minoots_kernel::{ActionSpec, MisfirePolicy, ScheduleSpec, TimerDefinition, TimerId};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fmt, fs, io};

mod client;
mod engine;

pub use client::{ClientSink, DrySink};
pub use engine::EngineSink;

/// The label of an imported timer: its old id.
pub const IMPORTED_LABEL: &str = "imported";

/// The largest file that is read: what is larger is no timer.
const FILE_MAX_BYTES: u64 = 1 << 20;

/// Where imported timers go: an engine, or a client of a running service.
pub trait TimerSink: Send + Sync {
    /// Makes a timer, or finds the one that its key made before, whatever that one asked for; true if it was there. The
    /// error is for people.
    fn create(&self, definition: TimerDefinition) -> BoxFuture<'_, Result<(TimerId, bool), String>>;

    /// Cancels a timer; of one that has ended, nothing.
    fn cancel(&self, id: TimerId, reason: String) -> BoxFuture<'_, Result<(), String>>;
}

/// How to import.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// What becomes of a running timer whose end has passed: with [`MisfirePolicy::Skip`] it becomes history, with any
    /// other it fires at once.
    pub misfire: MisfirePolicy,
    /// The time now, Unix nanoseconds: what lies before it has passed.
    pub now_ns: i64,
    /// Keep actions that have a connector only under these kinds.
    pub kinds: &'static [&'static str],
}

impl Options {
    /// At a moment: late ones fire at once, webhooks are carried out.
    pub const fn at(now_ns: i64) -> Self {
        Self { misfire: MisfirePolicy::FireNow, now_ns, kinds: &["webhook"] }
    }
}

/// What was done.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Report {
    /// Running timers that were scheduled.
    pub scheduled: Vec<String>,
    /// Ended timers that became history.
    pub history: Vec<String>,
    /// Timers that an earlier run had taken over.
    pub already_there: Vec<String>,
    /// Running timers with actions that this service does not carry out; they are scheduled without them.
    pub without: Vec<(String, String)>,
    /// Files that could not be taken over, and why.
    pub refused: Vec<(PathBuf, String)>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{} scheduled, {} as history, {} there already, {} refused",
            self.scheduled.len(),
            self.history.len(),
            self.already_there.len(),
            self.refused.len()
        )?;
        for (id, action) in &self.without {
            writeln!(f, "{id}: its {action} is not carried out here: use a webhook")?;
        }
        self.refused.iter().try_for_each(|(path, why)| writeln!(f, "{}: {why}", path.display()))
    }
}

/// A timer as the old system wrote it.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Legacy {
    id: String,
    #[serde(default)]
    name: String,
    agent_id: Option<String>,
    team: Option<String>,
    end_time: i64,
    status: String,
    events: Option<Box<RawValue>>,
    #[serde(default)]
    metadata: Option<Box<RawValue>>,
}

/// Takes over a folder. An error only where the folder cannot be read; what is wrong with a file is in the report.
/// `progress` is told how many of how many files are done.
pub async fn folder(
    path: &Path,
    sink: &dyn TimerSink,
    options: Options,
    progress: &(dyn Fn(usize, usize) + Sync),
) -> io::Result<Report> {
    let mut paths: Vec<_> = fs::read_dir(path)?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<io::Result<Vec<_>>>()?
        .into_iter()
        .filter(|p| p.extension().is_some_and(|e| e == "json"))
        .collect();
    paths.sort();
    let mut report = Report::default();
    let total = paths.len();
    for (done, path) in paths.into_iter().enumerate() {
        progress(done, total);
        if let Err(why) = file(&path, sink, options, &mut report).await {
            report.refused.push((path, why));
        }
    }
    Ok(report)
}

async fn file(
    path: &Path,
    sink: &dyn TimerSink,
    options: Options,
    report: &mut Report,
) -> Result<(), String> {
    let size = fs::metadata(path).map_err(|e| format!("cannot be read: {e}"))?;
    if !size.is_file() || size.len() > FILE_MAX_BYTES {
        return Err(format!("is no file of at most {FILE_MAX_BYTES} bytes"));
    }
    let text = fs::read_to_string(path).map_err(|e| format!("cannot be read: {e}"))?;
    let timer: Legacy = serde_json::from_str(&text).map_err(|e| format!("is no timer: {e}"))?;
    let is_late = timer.end_time.saturating_mul(NS_PER_MS) <= options.now_ns;
    let ended = match timer.status.as_str() {
        "running" => is_late && options.misfire == MisfirePolicy::Skip,
        "expired" | "cancelled" | "error" => true,
        other => {
            return Err(format!("has the status {other:?}: running, expired, cancelled, error are known"));
        }
    };
    let whole = RawValue::from_string(text).map_err(|e| format!("is no JSON: {e}"))?;
    let (actions, without) = if ended { (Vec::new(), Vec::new()) } else { actions(&timer, options)? };
    let id = timer.id.clone();
    let definition = definition(&timer, &whole, actions, ended, options)?;
    let (made, was_there) = sink.create(definition).await?;
    if ended {
        // Also of one that an earlier run left between the two steps.
        sink.cancel(made, format!("imported as {}", timer.status)).await?;
    }
    if was_there {
        report.already_there.push(id);
        return Ok(());
    }
    report.without.extend(without.into_iter().map(|kind| (id.clone(), kind)));
    if ended { &mut report.history } else { &mut report.scheduled }.push(id);
    Ok(())
}

fn definition(
    timer: &Legacy,
    whole: &RawValue,
    actions: Vec<ActionSpec>,
    ended: bool,
    options: Options,
) -> Result<TimerDefinition, String> {
    let end_ns =
        timer.end_time.checked_mul(NS_PER_MS).ok_or("has an endTime past the year 2262, or before 1677")?;
    // A repeated run must ask for the same, so the schedule is the file's own time wherever the kernel takes it. One that
    // has passed is a delay of nothing; one that has ended waits far off for its cancellation.
    let schedule = match () {
        () if ended => ScheduleSpec::AfterNs(365 * 86_400 * 1_000_000_000),
        () if end_ns > options.now_ns => ScheduleSpec::AtNs(end_ns),
        () => ScheduleSpec::AfterNs(0),
    };
    let mut labels = BTreeMap::from([(IMPORTED_LABEL.to_string(), timer.id.clone())]);
    for (label, value) in [("agent", &timer.agent_id), ("team", &timer.team)] {
        if let Some(value) = value.as_ref().filter(|v| !v.is_empty()) {
            labels.insert(label.into(), value.clone());
        }
    }
    let events = timer.events.as_deref().map(render::compact).unwrap_or_else(|| "{}".into());
    let metadata = timer.metadata.as_deref().map(render::compact).unwrap_or_else(|| "{}".into());
    Ok(TimerDefinition {
        name: if timer.name.is_empty() { timer.id.clone() } else { timer.name.clone() },
        schedule,
        actions,
        labels,
        metadata_json: Some(metadata),
        idempotency_key: Some(format!("legacy:{}", timer.id)),
        origin_json: Some(format!(
            r#"{{"dialect":"import","events":{events},"legacy":{}}}"#,
            render::compact(whole)
        )),
        ..TimerDefinition::default()
    })
}

/// The actions that this service carries out, and the names of those that it does not.
fn actions(timer: &Legacy, options: Options) -> Result<(Vec<ActionSpec>, Vec<String>), String> {
    let (mut actions, mut without) = (Vec::new(), Vec::new());
    let events: Value = match &timer.events {
        Some(raw) => serde_json::from_str(raw.get()).map_err(|e| format!("events: {e}"))?,
        None => return Ok((actions, without)),
    };
    let on_expire = &events["on_expire"];
    let webhook = &on_expire["webhook"];
    if let Some(url) = webhook.as_str().or_else(|| webhook["url"].as_str()) {
        let message = if webhook["message"].is_null() { &on_expire["message"] } else { &webhook["message"] };
        let say = json!({"message": message, "data": webhook["data"]});
        let parameters_json = json!({"url": url, "timer_expired": say}).to_string();
        actions.push(ActionSpec { id: "webhook".into(), kind: "webhook".into(), parameters_json });
    }
    for kind in ["file_write", "command"] {
        let parameters = &on_expire[kind];
        if parameters.is_null() {
            continue;
        }
        if options.kinds.contains(&kind) {
            let parameters_json = parameters.to_string();
            actions.push(ActionSpec { id: kind.into(), kind: kind.into(), parameters_json });
        } else {
            without.push(kind.to_string());
        }
    }
    Ok((actions, without))
}
