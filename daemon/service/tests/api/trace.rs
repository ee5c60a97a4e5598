//! The program killed, and the program that tells everything: no line of the audit is lost, and no secret is told.

use crate::harness::{Answer, Sink, client};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use minoots::access::secret::{KeyText, system_random};
use minoots::audit;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};

/// A program that serves a directory and asks for keys, with all of its log in a file.
struct Program {
    child: Child,
    url: String,
}

impl Program {
    fn start(dir: &Path, key: &str, master: &str, log: &str) -> Self {
        let config = dir.join("config.toml");
        std::fs::write(&config, "[auth]\nmode = \"required\"\n").unwrap();
        let stderr = std::fs::File::options().create(true).append(true).open(dir.join("stderr")).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_minoots"))
            .args(["serve", "--listen", "127.0.0.1:0", "--config", config.to_str().unwrap()])
            .args(["--data", dir.join("data").to_str().unwrap()])
            .env("CHRONOTICK_SHM", "/nowhere/page")
            .env("MINOOTS_BOOTSTRAP_KEY", key)
            .env("MINOOTS_MASTER_KEY", master)
            .env("RUST_LOG", log)
            .stdout(Stdio::piped())
            .stderr(stderr)
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
        let at = line.split("http://").nth(1).and_then(|rest| rest.split(' ').next());
        let url = format!("http://{}", at.unwrap_or_else(|| panic!("{line:?}")));
        Self { child, url }
    }

    async fn ask(&self, method: &str, path: &str, bearer: &str, body: Option<Value>) -> Answer {
        let method = method.parse().unwrap();
        let mut request = client().request(method, format!("{}{path}", self.url)).bearer_auth(bearer);
        if let Some(body) = body {
            request = request.header("content-type", "application/json").body(body.to_string());
        }
        Answer::of(request).await
    }

    fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

fn keys() -> (String, String) {
    let key = KeyText::random(&system_random()).unwrap().reveal().to_string();
    let master = STANDARD.encode(key.bytes().cycle().take(32).collect::<Vec<_>>());
    (key, master)
}

fn audit_text(dir: &Path) -> String {
    let mut out = Vec::new();
    audit::export(&dir.join("data/audit"), &audit::Filters::default(), &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_has_its_line_after_a_kill() {
    const LIVES: usize = 6;
    let dir = tempfile::tempdir().unwrap();
    let (key, master) = keys();
    let mut answered = BTreeSet::new();
    for life in 0..LIVES {
        let program = Program::start(dir.path(), &key, &master, "warn");
        let (http, url) = (client(), format!("{}/v1/timers", program.url));
        let (told, mut ids) = tokio::sync::mpsc::unbounded_channel();
        let tasks: Vec<_> = (0..8)
            .map(|_| {
                let (http, url, key, told) = (http.clone(), url.clone(), key.clone(), told.clone());
                tokio::spawn(async move {
                    let body = json!({"name": "n", "after": "1h"}).to_string();
                    loop {
                        let request = http.post(&url).bearer_auth(&key).body(body.clone());
                        // The program is dead, or the answer was cut off: then nothing was acknowledged.
                        let Ok(answer) = request.header("content-type", "application/json").send().await
                        else {
                            return;
                        };
                        let Ok(text) = answer.text().await else { return };
                        let Ok(answer) = serde_json::from_str::<Value>(&text) else { return };
                        let _ = told.send(answer["id"].as_str().unwrap().to_string());
                    }
                })
            })
            .collect();
        for _ in 0..50 + 37 * life {
            answered.insert(ids.recv().await.unwrap());
        }
        program.kill();
        for task in tasks {
            task.await.unwrap();
        }
        drop(told);
        while let Some(id) = ids.recv().await {
            answered.insert(id);
        }
        let lines = audit_text(dir.path());
        let lost = answered.iter().filter(|id| !lines.contains(id.as_str())).count();
        assert_eq!(lost, 0, "of {} in life {life}", answered.len());
    }
    // The next start says that the one before was cut off.
    let program = Program::start(dir.path(), &key, &master, "warn");
    let made = program.ask("POST", "/v1/timers", &key, Some(json!({"name": "n", "after": "1h"}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    program.kill();
    let lines = audit_text(dir.path());
    assert_eq!(lines.matches("\"audit.cut_off\"").count(), LIVES, "{lines}");
    let report = audit::verify(&dir.path().join("data/audit")).unwrap();
    assert!(report.is_whole(), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn no_secret_is_told_however_much_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let (key, master) = keys();
    let program = Program::start(dir.path(), &key, &master, "trace");
    let value = "hidden-value-of-a-secret-1f3a";
    let wrong_key = KeyText::random(&system_random()).unwrap().reveal().to_string();
    let token = "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJoaWRkZW4ifQ.aGlkZGVuLXNpZ25hdHVyZQ";
    let made = program.ask("POST", "/v1/keys", &key, Some(json!({"name": "second", "role": "admin"}))).await;
    assert_eq!(made.status, 201, "{}", made.text);
    let second = made.json()["secret"].as_str().unwrap().to_string();
    for bearer in [wrong_key.as_str(), token] {
        assert_eq!(program.ask("GET", "/v1/timers", bearer, None).await.status, 401);
    }
    let set = program.ask("PUT", "/v1/secrets/hook", &second, Some(json!({"value": value}))).await;
    assert_eq!(set.status, 201, "{}", set.text);
    let mut sink = Sink::start([]).await;
    let action = json!([{"id": "call", "kind": "webhook", "parameters": {
        "url": sink.url, "headers": {"x-token": "Bearer ${secret:hook}"}}}]);
    let timer = json!({"name": "n", "after": "0s", "actions": action});
    let made = program.ask("POST", "/v1/timers", &second, Some(timer)).await;
    assert_eq!(made.status, 201, "{}", made.text);
    assert_eq!(sink.next().await.header("x-token"), format!("Bearer {value}"));
    let path = format!("/v1/timers/{}", made.json()["id"].as_str().unwrap());
    while program.ask("GET", &path, &second, None).await.json()["state"] != "completed" {
        tokio::task::yield_now().await;
    }
    program.kill();
    let mut log = String::new();
    std::fs::File::open(dir.path().join("stderr")).unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("TRACE"), "the log is not as talkative as it was asked to be");
    let audit = audit_text(dir.path());
    let told = [
        ("the bootstrap key", key.as_str()),
        ("a key", &second),
        ("a wrong key", &wrong_key),
        ("a token", token),
        ("a secret", value),
        ("the master key", &master),
    ];
    for (what, text) in told {
        // The part that is not the public id of a key.
        let text = &text[text.len() - text.len().min(24)..];
        for (place, all) in [("log", &log), ("audit", &audit)] {
            let line = all.lines().find(|line| line.contains(text));
            assert!(line.is_none(), "{what} is in the {place}: {line:?}");
        }
    }
}
