//! The verb `run`: threads, signals, and an orderly end.

use crate::cli::RunArgs;
use crate::config::Settings;
use crate::disruption::{Monitor, Notices, Readings};
use crate::endpoint;
use crate::estimate::Estimate;
use crate::hub::Hub;
use crate::log;
use crate::models::desk::Desk;
use crate::notify::Notifier;
use crate::page_object::{PageNames, PageObject, PageObjectError};
use crate::publisher::{self, Publisher, Start, first_record};
use crate::saver::Saver;
use crate::serve::{self, Server};
use crate::sources::Source;
use crate::sources::driver::{Driver, ReferenceIds};
use crate::sources::pace::Pace;
use crate::sources::plan::SourceSpec;
use crate::state_file::{self, Saved};
use crate::status_file::{Board, StatusFile};
use crate::stop::Stop;
use chronotick::os_clock::boottime;
use chronotick_core::MonoTime;
use chronotick_core::page::Repair;
use chronotick_discipline::{Config, Discipline};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, Write};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

/// Runs until a signal; the error is for the user.
pub(crate) fn run(args: &RunArgs) -> Result<(), String> {
    let settings = Settings::load(args)?;
    log::set(settings.log_level, settings.log_format);
    let serving = settings.serve.map(serve::bind).transpose()?;
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| format!("cannot take signals: {e}"))?;
    let started = boottime();
    let servers: Vec<String> = settings.sources().iter().map(SourceSpec::described).collect();
    let metrics = settings.metrics.map(listen).transpose()?;
    let (boot_id, saved) = read_state(&settings);
    let page = PageObject::open(&settings.page, &first_record(settings.validity)).map_err(|e| match e {
        PageObjectError::Locked => already_running(&settings),
        other => other.to_string(),
    })?;
    let external_models = settings.models.len();
    let config = Config { horizon: settings.holdover, external_models, ..Config::default() };
    let mut discipline = Discipline::new(config, servers.len());
    let restored = saved.as_ref().and_then(|s| s.restored(&servers, settings.holdover, started));
    let is_restored = restored.is_some();
    let now = Readings::now();
    if let Some(saved) = saved.as_ref().filter(|_| is_restored).and_then(|s| s.discipline_at(&now)) {
        // What it refuses, it learns again.
        let _ = discipline.restore(now.boottime, &saved);
    }
    let estimate = Arc::new(Mutex::new(Estimate::new(discipline, restored)));
    let notices = Arc::new(Notices::default());
    let stop = Arc::new(Stop::default());
    let disruptions =
        if page.reused { page.disruptions } else { saved.as_ref().map_or(0, |s| s.disruptions) };
    let hurry = stop.clone();
    let start = Start {
        started,
        validity: settings.validity,
        anchor: settings.anchor,
        monitor: Monitor::new(disruptions, saved.map(|s| s.clocks)),
        notices: notices.clone(),
        // A burst brings the correction back sooner than the next poll.
        on_disruption: Box::new(move || hurry.call_all_for_burst()),
    };
    let (mut publisher, repair) = Publisher::new(page.cell, start);
    // Before anything that may be slow: the page was withdrawn, or is running out, since the last daemon ended.
    publisher.publish(&estimate);
    // Reads the certificate authorities of the machine, where there are servers under NTS.
    let sources = settings.open_sources().inspect_err(|_| publisher.withdraw())?;
    if let Repair::TornWrite { sequence } = repair {
        log::warn(format_args!(
            "the last daemon died while it wrote the page (sequence {sequence}): the page is repaired"
        ));
    } else if page.reused {
        log::info(format_args!("took over the page of an earlier daemon"));
    }
    if is_restored && !publisher.monitor().is_disrupted() {
        log::info(format_args!(
            "going on with the correction of the last daemon until the servers have answered"
        ));
    }
    let publisher = Arc::new(Mutex::new(publisher));
    let saver = settings.state_file.clone().zip(boot_id).map(|(path, boot_id)| {
        let (publisher, estimate) = (publisher.clone(), estimate.clone());
        Arc::new(Saver { path, boot_id, servers, publisher, estimate, has_failed: AtomicBool::new(false) })
    });
    let page_stop = Arc::new(Stop::default());
    let fault =
        Arc::new(Fault { happened: AtomicBool::new(false), stop: stop.clone(), wake: signals.handle() });
    let names = page.names.clone();
    let board = Arc::new(Board::default());
    let shared = Shared {
        settings: &settings,
        names,
        estimate,
        publisher,
        notices,
        saver,
        board,
        stop,
        page_stop,
        fault,
    };

    let (threads, failed) = shared.start(started, Opened { sources, serving, metrics });
    if let Some(e) = failed {
        shared.fault.happened.store(true, Ordering::SeqCst);
        log::error(format_args!("cannot start a thread: {e}"));
    } else {
        announce(&settings);
        // Ends at the first signal, or when a thread panicked and closed the handle.
        if let Some(signal) = signals.forever().next() {
            log::info(format_args!("signal {signal}: withdrawing the page and ending"));
        }
    }
    shared.end(threads);
    if shared.fault.happened.load(Ordering::SeqCst) {
        return Err(
            "a thread of the daemon failed (see the message above): the page is withdrawn; start it again, \
                    and report the message"
                .to_owned(),
        );
    }
    Ok(())
}

fn listen(address: SocketAddr) -> Result<TcpListener, String> {
    TcpListener::bind(address).map_err(|e| {
        format!("cannot serve metrics at {address}: {e}; choose another address with --metrics, or none")
    })
}

/// What the last daemon left; what cannot be used is said and left alone.
fn read_state(settings: &Settings) -> (Option<String>, Option<Saved>) {
    let Some(path) = &settings.state_file else { return (None, None) };
    let boot_id = match state_file::boot_id() {
        Ok(boot_id) => boot_id,
        Err(e) => {
            log::warn(format_args!("no state is kept: cannot read the boot id: {e}"));
            return (None, None);
        }
    };
    let saved = Saved::read(path, &boot_id).unwrap_or_else(|why| {
        log::warn(format_args!("{why}"));
        None
    });
    (Some(boot_id), saved)
}

/// What was opened before any thread began, for one of them each.
struct Opened {
    sources: Vec<Box<dyn Source>>,
    serving: Option<UdpSocket>,
    metrics: Option<TcpListener>,
}

/// What the threads share.
struct Shared<'a> {
    settings: &'a Settings,
    names: PageNames,
    estimate: Arc<Mutex<Estimate>>,
    publisher: Arc<Mutex<Publisher>>,
    notices: Arc<Notices>,
    saver: Option<Arc<Saver>>,
    board: Arc<Board>,
    stop: Arc<Stop>,
    /// The publisher's own: it goes on until everything else is done.
    page_stop: Arc<Stop>,
    fault: Arc<Fault>,
}

impl Shared<'_> {
    /// Starts all threads and returns those to wait for at the end, the publisher first. The threads of the servers
    /// are not among them: one may hang in the resolver for longer than anybody wants to wait.
    fn start(&self, started: MonoTime, opened: Opened) -> (Vec<JoinHandle<()>>, Option<io::Error>) {
        let mut threads = Vec::new();
        let failed = self.start_all(started, opened, &mut threads).err();
        (threads, failed)
    }

    fn start_all(
        &self,
        started: MonoTime,
        opened: Opened,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> io::Result<()> {
        let (sender, reports) = mpsc::channel();
        let (publisher, estimate, stop) =
            (self.publisher.clone(), self.estimate.clone(), self.page_stop.clone());
        let rate_hz = self.settings.rate_hz;
        threads.push(self.spawn("publisher", move || publisher::run(&publisher, &estimate, rate_hz, &stop))?);
        let (models, runners) = Desk::new(&self.settings.models, self.settings.model_interval);
        let mut hub = Hub::new(
            self.settings,
            self.names.clone(),
            self.estimate.clone(),
            self.notices.clone(),
            self.saver.clone(),
            self.board.clone(),
            notifier(),
            models,
            started,
        );
        let stop = self.stop.clone();
        threads.push(self.spawn("discipline", move || hub.run(&reports, &stop))?);
        for runner in runners {
            let stop = self.stop.clone();
            // Not waited for: a model may hang.
            self.spawn("model", move || runner.run(&stop))?;
        }
        if let Some(listener) = opened.metrics {
            let (page, board) = (self.settings.page.clone(), self.board.clone());
            // Not waited for: it ends with the process.
            self.spawn("metrics", move || endpoint::run(&listener, &page, &board))?;
        }
        let reference_ids: ReferenceIds = Arc::new(Mutex::new(vec![[0; 4]; opened.sources.len()]));
        if let Some(socket) = opened.serving {
            let server = Server::new(socket, self.estimate.clone(), reference_ids.clone());
            let stop = self.stop.clone();
            threads.push(self.spawn("serve", move || server.run(&stop))?);
        }
        let pace = Pace {
            min_poll: self.settings.min_poll,
            max_poll: self.settings.max_poll,
            burst_interval: self.settings.burst_interval,
        };
        for (source, what) in opened.sources.into_iter().enumerate() {
            let driver = Driver {
                source,
                what,
                pace,
                reports: sender.clone(),
                stop: self.stop.clone(),
                reference_ids: reference_ids.clone(),
            };
            self.spawn("source", move || driver.run())?;
        }
        Ok(())
    }

    /// Ends all threads. Readers have a page until the very end, so that a restart is a short gap for them.
    fn end(&self, threads: Vec<JoinHandle<()>>) {
        self.stop.set();
        let mut threads = threads.into_iter();
        let publisher_thread = threads.next();
        for thread in threads {
            // A panic was caught and noted in the thread itself.
            let _ = thread.join();
        }
        if let Some(saver) = &self.saver {
            saver.save();
        }
        // Once the publisher has ended, nobody overwrites the withdrawal.
        self.page_stop.set();
        let _ = publisher_thread.map(JoinHandle::join);
        self.publisher.lock().unwrap_or_else(PoisonError::into_inner).withdraw();
    }

    fn spawn(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let fault = self.fault.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || fault.watch(name, work))
    }
}

fn notifier() -> Notifier {
    Notifier::new(|name| std::env::var_os(name)).unwrap_or_else(|e| {
        log::warn(format_args!("systemd is told nothing: NOTIFY_SOCKET: {e}"));
        Notifier::default()
    })
}

fn announce(settings: &Settings) {
    let line = format!("chronotick-daemon publishing to {}\n", settings.summary());
    // A closed standard output must not end the clock.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(line.as_bytes()).and_then(|()| out.flush());
}

fn already_running(settings: &Settings) -> String {
    let holder = match StatusFile::read(&settings.page) {
        Ok(status) => format!("pid {}", status.pid),
        Err(_) => "its status file cannot be read".to_owned(),
    };
    format!(
        "another chronotick-daemon ({holder}) publishes {}; stop it first, or choose another page with --shm NAME",
        settings.page.display()
    )
}

/// Turns a panic of any thread into the end of the daemon, with the page withdrawn.
struct Fault {
    happened: AtomicBool,
    stop: Arc<Stop>,
    wake: Handle,
}

impl Fault {
    fn watch(&self, name: &str, work: impl FnOnce()) {
        if catch_unwind(AssertUnwindSafe(work)).is_err() {
            log::error(format_args!("the {name} thread panicked"));
            self.happened.store(true, Ordering::SeqCst);
            self.stop.set();
            self.wake.close();
        }
    }
}
