//! `scripts/run.sh`, which `make run` starts: what it prints is true, and Ctrl-C stops everything.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use e2e::clock_daemon::status_of;
use e2e::{Http, LiarConfig, NtpLiar, bin, build_directory, eventually, repository};
use rustix::process::{Pid, Signal, kill_process_group};
use serde_json::Value;
use std::io::{BufRead, BufReader, Read};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

const HUNG: Duration = Duration::from_secs(60);

/// The running script with its two programs; stopped when dropped.
struct Script {
    child: Child,
    lines: Receiver<String>,
    seen: Vec<String>,
    listen: String,
    page: PathBuf,
}

/// A port that was free a moment ago; the kernel does not give it out again soon.
fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port()
}

fn forward(from: impl Read + Send + 'static, to: Sender<String>) {
    std::thread::spawn(move || {
        BufReader::new(from).lines().map_while(Result::ok).all(|l| to.send(l).is_ok())
    });
}

impl Script {
    fn start(directory: &Path, servers: &str) -> Self {
        bin("chronotick-daemon");
        bin("minoots");
        let built = build_directory();
        let listen = format!("127.0.0.1:{}", free_port());
        let page = directory.join("page");
        // Whoever runs the tests in the background may have SIGINT ignored, and no shell can trap it then.
        let mut child = Command::new("env")
            .arg("--default-signal=INT,QUIT")
            .arg(repository().join("scripts/run.sh"))
            .env("MINOOTS_LISTEN", &listen)
            .env("MINOOTS_DATA", directory.join("data"))
            .env("CHRONOTICK_SHM", &page)
            .env("NTP_SERVERS", servers)
            .env("CARGO_TARGET_DIR", built.parent().unwrap())
            .env("CARGO_BUILD", built.file_name().unwrap())
            // As a terminal does: Ctrl-C goes to the whole group.
            .process_group(0)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, lines) = channel();
        forward(child.stdout.take().unwrap(), sender.clone());
        forward(child.stderr.take().unwrap(), sender);
        Self { child, lines, seen: Vec::new(), listen, page }
    }

    /// Waits for a line that contains `text`.
    fn wait_for_line(&mut self, text: &str) -> String {
        loop {
            if let Some(line) = self.seen.iter().find(|line| line.contains(text)) {
                return line.clone();
            }
            match self.lines.recv_timeout(HUNG) {
                Ok(line) => self.seen.push(line),
                Err(e) => panic!("no line with {text:?} ({e}); seen: {:#?}", self.seen),
            }
        }
    }

    fn http(&self) -> Http {
        Http::new(&format!("http://{}", self.listen))
    }

    /// Sends SIGINT to the group and waits for the end.
    fn interrupt(&mut self) -> ExitStatus {
        kill_process_group(Pid::from_child(&self.child), Signal::INT).unwrap();
        let status = self.child.wait().unwrap();
        self.seen.extend(self.lines.iter());
        status
    }
}

impl Drop for Script {
    fn drop(&mut self) {
        // A test that failed: the script stops its programs at a SIGTERM too.
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = kill_process_group(Pid::from_child(&self.child), Signal::TERM);
            let _ = self.child.wait();
        }
    }
}

fn shell(line: &str) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", line]);
    command
}

#[test]
fn what_it_prints_fires_a_timer_and_ctrl_c_stops_both() {
    let dir = tempfile::tempdir().unwrap();
    let liar = NtpLiar::start(LiarConfig { offset_ns: 20_000_000, ..LiarConfig::default() }).unwrap();
    let mut script = Script::start(dir.path(), &liar.address());
    script.wait_for_line("Ctrl-C stops both");
    let listen = script.listen.clone();
    assert!(script.wait_for_line("  clock page  ").contains(script.page.to_str().unwrap()));
    assert!(script.wait_for_line("  timers  ").contains(&format!("http://{listen}")));
    assert!(script.wait_for_line("  data  ").contains(dir.path().join("data").to_str().unwrap()));
    eventually("a synchronized page", || {
        (script.http().get("/v1/status").body["clock"]["source"] == "page").then_some(())
    });

    // The two printed lines, but for the receiver's port, which may be taken here.
    let port = free_port().to_string();
    let receive = script.wait_for_line("receive.py").replace("9090", &port);
    let receive = receive.trim().strip_suffix(" &").unwrap().to_owned();
    let receiver = shell(&format!("exec {receive}")).stdout(Stdio::piped()).spawn().unwrap();
    let curl = script.wait_for_line("curl -s http").replace("9090", &port);
    let created = shell(curl.trim()).output().unwrap();
    let timer: Value = serde_json::from_slice(&created.stdout).unwrap_or_else(|e| panic!("{e}: {created:?}"));
    assert_eq!(timer["state"], "scheduled", "{timer}");
    // It ends by itself when the webhook has come.
    let received = String::from_utf8(receiver.wait_with_output().unwrap().stdout).unwrap();
    assert!(
        received
            .starts_with(&format!("webhook received, idempotency key {}:", timer["id"].as_str().unwrap())),
        "{received}"
    );
    assert!(received.contains("\"lateness_ns\""), "{received}");
    let looked =
        shell(&format!("'{}' status --shm '{}'", bin("chronotick-daemon").display(), script.page.display()));
    assert!({ looked }.output().unwrap().status.success());

    let status = script.interrupt();
    assert_eq!(status.code(), Some(0), "{:#?}", script.seen);
    assert!(
        !script.seen.iter().any(|line| line.contains("at once") && line.contains("again")),
        "{:#?}",
        script.seen
    );
    assert!(TcpStream::connect(&listen).is_err(), "the timer service is gone");
    assert_eq!(status_of(&script.page, &[]).status.code(), Some(1), "the clock daemon is gone");
}

#[test]
fn without_ntp_it_says_so_and_timers_run_on_the_system_clock() {
    let dir = tempfile::tempdir().unwrap();
    let closed = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap();
    let mut script = Script::start(dir.path(), &closed.to_string());
    script.wait_for_line("Ctrl-C stops both");
    let said = script.wait_for_line("no NTP server answers yet");
    assert!(said.contains(&closed.to_string()), "{said}");
    let http = script.http();
    let clock = http.get("/v1/status").body["clock"].clone();
    assert_eq!(clock["source"], "os", "{clock}");
    assert!(clock["detail"].as_str().unwrap().contains("no_data"), "{clock}");
    let created = http.create(&serde_json::json!({"name": "n", "after": "1ms"}));
    let path = format!("/v1/timers/{}", created.text("id"));
    eventually("a timer to fire", || (http.get(&path).text("state") == "completed").then_some(()));
    assert_eq!(script.interrupt().code(), Some(0), "{:#?}", script.seen);
}
