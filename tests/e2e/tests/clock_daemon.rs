//! The clock daemon as a real process, against NTP servers that lie by known amounts.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick::os_clock::realtime;
use chronotick::{Client, Flags, Span, Status};
use e2e::clock_daemon::status_of;
use e2e::{Behaviour, ClockDaemon, LiarConfig, NtpLiar, bin, eventually, pause};
use serde_json::{Value, json};
use std::io::{Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

fn liar(offset_ms: i64, rate_ppm: i64) -> NtpLiar {
    let config = LiarConfig {
        offset_ns: offset_ms * 1_000_000,
        rate_ppb: rate_ppm * 1_000,
        behaviour: Behaviour::Answer,
    };
    NtpLiar::start(config).unwrap()
}

fn server(status: &Value, i: usize) -> Value {
    status["servers"][i].clone()
}

/// One reading between two readings of the truth; the bound must reach into that gap. Returns the worst error.
fn check_bound(client: &Client, liar: &NtpLiar) -> Span {
    let before = liar.true_time(realtime());
    let reading = client.now().unwrap();
    let after = liar.true_time(realtime());
    assert!(
        reading.bound.earliest() <= after && before <= reading.bound.latest(),
        "the truth is from {before:?} to {after:?}, the reading {reading:?}"
    );
    (reading.corrected - before).abs().max((reading.corrected - after).abs())
}

#[test]
fn it_converges_on_the_lie_within_its_bound() {
    let check = |offset_ms: i64, rate_ppm: i64| {
        let dir = tempfile::tempdir().unwrap();
        let liar = liar(offset_ms, rate_ppm);
        let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
        assert!(daemon.ready_line.contains("publishing to") && daemon.ready_line.contains("at 100 Hz"));
        let client = daemon.client();
        daemon.wait_for_line("-> synchronized");
        eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
        for _ in 0..400 {
            check_bound(&client, &liar);
            pause(Duration::from_millis(10));
        }
        // A scheduling hiccup may spoil one reading of the truth, hardly twenty.
        let best = (0..20).map(|_| check_bound(&client, &liar)).min().unwrap();
        let record = client.snapshot().unwrap();
        assert!(best < Span::from_ms(1), "off by {best} after all");
        let rate_error = (record.drift_rate - rate_ppm as f64 * 1e-6).abs();
        assert!(rate_error <= 5.0 * record.drift_uncertainty, "rate off by {rate_error}: {record:?}");
        assert!(record.offset_uncertainty > 0.0 && record.drift_uncertainty > 0.0 && record.max_error > 0.0);
        assert!(record.flags.has(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE));
        let status = daemon.status();
        assert_eq!(status["status"], "synchronized");
        assert!(["ntp", "cpu_model"].contains(&status["source"].as_str().unwrap()), "{status}");
        let offset = status["offset_seconds"].as_f64().unwrap();
        assert!((offset - offset_ms as f64 / 1e3).abs() < 0.005, "{status}");
        assert!(status["max_error_seconds"].as_f64().unwrap() > 0.0);
        assert_eq!(server(&status, 0)["state"], "selected");
        assert_eq!(server(&status, 0)["stratum"], 1);
        check_chronyc_terms(&daemon, offset_ms, rate_ppm);
    };
    check(250, 40);
    check(-86_400_000, -50);
}

#[test]
fn each_refusal_of_a_server_is_shown() {
    let check = |behaviour: Behaviour, state: &str, message: &str| {
        let dir = tempfile::tempdir().unwrap();
        let liar = NtpLiar::start(LiarConfig { behaviour, ..LiarConfig::default() }).unwrap();
        let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
        let status = eventually(message, || {
            let status = daemon.status();
            server(&status, 0)["last_error"].as_str().is_some_and(|e| e.contains(message)).then_some(status)
        });
        assert_eq!(status["status"], "no_data", "{status}");
        assert_eq!(status["offset_seconds"], Value::Null);
        assert_eq!(server(&status, 0)["state"], state, "{status}");
        assert_eq!(daemon.client().status(), Ok(Status::NoData));
        let table = String::from_utf8(status_of(daemon.page(), &[]).stdout).unwrap();
        assert!(table.contains(message) && table.contains("no_data"), "{table}");
    };
    check(Behaviour::KissOfDeath(*b"DENY"), "stopped", "kiss-o'-death DENY");
    check(Behaviour::KissOfDeath(*b"RSTR"), "stopped", "kiss-o'-death RSTR");
    check(Behaviour::KissOfDeath(*b"RATE"), "no_answer", "kiss-o'-death RATE");
    check(Behaviour::LeapAlarm, "no_answer", "leap alarm");
    check(Behaviour::Stratum16, "no_answer", "stratum 16");
    check(Behaviour::WrongOrigin, "no_answer", "origin is not our request");
    check(Behaviour::Silence, "no_answer", "no answer within");
    check(Behaviour::LargeRootDispersion, "no_answer", "root distance");
}

#[test]
fn a_server_that_denies_is_not_asked_again_and_rate_slows_down() {
    let dir = tempfile::tempdir().unwrap();
    let deny = Behaviour::KissOfDeath(*b"DENY");
    let denying = NtpLiar::start(LiarConfig { behaviour: deny, ..LiarConfig::default() }).unwrap();
    let rate = Behaviour::KissOfDeath(*b"RATE");
    let slowing = NtpLiar::start(LiarConfig { behaviour: rate, ..LiarConfig::default() }).unwrap();
    let daemon = ClockDaemon::start(dir.path(), &[denying.address(), slowing.address()], "");
    // At 1 s the third request would come after 2 s; doubled twice it comes after 2 + 4 s.
    eventually("a third request", || (slowing.served() >= 3).then_some(()));
    let status = eventually("the doubled interval", || {
        let status = daemon.status();
        (server(&status, 1)["poll_interval_seconds"].as_f64() == Some(8.0)).then_some(status)
    });
    assert!(status["daemon_uptime_seconds"].as_f64().unwrap() >= 6.0, "{status}");
    assert_eq!(denying.served(), 1);
}

#[test]
fn a_falseticker_is_named_and_outvoted() {
    let dir = tempfile::tempdir().unwrap();
    let (first, second, wrong) = (liar(100, 0), liar(100, 0), liar(600, 0));
    let servers = [first.address(), wrong.address(), second.address()];
    let daemon = ClockDaemon::start(dir.path(), &servers, "");
    daemon.wait_for_line(&format!("{} contradicts the majority", wrong.address()));
    let client = daemon.client();
    let status = eventually("a synchronized status that names it", || {
        let status = daemon.status();
        let named = server(&status, 1)["state"] == "falseticker" && status["status"] == "synchronized";
        named.then_some(status)
    });
    assert_eq!(server(&status, 0)["state"], "selected", "{status}");
    assert_eq!(server(&status, 2)["state"], "selected", "{status}");
    assert_eq!(status["agreement"], "majority");
    for _ in 0..100 {
        check_bound(&client, &first);
        pause(Duration::from_millis(5));
    }
}

#[test]
fn two_servers_that_contradict_each_other_give_no_time() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (liar(0, 0), liar(600, 0));
    let daemon = ClockDaemon::start(dir.path(), &[a.address(), b.address()], "");
    daemon.wait_for_line("none has a majority");
    let status = eventually("the status to say so", || {
        let status = daemon.status();
        (status["agreement"] == "no_majority").then_some(status)
    });
    assert_eq!(status["status"], "no_data", "{status}");
}

#[test]
fn silence_after_synchronization_is_holdover_with_a_growing_bound() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 10);
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    daemon.wait_for_line("-> synchronized");
    liar.set(Behaviour::Silence);
    daemon.wait_for_line("-> holdover");
    let client = daemon.client();
    eventually("holdover on the page", || (client.status() == Ok(Status::Holdover)).then_some(()));
    let first = client.now().unwrap().max_error();
    check_bound(&client, &liar);
    // By more than what the reading of the clocks may be off from one page to the next.
    eventually("the bound to grow", || {
        (client.now().unwrap().max_error() > first + Span::from_us(10)).then_some(())
    });
    liar.set(Behaviour::Answer);
    daemon.wait_for_line("holdover -> synchronized");
    check_bound(&client, &liar);
}

#[test]
fn without_any_server_it_says_whom_it_tried() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = {
        let nobody = (liar(0, 0), liar(0, 0));
        (nobody.0.address(), nobody.1.address())
    };
    let daemon = ClockDaemon::start(dir.path(), &[a.clone(), b.clone()], "");
    let line = daemon.wait_for_line("no NTP server answers yet");
    assert!(line.contains(&format!("tried {a}, {b}")), "{line}");
    assert_eq!(daemon.client().status(), Ok(Status::NoData));
}

#[test]
fn a_second_daemon_is_refused_and_told_who_holds_the_page() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(0, 0);
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    eventually("the status file", || (daemon.status()["pid"] == daemon.pid()).then_some(()));
    let output = run(&["run", "--shm", daemon.page().to_str().unwrap(), "--server", &liar.address()]);
    let said = refused(&output);
    assert!(said.contains(&format!("pid {}", daemon.pid())) && said.contains("--shm"), "{said}");
}

#[test]
fn a_termination_withdraws_the_page_and_leaves_it() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 0);
    let mut daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    assert_eq!(daemon.terminate().code(), Some(0));
    let record = client.snapshot().unwrap();
    assert!(!record.flags.has(Flags::VALID));
    assert_eq!(record.offset_uncertainty, 1e9);
    let reading = client.now().unwrap();
    assert_eq!(reading.status, Status::Expired);
    assert!(reading.bound.is_unbounded());
    let output = status_of(daemon.page(), &["--json"]);
    assert_eq!(output.status.code(), Some(1));
    let status: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&status["status"], &status["running"]), (&Value::from("expired"), &Value::from(false)));
}

#[test]
fn after_a_kill_the_next_daemon_repairs_the_same_page() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 0);
    let mut daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    let inode = std::fs::metadata(daemon.page()).unwrap().ino();
    assert_eq!(daemon.kill().code(), None);
    // The page outlives its daemon for a while, but whoever asks is told.
    let output = status_of(daemon.page(), &[]);
    assert_eq!(output.status.code(), Some(1));
    let table = String::from_utf8(output.stdout).unwrap();
    assert!(table.contains("expired") && table.contains("chronotick-daemon run"), "{table}");
    // As if it had been killed in the middle of a write: the kill itself hits that moment too rarely.
    let file = std::fs::OpenOptions::new().read(true).write(true).open(daemon.page()).unwrap();
    let mut low = [0];
    file.read_exact_at(&mut low, 68).unwrap();
    file.write_all_at(&[low[0] | 1], 68).unwrap();
    let next = ClockDaemon::start(dir.path(), &[liar.address()], "");
    next.wait_for_line("the page is repaired");
    next.wait_for_line("-> synchronized");
    assert_eq!(std::fs::metadata(next.page()).unwrap().ino(), inode);
    // The reader of before goes on without attaching again.
    eventually("the old reader sees the new daemon", || {
        (client.status() == Ok(Status::Synchronized)).then_some(())
    });
    check_bound(&client, &liar);
}

#[test]
fn a_restart_goes_on_with_the_correction_although_the_server_is_gone() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 10);
    let state = dir.path().join("state/s.json");
    let extra = format!("state_file = '{}'", state.display());
    let mut daemon = ClockDaemon::start(dir.path(), &[liar.address()], &extra);
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    pause(Duration::from_secs(2));
    liar.set(Behaviour::Silence);
    assert_eq!(daemon.terminate().code(), Some(0));
    assert_eq!(client.status(), Ok(Status::Expired), "withdrawn");
    let saved: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
    let before = Span::from_ns(saved["correction"]["max_error_ns"].as_i64().unwrap());
    assert!(saved["discipline"].is_object(), "{saved}");
    let mut next = ClockDaemon::start(dir.path(), &[liar.address()], &extra);
    // It was published before the daemon said that it is ready.
    check_bound(&client, &liar);
    assert_eq!(client.status(), Ok(Status::Holdover));
    assert!(client.now().unwrap().max_error() > before);
    assert_eq!(next.status()["status"], "holdover");
    next.wait_for_line("no_data -> holdover");
    // A crash saves nothing more, and what was saved is still true.
    next.kill();
    let third = ClockDaemon::start(dir.path(), &[liar.address()], &extra);
    check_bound(&client, &liar);
    assert_eq!(client.status(), Ok(Status::Holdover));
    liar.set(Behaviour::Answer);
    third.wait_for_line("-> synchronized");
    check_bound(&client, &liar);
}

#[test]
fn a_state_file_that_cannot_be_used_is_refused_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 10);
    let state = dir.path().join("s.json");
    let extra = format!("state_file = '{}'", state.display());
    let check = |text: &str, why: &str| {
        std::fs::write(&state, text).unwrap();
        let mut daemon = ClockDaemon::start(dir.path(), &[liar.address()], &extra);
        assert_eq!(daemon.client().status(), Ok(Status::NoData), "{why}");
        let line = daemon.wait_for_line("is not used");
        assert!(line.contains(why) && line.contains("warning"), "{line}");
        assert_eq!(daemon.terminate().code(), Some(0));
        let written: Value = serde_json::from_slice(&std::fs::read(&state).unwrap()).unwrap();
        assert_eq!(written["version"], 1);
    };
    check("{\"version\": 1, \"boot_id\"", "damaged");
    check("{\"version\": 77, \"boot_id\": \"\"}", "version 77");
    check("{\"version\": 1, \"boot_id\": \"another\"}", "another boot");
}

/// How long a reader that asks all the time has no time over a restart. Measured and printed, not asserted: see
/// docs/clock-daemon.md.
#[test]
fn the_gap_of_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 10);
    let extra = format!("state_file = '{}'", dir.path().join("s.json").display());
    let mut daemon = ClockDaemon::start(dir.path(), &[liar.address()], &extra);
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    let stop = std::sync::atomic::AtomicBool::new(false);
    let gap = std::thread::scope(|s| {
        let reader = s.spawn(|| {
            let (mut last_good, mut longest) = (chronotick::os_clock::boottime(), Span::ZERO);
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                let status = client.status();
                let now = chronotick::os_clock::boottime();
                if matches!(status, Ok(Status::Synchronized | Status::Holdover | Status::WarmingUp)) {
                    longest = longest.max(now - last_good);
                    last_good = now;
                }
            }
            longest
        });
        daemon.terminate();
        let _next = ClockDaemon::start(dir.path(), &[liar.address()], &extra);
        pause(Duration::from_millis(100));
        stop.store(true, std::sync::atomic::Ordering::Relaxed);
        reader.join().unwrap()
    });
    println!("the gap of a restart: {gap}");
}

#[test]
fn a_page_that_somebody_removes_comes_back() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 0);
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    let inode = std::fs::metadata(daemon.page()).unwrap().ino();
    std::fs::remove_file(daemon.page()).unwrap();
    daemon.wait_for_line("restored");
    assert_eq!(std::fs::metadata(daemon.page()).unwrap().ino(), inode);
}

#[test]
fn a_dead_daemons_page_expires() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar(20, 0);
    let mut daemon = ClockDaemon::start(dir.path(), &[liar.address()], "validity_s = 2");
    daemon.wait_for_line("-> synchronized");
    let client = daemon.client();
    daemon.kill();
    eventually("expiry", || (client.status() == Ok(Status::Expired)).then_some(()));
}

#[test]
fn bad_input_is_refused_with_what_to_do() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page");
    let config = dir.path().join("c.toml");
    let check_config = |text: &str, wanted: &[&str]| {
        std::fs::write(&config, text).unwrap();
        let output = run(&["run", "--config", config.to_str().unwrap(), "--shm", page.to_str().unwrap()]);
        let said = refused(&output);
        assert!(wanted.iter().all(|w| said.contains(w)), "{text:?}: {said}");
        assert!(!page.exists());
    };
    check_config("pol_min = 3", &["pol_min", "`min_poll_s`", "`servers`"]);
    check_config("servers = []", &["at least one server"]);
    check_config("servers = ['a:b:c']", &["a:b:c", "HOST:PORT"]);
    check_config("rate_hz = 2000", &["rate_hz", "1 to 1000"]);
    let output = run(&["run", "--config", "/nonexistent/c.toml", "--shm", page.to_str().unwrap()]);
    assert!(refused(&output).contains("/nonexistent/c.toml"));
    let output = run(&["run", "--rate", "0"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("1..=1000"), "{output:?}");
}

#[test]
fn a_missing_truncated_or_foreign_page_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page");
    let said = refused(&status_of(&page, &[]));
    assert!(
        said.starts_with("ChronoTick daemon not running. Start it with: chronotick-daemon run"),
        "{said}"
    );
    let check = |content: &[u8], wanted: &str| {
        std::fs::write(&page, content).unwrap();
        let said = refused(&status_of(&page, &[]));
        assert!(said.contains(wanted), "status: {said}");
        let said = refused(&run(&["run", "--shm", page.to_str().unwrap()]));
        assert!(said.contains(&format!("rm -f {}", page.display())), "run: {said}");
        assert_eq!(std::fs::read(&page).unwrap(), content, "left as it was");
    };
    check(&[0; 64], "64 bytes long");
    check(&[0xff; 128], "clock page:");
    std::fs::remove_file(&page).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", &page).unwrap();
    assert!(refused(&run(&["run", "--shm", page.to_str().unwrap()])).contains("not a regular file"));
    assert!(Path::new("/etc/passwd").exists());
}

/// `sources` and `tracking` of a daemon that is synchronized with one server.
fn check_chronyc_terms(daemon: &ClockDaemon, offset_ms: i64, rate_ppm: i64) {
    let shm = daemon.page().to_str().unwrap();
    let json = |verb: &str| -> Value {
        let output = run(&[verb, "--shm", shm, "--json"]);
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let text = |verb: &str| String::from_utf8(run(&[verb, "--shm", shm]).stdout).unwrap();
    let tracking = json("tracking");
    assert_eq!((&tracking["stratum"], &tracking["leap"]), (&2.into(), &"normal".into()), "{tracking}");
    assert!(
        (tracking["offset_seconds"].as_f64().unwrap() - offset_ms as f64 / 1e3).abs() < 0.005,
        "{tracking}"
    );
    // A few seconds after the start, on a busy machine.
    let skew_ppm = tracking["skew_ppm"].as_f64().unwrap();
    let off_ppm = (tracking["frequency_ppm"].as_f64().unwrap() - rate_ppm as f64).abs();
    assert!(off_ppm <= 1.0 + 5.0 * skew_ppm, "{tracking}");
    for name in ["last_offset_seconds", "rms_offset_seconds", "root_delay_seconds"] {
        assert!(tracking[name].as_f64().unwrap().abs() < 1.0, "{name}: {tracking}");
    }
    let table = text("tracking");
    let direction = if offset_ms < 0 { "fast of corrected time" } else { "slow of corrected time" };
    assert!(table.contains("Leap status     : Normal") && table.contains(direction), "{table}");
    let sources = json("sources");
    assert_eq!((&sources[0]["mark"], &sources[0]["mode"]), (&"*".into(), &"server".into()), "{sources}");
    let table = text("sources");
    assert!(
        table.contains(&format!("^* {}", server(&daemon.status(), 0)["address"].as_str().unwrap())),
        "{table}"
    );
}

fn get(address: &str, path: &str) -> (u16, String) {
    ask(address, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"))
}

fn post(address: &str, path: &str, body: &Value) -> (u16, Value) {
    let body = body.to_string();
    let length = body.len();
    let (code, text) = ask(
        address,
        &format!("POST {path} HTTP/1.1\r\nHost: {address}\r\nContent-Length: {length}\r\n\r\n{body}"),
    );
    (code, serde_json::from_str(&text).unwrap())
}

fn ask(address: &str, request: &str) -> (u16, String) {
    let mut stream = std::net::TcpStream::connect(address).unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// A port that nobody has; somebody else might be faster to take it, but hardly.
fn free_address() -> String {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string()
}

#[test]
fn metrics_status_and_health_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let (liar, address) = (liar(20, 10), free_address());
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], &format!("metrics = '{address}'"));
    // Somebody who connects and says nothing.
    let _silent: Vec<_> = (0..100).map(|_| std::net::TcpStream::connect(&address).unwrap()).collect();
    daemon.wait_for_line("-> synchronized");
    eventually("a healthy answer", || (get(&address, "/healthz").0 == 200).then_some(()));
    let metrics = eventually("a synchronized page", || {
        let (code, metrics) = get(&address, "/metrics");
        assert_eq!(code, 200);
        metrics.contains("chronotick_status{status=\"synchronized\"} 1").then_some(metrics)
    });
    for want in [
        "# TYPE chronotick_max_error_seconds gauge\nchronotick_max_error_seconds 0.0",
        &format!("chronotick_source_state{{source=\"{}\",state=\"selected\"}} 1", liar.address()),
        "chronotick_disruptions_total 0",
    ] {
        assert!(metrics.contains(want), "{want}: {metrics}");
    }
    check_with_promtool(&metrics);
    let (code, status) = get(&address, "/status");
    let status: Value = serde_json::from_str(&status).unwrap();
    assert_eq!((code, &status["status"]), (200, &"synchronized".into()));
    // The same names as on the command line.
    let names = |v: &Value| v.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&status), names(&daemon.status()));
    assert_eq!(get(&address, "/nothing").0, 404);
    the_time_is_served(&address);
    let output = run(&["run", "--shm", dir.path().join("other").to_str().unwrap(), "--metrics", &address]);
    assert!(refused(&output).contains("choose another address"), "{output:?}");
}

/// Now, ahead, and when it comes.
fn the_time_is_served(address: &str) {
    let ns = |v: &Value| v.as_str().unwrap().parse::<i64>().unwrap();
    let time = |path: &str| -> Value { serde_json::from_str(&get(address, path).1).unwrap() };
    let (now, ahead) = (time("/v1/time"), time("/v1/bounds?duration_seconds=60"));
    assert!(ns(&now["earliest_ns"]) <= ns(&now["corrected_ns"]) && now["status"] == "synchronized", "{now}");
    let later_ns = ns(&ahead["corrected_ns"]) - ns(&now["corrected_ns"]);
    assert!((59_900_000_000..70_000_000_000).contains(&later_ns), "{ahead}");
    assert!(ahead["max_error_seconds"].as_f64() > now["max_error_seconds"].as_f64(), "{now} {ahead}");
    let target_ns = ns(&time("/v1/time")["corrected_ns"]) + 300_000_000;
    let wanted = json!({ "target_ns": target_ns.to_string() });
    let (code, waited) = post(address, "/v1/wait", &wanted);
    assert_eq!(code, 200, "{waited}");
    assert!(ns(&waited["time"]["corrected_ns"]) >= target_ns, "{waited}");
    let (code, past) = post(address, "/v1/wait", &json!({ "target_seconds": 1.0 }));
    assert!(code == 422 && past["error"].as_str().unwrap().contains("ago"), "{past}");
    assert_eq!(get(address, "/v1/bounds?duration_seconds=-1").0, 422);
    assert_eq!(time("/openapi.json")["openapi"], "3.1.0");
}

fn check_with_promtool(metrics: &str) {
    let promtool = Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        println!("skipped: promtool is not installed");
        return;
    };
    promtool.stdin.take().unwrap().write_all(metrics.as_bytes()).unwrap();
    assert!(promtool.wait().unwrap().success());
}

#[test]
fn systemd_is_told_and_json_is_logged() {
    let dir = tempfile::tempdir().unwrap();
    let socket = std::os::unix::net::UnixDatagram::bind(dir.path().join("notify")).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let liar = liar(20, 10);
    let path = dir.path().join("notify");
    let environment = [("NOTIFY_SOCKET", path.to_str().unwrap()), ("WATCHDOG_USEC", "600000")];
    let servers = [liar.address()];
    let mut daemon = ClockDaemon::start_with(dir.path(), &servers, "log_format = 'json'", &environment);
    let mut said = Vec::new();
    let mut until = |want: &str| {
        let mut bytes = [0; 4096];
        while !said.iter().any(|s: &String| s.contains(want)) {
            let length = socket.recv(&mut bytes).unwrap_or_else(|e| panic!("no {want} ({e}): {said:?}"));
            said.push(String::from_utf8_lossy(&bytes[..length]).into_owned());
        }
    };
    until("READY=1\nSTATUS=no data, 0 of 1 servers agree");
    until("STATUS=synchronized, bound ");
    until("WATCHDOG=1");
    let line: Value = serde_json::from_str(&daemon.wait_for_line("\"to\":\"synchronized\"")).unwrap();
    assert_eq!((&line["event"], &line["level"]), (&"state".into(), &"info".into()), "{line}");
    assert!(line["time"].as_str().unwrap().ends_with('Z') && line["max_error_seconds"].is_f64(), "{line}");
    daemon.terminate();
    until("STOPPING=1");
}

#[test]
fn a_page_made_by_root_is_published_by_whom_its_group_lets() {
    let dir = tempfile::tempdir().unwrap();
    let page = dir.path().join("page");
    let shm = page.to_str().unwrap();
    let made = run(&["create-page", "--shm", shm, "--mode", "0664"]);
    assert!(made.status.success(), "{made:?}");
    let (inode, mode) = (std::fs::metadata(&page).unwrap().ino(), std::fs::metadata(&page).unwrap().mode());
    assert_eq!(mode & 0o777, 0o664);
    // Again, as at the next start of the unit.
    assert!(run(&["create-page", "--shm", shm, "--mode", "0664"]).status.success());
    assert_eq!(std::fs::metadata(&page).unwrap().ino(), inode);
    let liar = liar(20, 0);
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], "");
    assert_eq!(std::fs::metadata(&page).unwrap().ino(), inode);
    let output = run(&["create-page", "--shm", shm]);
    assert!(refused(&output).contains("another daemon"), "{output:?}");
    daemon.wait_for_line("-> synchronized");
    drop(daemon);
    if !rustix::process::geteuid().is_root() {
        println!("skipped: only root can make a page for another user");
        return;
    }
    // A user who is not root: owner root, group of the daemon's.
    std::os::unix::fs::chown(&page, Some(0), Some(65_534)).unwrap();
    std::fs::set_permissions(&page, std::fs::Permissions::from_mode(0o664)).unwrap();
    let shared = std::fs::Permissions::from_mode(0o1777);
    std::fs::set_permissions(dir.path(), shared).unwrap();
    let daemon = ClockDaemon::start_as(65_534, dir.path(), &[liar.address()]);
    daemon.wait_for_line("-> synchronized");
    let meta = std::fs::metadata(&page).unwrap();
    assert_eq!((meta.ino(), meta.uid(), meta.mode() & 0o777), (inode, 0, 0o664));
    let client = daemon.client();
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));
    check_bound(&client, &liar);
    std::fs::remove_file(&page).unwrap();
    daemon.wait_for_line("restored");
    assert_eq!(std::fs::metadata(&page).unwrap().ino(), inode);
}

fn run(arguments: &[&str]) -> Output {
    Command::new(bin("chronotick-daemon")).args(arguments).output().unwrap()
}

/// Standard error of a program that must have ended with 1.
fn refused(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stderr.clone()).unwrap()
}
