//! Serving NTP to neighbours: answers from corrected time, with the hard bound as root dispersion.

mod limit;

use crate::estimate::Estimate;
use crate::log;
use crate::sources::driver::ReferenceIds;
use crate::sources::ntp::stamp;
use crate::stop::Stop;
use chronotick::os_clock::{boottime, realtime_boottime_pair};
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Correction, Leap, State};
use chronotick_ntp::answer::{Request, Served, stamp as stamp_transmit};
use limit::{Limiter, Permit};
use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// The longest that a blocked receive delays the end of the daemon.
const STOP_CHECK: Duration = Duration::from_millis(100);
/// For reading clocks in steps, and what an NTP timestamp cannot hold.
const GRANULARITY: Span = Span::from_us(1);
/// A receive time older than this is not believed: the request did not wait so long.
const LONGEST_WAIT: Span = Span::from_secs(1);
/// The stratum of a source that has not said its own.
const UNKNOWN_STRATUM: u8 = 15;

/// See the module.
pub(crate) struct Server {
    socket: UdpSocket,
    estimate: Arc<Mutex<Estimate>>,
    reference_ids: ReferenceIds,
}

/// Takes the port. The error is for the user.
pub(crate) fn bind(address: SocketAddr) -> Result<UdpSocket, String> {
    let bad = |e: io::Error| {
        let hint = match e.kind() {
            io::ErrorKind::PermissionDenied => {
                "; ports below 1024 need CAP_NET_BIND_SERVICE (with systemd: AmbientCapabilities)"
            }
            io::ErrorKind::AddrInUse => "; another NTP server runs on this machine",
            _ => "",
        };
        format!("cannot serve NTP on {address}: {e}{hint}")
    };
    let socket = UdpSocket::bind(address).map_err(bad)?;
    socket.set_read_timeout(Some(STOP_CHECK)).map_err(bad)?;
    stamp::enable(&socket);
    Ok(socket)
}

impl Server {
    /// On a socket from [`bind`].
    pub(crate) fn new(
        socket: UdpSocket,
        estimate: Arc<Mutex<Estimate>>,
        reference_ids: ReferenceIds,
    ) -> Self {
        Self { socket, estimate, reference_ids }
    }

    /// Answers until the stop.
    pub(crate) fn run(&self, stop: &Stop) {
        let mut limiter = Limiter::new(limit::CAPACITY);
        let mut bytes = [0; 1024];
        while !stop.is_set() {
            let datagram = match stamp::receive(&self.socket, &mut bytes) {
                Ok(datagram) => datagram,
                Err(e) => {
                    // An ICMP error of an earlier answer comes up here as well; it concerns nobody.
                    if !matches!(e.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) {
                        log::debug(format_args!("serving NTP: {e}"));
                    }
                    continue;
                }
            };
            let now = boottime();
            let Some(from) = datagram.from else { continue };
            let Some(request) = Request::read(&bytes[..datagram.length]) else { continue };
            let answer = match limiter.permit(from.ip(), now) {
                Permit::Drop => continue,
                Permit::Kiss => request.kiss_rate(),
                Permit::Answer => {
                    let received = received(datagram.received, now);
                    match self.correction(now) {
                        Some((c, served)) => {
                            let mut answer = request.answer(Some(&served), at(&c, received));
                            stamp_transmit(&mut answer, at(&c, boottime()));
                            answer
                        }
                        None => request.answer(None, Timestamp::EPOCH),
                    }
                }
            };
            // The one who asked may be gone.
            if let Err(e) = self.socket.send_to(&answer, from) {
                log::debug(format_args!("serving NTP to {from}: {e}"));
            }
        }
    }

    fn correction(&self, now: MonoTime) -> Option<(Correction, Served)> {
        let (c, stratum) = {
            let d = self.estimate.lock().unwrap_or_else(PoisonError::into_inner);
            let c = d.correction(now)?;
            let newest = d.report(c.source, now).and_then(|r| r.newest);
            (c, newest.map_or(UNKNOWN_STRATUM, |m| m.stratum))
        };
        let ids = self.reference_ids.lock().unwrap_or_else(PoisonError::into_inner);
        let reference_id = ids.get(c.source).copied().unwrap_or_default();
        served(&c, stratum, reference_id, now).map(|s| (c, s))
    }
}

/// What the correction is worth to others; `None` when it may not be used.
fn served(c: &Correction, source_stratum: u8, reference_id: [u8; 4], now: MonoTime) -> Option<Served> {
    let is_usable = c.state != State::NoData && now < c.valid_until && c.max_error < Span::MAX;
    is_usable.then_some(Served {
        leap: match c.leap {
            Leap::None => 0,
            Leap::Insert => 1,
            Leap::Delete => 2,
        },
        stratum: source_stratum.saturating_add(1),
        reference_id,
        reference: c.last_sync,
        max_error: c.max_error + GRANULARITY,
    })
}

/// Corrected time at a moment near that of the correction.
fn at(c: &Correction, moment: MonoTime) -> Timestamp {
    let elapsed = moment - c.at;
    c.corrected + elapsed + Span::from_ns((c.rate * elapsed.as_ns() as f64).round() as i64)
}

/// The kernel's receive time on the local clock where it is plausible, else `now`.
fn received(by_kernel: Option<Timestamp>, now: MonoTime) -> MonoTime {
    let Some(stamp) = by_kernel else { return now };
    let (system, local, _) = realtime_boottime_pair();
    let moment = local - (system - stamp);
    if moment <= now && now - moment < LONGEST_WAIT { moment } else { now }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chronotick::os_clock::realtime;

    const SYNCHRONIZED: Correction = Correction {
        at: MonoTime::from_ns(1_000_000_000),
        corrected: Timestamp::from_secs(1_800_000_000),
        rate: 1e-5,
        offset_sigma: 1e-6,
        rate_sigma: 1e-8,
        max_error: Span::from_us(500),
        confidence: 1.0,
        measurement_count: 9,
        last_sync: Timestamp::from_secs(1_799_999_990),
        source: 0,
        valid_until: MonoTime::from_ns(9_000_000_000),
        leap: Leap::Delete,
        state: State::Synchronized,
        is_warm: true,
        model: chronotick_discipline::Model::Ntp,
        models_ready: false,
        authenticated: false,
    };

    #[test]
    fn what_is_served_is_the_correction_with_its_bound() {
        let c = SYNCHRONIZED;
        let s = served(&c, 2, *b"abcd", c.at).unwrap();
        assert_eq!((s.stratum, s.leap, s.max_error), (3, 2, Span::from_us(501)));
        assert_eq!(at(&c, c.at + Span::from_secs(1)), c.corrected + Span::from_ns(1_000_010_000));
        assert_eq!(served(&c, 2, *b"abcd", c.valid_until), None);
        assert_eq!(served(&Correction { state: State::NoData, ..c }, 2, *b"abcd", c.at), None);
        assert_eq!(served(&Correction { max_error: Span::MAX, ..c }, 2, *b"abcd", c.at), None);
    }

    #[test]
    fn an_implausible_receive_time_is_not_used() {
        let now = boottime();
        assert_eq!(received(None, now), now);
        assert_eq!(received(Some(realtime() + Span::from_secs(5)), now), now);
        assert_eq!(received(Some(realtime() - Span::from_secs(5)), now), now);
        let earlier = received(Some(realtime() - Span::from_ms(100)), boottime());
        assert!(earlier < boottime() - Span::from_ms(90));
    }
}
