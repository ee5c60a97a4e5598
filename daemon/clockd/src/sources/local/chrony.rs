//! A chronyd that runs on this machine, asked how it stands: its estimate and its bound are taken over.

use super::{Ask, Failure, Reading};
use crate::sources::Source;
use chronotick::os_clock::{boottime, realtime_boottime_pair};
use chronotick_core::{Span, Timestamp};
use chronotick_discipline::{Leap, Measurement};
use chronotick_ntp::chrony::{self, COMMAND_PORT, Fault, MESSAGE_SIZE, Tracking};
use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Duration = Duration::from_millis(500);
/// chronyd may change its correction by this part of the elapsed time while it answers (its `maxslewrate`).
const MAX_SLEW: f64 = 0.1;

/// Where chronyd takes commands.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum ChronyAddress {
    /// A UDP port; chronyd answers `tracking` to anybody on loopback.
    Udp(SocketAddr),
    /// A datagram socket; only who may write to it, and into its folder, can ask.
    Unix(PathBuf),
}

impl ChronyAddress {
    /// The usual port on loopback.
    pub(crate) fn usual() -> Self {
        Self::Udp(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), COMMAND_PORT))
    }

    /// Reads the text; the error says what to write.
    pub(crate) fn parse(text: &str) -> Result<Self, String> {
        if text.starts_with('/') {
            return Ok(Self::Unix(text.into()));
        }
        let with_port = text.parse().map(Self::Udp);
        let without = || text.parse::<IpAddr>().map(|ip| Self::Udp(SocketAddr::new(ip, COMMAND_PORT)));
        let address = with_port.or_else(|_| without()).map_err(|_| {
            format!(
                "`chrony` is {text:?}: write true, an IP address, IP:PORT, or the path of chronyd's socket"
            )
        })?;
        match address {
            Self::Udp(a) if !a.ip().is_loopback() => Err(format!(
                "`chrony` is {text:?}, another machine: its chronyd knows its own clock, not ours; give a loopback \
                 address, or name it under `servers`"
            )),
            local => Ok(local),
        }
    }
}

impl fmt::Display for ChronyAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Udp(address) => write!(f, "chrony {address}"),
            Self::Unix(path) => write!(f, "chrony {}", path.display()),
        }
    }
}

/// See the module.
pub(crate) struct ChronySource {
    address: ChronyAddress,
    reference_id: [u8; 4],
}

impl ChronySource {
    /// Asks the chronyd at `address`.
    pub(crate) fn new(address: ChronyAddress) -> Self {
        Self { address, reference_id: [0; 4] }
    }
}

/// A datagram socket of either kind.
enum Socket {
    Udp(UdpSocket),
    /// With the path of its own end, which is removed at the end.
    Unix(UnixDatagram, PathBuf),
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Self::Unix(_, path) = self {
            // A leftover harms nobody.
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Socket {
    fn open(address: &ChronyAddress) -> io::Result<Self> {
        match address {
            ChronyAddress::Udp(address) => {
                let local: IpAddr = match address {
                    SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
                    SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
                };
                let socket = UdpSocket::bind((local, 0))?;
                socket.connect(address)?;
                socket.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                Ok(Self::Udp(socket))
            }
            ChronyAddress::Unix(path) => {
                let folder = path.parent().unwrap_or(Path::new("/"));
                let ours = folder.join(format!("chronotick.{}.sock", std::process::id()));
                // Only a leftover of an earlier process with our number can be there.
                let _ = std::fs::remove_file(&ours);
                let socket = Self::Unix(UnixDatagram::bind(&ours)?, ours);
                if let Self::Unix(datagram, ours) = &socket {
                    // chronyd may run as another user, and has to send to it.
                    std::fs::set_permissions(ours, std::fs::Permissions::from_mode(0o666))?;
                    datagram.connect(path)?;
                    datagram.set_read_timeout(Some(ANSWER_TIMEOUT))?;
                }
                Ok(socket)
            }
        }
    }

    fn send(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.send(bytes),
            Self::Unix(socket, _) => socket.send(bytes),
        }
    }

    fn receive(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Udp(socket) => socket.recv(bytes),
            Self::Unix(socket, _) => socket.recv(bytes),
        }
    }
}

/// `system` minus the local clock is constant but for steps, so that it need not be read at the very moment.
fn reading(
    t: &Tracking,
    begun: chronotick_core::MonoTime,
    width: Span,
    pair: (Timestamp, chronotick_core::MonoTime, Span),
) -> Result<Reading, Failure> {
    let leap = match t.leap {
        0 => Leap::None,
        1 => Leap::Insert,
        2 => Leap::Delete,
        _ => return Err(Failure::Other("chronyd says that it is not synchronized".to_owned())),
    };
    let stratum = u8::try_from(t.stratum).unwrap_or(u8::MAX);
    if !(1..=15).contains(&stratum) || t.root_delay < 0.0 || t.root_dispersion < 0.0 {
        return Err(Failure::Other(format!("chronyd is not synchronized (stratum {})", t.stratum)));
    }
    let slewed = Span::from_secs_f64(width.as_secs_f64() * MAX_SLEW);
    Ok(Reading {
        at: begun + Span::from_ns(width.as_ns() / 2),
        theta: Span::from_ns(pair.0.as_ns().saturating_sub(pair.1.as_ns()))
            + Span::from_secs_f64(t.current_correction),
        // Nothing travels: the answer says how things are, whenever it arrives.
        width: pair.2 + pair.2,
        root_delay: Span::from_secs_f64(t.root_delay),
        root_dispersion: Span::from_secs_f64(t.root_dispersion) + slewed,
        stratum,
        leap,
    })
}

impl Source for ChronySource {
    fn name(&self) -> String {
        self.address.to_string()
    }

    fn address(&self) -> Option<String> {
        None
    }

    fn is_authenticated(&self) -> bool {
        false
    }

    fn reference_id(&self) -> [u8; 4] {
        self.reference_id
    }

    fn measure(&mut self, ask: &mut Ask<'_>) -> Result<Measurement, Failure> {
        let failed = |what: &str, e: &io::Error| {
            Failure::Other(format!("{}: cannot {what}: {e}; is chronyd running?", self.address))
        };
        let socket = Socket::open(&self.address).map_err(|e| failed("open a socket", &e))?;
        let sequence = getrandom::u32().map_err(|e| Failure::Other(format!("no random numbers: {e}")))?;
        let begun = boottime();
        socket.send(&chrony::request(sequence)).map_err(|e| failed("ask", &e))?;
        ask.counters.sent += 1;
        let mut bytes = [0; MESSAGE_SIZE * 2];
        loop {
            let length = socket.receive(&mut bytes).map_err(|e| failed("get an answer", &e))?;
            let width = boottime() - begun;
            ask.counters.received += 1;
            let tracking = match chrony::read(&bytes[..length], sequence) {
                Ok(tracking) => tracking,
                Err(Fault::NotOurs) if width < Span::from_duration(ANSWER_TIMEOUT) => {
                    ask.counters.bogus_origin += 1;
                    continue;
                }
                Err(fault) => {
                    ask.counters.refused += 1;
                    return Err(Failure::Other(format!("{}: it does not tell: {fault:?}", self.address)));
                }
            };
            self.reference_id = tracking.reference_id;
            return reading(&tracking, begun, width, realtime_boottime_pair())?.measurement(ask, false);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick_core::MonoTime;

    #[test]
    fn addresses() {
        let check = |text: &str, want: Option<&str>| {
            let got = ChronyAddress::parse(text);
            assert_eq!(got.as_ref().ok().map(ToString::to_string).as_deref(), want, "{text:?}: {got:?}");
        };
        check("127.0.0.1", Some("chrony 127.0.0.1:323"));
        check("[::1]:3230", Some("chrony [::1]:3230"));
        check("::1", Some("chrony [::1]:323"));
        check("/run/chrony/chronyd.sock", Some("chrony /run/chrony/chronyd.sock"));
        check("localhost", None);
        assert_eq!(ChronyAddress::parse("127.0.0.1"), Ok(ChronyAddress::usual()));
    }

    #[test]
    fn the_bound_is_chronys_own() {
        let tracking = Tracking {
            reference_id: *b"abcd",
            stratum: 3,
            leap: 1,
            current_correction: 0.25,
            root_delay: 0.01,
            root_dispersion: 0.002,
        };
        let pair = (Timestamp::from_secs(1_800_000_000), MonoTime::from_ns(5_000), Span::from_ns(30));
        let r = reading(&tracking, MonoTime::from_ns(1_000), Span::from_us(100), pair).unwrap();
        assert_eq!(r.theta.as_ns(), 1_800_000_000_250_000_000 - 5_000);
        assert_eq!((r.root_delay, r.root_dispersion), (Span::from_ms(10), Span::from_us(2010)));
        assert_eq!((r.at.as_ns(), r.stratum, r.leap), (51_000, 3, Leap::Insert));
        for bad in [Tracking { leap: 3, ..tracking }, Tracking { stratum: 0, ..tracking }] {
            assert!(reading(&bad, MonoTime::from_ns(1_000), Span::from_us(100), pair).is_err());
        }
    }
}
