//! Takes the reports of all servers into the discipline, and tells people about it.

use crate::config::Settings;
use crate::log;
use crate::page_object::PageNames;
use crate::sources::{Outcome, Report, SourceCounters};
use crate::status_file::{ServerStatus, StatusFile};
use crate::stop::Stop;
use chronotick::os_clock::{boottime, realtime_boottime_pair};
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Agreement, Discipline, State, Verdict};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// How often the status file is written at least.
const STATUS_INTERVAL: Span = Span::from_secs(1);
/// How soon the complaint that nobody answers comes again; it doubles each time.
const FIRST_COMPLAINT: Span = Span::from_secs(30);
/// The longest time between two complaints.
const LAST_COMPLAINT: Span = Span::from_secs(3600);

#[derive(Clone, Debug)]
struct Server {
    name: String,
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
    discipline: Arc<Mutex<Discipline>>,
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
    status_failed: bool,
    name_failed: bool,
}

impl Hub {
    /// For the servers of `settings`, in their order; `names` are those of the page.
    pub(crate) fn new(
        settings: &Settings,
        names: PageNames,
        discipline: Arc<Mutex<Discipline>>,
        started: MonoTime,
    ) -> Self {
        let server = |name: String| Server {
            name,
            resolved: None,
            asked: false,
            reach: 0,
            stopped: false,
            poll_interval: settings.min_poll,
            last_error: None,
            was_falseticker: false,
            is_authenticated: false,
            counters: SourceCounters::default(),
        };
        Self {
            discipline,
            page: settings.page.clone(),
            names,
            rate_hz: settings.rate_hz,
            started,
            servers: settings.sources().iter().map(|s| server(s.to_string())).collect(),
            state: State::NoData,
            agreement: Agreement::NoSource,
            answered_once: false,
            complaint_due: started,
            complaint_interval: FIRST_COMPLAINT,
            status_failed: false,
            name_failed: false,
        }
    }

    fn discipline(&self) -> MutexGuard<'_, Discipline> {
        self.discipline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Works until `stop`, then writes a last status file that says so.
    pub(crate) fn run(&mut self, reports: &Receiver<Report>, stop: &Stop) {
        let mut status_due = self.started;
        while !stop.is_set() {
            let now = boottime();
            if now >= status_due {
                self.restore_name();
                self.write_status(self.state_word());
                status_due = now + STATUS_INTERVAL;
            }
            // Short enough to notice the stop; reports end the wait at once.
            let wait = (status_due - now).min(Span::from_ms(100));
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
            if self.note_changes(boottime()) {
                status_due = boottime();
            }
        }
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
                    self.discipline.lock().unwrap_or_else(PoisonError::into_inner).forget(report.source);
                    log::info(format_args!(
                        "{}: another server answers now, {}",
                        server.name,
                        server.resolved.as_deref().unwrap_or("at an unknown address")
                    ));
                }
                server.reach |= 1;
                server.last_error = None;
                let name = server.name.clone();
                let verdict = self.discipline().measure(boottime(), m);
                log::debug(format_args!("{name}: delay {}: {verdict:?}", m.delay));
                match verdict {
                    Verdict::Accepted | Verdict::Delayed | Verdict::Refused => {}
                    Verdict::Suspect => {
                        stop.call_for_burst(report.source);
                        log::warn(format_args!(
                            "{name}: its time jumped; it is not believed until it insists"
                        ));
                    }
                    Verdict::Restarted => {
                        log::warn(format_args!(
                            "{name}: its time jumped and it insists: started anew with it"
                        ));
                    }
                }
            }
            Outcome::Failure(text) => {
                if server.last_error.is_none() && server.reach != 0 {
                    log::warn(format_args!("{}: {text}", server.name));
                } else {
                    log::debug(format_args!("{}: {text}", server.name));
                }
                server.last_error = Some(text);
            }
            Outcome::Stopped(text) => {
                log::warn(format_args!("{}: {text}", server.name));
                server.stopped = true;
                server.last_error = Some(text);
            }
        }
    }

    /// Logs what changed; true when the status file should say so at once.
    fn note_changes(&mut self, now: MonoTime) -> bool {
        let (state, agreement, correction) = {
            let d = self.discipline();
            (d.state(now), d.agreement(), d.correction(now))
        };
        let mut changed = false;
        if state != self.state {
            changed = true;
            let bound =
                correction.map_or(String::new(), |c| format!(", bound {} us", c.max_error.as_ns() / 1000));
            log::info(format_args!("{} -> {}{bound}", word(self.state), word(state)));
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
            let is = self.discipline().report(i, now).is_some_and(|r| r.is_falseticker);
            let server = &mut self.servers[i];
            if is != server.was_falseticker {
                changed = true;
                let what = if is {
                    "contradicts the majority: falseticker"
                } else {
                    "agrees with the majority again"
                };
                log::warn(format_args!("{} {what}", server.name));
                server.was_falseticker = is;
            }
        }
        self.complain(now);
        changed
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
        let (system, now, _) = realtime_boottime_pair();
        let status = StatusFile {
            pid: std::process::id(),
            daemon_uptime_seconds: (now - self.started).as_secs_f64(),
            rate_hz: self.rate_hz,
            state: state.to_owned(),
            agreement: agreement_word(self.agreement).to_owned(),
            servers: (0..self.servers.len()).map(|i| self.server_status(i, system, now)).collect(),
        };
        match status.write(&self.page) {
            Ok(()) => self.status_failed = false,
            // Once: the page itself goes on, and a message a second helps nobody.
            Err(e) if !self.status_failed => {
                self.status_failed = true;
                log::warn(format_args!("cannot write the status file beside {}: {e}", self.page.display()));
            }
            Err(_) => {}
        }
    }

    fn server_status(&self, i: usize, system: Timestamp, now: MonoTime) -> ServerStatus {
        let server = &self.servers[i];
        let report = self.discipline().report(i, now);
        let newest = report.and_then(|r| r.newest);
        let system_theta = Span::from_ns(system.as_ns().saturating_sub(now.as_ns()));
        let state = match report {
            _ if server.stopped => "stopped",
            Some(r) if server.reach == 0 && r.newest.is_some() => "unreachable",
            Some(r) if r.is_falseticker => "falseticker",
            Some(r) if r.is_survivor => "selected",
            Some(r) if r.newest.is_some() => "candidate",
            _ => "no_answer",
        };
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
            authenticated: server.is_authenticated,
            counters: server.counters,
        }
    }
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
