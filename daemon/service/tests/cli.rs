//! The command line against a real service.

#![expect(clippy::unwrap_used, reason = "a test fails where a step of it does")]

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
    start(&mut command)
}

fn start(command: &mut Command) -> Served {
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let url = line.split(' ').find(|w| w.starts_with("http://")).unwrap().to_string();
    Served(child, url)
}

fn serve_with_keys(data: &std::path::Path, key: &str) -> Served {
    let config = data.join("minoots.toml");
    std::fs::write(&config, "[auth]\nmode = \"required\"\n").unwrap();
    let mut command = minoots();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(config)
        .arg("--data")
        .arg(data.join("data"));
    start(command.env("MINOOTS_BOOTSTRAP_KEY", key))
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
    assert!(json(url, &["timers", "watch", id]).is_empty(), "it has ended: no event is left");
    let ended = json(url, &["timers", "watch", id, "--until-fired"]).pop().unwrap();
    assert_eq!(ended["state"], "completed");
    assert_eq!(json(url, &["timers", "history", id])[0]["outcome"]["kind"], "fired");
    assert!(text(url, &["timers", "history", id]).contains(" s early"));
    let firing = ended["last_fire"]["firing_id"].as_str().unwrap();
    assert!(
        json(url, &["timers", "ack", firing, "--by", "me"])[0]["last_fire"]["acknowledged_at"].is_string()
    );
    let receipt = dir.path().join("receipt.json");
    let signed = text(url, &["timers", "receipt", id, firing]);
    let path = receipt.to_str().unwrap();
    std::fs::write(&receipt, &signed).unwrap();
    assert!(text(url, &["verify", "receipt", path]).contains("signature: good"));
    let jwks = dir.path().join("jwks.json");
    std::fs::write(&jwks, text(url, &["signing", "keys", "--json"])).unwrap();
    text(url, &["signing", "rotate"]);
    let offline = ["verify", "receipt", path, "--keys", jwks.to_str().unwrap()];
    assert_eq!(json("http://127.0.0.1:1", &offline)[0]["timer_id"].as_str().unwrap_or(id), id);
    assert_eq!(run(url, &["verify", "event", path]).status.code(), Some(1), "a receipt is no event");
    std::fs::write(&receipt, signed.replacen(id, "x", 1)).unwrap();
    assert_eq!(run(url, &["verify", "receipt", path]).status.code(), Some(1), "it was altered");
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
        (url, &["timers", "create", "-5m"], 2),
        (url, &["timers", "create"], 2),
        (url, &["keys", "create", "k", "--role", "bogus"], 2),
        (url, &["tenants", "set", "t", "[1]"], 2),
        (url, &["events", "tail", "--cursor", "garbage"], 2),
        (url, &["tenants", "get", "nobody"], 3),
        (url, &["timers", "create", "1h", "--from-file", "x"], 2),
        (url, &["secrets", "rotate", "--ca-file", "/nowhere"], 2),
        (url, &["audit", "verify", "/nowhere"], 1),
        ("http://127.0.0.1:1", &["doctor", "--json"], 4),
        (url, &["import", "/nowhere"], 1),
        ("http://127.0.0.1:1", &["timers", "get", "x"], 4),
        ("http://127.0.0.1:1", &["keys", "list"], 4),
        ("nonsense", &["timers", "list"], 2),
    ] {
        let output = run(url, args);
        assert_eq!(output.status.code(), Some(code), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        assert!(!output.stderr.is_empty() && (output.stdout.is_empty() || args[0] == "doctor"), "{args:?}");
    }
}

#[test]
fn completions_and_man_pages_mention_each_verb() {
    let verbs = [
        "serve", "timers", "events", "keys", "tenants", "secrets", "schemas", "policy", "audit", "doctor",
        "verify", "signing",
    ];
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

#[test]
fn a_file_of_timers_is_created_and_bad_lines_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    let url = served.1.as_str();
    let file = dir.path().join("timers.jsonl");
    let lines = [
        r#"{"when": "in 20m", "name": "tea", "tags": ["file"]}"#,
        r#"{"when": "soon"}"#,
        "",
        r#"{"every": "1h", "count": 3, "agent": "kitchen", "tags": ["file"]}"#,
        r#"{"after": "999999w", "name": "far"}"#,
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let path = file.to_str().unwrap();
    let output = run(url, &["timers", "create", "--from-file", path]);
    let told = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{told}");
    assert_eq!(output.stdout.iter().filter(|b| **b == b'\n').count(), 2, "{told}");
    for line in [2, 5] {
        assert!(told.contains(&format!("{path}:{line}: ")), "{told}");
    }
    assert!(told.contains("2 of 4 timers were refused"), "{told}");
    assert_eq!(json(url, &["timers", "list", "--tag", "file"]).len(), 2);
    assert_eq!(json(url, &["timers", "list", "--agent", "kitchen"]).len(), 1);
    let mut child = minoots()
        .args(["timers", "create", "--from-file", "-", "--json", "--url", url])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Write::write_all(&mut child.stdin.take().unwrap(), b"[{\"cron\": \"@daily\"}]").unwrap();
    let made: Value = serde_json::from_slice(&child.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!(made["name"], "@daily");
}

#[test]
fn a_key_comes_from_a_file_or_the_environment() {
    let dir = tempfile::tempdir().unwrap();
    let key = format!("mnt_{}", "7".repeat(64));
    let served = serve_with_keys(dir.path(), &key);
    let url = served.1.as_str();
    let output = run(url, &["timers", "list"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--api-key-file"));
    let file = dir.path().join("key");
    std::fs::write(&file, format!("{key}\n")).unwrap();
    let with = ["--api-key-file", file.to_str().unwrap()];
    let admin = |args: &[&str]| json(url, &[args, &with[..]].concat());
    let by_environment =
        minoots().args(["timers", "list", "--url", url]).env("MINOOTS_API_KEY", &key).output().unwrap();
    assert!(by_environment.status.success());
    let made = admin(&["keys", "create", "worker", "--role", "operator", "--expires-after", "30d"]).remove(0);
    let id = made["id"].as_str().unwrap();
    assert!(admin(&["keys", "list"]).iter().any(|k| k["id"] == id && k["secret"].is_null()));
    assert!(admin(&["keys", "rotate", id, "--overlap", "1h"])[0]["secret"].is_string());
    assert!(admin(&["keys", "revoke", id])[0]["revoked_at"].is_string());
    // What is not named in a change of a tenant stays.
    let tenant = admin(&["tenants", "create", "acme", "--limits", r#"{"timers_pending": 10}"#]).remove(0);
    assert_eq!(admin(&["tenants", "disable", "acme"])[0]["disabled"], true);
    let set = admin(&["tenants", "set", "acme", r#"{"limits": {"streams": 3}}"#]).remove(0);
    assert_eq!((&set["disabled"], &set["limits"]["streams"]), (&true.into(), &3.into()));
    assert_eq!(set["limits"]["timers_pending"], 10);
    let enabled = admin(&["tenants", "enable", "acme"]).remove(0);
    assert_eq!((&enabled["disabled"], &enabled["name"]), (&false.into(), &tenant["name"]));
    assert_eq!(admin(&["tenants", "get", "acme"])[0], enabled);
    assert!(admin(&["tenants", "list"]).contains(&enabled));
    assert!(admin(&["tenants", "usage"])[0].is_object());
}

#[test]
fn the_audit_tells_altered_removed_and_reordered_lines() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(dir.path());
    for _ in 0..4 {
        text(&served.1, &["timers", "create", "1h"]);
    }
    // A clean stop writes what is queued and signs a checkpoint.
    let stopped = Command::new("kill").arg(served.0.id().to_string()).status().unwrap();
    assert!(stopped.success());
    let mut served = served;
    assert!(served.0.wait().unwrap().success());
    let audit = dir.path().join("audit");
    let verify = || run("http://127.0.0.1:1", &["audit", "verify", audit.to_str().unwrap()]);
    let output = verify();
    assert!(output.status.success(), "{output:?}");
    let segment = audit.join("audit-1.jsonl");
    let segment = std::fs::read_dir(&audit)
        .unwrap()
        .map(|e| e.unwrap().path())
        .find(|p| p.file_name().unwrap().to_str().unwrap().starts_with("audit-"))
        .unwrap_or(segment);
    let whole = std::fs::read_to_string(&segment).unwrap();
    let lines: Vec<&str> = whole.lines().collect();
    assert!(lines.len() >= 4);
    let altered = whole.replacen("timers.create", "timers.cancel", 1);
    let removed = [&lines[..1], &lines[2..]].concat().join("\n") + "\n";
    let reordered = [&lines[..1], &[lines[2], lines[1]], &lines[3..]].concat().join("\n") + "\n";
    for text in [altered, removed, reordered] {
        std::fs::write(&segment, text).unwrap();
        let output = verify();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        assert!(!output.stdout.is_empty() && String::from_utf8_lossy(&output.stderr).contains("not whole"));
    }
    std::fs::write(&segment, &whole).unwrap();
    // A reader that goes away is no failure.
    let mut child = minoots()
        .arg("audit")
        .arg("export")
        .arg(&audit)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[test]
fn every_sample_of_the_guide_runs() {
    let dir = tempfile::tempdir().unwrap();
    let served = serve(&dir.path().join("data"));
    let program = std::path::Path::new(env!("CARGO_BIN_EXE_minoots")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    let mut script = String::from("set -eu\n");
    let pages = [include_str!("../../../docs/cli.md")];
    for page in pages {
        let blocks = page.split("```sh\n").skip(1).filter_map(|b| b.split("\n```").next());

        for block in blocks {
            script.push_str(block);
            script.push('\n');
        }
    }
    assert!(script.lines().count() > 20, "{script}");
    let output = Command::new("sh")
        .args(["-c", &script])
        .current_dir(dir.path())
        .env("PATH", path)
        .env("MINOOTS_URL", &served.1)
        .env_remove("MINOOTS_API_KEY")
        .output()
        .unwrap();
    assert!(output.status.success(), "{script}\n{output:?}");
}
