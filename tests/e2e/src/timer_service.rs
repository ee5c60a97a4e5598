//! A real `minoots serve` process.

use crate::Http;
use crate::bin;
use rustix::process::{Pid, Signal, kill_process};
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

/// A process that may not be ready yet; killed when dropped.
#[derive(Debug)]
pub struct Starting(Child);

/// A service that answers; killed when dropped.
#[derive(Debug)]
pub struct TimerService {
    process: Starting,
    url: String,
    /// The line it printed when it was ready.
    pub ready_line: String,
}

impl Starting {
    /// Starts a service over the timers in `data` and the clock page `page`, and does not wait for it. What it logs
    /// goes where this process's standard error goes, warnings only.
    ///
    /// # Panics
    /// When the program cannot be started.
    pub fn spawn(data: &Path, page: &Path) -> Self {
        let mut command = Command::new(bin("minoots"));
        command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data).arg("--shm").arg(page);
        command.env("RUST_LOG", std::env::var_os("RUST_LOG").unwrap_or_else(|| "error".into()));
        Self(command.stdout(Stdio::piped()).spawn().expect("minoots can be started"))
    }

    /// Waits until it answers.
    ///
    /// # Panics
    /// When it ends instead; it has said why on standard error.
    pub fn ready(mut self) -> TimerService {
        let mut stdout = BufReader::new(self.0.stdout.take().expect("piped"));
        let mut ready_line = String::new();
        stdout.read_line(&mut ready_line).expect("a readable pipe");
        let url = ready_line.split_whitespace().find(|word| word.starts_with("http://"));
        let url = url.unwrap_or_else(|| panic!("minoots did not start: {ready_line:?}")).to_owned();
        // Nothing more is expected, but a full pipe would block it.
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        TimerService { process: self, url, ready_line }
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn kill(mut self) -> ExitStatus {
        self.signal(Signal::KILL)
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        kill_process(Pid::from_child(&self.0), signal).expect("our own child");
        self.0.wait().expect("our own child")
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl TimerService {
    /// Starts a service over the timers in `data` and the clock page `page`, and waits until it answers.
    ///
    /// # Panics
    /// When it does not start.
    pub fn start(data: &Path, page: &Path) -> Self {
        Starting::spawn(data, page).ready()
    }

    /// Where it listens, as `http://127.0.0.1:PORT`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// A client of it.
    pub fn http(&self) -> Http {
        Http::new(&self.url)
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn kill(self) -> ExitStatus {
        self.process.kill()
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn terminate(mut self) -> ExitStatus {
        self.process.signal(Signal::TERM)
    }
}
