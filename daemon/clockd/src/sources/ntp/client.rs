//! The thread that asks one server, again and again.

use super::address::ServerName;
use super::exchange::{Exchange, Refusal, Rejection, evaluate};
use super::packet::Packet;
use crate::log;
use crate::stop::Stop;
use chronotick::os_clock::{boottime, realtime};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::Measurement;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs, UdpSocket};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;

/// Requests in the burst at the start.
const BURST: u32 = 8;
/// Good answers before the interval doubles.
const ANSWERS_TO_DOUBLE: u32 = 8;
/// Failures in a row before the name is resolved again.
const FAILURES_TO_RESOLVE: u32 = 4;
/// However often a server asks for fewer requests, it is asked about once an hour.
const SLOWEST_POLL: Span = Span::from_secs(4096);
/// How long an answer is waited for.
const ANSWER_TIMEOUT: Span = Span::from_ms(1500);
/// The longest that a blocked receive delays the end of the daemon.
const STOP_CHECK: Duration = Duration::from_millis(100);

/// What one server thread tells.
#[derive(Debug)]
pub(crate) struct Report {
    /// Which server, by its place in the list.
    pub(crate) source: usize,
    /// The address that was asked; `None` when the name did not resolve.
    pub(crate) address: Option<SocketAddr>,
    /// The interval until the next request.
    pub(crate) poll_interval: Span,
    /// What happened.
    pub(crate) outcome: Outcome,
}

/// What became of one exchange.
#[derive(Debug)]
pub(crate) enum Outcome {
    /// A measurement.
    Answer(Measurement),
    /// No usable answer; the text says why.
    Failure(String),
    /// The server refuses us for good; the text says how.
    Stopped(String),
}

/// How a server is asked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Pace {
    /// The shortest steady interval.
    pub(crate) min_poll: Span,
    /// The longest one.
    pub(crate) max_poll: Span,
    /// The interval within the burst.
    pub(crate) burst_interval: Span,
}

/// One server's thread.
pub(crate) struct Client {
    /// Its place in the list.
    pub(crate) source: usize,
    /// What the user called it.
    pub(crate) name: ServerName,
    /// How often.
    pub(crate) pace: Pace,
    /// Where the reports go.
    pub(crate) reports: Sender<Report>,
    /// When to end.
    pub(crate) stop: Arc<Stop>,
}

/// What changes from one request to the next.
struct Progress {
    poll: Span,
    /// RATE raises it; never falls.
    floor: Span,
    burst_left: u32,
    good: u32,
    failures: u32,
}

impl Progress {
    fn new(pace: &Pace) -> Self {
        Self { poll: pace.min_poll, floor: pace.min_poll, burst_left: BURST, good: 0, failures: 0 }
    }

    fn answered(&mut self, pace: &Pace) {
        self.failures = 0;
        if self.burst_left > 0 {
            return;
        }
        self.good += 1;
        if self.good >= ANSWERS_TO_DOUBLE {
            self.good = 0;
            self.poll = doubled(self.poll).min(pace.max_poll).max(self.floor);
        }
    }

    fn failed(&mut self, pace: &Pace) {
        self.failures = self.failures.saturating_add(1);
        self.good = 0;
        // The burst is for a server that answers; a silent one is asked at the steady pace, less and less often.
        self.burst_left = 0;
        self.poll = if self.failures.is_multiple_of(FAILURES_TO_RESOLVE) {
            doubled(self.poll).min(pace.max_poll).max(self.floor)
        } else {
            self.poll
        };
    }

    fn slowed(&mut self) {
        self.burst_left = 0;
        self.floor = doubled(self.poll).min(SLOWEST_POLL);
        self.poll = self.floor;
    }

    fn wait(&self, pace: &Pace) -> Span {
        if self.burst_left > 0 { pace.burst_interval } else { self.poll }
    }
}

fn doubled(span: Span) -> Span {
    span + span
}

impl Client {
    /// Asks until the daemon stops or the server refuses for good.
    pub(crate) fn run(&self) {
        let mut progress = Progress::new(&self.pace);
        let mut addresses: Vec<SocketAddr> = Vec::new();
        let mut turn = 0usize;
        loop {
            let begun = boottime();
            if addresses.is_empty()
                || (progress.failures > 0 && progress.failures.is_multiple_of(FAILURES_TO_RESOLVE))
            {
                addresses = resolve(&self.name, &mut turn, addresses);
            }
            let address = addresses.get(turn % addresses.len().max(1)).copied();
            let outcome = match address {
                None => Err(Failure::Other(format!("cannot find the address of {}", self.name))),
                Some(address) => self.exchange(address, progress.poll),
            };
            progress.burst_left = progress.burst_left.saturating_sub(1);
            let outcome = match outcome {
                Ok(m) => {
                    if progress.failures >= FAILURES_TO_RESOLVE {
                        progress.poll = progress.floor;
                    }
                    progress.answered(&self.pace);
                    Outcome::Answer(m)
                }
                Err(Failure::Stopped) => return,
                Err(Failure::Refused(refusal @ Refusal::Denied(_))) => Outcome::Stopped(refusal.to_string()),
                Err(Failure::Refused(refusal @ Refusal::Rate)) => {
                    progress.slowed();
                    Outcome::Failure(refusal.to_string())
                }
                Err(Failure::Refused(refusal)) => {
                    progress.failed(&self.pace);
                    Outcome::Failure(refusal.to_string())
                }
                Err(Failure::Other(text)) => {
                    progress.failed(&self.pace);
                    Outcome::Failure(text)
                }
            };
            let ended = matches!(outcome, Outcome::Stopped(_));
            let wait = progress.wait(&self.pace);
            let report = Report { source: self.source, address, poll_interval: progress.poll, outcome };
            if self.reports.send(report).is_err() || ended || self.stop.wait_until(begun + wait) {
                return;
            }
        }
    }

    fn exchange(&self, address: SocketAddr, poll_interval: Span) -> Result<Measurement, Failure> {
        let network = |what: &str, e: &io::Error| Failure::Other(format!("{address}: cannot {what}: {e}"));
        // A socket for each request has a port of its own, so a late or doubled answer finds nobody.
        let local: IpAddr = match address {
            SocketAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
            SocketAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
        };
        let socket = UdpSocket::bind((local, 0)).map_err(|e| network("open a socket", &e))?;
        socket.connect(address).map_err(|e| network("connect", &e))?;
        socket.set_read_timeout(Some(STOP_CHECK)).map_err(|e| network("set a timeout", &e))?;
        let nonce = getrandom::u64().map_err(|e| Failure::Other(format!("no random numbers: {e}")))?;
        let request = Packet::request(nonce);
        let sent = boottime();
        socket.send(&request).map_err(|e| network("send", &e))?;
        self.receive(&socket, address, nonce, sent, poll_interval)
    }

    fn receive(
        &self,
        socket: &UdpSocket,
        address: SocketAddr,
        nonce: u64,
        sent: MonoTime,
        poll_interval: Span,
    ) -> Result<Measurement, Failure> {
        let mut bytes = [0; 1024];
        let mut ignored = None;
        while boottime() - sent < ANSWER_TIMEOUT {
            if self.stop.is_set() {
                return Err(Failure::Stopped);
            }
            let length = match socket.recv(&mut bytes) {
                Ok(length) => length,
                Err(e) if matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => continue,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) if e.kind() == io::ErrorKind::ConnectionRefused => {
                    return Err(Failure::Other(format!("{address}: no NTP server listens there")));
                }
                Err(e) => return Err(Failure::Other(format!("{address}: cannot receive: {e}"))),
            };
            let exchange = Exchange { nonce, sent, received: boottime(), system: realtime() };
            match evaluate(&exchange, &bytes[..length], self.source, poll_interval) {
                Ok(m) => return Ok(m),
                Err(Rejection::Refusal(refusal)) => return Err(Failure::Refused(refusal)),
                Err(Rejection::Bogus(bogus)) => {
                    log::debug(format_args!("{address}: {bogus}"));
                    ignored = Some(bogus);
                }
            }
        }
        Err(Failure::Other(match ignored {
            Some(bogus) => format!("{address}: no valid answer within {ANSWER_TIMEOUT}: {bogus}"),
            None => format!("{address}: no answer within {ANSWER_TIMEOUT}"),
        }))
    }
}

enum Failure {
    Stopped,
    Refused(Refusal),
    Other(String),
}

/// Resolves the name. After failures the next address of the list is taken; a failed look-up keeps the old list.
fn resolve(name: &ServerName, turn: &mut usize, old: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let found: Vec<SocketAddr> = match (name.host.as_str(), name.port).to_socket_addrs() {
        Ok(found) => found.collect(),
        Err(e) => {
            log::debug(format_args!("{name}: {e}"));
            Vec::new()
        }
    };
    if !old.is_empty() {
        *turn = turn.wrapping_add(1);
    }
    if found.is_empty() { old } else { found }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PACE: Pace = Pace {
        min_poll: Span::from_secs(4),
        max_poll: Span::from_secs(64),
        burst_interval: Span::from_ms(500),
    };

    #[test]
    fn the_pace_is_a_burst_and_then_slowly_longer() {
        let mut p = Progress::new(&PACE);
        let mut waits = Vec::new();
        for _ in 0..60 {
            p.burst_left = p.burst_left.saturating_sub(1);
            p.answered(&PACE);
            waits.push(p.wait(&PACE).as_ms());
        }
        assert_eq!(waits[..7], [500; 7]);
        assert_eq!(waits[7], 4_000);
        assert_eq!(waits[59], 64_000);
        assert!(waits[7..].is_sorted());
    }

    #[test]
    fn rate_doubles_for_good_and_ends_the_burst() {
        let mut p = Progress::new(&PACE);
        p.slowed();
        assert_eq!(p.wait(&PACE), Span::from_secs(8));
        p.slowed();
        p.answered(&PACE);
        assert_eq!((p.wait(&PACE), p.floor), (Span::from_secs(16), Span::from_secs(16)));
    }

    #[test]
    fn a_silent_server_is_asked_less_and_less() {
        let mut p = Progress::new(&PACE);
        let waits: Vec<i64> = (0..40)
            .map(|_| {
                p.failed(&PACE);
                p.wait(&PACE).as_ms() / 1000
            })
            .collect();
        assert_eq!(waits[..4], [4, 4, 4, 8]);
        assert_eq!(waits[39], 64);
    }
}
