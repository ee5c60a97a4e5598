//! A chronyd on this machine as a source, and as a client that we serve.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick::os_clock::realtime;
use e2e::{Chronyd, ClockDaemon, LiarConfig, NtpLiar, eventually, free_port};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

/// The lie of the servers in these tests: whoever follows them is so far ahead of the system clock.
const LIE_NS: i64 = 3_250_000_000;

fn liar() -> NtpLiar {
    NtpLiar::start(LiarConfig { offset_ns: LIE_NS, ..LiarConfig::default() }).unwrap()
}

/// The first source of `status --json`, once it has an offset.
fn offset_of_first_source(daemon: &ClockDaemon) -> f64 {
    eventually("an offset", || daemon.status()["servers"][0]["offset_seconds"].as_f64())
}

#[test]
fn chronyds_estimate_and_bound_are_taken_over() {
    let dir = tempfile::tempdir().unwrap();
    let (liar, command_port) = (liar(), free_port());
    let (host, port) = liar.address().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let config = format!(
        "port 0\nserver {host} port {port} iburst minpoll 0 maxpoll 0\ncmdport {command_port}\n\
         bindcmdaddress 127.0.0.1\n"
    );
    let Some(_chronyd) = Chronyd::start(dir.path(), 0, &config) else { return };
    let daemon = ClockDaemon::start(dir.path(), &[], &format!("chrony = '127.0.0.1:{command_port}'"));
    assert!(daemon.ready_line.contains(&format!("chrony 127.0.0.1:{command_port}")), "{}", daemon.ready_line);
    let offset = offset_of_first_source(&daemon);
    assert!((offset - LIE_NS as f64 * 1e-9).abs() < 0.005, "{offset}");
    let client = daemon.client();
    let (before, reading, after) = eventually("a bound", || {
        let before = liar.true_time(realtime());
        let reading = client.now().unwrap();
        let after = liar.true_time(realtime());
        (!reading.bound.is_unbounded()).then_some((before, reading, after))
    });
    assert!(reading.bound.earliest() <= after && before <= reading.bound.latest(), "{reading:?} {before:?}");
    let server = daemon.status()["servers"][0].clone();
    assert_eq!((&server["stratum"], &server["authenticated"]), (&2.into(), &false.into()), "{server}");
}

#[test]
fn chronyd_is_asked_through_its_socket_as_well() {
    let dir = tempfile::tempdir().unwrap();
    let liar = liar();
    let (host, port) = liar.address().rsplit_once(':').map(|(h, p)| (h.to_owned(), p.to_owned())).unwrap();
    let socket = dir.path().join("command/chronyd.sock");
    let config = format!(
        "port 0\nserver {host} port {port} iburst minpoll 0 maxpoll 0\ncmdport 0\nbindcmdaddress {}\n",
        socket.display()
    );
    let Some(_chronyd) = Chronyd::start(dir.path(), 0, &config) else { return };
    let daemon = ClockDaemon::start(dir.path(), &[], &format!("chrony = '{}'", socket.display()));
    let offset = offset_of_first_source(&daemon);
    assert!((offset - LIE_NS as f64 * 1e-9).abs() < 0.005, "{offset}");
    // Nothing of ours is left beside it.
    drop(daemon);
    let names = std::fs::read_dir(socket.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name());
    let ours: Vec<_> = names.filter(|n| n.to_string_lossy().starts_with("chronotick")).collect();
    assert!(ours.len() <= 1, "at most the one that was open when the daemon was killed: {ours:?}");
}

/// What `chronyd -Q` measures against a server on loopback, in seconds.
fn measured_by_chronyd(directory: &Path, port: u16) -> Option<f64> {
    let program = Chronyd::find()?;
    let config = directory.join("client.conf");
    let text = format!(
        "server 127.0.0.1 port {port} iburst minpoll 0 maxsamples 4\nport 0\ncmdport 0\nbindcmdaddress /\n\
         pidfile {}/client.pid\n",
        directory.display()
    );
    std::fs::write(&config, text).unwrap();
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let output = Command::new(program)
        .args(["-Q", "-t", "20", "-x", "-U", "-u", user.trim(), "-f"])
        .arg(&config)
        .output()
        .unwrap();
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let words: Vec<&str> = said.split_whitespace().collect();
    let at = words.iter().position(|&w| w == "by").unwrap_or_else(|| panic!("no offset in: {said}"));
    Some(words[at + 1].parse().unwrap_or_else(|e| panic!("{e}: {said}")))
}

#[test]
fn chronyd_measures_what_we_serve() {
    let dir = tempfile::tempdir().unwrap();
    let (liar, port) = (liar(), free_port());
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], &format!("serve = '127.0.0.1:{port}'"));
    daemon.wait_for_line("-> synchronized");
    let Some(offset) = measured_by_chronyd(dir.path(), port) else { return };
    println!("chronyd measured {offset} s");
    assert!((offset - LIE_NS as f64 * 1e-9).abs() < 0.005, "{offset}");
}

/// Sends a request and returns the answer, if one comes.
fn ask(socket: &UdpSocket, request: &[u8]) -> Option<Vec<u8>> {
    socket.send(request).unwrap();
    let mut answer = [0; 2048];
    socket.recv(&mut answer).ok().map(|length| answer[..length].to_vec())
}

#[test]
fn a_neighbour_gets_the_bound_and_nobody_gets_a_flood() {
    let dir = tempfile::tempdir().unwrap();
    let (liar, port) = (liar(), free_port());
    liar.set(e2e::Behaviour::Silence);
    let daemon = ClockDaemon::start(dir.path(), &[liar.address()], &format!("serve = '127.0.0.1:{port}'"));
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    let mut request = vec![0; 48];
    request[0] = 4 << 3 | 3;
    request[40..48].copy_from_slice(b"nonsense");

    // Not synchronized: leap alarm and stratum 16.
    let answer = ask(&socket, &request).unwrap();
    assert_eq!((answer.len(), answer[0], answer[1], &answer[24..32]), (48, 0xe4, 16, &b"nonsense"[..]));

    liar.set(e2e::Behaviour::Answer);
    daemon.wait_for_line("-> synchronized");
    let before = liar.true_time(realtime());
    let answer = ask(&socket, &request).unwrap();
    let after = liar.true_time(realtime());
    assert_eq!((answer[0], answer[1], &answer[12..16]), (0x24, 2, &[127, 0, 0, 1][..]));
    let word = |at: usize| f64::from(u32::from_be_bytes(answer[at..at + 4].try_into().unwrap()));
    let bound_s = (word(4) / 2.0 + word(8)) / 65536.0;
    assert!(bound_s > 0.0 && bound_s < 0.1, "{bound_s}");
    // Receive and transmit timestamps are the truth within the bound that came with them. (NTP counts from 1900.)
    for at in [32, 40] {
        let served = word(at) - 2_208_988_800.0 + word(at + 4) / 4_294_967_296.0;
        let (earliest, latest) =
            (before.as_ns() as f64 / 1e9 - bound_s, after.as_ns() as f64 / 1e9 + bound_s);
        assert!((earliest..=latest).contains(&served), "{served} is not in {earliest}..={latest}");
    }

    // What is no request of mode 3 and version 3 or 4 gets nothing; so does what is too short.
    for first in [4 << 3 | 1, 4 << 3 | 4, 4 << 3 | 6, 4 << 3 | 7, 2 << 3 | 3] {
        let mut other = request.clone();
        other[0] = first;
        assert_eq!(ask(&socket, &other), None, "{first:#x}");
    }
    assert_eq!(ask(&socket, &request[..47]), None);
    // A long request gets no more than 48 bytes.
    let mut long = request.clone();
    long.resize(1000, 0);
    assert_eq!(ask(&socket, &long).unwrap().len(), 48);

    // A flood: a burst is answered, then one kiss, then silence (but for one answer in half a second).
    for _ in 0..200 {
        socket.send(&request).unwrap();
    }
    let mut answers = Vec::new();
    let mut bytes = [0; 2048];
    while let Ok(length) = socket.recv(&mut bytes) {
        answers.push((length, bytes[1], bytes[12..16].to_vec()));
    }
    let kisses = answers.iter().filter(|a| a.1 == 0 && a.2 == b"RATE").count();
    assert!(answers.len() <= 20 && kisses == 1, "{} answers, {kisses} kisses", answers.len());
    assert!(answers.iter().all(|a| a.0 == 48));
}
