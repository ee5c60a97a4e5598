//! What systemd is told: that the daemon is ready, alive, stopping, and how it is doing (sd_notify's datagrams).

use chronotick_core::{MonoTime, Span};
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Where the notices go; nowhere when the daemon was not started by systemd.
#[derive(Debug, Default)]
pub(crate) struct Notifier {
    to: Option<(UnixDatagram, SocketAddr)>,
    watchdog: Option<Watchdog>,
}

#[derive(Debug)]
struct Watchdog {
    every: Span,
    due: MonoTime,
    /// Pages published when it was fed last.
    pages: u64,
}

impl Notifier {
    /// As the environment says, which `variable` reads. The error is for the log.
    pub(crate) fn new(variable: impl Fn(&str) -> Option<OsString>) -> io::Result<Self> {
        let Some(name) = variable("NOTIFY_SOCKET").filter(|n| !n.is_empty()) else {
            return Ok(Self::default());
        };
        let address = match name.as_bytes() {
            [b'@', abstract_name @ ..] => SocketAddr::from_abstract_name(abstract_name)?,
            _ => SocketAddr::from_pathname(&name)?,
        };
        let socket = UnixDatagram::unbound()?;
        // A manager that does not read must not stop the clock.
        socket.set_nonblocking(true)?;
        let text = |name: &str| variable(name).and_then(|v| v.into_string().ok());
        let is_ours = text("WATCHDOG_PID").is_none_or(|pid| pid == std::process::id().to_string());
        let timeout_us = text("WATCHDOG_USEC").and_then(|us| us.parse::<i64>().ok()).filter(|&us| us > 0);
        let watchdog = timeout_us.filter(|_| is_ours).map(|us| Watchdog {
            every: Span::from_us(us / 3),
            due: MonoTime::MIN,
            pages: 0,
        });
        Ok(Self { to: Some((socket, address)), watchdog })
    }

    fn send(&self, text: &str) {
        if let Some((socket, address)) = &self.to {
            // Lost when the manager is busy: the next one says the same.
            let _ = socket.send_to_addr(text.as_bytes(), address);
        }
    }

    /// The daemon is up, and how it is doing.
    pub(crate) fn ready(&self, status: &str) {
        self.send(&format!("READY=1\nSTATUS={status}\n"));
    }

    /// How it is doing.
    pub(crate) fn status(&self, status: &str) {
        self.send(&format!("STATUS={status}\n"));
    }

    /// It is on its way out.
    pub(crate) fn stopping(&self) {
        self.send("STOPPING=1\nSTATUS=stopping\n");
    }

    /// Feeds the watchdog, if there is one and if pages were published since the last time.
    pub(crate) fn alive(&mut self, now: MonoTime, pages: u64) {
        let Some(watchdog) = &mut self.watchdog else { return };
        if now >= watchdog.due && pages != watchdog.pages {
            watchdog.due = now + watchdog.every;
            watchdog.pages = pages;
            self.send("WATCHDOG=1\n");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn received(socket: &UnixDatagram) -> Option<String> {
        let mut bytes = [0; 256];
        let length = socket.recv(&mut bytes).ok()?;
        Some(String::from_utf8_lossy(&bytes[..length]).into_owned())
    }

    fn notifier(socket: &str, watchdog_us: &str, watchdog_pid: &str) -> Notifier {
        Notifier::new(|name| match name {
            "NOTIFY_SOCKET" => Some(socket.into()),
            "WATCHDOG_USEC" => Some(watchdog_us.into()),
            "WATCHDOG_PID" => (!watchdog_pid.is_empty()).then(|| watchdog_pid.into()),
            _ => None,
        })
        .unwrap()
    }

    #[test]
    fn what_is_said_arrives_at_a_path_and_at_an_abstract_name() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let name = format!("chronotick-test-{}", std::process::id());
        let abstract_address = SocketAddr::from_abstract_name(&name).unwrap();
        for (socket, variable) in [
            (UnixDatagram::bind(&path).unwrap(), path.to_str().unwrap().to_owned()),
            (UnixDatagram::bind_addr(&abstract_address).unwrap(), format!("@{name}")),
        ] {
            socket.set_nonblocking(true).unwrap();
            let mut n = notifier(&variable, "30000000", "");
            n.ready("no data");
            n.status("synchronized");
            assert_eq!(received(&socket).unwrap(), "READY=1\nSTATUS=no data\n");
            assert_eq!(received(&socket).unwrap(), "STATUS=synchronized\n");
            // Fed at a third of the time, and only while pages are published.
            let at = |s: i64| MonoTime::from_ns(s * 1_000_000_000);
            for (s, pages, is_fed) in
                [(0, 1, true), (9, 9, false), (10, 10, true), (20, 10, false), (21, 11, true)]
            {
                n.alive(at(s), pages);
                assert_eq!(received(&socket).is_some(), is_fed, "{s}");
            }
            n.stopping();
            assert!(received(&socket).unwrap().starts_with("STOPPING=1\n"));
        }
    }

    #[test]
    fn without_a_manager_and_with_another_process_watched_nothing_is_said() {
        let mut nobody = Notifier::new(|_| None).unwrap();
        nobody.ready("");
        nobody.alive(MonoTime::MAX, 1);
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("notify");
        let socket = UnixDatagram::bind(&path).unwrap();
        socket.set_nonblocking(true).unwrap();
        for (us, pid) in [("30000000", "1"), ("soon", ""), ("0", "")] {
            notifier(path.to_str().unwrap(), us, pid).alive(MonoTime::MAX, 1);
            assert_eq!(received(&socket), None);
        }
        drop(socket);
        notifier(path.to_str().unwrap(), "1", "").ready("nobody listens any more");
    }
}
