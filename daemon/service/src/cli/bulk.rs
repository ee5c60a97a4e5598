//! Many timers at once: from a file, or the same one again and again.

use super::timers::{name_of, now, timestamp};
use super::when::{When, parse_duration, parse_when};
use super::{Failure, Remote, output};
use chronotick::timers::{Timer, TimerClient};
use futures::TryStreamExt;
use jiff::tz::TimeZone;
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::io::IsTerminal;
use std::path::Path;

/// A timer of a file: the fields of `POST /v1/timers` that have a flag or a method, and `when` in people's words.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    when: Option<String>,
    after: Option<String>,
    at: Option<String>,
    every: Option<String>,
    cron: Option<String>,
    zone: Option<String>,
    name: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    agent: Option<String>,
    team: Option<String>,
    #[serde(default)]
    tags: Vec<String>,
    webhook: Option<String>,
    #[serde(default)]
    actions: Vec<Action>,
    metadata: Option<Value>,
    payload_schema: Option<String>,
    idempotency_key: Option<String>,
    count: Option<u64>,
    priority: Option<i8>,
    jitter: Option<String>,
    grace: Option<String>,
    expire_after: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Action {
    id: String,
    kind: String,
    #[serde(default)]
    parameters: Value,
}

impl Entry {
    fn draft(self, zone: &str) -> Result<Timer, String> {
        let zone_name = self.zone.as_deref().unwrap_or(zone);
        let zone = TimeZone::get(zone_name).map_err(|_| {
            format!("{zone_name:?} is no time zone of this machine: write it as Europe/Paris or UTC")
        })?;
        let at = |t| timestamp(t).map_err(|e| e.detail);
        let (words, timer) = match (self.when, self.after, self.at, self.every, self.cron) {
            (Some(words), None, None, None, None) => {
                let timer = match parse_when(&words, now(), &zone)? {
                    When::After(d) => Timer::after(d),
                    When::At(t, _) => Timer::at(at(t)?),
                    When::Every(d) => Timer::every(d),
                    When::Cron { expression, zone } => Timer::cron(expression, zone),
                };
                (words, timer)
            }
            (None, Some(span), None, None, None) => {
                (format!("in {span}"), Timer::after(parse_duration(&span)?))
            }
            (None, None, Some(moment), None, None) => match parse_when(&moment, now(), &zone)? {
                When::At(t, _) => (moment, Timer::at(at(t)?)),
                _ => return Err(format!("at: {moment:?} is no moment: write it as 2026-12-01T09:00Z")),
            },
            (None, None, None, Some(span), None) => {
                (format!("every {span}"), Timer::every(parse_duration(&span)?))
            }
            (None, None, None, None, Some(rule)) => (rule.clone(), Timer::cron(rule, zone_name)),
            _ => return Err("exactly one of when, after, at, every and cron is needed".into()),
        };
        let mut timer = timer.name(self.name.unwrap_or_else(|| name_of(&words)));
        let owners = [("agent", self.agent), ("team", self.team)];
        let owners = owners.into_iter().filter_map(|(key, value)| Some((key.to_string(), value?)));
        for (key, value) in self.labels.into_iter().chain(owners) {
            timer = timer.label(key, value);
        }
        for tag in self.tags {
            timer = timer.tag(tag);
        }
        if let Some(url) = self.webhook {
            timer = timer.webhook(url);
        }
        for action in self.actions {
            timer = timer.action(action.id, action.kind, &action.parameters);
        }
        if let Some(metadata) = &self.metadata {
            timer = timer.metadata(metadata);
        }
        if let Some(schema) = self.payload_schema {
            timer = timer.payload_schema(schema);
        }
        if let Some(key) = self.idempotency_key {
            timer = timer.idempotency_key(key);
        }
        if let Some(count) = self.count {
            timer = timer.count(count);
        }
        if let Some(priority) = self.priority {
            timer = timer.priority(priority);
        }
        if let Some(jitter) = self.jitter {
            timer = timer.jitter(parse_duration(&jitter)?);
        }
        if let Some(grace) = self.grace {
            timer = timer.grace(parse_duration(&grace)?);
        }
        if let Some(after) = self.expire_after {
            timer = timer.expire_after(parse_duration(&after)?);
        }
        Ok(timer)
    }
}

/// Why a line made no timer.
struct Bad {
    line: usize,
    code: String,
    detail: String,
}

/// Timers to create, and the lines that are none.
pub(super) struct File {
    /// What the lines are of; `None` where there is no file.
    name: Option<String>,
    timers: Vec<(usize, Timer)>,
    bad: Vec<Bad>,
}

impl File {
    pub(super) fn repeated(timer: &Timer, count: usize) -> Self {
        Self { name: None, timers: (1..=count).map(|n| (n, timer.clone())).collect(), bad: Vec::new() }
    }

    pub(super) fn read(path: &Path, zone: &str) -> Result<Self, Failure> {
        let is_stdin = path.as_os_str() == "-";
        let text = match is_stdin {
            true => std::io::read_to_string(std::io::stdin()),
            false => std::fs::read_to_string(path),
        };
        let shown = if is_stdin { "standard input".to_string() } else { path.display().to_string() };
        let text = text.map_err(|e| Failure::usage(format!("cannot read {shown}: {e}")))?;
        Self::parse(&text, shown, zone)
    }

    fn parse(text: &str, name: String, zone: &str) -> Result<Self, Failure> {
        let mut file = Self { name: Some(name), timers: Vec::new(), bad: Vec::new() };
        if text.trim_start().starts_with('[') {
            let entries: Vec<&RawValue> = serde_json::from_str(text).map_err(|e| {
                Failure::usage(format!(
                    "{} is no JSON array: {e}: nothing was created",
                    file.name.as_deref().unwrap_or_default()
                ))
            })?;
            // Where each entry begins in the text, counted on from the entry before.
            let (mut line, mut counted) = (1, 0);
            for entry in entries {
                let start = entry.get().as_ptr().addr() - text.as_ptr().addr();
                line += text.as_bytes()[counted..start].iter().filter(|b| **b == b'\n').count();
                counted = start;
                file.take(line, entry.get(), zone);
            }
        } else {
            for (at, entry) in text.lines().enumerate().filter(|(_, l)| !l.trim().is_empty()) {
                file.take(at + 1, entry, zone);
            }
        }
        match file.timers.is_empty() && file.bad.is_empty() {
            true => Err(Failure::usage(format!(
                "{} holds no timer: write one JSON object on each line, as {{\"when\": \"in 20m\"}}",
                file.name.as_deref().unwrap_or_default()
            ))),
            false => Ok(file),
        }
    }

    fn take(&mut self, line: usize, text: &str, zone: &str) {
        let entry = serde_json::from_str::<Entry>(text).map_err(|e| {
            // The place within the entry means nothing to who has the file before him.
            let e = e.to_string();
            e.split(" at line ").next().unwrap_or(&e).to_string()
        });
        match entry.and_then(|entry| entry.draft(zone)) {
            Ok(timer) => self.timers.push((line, timer)),
            Err(detail) => self.bad.push(Bad { line, code: "usage".into(), detail }),
        }
    }
}

/// Creates the timers over one stream, and tells each line that made none.
pub(super) async fn create(client: &TimerClient, file: File, remote: &Remote) -> Result<(), Failure> {
    let File { name, timers, mut bad } = file;
    let (lines, drafts): (Vec<_>, Vec<_>) = timers.into_iter().unzip();
    let total = lines.len() + bad.len();
    let bar = match std::io::stderr().is_terminal() {
        true => indicatif::ProgressBar::new(lines.len() as u64),
        false => indicatif::ProgressBar::hidden(),
    };
    let mut made = 0;
    if !drafts.is_empty() {
        let broken = |made: usize, e| {
            let failure = Failure::from(e);
            let detail = format!(
                "{} ({made} of {total} timers are known to be made; with an idempotency_key in each, the same may be sent again)",
                failure.detail
            );
            Failure { detail, ..failure }
        };
        let outcomes = client.create_many(futures::stream::iter(drafts)).await.map_err(|e| broken(0, e))?;
        futures::pin_mut!(outcomes);
        let mut lines = lines.into_iter();
        while let Some(outcome) = outcomes.try_next().await.map_err(|e| broken(made, e))? {
            let line = lines.next().unwrap_or_default();
            bar.inc(1);
            match outcome {
                Ok(timer) => {
                    made += 1;
                    bar.suspend(|| if remote.json { output::json(&timer) } else { output::line(&timer.id) })?;
                }
                Err(e) => bad.push(Bad { line, code: e.code, detail: e.detail }),
            }
        }
    }
    bar.finish_and_clear();
    bad.sort_by_key(|b| b.line);
    for Bad { line, code, detail } in &bad {
        match &name {
            _ if remote.json => {
                eprintln!("{}", serde_json::json!({"line": line, "code": code, "detail": detail}));
            }
            Some(name) => eprintln!("minoots: {name}:{line}: {detail}"),
            None => eprintln!("minoots: {detail}"),
        }
    }
    match bad.len() {
        0 if made == total => Ok(()),
        0 => Err(Failure::failed(format!("the service answered for {made} of {total} timers only"))),
        n => Err(Failure::failed(format!("{n} of {total} timers were refused; the others are made"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_counted_in_both_forms() {
        for (text, good, bad) in [
            (
                "{\"when\":\"5m\"}\n\n{\"when\":\"soon\"}\n{\"after\":\"1h\",\"at\":\"x\"}\n{",
                vec![1],
                vec![3, 4, 5],
            ),
            (
                "[\n{\"after\":\"5m\"},\n{\"every\":\"1h\",\n\"count\":2},{\"whem\":1}, 7]",
                vec![2, 3],
                vec![4, 4],
            ),
        ] {
            let file = File::parse(text, "f".into(), "UTC").unwrap();
            assert_eq!(file.timers.iter().map(|(l, _)| *l).collect::<Vec<_>>(), good, "{text}");
            assert_eq!(file.bad.iter().map(|b| b.line).collect::<Vec<_>>(), bad, "{text}");
        }
        for text in ["", "\n \n", "[]", "[{]"] {
            assert_eq!(File::parse(text, "f".into(), "UTC").err().unwrap().exit, 2, "{text:?}");
        }
    }
}
