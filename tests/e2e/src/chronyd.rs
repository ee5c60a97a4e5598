//! A real `chronyd` without any privilege, which never touches the clock.

use crate::eventually;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A running chronyd; killed when dropped.
#[derive(Debug)]
pub struct Chronyd {
    child: Child,
    port: u16,
}

impl Drop for Chronyd {
    fn drop(&mut self) {
        // It may have ended long ago.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Chronyd {
    /// Where chronyd is; `None`, with a message, where it is not installed.
    pub fn find() -> Option<PathBuf> {
        let found = ["/usr/sbin/chronyd", "/usr/bin/chronyd", "/sbin/chronyd"]
            .map(PathBuf::from)
            .into_iter()
            .find(|p| p.exists());
        if found.is_none() {
            println!("skipped: chronyd is not installed (Debian: apt-get install chrony)");
        }
        found
    }

    /// Starts it with this configuration besides what every one here has; `port` must be set in it. `None` where it is
    /// not installed.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start(directory: &Path, port: u16, config: &str) -> Option<Self> {
        let program = Self::find()?;
        let file = directory.join("chrony.conf");
        // Its usual socket is in a folder that is not ours.
        let no_socket = if config.contains("bindcmdaddress /") { "" } else { "bindcmdaddress /\n" };
        let text = format!("{config}\n{no_socket}pidfile {}/chronyd.pid\n", directory.display());
        std::fs::write(&file, text).expect("a writable directory");
        let user = Command::new("id").arg("-un").output().expect("every system has id");
        let user = String::from_utf8(user.stdout).expect("a user name in UTF-8");
        let log = std::fs::File::create(directory.join("chronyd.log")).expect("a writable directory");
        // -x: never touches the clock; -U and -u: as whoever runs the test; -d: in the foreground.
        let child = Command::new(program)
            .args(["-x", "-U", "-d", "-u", user.trim(), "-f"])
            .arg(&file)
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("chronyd can be started");
        Some(Self { child, port })
    }

    /// Starts it as a server on 127.0.0.1 whose truth is the system clock, with `extra` in its configuration, and waits
    /// until it answers. `None` where it is not installed.
    ///
    /// # Panics
    /// When it cannot be started, or does not answer.
    pub fn serve(directory: &Path, extra: &str) -> Option<Self> {
        let port = free_port();
        let config = format!(
            "port {port}\nbindaddress 127.0.0.1\nallow 127.0.0.0/8\nlocal stratum 8\ncmdport 0\n{extra}"
        );
        let chronyd = Self::start(directory, port, &config)?;
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.connect((Ipv4Addr::LOCALHOST, port)).expect("loopback");
        socket.set_read_timeout(Some(Duration::from_millis(100))).expect("not zero");
        let mut request = [0u8; 48];
        request[0] = 4 << 3 | 3;
        request[47] = 1;
        eventually(&format!("chronyd to answer (its log is {}/chronyd.log)", directory.display()), || {
            let mut answer = [0; 48];
            socket.send(&request).ok()?;
            // A leap indicator of 3 would mean that `local` is not in force yet.
            (socket.recv(&mut answer).ok()? == 48 && answer[0] >> 6 != 3).then_some(())
        });
        Some(chronyd)
    }

    /// Where it serves.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its process number.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The port that it was given.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// A UDP port of 127.0.0.1 that nobody uses just now.
///
/// # Panics
/// When there is none.
pub fn free_port() -> u16 {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
    socket.local_addr().expect("a bound socket").port()
}
