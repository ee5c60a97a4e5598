//! One request and its answers over UDP. What an answer is worth is for the caller to say.

use crate::log;
use crate::sources::{Ask, Failure};
use chronotick::os_clock::{boottime, realtime_boottime_pair};
use chronotick_core::Span;
use chronotick_ntp::exchange::{Exchange, Refusal, Rejection};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::time::Duration;

use super::stamp;

/// How long an answer is waited for.
const ANSWER_TIMEOUT: Span = Span::from_ms(1500);
/// The longest that a blocked receive delays the end of the daemon.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// The longest packet that is read; an answer with eight cookies is about 1100 bytes.
const LONGEST_PACKET: usize = 4096;

/// Sends `request`, whose transmit timestamp is `nonce`, and gives each answer to `judge` until one is accepted or ends
/// the exchange. Bogus and absurd ones are counted, and waiting goes on.
pub(crate) fn exchange<T>(
    address: SocketAddr,
    request: &[u8],
    nonce: u64,
    ask: &mut Ask<'_>,
    mut judge: impl FnMut(&Exchange, &[u8]) -> Result<T, Rejection>,
) -> Result<T, Failure> {
    let network = |what: &str, e: &io::Error| Failure::Other(format!("{address}: cannot {what}: {e}"));
    // A socket for each request has a port of its own, so a late or doubled answer finds nobody.
    let local: IpAddr = match address {
        SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let no_route = |e: io::Error| Failure::NoRoute(format!("{address}: cannot be reached from here: {e}"));
    let socket = UdpSocket::bind((local, 0)).map_err(no_route)?;
    socket.connect(address).map_err(no_route)?;
    socket.set_read_timeout(Some(STOP_CHECK)).map_err(|e| network("set a timeout", &e))?;
    stamp::enable(&socket);
    let before = realtime_boottime_pair();
    let sent = boottime();
    socket.send(request).map_err(|e| match e.kind() {
        io::ErrorKind::NetworkUnreachable | io::ErrorKind::HostUnreachable => no_route(e),
        _ => network("send", &e),
    })?;
    ask.counters.sent += 1;

    let mut bytes = [0; LONGEST_PACKET];
    let mut ignored: Option<Rejection> = None;
    while boottime() - sent < ANSWER_TIMEOUT {
        if ask.stop.is_set() {
            return Err(Failure::Stopped);
        }
        let datagram = match stamp::receive(&socket, &mut bytes) {
            Ok(datagram) => datagram,
            Err(e) => match e.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted => continue,
                io::ErrorKind::ConnectionRefused => {
                    return Err(Failure::Other(format!("{address}: no NTP server listens there")));
                }
                _ => return Err(network("receive", &e)),
            },
        };
        let in_user_space = boottime();
        let after = realtime_boottime_pair();
        ask.counters.received += 1;
        let by_kernel =
            datagram.received.and_then(|t| stamp::kernel_receive(t, before, after, sent, in_user_space));
        let exchange =
            Exchange { nonce, sent, received: by_kernel.unwrap_or(in_user_space), system: after.0 };
        match judge(&exchange, &bytes[..datagram.length]) {
            Ok(value) => {
                ask.counters.kernel_timestamps += u64::from(by_kernel.is_some());
                return Ok(value);
            }
            Err(Rejection::Refusal(refusal)) if !refusal.is_absurd() => {
                ask.counters.refused += 1;
                let text = format!("{address}: {refusal}");
                return Err(match refusal {
                    Refusal::Denied(_) => Failure::Denied(text),
                    Refusal::Rate => Failure::Rate(text),
                    _ => Failure::Other(text),
                });
            }
            Err(rejection) => {
                log::debug(format_args!("{address}: {rejection}"));
                match rejection {
                    Rejection::Bogus(bogus) => ask.counters.count(bogus),
                    Rejection::Refusal(_) => ask.counters.absurd += 1,
                }
                ignored = Some(rejection);
            }
        }
    }
    Err(Failure::Other(match ignored {
        Some(rejection) => format!("{address}: no valid answer within {ANSWER_TIMEOUT}: {rejection}"),
        None => format!("{address}: no answer within {ANSWER_TIMEOUT}"),
    }))
}

/// A random number as the transmit timestamp of a request.
pub(crate) fn nonce() -> Result<u64, Failure> {
    getrandom::u64().map_err(|e| Failure::Other(format!("no random numbers: {e}")))
}

/// How NTP names a server as a reference: its IPv4 address, or four bytes drawn from its IPv6 address.
pub(crate) fn reference_id(ip: IpAddr) -> [u8; 4] {
    match ip {
        IpAddr::V4(v4) => v4.octets(),
        // RFC 5905 takes MD5 here; nobody but ourselves can compare it, so a plain FNV-1a serves.
        IpAddr::V6(v6) => {
            let hash = v6
                .octets()
                .iter()
                .fold(0x811c_9dc5_u32, |h, &b| (h ^ u32::from(b)).wrapping_mul(0x0100_0193));
            hash.to_be_bytes()
        }
    }
}
