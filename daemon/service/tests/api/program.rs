//! The program itself: its first line, its exit codes, its signals.

use crate::harness::client;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

fn minoots(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minoots"));
    for name in ["MINOOTS_LISTEN", "MINOOTS_DATA", "RUST_LOG"] {
        command.env_remove(name);
    }
    // No page: a daemon that happens to run here must not come into it.
    command.env("CHRONOTICK_SHM", "/nowhere/page").args(args);
    command
}

fn run(args: &[&str]) -> Output {
    minoots(args).output().unwrap()
}

/// A served directory: the process and its first line.
fn serve(data: &Path) -> (Child, String) {
    let mut child = minoots(&["serve", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    (child, line)
}

fn signal(child: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

fn address(line: &str) -> &str {
    line.split("http://").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_else(|| panic!("{line:?}"))
}

#[tokio::test]
async fn the_first_line_says_where_and_a_signal_ends_it_well() {
    for name in ["TERM", "INT"] {
        let dir = tempfile::tempdir().unwrap();
        let (mut child, line) = serve(dir.path());
        assert!(line.starts_with("minoots listening on http://127.0.0.1:"), "{line:?}");
        assert!(line.contains(&format!("(data {}, clock: os", dir.path().display())), "{line:?}");
        let health = client().get(format!("http://{}/healthz", address(&line))).send().await.unwrap();
        assert_eq!(health.status(), 200);
        // A stream that is open must not hold up the end.
        let stream = client().get(format!("http://{}/v1/events", address(&line))).send().await.unwrap();
        signal(&child, name);
        let told = stream.text().await.unwrap();
        assert!(told.contains("event: end") && told.contains("shutting_down"), "{told}");
        assert_eq!(child.wait().unwrap().code(), Some(0), "SIG{name}");
    }
}

#[test]
fn what_stops_it_from_starting_is_one_clear_line() {
    fn check(output: &Output, code: i32, want: &[&str]) {
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{stderr}");
        assert!(output.stdout.is_empty(), "{output:?}");
        for part in want {
            assert!(stderr.contains(part), "{stderr:?} lacks {part:?}");
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let data_text = data.to_str().unwrap();
    check(&run(&["serve", "--lisen", "x"]), 2, &["--lisen", "--listen"]);
    check(&run(&[]), 2, &["serve"]);
    check(
        &run(&["serve", "--listen", "0.0.0.0:0", "--data", data_text]),
        2,
        &["--allow-remote-without-auth"],
    );
    let file = dir.path().join("minoots.toml");
    std::fs::write(&file, "lisen = '127.0.0.1:0'\n").unwrap();
    check(&run(&["serve", "--config", file.to_str().unwrap()]), 2, &["unknown field `lisen`", "`listen`"]);

    let (mut child, line) = serve(&data);
    let taken = address(&line).to_string();
    let other = dir.path().join("other");
    let in_use = run(&["serve", "--listen", &taken, "--data", other.to_str().unwrap()]);
    check(&in_use, 1, &["minoots: cannot listen on", &taken, "--listen"]);
    let locked = run(&["serve", "--listen", "127.0.0.1:0", "--data", data_text]);
    check(&locked, 1, &["minoots: ", data_text, "in use"]);
    signal(&child, "TERM");
    assert!(child.wait().unwrap().success());
    let mut log = String::new();
    child.stderr.take().unwrap().read_to_string(&mut log).unwrap();
    assert!(log.contains("SIGTERM"), "{log}");

    let a_file = dir.path().join("file");
    std::fs::write(&a_file, "").unwrap();
    let under_a_file = a_file.join("data");
    let unwritable = run(&["serve", "--listen", "127.0.0.1:0", "--data", under_a_file.to_str().unwrap()]);
    check(&unwritable, 1, &["minoots: cannot", under_a_file.to_str().unwrap()]);
}
