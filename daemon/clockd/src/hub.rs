//! Takes the reports of all servers into the discipline, and tells people about it.

use crate::config::Settings;
use crate::disruption::{Notices, Readings};
use crate::environment::EnvironmentWatch;
use crate::estimate::Estimate;
use crate::log::{self, Level};
use crate::models::desk::Desk;
use crate::models::history::Observation;
use crate::notify::Notifier;
use crate::page_object::PageNames;
use crate::saver::Saver;
use crate::sources::plan::SourceSpec;
use crate::sources::{Outcome, Report, SourceCounters};
use crate::status_file::{Board, Happened, ServerStatus, StatusFile};
use crate::stop::Stop;
use crate::tracking::Tracker;
use chronotick::os_clock::{boottime, realtime_boottime_pair};
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Agreement, Correction, State, Verdict};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often the status file is written at least.
const STATUS_INTERVAL: Span = Span::from_secs(1);
/// How often systemd is told the state at least.
const NOTIFY_EVERY: Span = Span::from_secs(30);
/// How soon the complaint that nobody answers comes again; it doubles each time.
const FIRST_COMPLAINT: Span = Span::from_secs(30);
/// The longest time between two complaints.
const LAST_COMPLAINT: Span = Span::from_secs(3600);

#[derive(Clone, Debug)]
struct Server {
    name: String,
    mode: &'static str,
    resolved: Option<String>,
    asked: bool,
    reach: u8,
    stopped: bool,
    poll_interval: Span,
    last_error: Option<String>,
    was_falseticker: bool,
    is_authenticated: bool,
    counters: SourceCounters,
}

/// See the module.
pub(crate) struct Hub {
    estimate: Arc<Mutex<Estimate>>,
    notices: Arc<Notices>,
    saver: Option<Arc<Saver>>,
    page: PathBuf,
    names: PageNames,
    rate_hz: u32,
    started: MonoTime,
    servers: Vec<Server>,
    state: State,
    agreement: Agreement,
    answered_once: bool,
    complaint_due: MonoTime,
    complaint_interval: Span,
    tracker: Tracker,
    board: Arc<Board>,
    notifier: Notifier,
    notify_due: MonoTime,
    environment: EnvironmentWatch,
    models: Desk,
    status_failed: bool,
    name_failed: bool,
}

impl Hub {
    #[expect(clippy::too_many_arguments, reason = "the ends of everything that it connects")]
    /// For the servers of `settings`, in their order; `names` are those of the page.
    pub(crate) fn new(
        settings: &Settings,
        names: PageNames,
        estimate: Arc<Mutex<Estimate>>,
        notices: Arc<Notices>,
        saver: Option<Arc<Saver>>,
        board: Arc<Board>,
        notifier: Notifier,
        models: Desk,
        started: MonoTime,
    ) -> Self {
        let server = |spec: &SourceSpec| Server {
            name: spec.to_string(),
            mode: spec.mode(),
            resolved: None,
            asked: false,
            reach: 0,
            stopped: false,
            poll_interval: settings.min_poll,
            last_error: None,
            was_falseticker: false,
            is_authenticated: matches!(spec, SourceSpec::Nts(_) | SourceSpec::Phc(_)),
            counters: SourceCounters::default(),
        };
        Self {
            estimate,
            notices,
            saver,
            page: settings.page.clone(),
            names,
            rate_hz: settings.rate_hz,
            started,
            servers: settings.sources().iter().map(server).collect(),
            state: State::NoData,
            agreement: Agreement::NoSource,
            answered_once: false,
            complaint_due: started,
            complaint_interval: FIRST_COMPLAINT,
            tracker: Tracker::default(),
            board,
            notifier,
            notify_due: started + NOTIFY_EVERY,
            environment: EnvironmentWatch::new(Path::new("/"), started),
            models,
            status_failed: false,
            name_failed: false,
        }
    }

    fn estimate(&self) -> MutexGuard<'_, Estimate> {
        self.estimate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until `stop`, then writes a last status file that says so.
    pub(crate) fn run(&mut self, reports: &Receiver<Report>, stop: &Stop) {
        let mut status_due = self.started;
        let mut save_due = Saver::first_due(self.started);
        self.notifier.ready(&self.summary(boottime()));
        while !stop.is_set() {
            let now = boottime();
            if let Some(seen) = self.environment.look(now) {
                self.estimate().observe(seen.temperature_celsius, seen.load);
            }
            if now >= status_due {
                self.restore_name();
                self.write_status(self.state_word());
                status_due = now + STATUS_INTERVAL;
            }
            if now >= save_due {
                save_due = Saver::due_after(now);
                if let Some(saver) = &self.saver {
                    saver.save();
                }
            }
            // Short enough to notice the stop; reports end the wait at once.
            let wait = (status_due - now).min(Span::from_ms(100));
            self.notifier.alive(now, self.notices.pages.load(Ordering::Relaxed));
            match reports.recv_timeout(wait.to_duration()) {
                Ok(report) => self.take(report, stop),
                Err(RecvTimeoutError::Timeout) => {}
                // Every server has refused for good; the page goes on into holdover.
                Err(RecvTimeoutError::Disconnected) => {
                    if stop.wait_until(now + wait) {
                        break;
                    }
                }
            }
            let now = boottime();
            self.hear_models(now);
            let is_changed = self.note_changes(now);
            if is_changed {
                status_due = now;
            }
            if is_changed || now >= self.notify_due {
                self.notify_due = now + NOTIFY_EVERY;
                self.notifier.status(&self.summary(now));
            }
        }
        self.notifier.stopping();
        self.write_status("stopped");
    }

    fn take(&mut self, report: Report, stop: &Stop) {
        let server = &mut self.servers[report.source];
        server.asked = true;
        server.poll_interval = report.poll_interval;
        server.resolved = report.address;
        server.is_authenticated = report.is_authenticated;
        server.counters = report.counters;
        server.reach <<= 1;
        match report.outcome {
            Outcome::Answer(m) => {
                self.answered_once = true;
                if report.is_replaced {
                    // What was learned of the former server says nothing about this one.
                    self.estimate.lock().unwrap_or_else(PoisonError::into_inner).forget(report.source);
                    let address = server.resolved.as_deref().unwrap_or("at an unknown address");
                    let what = format!("another server answers now, {address}");
                    source_event(Level::Info, "source_replaced", &server.name, &what);
                }
                server.reach |= 1;
                server.last_error = None;
                let name = server.name.clone();
                let readings = Readings::now();
                let now = readings.boottime;
                let (before, verdict, after, measured) = {
                    let mut estimate = self.estimate();
                    // With the estimate in hand, so that no disruption comes between the look and the use.
                    if self.notices.is_overtaken(m.at - m.round_trip) {
                        log::debug(format_args!("{name}: measured while the clock was disrupted: not used"));
                        return;
                    }
                    // Pages may be a second apart: a slew since the last is seen here.
                    estimate.note_clocks(now, readings.raw, readings.error);
                    let before = estimate.correction(now);
                    let verdict = estimate.measure(now, m);
                    (before, verdict, estimate.correction(now), estimate.measured_rate(now))
                };
                self.tracker.note(now, before.as_ref(), after.as_ref());
                if let Some(measured) = measured {
                    self.show_models(now, measured);
                }
                log::event(
                    Level::Debug,
                    format_args!("{name}: delay {}: {verdict:?}", m.delay),
                    &[
                        ("event", "measurement".into()),
                        ("source", name.as_str().into()),
                        ("delay_seconds", m.delay.as_secs_f64().into()),
                        ("verdict", format!("{verdict:?}").into()),
                    ],
                );
                match verdict {
                    Verdict::Accepted | Verdict::Delayed | Verdict::Refused => {}
                    Verdict::Suspect => {
                        stop.call_for_burst(report.source);
                        let what = "its time jumped; it is not believed until it insists";
                        source_event(Level::Warn, "source_jumped", &name, what);
                    }
                    Verdict::Restarted => {
                        let what = "its time jumped and it insists: started anew with it";
                        source_event(Level::Warn, "source_restarted", &name, what);
                    }
                }
            }
            Outcome::Failure(text) => {
                let is_news = server.last_error.is_none() && server.reach != 0;
                let level = if is_news { Level::Warn } else { Level::Debug };
                source_event(level, "source_failed", &server.name, &text);
                server.last_error = Some(text);
            }
            Outcome::Stopped(text) => {
                source_event(Level::Warn, "source_stopped", &server.name, &text);
                server.stopped = true;
                server.last_error = Some(text);
            }
        }
    }

    /// Shows the models a rate that was measured just now.
    fn show_models(&self, now: MonoTime, (rate, sigma): (f64, f64)) {
        let seen = self.environment.newest();
        let (temperature_c, load) = (seen.temperature_celsius, seen.load);
        self.models.note(Observation { at: now, rate, sigma, temperature_c, load });
    }

    /// Takes in what the models have said meanwhile.
    fn hear_models(&mut self, now: MonoTime) {
        let disruptions = self.notices.lock().disruptions;
        for (model, forecast) in self.models.collect(now, disruptions) {
            self.estimate().forecast(model, forecast);
        }
    }

    /// Logs what changed; true when the status file should say so at once.
    fn note_changes(&mut self, now: MonoTime) -> bool {
        let (state, agreement, correction) = {
            let d = self.estimate();
            (d.state(now), d.agreement(), d.correction(now))
        };
        let mut changed = false;
        if state != self.state {
            changed = true;
            let bound =
                correction.map_or(String::new(), |c| format!(", bound {} us", c.max_error.as_ns() / 1000));
            log::event(
                Level::Info,
                format_args!("{} -> {}{bound}", word(self.state), word(state)),
                &[
                    ("event", "state".into()),
                    ("from", word(self.state).into()),
                    ("to", word(state).into()),
                    ("max_error_seconds", correction.map(|c| c.max_error.as_secs_f64()).into()),
                ],
            );
            self.state = state;
        }
        if agreement != self.agreement {
            changed = true;
            match agreement {
                Agreement::NoMajority => log::warn(format_args!(
                    "the servers contradict each other and none has a majority: the correction is not updated; add servers"
                )),
                Agreement::ContradictsBound => log::warn(format_args!(
                    "the servers that still answer contradict what more of them agreed on: the correction is not updated"
                )),
                Agreement::Majority if self.agreement != Agreement::NoSource => {
                    log::info(format_args!("most servers agree"));
                }
                _ => {}
            }
            self.agreement = agreement;
        }
        for i in 0..self.servers.len() {
            let is = self.estimate().report(i, now).is_some_and(|r| r.is_falseticker);
            let server = &mut self.servers[i];
            if is != server.was_falseticker {
                changed = true;
                let what = if is {
                    "contradicts the majority: falseticker"
                } else {
                    "agrees with the majority again"
                };
                log::event(
                    Level::Warn,
                    format_args!("{} {what}", server.name),
                    &[
                        ("event", "falseticker".into()),
                        ("source", server.name.as_str().into()),
                        ("is_falseticker", is.into()),
                    ],
                );
                server.was_falseticker = is;
            }
        }
        self.complain(now);
        changed
    }

    /// One line on how it is doing.
    fn summary(&self, now: MonoTime) -> String {
        let estimate = self.estimate();
        let correction = estimate.correction(now);
        let agreeing = (0..self.servers.len())
            .filter(|&i| estimate.report(i, now).is_some_and(|r| r.is_survivor))
            .count();
        let state = word(correction.map_or(State::NoData, |c| c.state)).replace('_', " ");
        let bound =
            correction.map_or(String::new(), |c| format!(", bound {} us", c.max_error.as_ns() / 1000));
        format!("{state}{bound}, {agreeing} of {} servers agree", self.servers.len())
    }

    fn complain(&mut self, now: MonoTime) {
        if self.answered_once || now < self.complaint_due || !self.servers.iter().all(|s| s.asked) {
            return;
        }
        let tried: Vec<&str> = self.servers.iter().map(|s| s.name.as_str()).collect();
        let last =
            self.servers.iter().filter_map(|s| s.last_error.as_deref()).next_back().unwrap_or("no answer");
        log::warn(format_args!(
            "no NTP server answers yet: tried {} ({last}); check the network, or name a server with --server",
            tried.join(", ")
        ));
        self.complaint_due = now + self.complaint_interval;
        self.complaint_interval = (self.complaint_interval + self.complaint_interval).min(LAST_COMPLAINT);
    }

    fn restore_name(&mut self) {
        match self.names.restore() {
            Ok(false) => self.name_failed = false,
            Ok(true) => log::warn(format_args!(
                "somebody removed {} (an old Python client does, when it exits): restored",
                self.page.display()
            )),
            // Once, as for the status file.
            Err(e) if !self.name_failed => {
                self.name_failed = true;
                log::warn(format_args!("cannot restore {}: {e}; restart the daemon", self.page.display()));
            }
            Err(_) => {}
        }
    }

    fn state_word(&self) -> &'static str {
        word(self.state)
    }

    fn write_status(&mut self, state: &str) {
        let status = self.status(state);
        let written = status.write(&self.page);
        self.board.put(status);
        match written {
            Ok(()) => self.status_failed = false,
            // Once: the page itself goes on, and a message a second helps nobody.
            Err(e) if !self.status_failed => {
                self.status_failed = true;
                log::warn(format_args!("cannot write the status file beside {}: {e}", self.page.display()));
            }
            Err(_) => {}
        }
    }

    fn status(&self, state: &str) -> StatusFile {
        let (system, now, _) = realtime_boottime_pair();
        let correction = self.estimate().correction(now);
        let servers: Vec<ServerStatus> = (0..self.servers.len())
            .map(|i| self.server_status(i, system, now, correction.as_ref()))
            .collect();
        let reference = correction.and_then(|c| {
            let name = self.servers.get(c.source)?.name.as_str();
            Some((name, self.estimate().report(c.source, now)?.newest?))
        });
        let happened = |at: MonoTime, what: String| Happened { seconds_ago: (now - at).as_secs_f64(), what };
        let noticed = self.notices.lock().clone();
        StatusFile {
            pid: std::process::id(),
            daemon_uptime_seconds: (now - self.started).as_secs_f64(),
            rate_hz: self.rate_hz,
            state: state.to_owned(),
            agreement: agreement_word(self.agreement).to_owned(),
            servers,
            tracking: self.tracker.report(correction.as_ref(), reference),
            last_disruption: noticed.last_disruption.map(|(at, why)| happened(at, why)),
            steps: noticed.steps,
            last_step: noticed.last_step.map(|(at, by)| happened(at, format!("stepped by {by}"))),
            environment: self.environment.newest(),
            models: self.models.status(now, |i| self.estimate().model_report(i)),
        }
    }

    fn server_status(
        &self,
        i: usize,
        system: Timestamp,
        now: MonoTime,
        correction: Option<&Correction>,
    ) -> ServerStatus {
        let server = &self.servers[i];
        let report = self.estimate().report(i, now);
        let newest = report.and_then(|r| r.newest);
        let system_theta = Span::from_ns(system.as_ns().saturating_sub(now.as_ns()));
        let is_reference = correction.is_some_and(|c| c.source == i);
        let (state, mark) = match report {
            _ if server.stopped => ("stopped", "?"),
            Some(r) if server.reach == 0 && r.newest.is_some() => ("unreachable", "?"),
            Some(r) if r.is_falseticker => ("falseticker", "x"),
            Some(r) if r.is_survivor => ("selected", if is_reference { "*" } else { "+" }),
            Some(r) if r.newest.is_some() => ("candidate", "-"),
            _ => ("no_answer", "?"),
        };
        let residual = newest.zip(correction).map(|(m, c)| {
            let age = c.at - m.at;
            let drift = Span::from_secs_f64(age.as_secs_f64() * c.rate);
            m.theta - (c.corrected - Timestamp::from_ns(c.at.as_ns()) - drift)
        });
        ServerStatus {
            address: server.name.clone(),
            resolved: server.resolved.clone(),
            state: state.to_owned(),
            offset_seconds: report.and_then(|r| r.theta).map(|t| (t - system_theta).as_secs_f64()),
            delay_seconds: newest.map(|m| m.delay.as_secs_f64()),
            root_distance_seconds: report.and_then(|r| r.distance).map(Span::as_secs_f64),
            stratum: newest.map(|m| m.stratum),
            reach: server.reach,
            poll_interval_seconds: server.poll_interval.as_secs_f64(),
            samples: report.map_or(0, |r| r.samples),
            last_error: server.last_error.clone(),
            mode: server.mode.to_owned(),
            mark: mark.to_owned(),
            last_sample_seconds_ago: newest.map(|m| (now - m.at).as_secs_f64()),
            last_sample_offset_seconds: newest.map(|m| (m.theta - system_theta).as_secs_f64()),
            last_sample_residual_seconds: residual.map(Span::as_secs_f64),
            last_sample_error_seconds: newest.map(|m| m.root_distance_ns() / 1e9),
            authenticated: server.is_authenticated,
            counters: server.counters,
        }
    }
}

fn source_event(level: Level, event: &str, source: &str, what: &str) {
    let fields = [("event", event.into()), ("source", source.into()), ("reason", what.into())];
    log::event(level, format_args!("{source}: {what}"), &fields);
}

fn word(state: State) -> &'static str {
    match state {
        State::NoData => "no_data",
        State::WarmingUp => "warming_up",
        State::Synchronized => "synchronized",
        State::Holdover => "holdover",
    }
}

fn agreement_word(agreement: Agreement) -> &'static str {
    match agreement {
        Agreement::NoSource => "no_source",
        Agreement::WaitingForMajority => "waiting_for_majority",
        Agreement::Majority => "majority",
        Agreement::NoMajority => "no_majority",
        Agreement::ContradictsBound => "contradicts_bound",
    }
}
