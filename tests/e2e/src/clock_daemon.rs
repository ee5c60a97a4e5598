//! A real `chronotick-daemon` process with a page of its own.

use crate::bin;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

/// So long does a test wait for a line before it calls the daemon hung.
const HUNG: Duration = Duration::from_secs(60);

/// A running daemon; killed when dropped.
#[derive(Debug)]
pub struct ClockDaemon {
    child: Child,
    page: PathBuf,
    /// The line it printed when it was ready.
    pub ready_line: String,
    errors: Receiver<String>,
}

impl ClockDaemon {
    /// Starts a daemon with its page in `directory`, asking `servers` once a second, and waits until it is ready.
    /// `extra` is added to its configuration file.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start(directory: &Path, servers: &[String], extra: &str) -> Self {
        Self::start_at(&directory.join("page"), directory, servers, extra)
    }

    /// The same with its page at `page`, and its configuration in `directory`.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_at(page: &Path, directory: &Path, servers: &[String], extra: &str) -> Self {
        Self::spawn(page, directory, servers, extra, |_| {})
    }

    /// As [`start`](Self::start), with these variables in its environment.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_with(
        directory: &Path,
        servers: &[String],
        extra: &str,
        environment: &[(&str, &str)],
    ) -> Self {
        Self::spawn(&directory.join("page"), directory, servers, extra, |command| {
            command.envs(environment.iter().copied());
        })
    }

    /// As [`start`](Self::start), as the user and group with this number: only root can.
    ///
    /// # Panics
    /// When it does not become ready.
    pub fn start_as(id: u32, directory: &Path, servers: &[String]) -> Self {
        use std::os::unix::process::CommandExt;
        // Where that user can run it.
        let program = directory.join("chronotick-daemon");
        std::fs::copy(bin("chronotick-daemon"), &program).expect("a writable directory");
        Self::spawn(&directory.join("page"), directory, servers, "", |command| {
            let mut copy = Command::new(&program);
            copy.args(command.get_args()).uid(id).gid(id);
            *command = copy;
        })
    }

    fn spawn(
        page: &Path,
        directory: &Path,
        servers: &[String],
        extra: &str,
        prepare: impl FnOnce(&mut Command),
    ) -> Self {
        let config = directory.join("chronotick.toml");
        let pace = if extra.contains("poll") { "" } else { "min_poll_s = 1\nmax_poll_s = 1\n" };
        let log = if extra.contains("log_level") { "" } else { "log_level = 'debug'\n" };
        std::fs::write(&config, format!("{log}{pace}{extra}\n")).expect("a writable directory");
        let page = page.to_owned();
        let mut command = Command::new(bin("chronotick-daemon"));
        command.arg("run").arg("--config").arg(&config).arg("--shm").arg(&page);
        for server in servers {
            command.args(["--server", server]);
        }
        // No state of an earlier test: a test that wants it says `state_file`.
        for variable in ["HOME", "XDG_STATE_HOME", "STATE_DIRECTORY"] {
            command.env_remove(variable);
        }
        prepare(&mut command);
        let mut child =
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the daemon can be started");
        let (sender, errors) = channel();
        let stderr = BufReader::new(child.stderr.take().expect("piped"));
        std::thread::spawn(move || {
            for line in stderr.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        let mut ready_line = String::new();
        let mut stdout = BufReader::new(child.stdout.take().expect("piped"));
        stdout.read_line(&mut ready_line).expect("a readable pipe");
        if ready_line.is_empty() {
            let said: Vec<String> = errors.iter().collect();
            panic!("the daemon did not start: {said:?}");
        }
        // The rest is nothing, but a full pipe would block the daemon.
        std::thread::spawn(move || stdout.read_to_end(&mut Vec::new()));
        Self { child, page, ready_line, errors }
    }

    /// Waits for a line of its log that contains `text`, and returns it.
    ///
    /// # Panics
    /// When the daemon ends or does not log it within a minute.
    pub fn wait_for_line(&self, text: &str) -> String {
        let mut seen = Vec::new();
        let begun = chronotick::os_clock::boottime();
        loop {
            let waited = (chronotick::os_clock::boottime() - begun).to_duration();
            match self.errors.recv_timeout(HUNG.saturating_sub(waited)) {
                Ok(line) if line.contains(text) => return line,
                Ok(line) => seen.push(line),
                Err(e) => panic!("no line with {text:?} ({e}); seen: {seen:#?}"),
            }
        }
    }

    /// The lines of its log that nobody has waited for yet.
    pub fn lines(&self) -> Vec<String> {
        self.errors.try_iter().collect()
    }

    /// Where its page is.
    pub fn page(&self) -> &Path {
        &self.page
    }

    /// A reader of its page.
    ///
    /// # Panics
    /// When the page cannot be attached.
    pub fn client(&self) -> chronotick::Client {
        chronotick::Client::attach_named(self.page.to_str()).expect("the daemon is ready, so there is a page")
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What `status --json` says.
    ///
    /// # Panics
    /// When it is not JSON.
    pub fn status(&self) -> Value {
        let output = status_of(&self.page, &["--json"]);
        serde_json::from_slice(&output.stdout)
            .unwrap_or_else(|e| panic!("status --json printed no JSON: {e}; {output:?}"))
    }

    /// Sends SIGTERM and waits for the end.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal(Signal::TERM)
    }

    /// Sends SIGKILL and waits for the end.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn kill(&mut self) -> ExitStatus {
        self.signal(Signal::KILL)
    }

    fn signal(&mut self, signal: Signal) -> ExitStatus {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).expect("our own child");
        self.child.wait().expect("our own child")
    }
}

impl Drop for ClockDaemon {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs `chronotick-daemon status` for a page.
///
/// # Panics
/// When it cannot be started.
pub fn status_of(page: &Path, arguments: &[&str]) -> Output {
    Command::new(bin("chronotick-daemon"))
        .arg("status")
        .arg("--shm")
        .arg(page)
        .args(arguments)
        .output()
        .expect("the daemon's program can be started")
}
