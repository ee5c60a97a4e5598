//! The command line against a real service.

use serde_json::Value;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Output, Stdio};

struct Served(Child, String);

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn minoots() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minoots"));
    for name in [
        "MINOOTS_LISTEN",
        "MINOOTS_DATA",
        "MINOOTS_URL",
        "MINOOTS_API_KEY",
        "MINOOTS_TENANT",
        "RUST_LOG",
        "TZ",
    ] {
        command.env_remove(name);
    }
    command.env("CHRONOTICK_SHM", "/nowhere/page");
    command
}

fn serve(data: &std::path::Path) -> Served {
    let mut command = minoots();
    command.args(["serve", "--listen", "127.0.0.1:0", "--data"]).arg(data);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let url = line.split(' ').find(|w| w.starts_with("http://")).unwrap().to_string();
    Served(child, url)
}

fn run(url: &str, args: &[&str]) -> Output {
    minoots().args(args).args(["--url", url]).output().unwrap()
}

fn text(url: &str, args: &[&str]) -> String {
    let output = run(url, args);
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn json(url: &str, args: &[&str]) -> Vec<Value> {
    let text = text(url, &[args, &["--json"]].concat());
    text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
}

#[test]
fn a_timer_from_create_to_cancel() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let url = served.1.as_str();
    let made = json(url, &["timers", "create", "in", "20m", "--name", "tea", "--tag", "hot"]).remove(0);
    let id = made["id"].as_str().unwrap();
    assert_eq!((&made["state"], &made["name"]), (&"scheduled".into(), &"tea".into()));
    let listed = text(url, &["timers", "list", "--state", "scheduled", "--tag", "hot"]);
    assert!(listed.starts_with("ID") && listed.contains(id) && !listed.contains('\x1b'), "{listed}");
    assert_eq!(json(url, &["timers", "get", id])[0], made);
    let moved = json(url, &["timers", "reschedule", id, "2h"]).remove(0);
    assert!(moved["due_at"].as_str() > made["due_at"].as_str());
    assert_eq!(json(url, &["timers", "pause", id])[0]["state"], "paused");
    assert_eq!(json(url, &["timers", "resume", id])[0]["state"], "scheduled");
    text(url, &["timers", "fire", id]);
    let ended = json(url, &["timers", "watch", id]).pop().unwrap();
    assert_eq!(ended["state"], "completed");
    assert_eq!(json(url, &["timers", "history", id])[0]["outcome"]["kind"], "fired");
    let firing = ended["last_fire"]["firing_id"].as_str().unwrap();
    assert!(
        json(url, &["timers", "ack", firing, "--by", "me"])[0]["last_fire"]["acknowledged_at"].is_string()
    );
    let bulk = text(url, &["timers", "create", "1h", "--count", "3"]);
    let other = bulk.lines().next().unwrap();
    assert_eq!(
        (bulk.lines().count(), &json(url, &["timers", "cancel", other])[0]["state"]),
        (3, &"cancelled".into())
    );
    let events = json(url, &["events", "tail", "--from-start", "--limit", "1"]);
    assert_eq!(events[0]["kind"], "timer.scheduled");
    assert!(text(url, &["doctor", "--data", dir.path().to_str().unwrap()]).contains("reachable"));
    text(url, &["schemas", "list"]);
    text(url, &["keys", "list"]);
}

#[test]
fn failures_have_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let url = served.1.as_str();
    for (url, args, code) in [
        (url, &["timers", "get", "nobody"][..], 3),
        (url, &["timers", "create", "soon"], 2),
        (url, &["timers", "frobnicate"], 2),
        (url, &["import", "/nowhere"], 1),
        ("http://127.0.0.1:1", &["timers", "get", "x"], 4),
        ("http://127.0.0.1:1", &["keys", "list"], 4),
        ("nonsense", &["timers", "list"], 2),
    ] {
        let output = run(url, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty() && output.stdout.is_empty());
    }
}

#[test]
fn completions_and_man_pages_mention_each_verb() {
    let verbs =
        ["serve", "timers", "events", "keys", "tenants", "secrets", "schemas", "policy", "audit", "doctor"];
    for shell in ["bash", "zsh", "fish"] {
        let script = text("http://127.0.0.1:1", &["completions", shell]);
        for verb in verbs {
            assert!(script.contains(verb), "{shell} lacks {verb}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    text("http://127.0.0.1:1", &["man", dir.path().to_str().unwrap()]);
    for verb in verbs {
        assert!(std::fs::metadata(dir.path().join(format!("minoots-{verb}.1"))).unwrap().len() > 0, "{verb}");
    }
}
