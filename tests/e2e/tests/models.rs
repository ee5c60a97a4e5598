//! A rate model in another process beside the real daemon: it forecasts, dies, and lies.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick::os_clock::realtime;
use e2e::{ClockDaemon, LiarConfig, NtpLiar, eventually, repository};
use serde_json::Value;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// Killed when dropped.
struct Program(Child);

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The example in Python, listening at `socket`; `None` without Python.
fn example(socket: &Path) -> Option<Program> {
    let script = repository().join("examples/models/rate_model.py");
    let Ok(mut child) = Command::new("python3").arg(script).arg(socket).stdout(Stdio::piped()).spawn() else {
        println!("skipped: the example model in Python: no python3 here");
        return None;
    };
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.starts_with("listening on "), "{line:?}");
    Some(Program(child))
}

fn daemon(directory: &Path, server: &NtpLiar, socket: &Path) -> ClockDaemon {
    let config = format!(
        "model_interval_s = 1\n[[models]]\nname = 'm'\nkind = 'process'\nsocket = '{}'\n",
        socket.display()
    );
    ClockDaemon::start(directory, &[server.address()], &config)
}

fn model_is(daemon: &ClockDaemon, state: &str) -> Value {
    eventually(&format!("the model to be {state}"), || {
        let model = daemon.status()["models"][0].clone();
        (model["state"] == state).then_some(model)
    })
}

#[test]
fn a_model_forecasts_and_its_death_leaves_the_clock_alone() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("model.sock");
    let Some(program) = example(&socket) else { return };
    let server = NtpLiar::start(LiarConfig::default()).unwrap();
    let daemon = daemon(dir.path(), &server, &socket);
    // It wants eight observations ten seconds apart before it says anything.
    let model = model_is(&daemon, "silent");
    assert_eq!(
        (&model["name"], &model["kind"], &model["rate_ppb"]),
        (&"m".into(), &"process".into(), &Value::Null)
    );
    drop(program);
    let model = model_is(&daemon, "failed");
    assert!(model["last_error"].as_str().unwrap().contains("is it running?"), "{model}");
    assert_eq!(daemon.status()["status"], "synchronized");
}

#[test]
fn a_model_that_lies_does_not_break_the_bound() {
    let dir = tempfile::tempdir().unwrap();
    let socket = dir.path().join("model.sock");
    let listener = UnixListener::bind(&socket).unwrap();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).is_ok_and(|n| n > 0) {
                let lie = b"{\"rate_ppb\": 1e6, \"sigma_ppb\": 1e-6}\n";
                if stream.get_mut().write_all(lie).is_err() {
                    break;
                }
                line.clear();
            }
        }
    });
    let server = NtpLiar::start(LiarConfig::default()).unwrap();
    let daemon = daemon(dir.path(), &server, &socket);
    let model = model_is(&daemon, "active");
    assert_eq!(model["rate_ppb"].as_f64().unwrap().round(), 1e6);
    let client = daemon.client();
    for _ in 0..200 {
        let before = server.true_time(realtime());
        let reading = client.now().unwrap();
        let after = server.true_time(realtime());
        let bound = reading.bound;
        assert!(bound.earliest() <= after && before <= bound.latest(), "{reading:?} {before:?}");
        e2e::pause(std::time::Duration::from_millis(10));
    }
    assert_eq!(daemon.status()["status"], "synchronized");
}
