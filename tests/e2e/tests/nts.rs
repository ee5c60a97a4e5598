//! NTS against the real `chronyd`, directly and through a proxy that attacks.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use e2e::{Chronyd, ClockDaemon, eventually, free_port};
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use serde_json::Value;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream, UdpSocket};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

/// Fast enough for a test; a real server would not be asked like this.
const PACE: &str = "min_poll_s = 1\nmax_poll_s = 1\nburst_interval_ms = 50\n";

/// A certificate authority in `name`.pem.
fn authority(directory: &Path, name: &str) -> Issuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(rcgen::DnType::CommonName, name);
    let key = KeyPair::generate().unwrap();
    fs::write(directory.join(format!("{name}.pem")), params.self_signed(&key).unwrap().pem()).unwrap();
    Issuer::new(params, key)
}

/// A chronyd that serves NTS, with a certificate of the authority `right.pem`. `ntp_server` is where it sends clients.
fn nts_server(directory: &Path, ntp_server: &str) -> Option<(Chronyd, u16)> {
    nts_server_until(directory, ntp_server, 4096)
}

/// The same with a certificate that expires at the end of `year`.
fn nts_server_until(directory: &Path, ntp_server: &str, year: i32) -> Option<(Chronyd, u16)> {
    let issuer = authority(directory, "right");
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    params.not_after = rcgen::date_time_ymd(year, 12, 31);
    fs::write(directory.join("server.pem"), params.signed_by(&key, &issuer).unwrap().pem()).unwrap();
    fs::write(directory.join("server.key"), key.serialize_pem()).unwrap();
    let nts_port = free_port();
    let dir = directory.display();
    let config = format!(
        "ntsserverkey {dir}/server.key\nntsservercert {dir}/server.pem\nntsdumpdir {dir}\nntsport {nts_port}\n\
         ntsprocesses 0\nntsntpserver {ntp_server}\n"
    );
    let chronyd = Chronyd::serve(directory, &config)?;
    eventually("chronyd to take NTS connections", || {
        TcpStream::connect((Ipv4Addr::LOCALHOST, nts_port)).ok().map(drop)
    });
    Some((chronyd, nts_port))
}

fn daemon(directory: &Path, nts_port: u16, authority: &str) -> ClockDaemon {
    let config = format!(
        "{PACE}nts_servers = ['localhost:{nts_port}']\nnts_ca_file = '{}/{authority}.pem'\n",
        directory.display()
    );
    ClockDaemon::start(directory, &[], &config)
}

fn server_of(status: &Value) -> Value {
    status["servers"][0].clone()
}

/// Zero before the first status file is there.
fn counter(daemon: &ClockDaemon, name: &str) -> u64 {
    server_of(&daemon.status())["counters"][name].as_u64().unwrap_or(0)
}

/// Waits until the counter reaches `at_least`.
fn counted(daemon: &ClockDaemon, name: &str, at_least: u64) {
    eventually(&format!("{name} to reach {at_least}"), || (counter(daemon, name) >= at_least).then_some(()));
}

#[test]
fn keys_are_exchanged_and_cookies_last_for_ever() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_chronyd, nts_port)) = nts_server(dir.path(), "127.0.0.1") else { return };
    let daemon = daemon(dir.path(), nts_port, "right");
    counted(&daemon, "accepted", 12);
    let server = server_of(&daemon.status());
    assert_eq!(server["counters"]["key_exchanges"], 1, "{server}");
    assert_eq!(server["authenticated"], true);
    assert_eq!(server["address"], format!("localhost:{nts_port}"));
    assert_eq!(server["counters"]["sent"], server["counters"]["accepted"], "{server}");
    assert!(server["offset_seconds"].as_f64().unwrap().abs() < 0.001, "{server}");
}

#[test]
fn a_certificate_of_another_authority_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_chronyd, nts_port)) = nts_server(dir.path(), "127.0.0.1") else { return };
    authority(dir.path(), "wrong");
    let daemon = daemon(dir.path(), nts_port, "wrong");
    let line = daemon.wait_for_line("the certificate is refused");
    assert!(line.contains("no authority that this machine trusts") && line.contains("nts_ca_file"), "{line}");
    counted(&daemon, "key_exchanges_failed", 1);
    assert_eq!((counter(&daemon, "sent"), counter(&daemon, "accepted")), (0, 0));
}

#[test]
fn an_expired_certificate_is_refused_and_the_clock_is_not_forgotten() {
    let dir = tempfile::tempdir().unwrap();
    let Some((_chronyd, nts_port)) = nts_server_until(dir.path(), "127.0.0.1", 2025) else { return };
    let daemon = daemon(dir.path(), nts_port, "right");
    let line = daemon.wait_for_line("the certificate is refused");
    assert!(line.contains("expired") && line.contains("if the system clock is wrong"), "{line}");
    assert_eq!(counter(&daemon, "accepted"), 0);
}

/// What the proxy does with an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Attack {
    /// Passes it on.
    None,
    /// Sends the answer to an earlier request instead.
    Replay,
    /// Sends the header alone.
    Strip,
    /// Changes the transmit timestamp.
    Change,
    /// Sends a kiss-o'-death of this code without authenticator, and then the answer.
    Kiss([u8; 4]),
    /// Sends NTSN instead.
    Nak,
}

/// Between the daemon and chronyd.
struct Proxy {
    attack: Arc<Mutex<Attack>>,
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Proxy {
    /// On 127.0.0.2 with the port of the chronyd on 127.0.0.1.
    fn start(port: u16) -> Self {
        let front = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, 2), port)).unwrap();
        front.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        back.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        back.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
        let (attack, stop) = (Arc::new(Mutex::new(Attack::None)), Arc::new(AtomicBool::new(false)));
        let (in_thread, stopped) = (attack.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let (mut request, mut answer, mut old) = ([0; 2048], [0; 2048], Vec::new());
            while !stopped.load(Ordering::SeqCst) {
                let Ok((length, client)) = front.recv_from(&mut request) else { continue };
                back.send(&request[..length]).unwrap();
                let Ok(length) = back.recv(&mut answer) else { continue };
                let attack = *in_thread.lock().unwrap();
                for packet in attacked(attack, &answer[..length], &old) {
                    send(&front, &packet, client);
                }
                if attack == Attack::None {
                    old = answer[..length].to_vec();
                }
            }
        });
        Self { attack, stop, thread: Some(thread) }
    }

    fn set(&self, attack: Attack) {
        *self.attack.lock().unwrap() = attack;
    }
}

fn send(socket: &UdpSocket, packet: &[u8], client: SocketAddr) {
    // The daemon closes its socket when it has its answer.
    let _ = socket.send_to(packet, client);
}

/// What the daemon gets in place of `answer`.
fn attacked(attack: Attack, answer: &[u8], old: &[u8]) -> Vec<Vec<u8>> {
    let kiss = |code: &[u8; 4], length: usize| {
        let mut packet = answer[..length].to_vec();
        packet[1] = 0;
        packet[12..16].copy_from_slice(code);
        packet
    };
    match attack {
        Attack::None => vec![answer.to_vec()],
        Attack::Replay => vec![old.to_vec(), old.to_vec()],
        Attack::Strip => vec![answer[..48].to_vec()],
        Attack::Change => {
            let mut packet = answer.to_vec();
            packet[43] ^= 1;
            vec![packet]
        }
        Attack::Kiss(code) => vec![kiss(&code, 48), answer.to_vec()],
        // The header and the unique identifier.
        Attack::Nak => vec![kiss(b"NTSN", 48 + 36)],
    }
}

#[test]
fn an_attacker_on_the_way_can_only_move_counters() {
    let dir = tempfile::tempdir().unwrap();
    let Some((chronyd, nts_port)) = nts_server(dir.path(), "127.0.0.2") else { return };
    let proxy = Proxy::start(chronyd.port());
    let daemon = daemon(dir.path(), nts_port, "right");
    counted(&daemon, "accepted", 9);

    for (attack, name) in [
        (Attack::Replay, "bogus_origin"),
        (Attack::Strip, "bogus_unauthenticated"),
        (Attack::Change, "bogus_authenticator"),
    ] {
        assert_eq!(counter(&daemon, name), 0);
        proxy.set(attack);
        counted(&daemon, name, 1);
        let before = counter(&daemon, "accepted");
        counted(&daemon, name, 3);
        assert_eq!(counter(&daemon, "accepted"), before, "{attack:?}");
        proxy.set(Attack::None);
        counted(&daemon, "accepted", before + 9);
    }
    // A kiss that nobody authenticated: neither the end of this server nor a slower pace.
    for code in [*b"DENY", *b"RATE"] {
        let before = (counter(&daemon, "bogus_unauthenticated"), counter(&daemon, "accepted"));
        proxy.set(Attack::Kiss(code));
        counted(&daemon, "bogus_unauthenticated", before.0 + 2);
        counted(&daemon, "accepted", before.1 + 2);
    }
    let server = server_of(&daemon.status());
    assert_eq!(server["poll_interval_seconds"], 1.0, "{server}");
    assert_eq!(server["counters"]["key_exchanges"], 1, "{server}");
    assert_eq!(server["counters"]["refused"], 0, "{server}");
}

#[test]
fn a_server_that_forgot_the_keys_is_asked_for_new_ones_but_not_all_the_time() {
    let dir = tempfile::tempdir().unwrap();
    let Some((chronyd, nts_port)) = nts_server(dir.path(), "127.0.0.2") else { return };
    let proxy = Proxy::start(chronyd.port());
    let daemon = daemon(dir.path(), nts_port, "right");
    counted(&daemon, "accepted", 9);
    proxy.set(Attack::Nak);
    counted(&daemon, "nts_naks", 2);
    // The second exchange comes ten seconds after the first at the earliest.
    counted(&daemon, "key_exchanges", 2);
    counted(&daemon, "nts_naks", counter(&daemon, "nts_naks") + 2);
    assert_eq!(counter(&daemon, "key_exchanges"), 2, "the next one is at least another ten seconds away");
    let before = counter(&daemon, "accepted");
    proxy.set(Attack::None);
    counted(&daemon, "accepted", before + 9);
}
