//! The verb `run`: threads, signals, and an orderly end.

use crate::cli::RunArgs;
use crate::config::Settings;
use crate::hub::Hub;
use crate::log;
use crate::page_object::{PageNames, PageObject, PageObjectError};
use crate::publisher::{self, Publisher, first_record};
use crate::serve::{self, Server};
use crate::sources::Source;
use crate::sources::driver::{Driver, ReferenceIds};
use crate::sources::pace::Pace;
use crate::sources::plan::SourceSpec;
use crate::status_file::StatusFile;
use crate::stop::Stop;
use chronotick::os_clock::boottime;
use chronotick_core::MonoTime;
use chronotick_core::page::Repair;
use chronotick_discipline::{Config, Discipline};
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::iterator::{Handle, Signals};
use std::io::{self, Write};
use std::net::UdpSocket;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::{self, JoinHandle};

/// Runs until a signal; the error is for the user.
pub(crate) fn run(args: &RunArgs) -> Result<(), String> {
    let settings = Settings::load(args)?;
    log::set_level(settings.log_level);
    let sources = settings.open_sources()?;
    let serving = settings.serve.map(serve::bind).transpose()?;
    let mut signals = Signals::new([SIGTERM, SIGINT]).map_err(|e| format!("cannot take signals: {e}"))?;
    let started = boottime();
    let page = PageObject::open(&settings.page, &first_record(settings.validity)).map_err(|e| match e {
        PageObjectError::Locked => already_running(&settings),
        other => other.to_string(),
    })?;
    let (mut publisher, repair) = Publisher::new(page.cell, started, settings.validity, settings.anchor);
    if let Repair::TornWrite { sequence } = repair {
        log::warn(format_args!(
            "the last daemon died while it wrote the page (sequence {sequence}): the page is repaired"
        ));
    } else if page.reused {
        log::info(format_args!("took over the page of an earlier daemon"));
    }
    let config = Config { horizon: settings.holdover, ..Config::default() };
    let discipline = Arc::new(Mutex::new(Discipline::new(config, sources.len())));
    publisher.publish(&discipline);
    let publisher = Arc::new(Mutex::new(publisher));
    let stop = Arc::new(Stop::default());
    let fault =
        Arc::new(Fault { happened: AtomicBool::new(false), stop: stop.clone(), wake: signals.handle() });
    let shared =
        Shared { settings: &settings, names: page.names.clone(), discipline, publisher, stop, fault };

    let (threads, failed) = shared.start(started, sources, serving);
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
    shared.stop.set();
    let mut threads = threads.into_iter();
    // The publisher is the first: once it has ended, nobody overwrites the withdrawal.
    let publisher_thread = threads.next();
    let _ = publisher_thread.map(JoinHandle::join);
    shared.publisher.lock().unwrap_or_else(PoisonError::into_inner).withdraw();
    for thread in threads {
        // A panic was caught and noted in the thread itself.
        let _ = thread.join();
    }
    if shared.fault.happened.load(Ordering::SeqCst) {
        return Err(
            "a thread of the daemon failed (see the message above): the page is withdrawn; start it again, \
                    and report the message"
                .to_owned(),
        );
    }
    Ok(())
}

/// What the threads share.
struct Shared<'a> {
    settings: &'a Settings,
    names: PageNames,
    discipline: Arc<Mutex<Discipline>>,
    publisher: Arc<Mutex<Publisher>>,
    stop: Arc<Stop>,
    fault: Arc<Fault>,
}

impl Shared<'_> {
    /// Starts all threads and returns those to wait for at the end, the publisher first. The threads of the servers
    /// are not among them: one may hang in the resolver for longer than anybody wants to wait.
    fn start(
        &self,
        started: MonoTime,
        sources: Vec<Box<dyn Source>>,
        serving: Option<UdpSocket>,
    ) -> (Vec<JoinHandle<()>>, Option<io::Error>) {
        let mut threads = Vec::new();
        let failed = self.start_all(started, sources, serving, &mut threads).err();
        (threads, failed)
    }

    fn start_all(
        &self,
        started: MonoTime,
        sources: Vec<Box<dyn Source>>,
        serving: Option<UdpSocket>,
        threads: &mut Vec<JoinHandle<()>>,
    ) -> io::Result<()> {
        let (sender, reports) = mpsc::channel();
        let (publisher, discipline, stop) =
            (self.publisher.clone(), self.discipline.clone(), self.stop.clone());
        let rate_hz = self.settings.rate_hz;
        threads
            .push(self.spawn("publisher", move || publisher::run(&publisher, &discipline, rate_hz, &stop))?);
        let mut hub = Hub::new(self.settings, self.names.clone(), self.discipline.clone(), started);
        let stop = self.stop.clone();
        threads.push(self.spawn("discipline", move || hub.run(&reports, &stop))?);
        let reference_ids: ReferenceIds = Arc::new(Mutex::new(vec![[0; 4]; sources.len()]));
        if let Some(socket) = serving {
            let server = Server::new(socket, self.discipline.clone(), reference_ids.clone());
            let stop = self.stop.clone();
            threads.push(self.spawn("serve", move || server.run(&stop))?);
        }
        let pace = Pace {
            min_poll: self.settings.min_poll,
            max_poll: self.settings.max_poll,
            burst_interval: self.settings.burst_interval,
        };
        for (source, what) in sources.into_iter().enumerate() {
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

    fn spawn(&self, name: &'static str, work: impl FnOnce() + Send + 'static) -> io::Result<JoinHandle<()>> {
        let fault = self.fault.clone();
        thread::Builder::new().name(name.to_owned()).spawn(move || fault.watch(name, work))
    }
}

fn announce(settings: &Settings) {
    let named = settings.servers.iter().map(ToString::to_string);
    let nts = settings.nts_servers.iter().map(|name| format!("nts {name}"));
    let pools = settings.pools.iter().map(|name| format!("pool {name}"));
    let local = settings.sources().into_iter().filter(SourceSpec::is_local).map(|s| s.to_string());
    let servers: Vec<String> = named.chain(nts).chain(pools).chain(local).collect();
    let line = format!(
        "chronotick-daemon publishing to {} at {} Hz (servers: {})\n",
        settings.page.display(),
        settings.rate_hz,
        servers.join(", ")
    );
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
