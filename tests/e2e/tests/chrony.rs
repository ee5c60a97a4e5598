//! The real `chronyd` as the server: its clock is this machine's, so the truth is the system clock.
#![expect(clippy::unwrap_used, reason = "helpers of tests: a panic is the failure of the test")]

use chronotick::os_clock::{boottime, realtime};
use chronotick::{Span, Status};
use e2e::{ClockDaemon, eventually, pause};
use std::net::{Ipv4Addr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Seconds to sample; the documented run takes 60.
const SECONDS_ENV: &str = "CHRONOTICK_CHRONY_SECONDS";

struct Chronyd {
    child: Child,
    port: u16,
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn find_chronyd() -> Option<PathBuf> {
    ["/usr/sbin/chronyd", "/usr/bin/chronyd", "/sbin/chronyd"]
        .map(PathBuf::from)
        .into_iter()
        .find(|p| p.exists())
}

impl Chronyd {
    fn start(program: &Path, directory: &Path) -> Self {
        let port = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
        let config = directory.join("chrony.conf");
        let text = format!(
            "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.1\nlocal stratum 8\ncmdport 0\n\
             bindcmdaddress /\npidfile {}/chronyd.pid\n",
            directory.display()
        );
        std::fs::write(&config, text).unwrap();
        let user = Command::new("id").arg("-un").output().unwrap();
        let user = String::from_utf8(user.stdout).unwrap();
        // -x: never touches the clock; -U and -u: as whoever runs the test; -d: in the foreground.
        let child = Command::new(program)
            .args(["-x", "-U", "-d", "-u", user.trim(), "-f"])
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("chronyd.log")).unwrap())
            .spawn()
            .unwrap();
        let chronyd = Self { child, port };
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut request = [0u8; 48];
        request[0] = 4 << 3 | 3;
        request[47] = 1;
        eventually(&format!("chronyd to answer (its log is {}/chronyd.log)", directory.display()), || {
            let mut answer = [0; 48];
            socket.send(&request).ok()?;
            // A leap indicator of 3 would mean that `local` is not in force yet.
            (socket.recv(&mut answer).ok()? == 48 && answer[0] >> 6 != 3).then_some(())
        });
        chronyd
    }
}

#[test]
fn corrected_time_agrees_with_the_system_clock_within_a_bound_under_a_millisecond() {
    let Some(program) = find_chronyd() else {
        println!("skipped: chronyd is not installed (Debian: apt-get install chrony)");
        return;
    };
    let seconds = std::env::var(SECONDS_ENV).ok().and_then(|s| s.parse().ok()).unwrap_or(60);
    let dir = tempfile::tempdir().unwrap();
    let chronyd = Chronyd::start(&program, dir.path());
    let server = format!("127.0.0.1:{}", chronyd.port);
    // The daemon's own pace, not the fast one of the other tests.
    let daemon = ClockDaemon::start(dir.path(), &[server], "min_poll_s = 4\nmax_poll_s = 64");
    let client = daemon.client();
    daemon.wait_for_line("-> synchronized");
    eventually("a synchronized page", || (client.status() == Ok(Status::Synchronized)).then_some(()));

    let end = boottime() + Span::from_secs(seconds);
    let (mut samples, mut worst_error, mut worst_bound) = (0, Span::ZERO, Span::ZERO);
    while boottime() < end {
        let before = realtime();
        let reading = client.now().unwrap();
        let after = realtime();
        assert_eq!(reading.status, Status::Synchronized, "sample {samples}: {reading:?}");
        assert!(
            reading.bound.earliest() <= after && before <= reading.bound.latest(),
            "sample {samples}: the system clock is from {before:?} to {after:?}, the reading {reading:?}"
        );
        let bound = reading.max_error();
        assert!(bound < Span::from_ms(1), "sample {samples}: the bound is {bound}");
        let middle = before + Span::from_ns((after - before).as_ns() / 2);
        worst_error = worst_error.max((reading.corrected - middle).abs());
        worst_bound = worst_bound.max(bound);
        samples += 1;
        pause(Duration::from_millis(100));
    }
    assert!(samples > 0);
    println!("{samples} samples in {seconds} s: worst error {worst_error}, worst bound {worst_bound}");
}
