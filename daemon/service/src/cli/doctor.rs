//! `minoots doctor`: what is well, what is not, and what to do.

use super::admin::Rest;
use super::{Failure, Remote, output};
use serde_json::json;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Below this much free space the data directory gets a warning.
const FREE_WARN_BYTES: u64 = 1 << 30;

struct Check {
    name: &'static str,
    level: &'static str,
    detail: String,
}

pub(super) async fn run(data: Option<&Path>, remote: &Remote) -> Result<(), Failure> {
    let mut checks = Vec::new();
    let mut add = |name, level, detail: String| checks.push(Check { name, level, detail });
    let rest = Rest::new(remote)?;
    let health = rest.get("/healthz").await;
    let is_unreachable = matches!(&health, Err(e) if e.exit == 4);
    match health {
        Ok(_) => add("reachable", "ok", format!("{} answers", remote.url)),
        Err(e) => add("reachable", "fail", e.detail),
    }
    if !is_unreachable {
        match rest.get("/v1/status").await {
            Ok(status) => {
                let (ours, theirs) = (env!("CARGO_PKG_VERSION"), status["version"].as_str().unwrap_or("?"));
                match ours == theirs {
                    true => add("version", "ok", ours.into()),
                    false => add("version", "warn", format!("this program is {ours}, the service {theirs}")),
                }
                let clock = &status["clock"];
                let source = clock["source"].as_str().unwrap_or("?");
                let detail = format!("{source}: {}", clock["detail"].as_str().unwrap_or("?"));
                match clock["max_error_ns"].as_i64() {
                    Some(ns) => add("clock", "ok", format!("{detail}; at most {ns} ns off")),
                    None => add("clock", "warn", format!("{detail}; no bound: start chronotick-daemon")),
                }
                match status["accepts_changes"].as_bool() {
                    Some(true) => add("store", "ok", "accepts changes".into()),
                    _ => add("store", "fail", "accepts no changes: see the log of the service".into()),
                }
            }
            Err(e) => add("status", "fail", e.detail),
        }
        match rest.get("/v1/timers?limit=1").await {
            Ok(_) => add("credentials", "ok", "timers can be read".into()),
            Err(e) => add("credentials", "fail", e.detail),
        }
    }
    match jiff::tz::TimeZone::get("Europe/Paris") {
        Ok(_) => add("time zones", "ok", "the database is there".into()),
        Err(e) => add("time zones", "fail", format!("{e}: install the package tzdata")),
    }
    if let Some(data) = data {
        let (level, detail) = data_directory(data);
        add("data directory", level, detail);
    }
    for check in &checks {
        if remote.json {
            output::json(&json!({"check": check.name, "level": check.level, "detail": check.detail}))?;
        }
    }
    if !remote.json {
        let rows = checks.iter().map(|c| vec![c.level.to_string(), c.name.to_string(), c.detail.clone()]);
        output::table(&["LEVEL", "CHECK", "DETAIL"], rows)?;
    }
    match checks.iter().filter(|c| c.level == "fail").count() {
        0 => Ok(()),
        _ if is_unreachable => Err(Failure::of_code("unreachable", "the service cannot be reached".into())),
        n => Err(Failure::failed(format!("{n} checks failed"))),
    }
}

fn data_directory(data: &Path) -> (&'static str, String) {
    let shown = data.display();
    let mode = match std::fs::metadata(data) {
        Ok(found) if found.is_dir() => found.permissions().mode() & 0o777,
        Ok(_) => return ("fail", format!("{shown} is no directory")),
        Err(e) => return ("fail", format!("cannot look at {shown}: {e}")),
    };
    let free = match rustix::fs::statvfs(data) {
        Ok(fs) => fs.f_bavail.saturating_mul(fs.f_frsize),
        Err(e) => return ("fail", format!("cannot tell the free space of {shown}: {e}")),
    };
    if mode & 0o002 != 0 {
        return ("warn", format!("{shown} can be written by everybody (mode {mode:o}): chmod o-w"));
    }
    match free < FREE_WARN_BYTES {
        true => ("warn", format!("{shown} has {} MiB free: make room", free >> 20)),
        false => ("ok", format!("{shown}, mode {mode:o}, {} MiB free", free >> 20)),
    }
}
