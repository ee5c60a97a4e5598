//! One exchange: the on-wire checks of RFC 5905, and the measurement that comes out of it.

use crate::packet::{MODE_SERVER, NtpTimestamp, Packet, log2_span, short_span};
use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Leap, Measurement};
use std::fmt;

/// A server whose root distance is this large is not used (MAXDIST).
pub const MAX_DISTANCE: Span = Span::from_ms(1500);
/// Reading precision of the local clock.
const LOCAL_PRECISION: Span = Span::from_ns(100);
/// 1 January 2025: a system clock that reads less was never set, so eras are taken from here.
const EARLIEST_PIVOT: Timestamp = Timestamp::from_secs(1_735_689_600);

/// What was sent, and the moments on the local clock.
#[derive(Clone, Copy, Debug)]
pub struct Exchange {
    /// The random transmit timestamp of the request.
    pub nonce: u64,
    /// Before the request was sent.
    pub sent: MonoTime,
    /// After the answer was received.
    pub received: MonoTime,
    /// The system clock, to tell the era.
    pub system: Timestamp,
}

/// A packet that is no answer to this request. It may be forged, late or a duplicate: go on waiting.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Bogus {
    /// Fewer than 48 bytes.
    Short,
    /// Not the mode of a server's answer.
    Mode(u8),
    /// Not version 3 or 4.
    Version(u8),
    /// The origin timestamp is not our nonce.
    Origin,
    /// NTS: the extension fields cannot be read.
    Extension,
    /// NTS: the unique identifier is not that of the request.
    UniqueId,
    /// NTS: no authenticator, although the request had one.
    Unauthenticated,
    /// NTS: the authenticator does not fit.
    Authenticator,
    /// NTS: kiss-o'-death NTSN, which nobody can authenticate: the server knows our cookie no more, or is impersonated.
    NtsNak,
}

/// The server's own answer, which cannot be used.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// Kiss-o'-death DENY or RSTR: the server must not be asked again.
    Denied([u8; 4]),
    /// Kiss-o'-death RATE: ask less often.
    Rate,
    /// Another kiss code.
    Kiss([u8; 4]),
    /// The server says that its clock is not synchronized.
    LeapAlarm,
    /// Stratum over 15.
    Stratum(u8),
    /// Receive or transmit timestamp is zero.
    ZeroTimestamp,
    /// The answer left the server before the request arrived there, or took longer there than the whole exchange.
    NegativeDelay,
    /// The error against the reference may be too large.
    RootDistance(Span),
}

/// Why a packet gave no measurement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rejection {
    /// Ignore it.
    Bogus(Bogus),
    /// It ends the exchange.
    Refusal(Refusal),
}

impl From<Bogus> for Rejection {
    fn from(b: Bogus) -> Self {
        Self::Bogus(b)
    }
}

impl From<Refusal> for Rejection {
    fn from(r: Refusal) -> Self {
        Self::Refusal(r)
    }
}

impl fmt::Display for Rejection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bogus(b) => b.fmt(f),
            Self::Refusal(r) => r.fmt(f),
        }
    }
}

impl fmt::Display for Bogus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Short => write!(f, "ignored a packet shorter than 48 bytes"),
            Self::Mode(mode) => write!(f, "ignored a packet of mode {mode}, an answer has mode 4"),
            Self::Version(v) => write!(f, "ignored a packet of NTP version {v}, only 3 and 4 are known"),
            Self::Origin => {
                write!(f, "ignored a packet whose origin is not our request: forged, late or doubled")
            }
            Self::Extension => write!(f, "ignored a packet whose extension fields cannot be read"),
            Self::UniqueId => {
                write!(f, "ignored a packet with another unique identifier: forged, late or doubled")
            }
            Self::Unauthenticated => {
                write!(
                    f,
                    "ignored a packet without an authenticator: somebody on the way may have removed it"
                )
            }
            Self::Authenticator => {
                write!(f, "ignored a packet whose authenticator does not fit: forged or changed on the way")
            }
            Self::NtsNak => write!(f, "the server says that it knows our NTS cookie no more (NTSN)"),
        }
    }
}

impl Refusal {
    /// The numbers make no sense for any server that could be used. Whoever can forge the answer would rather send this
    /// than nothing, so a better answer is waited for.
    pub fn is_absurd(&self) -> bool {
        matches!(self, Self::ZeroTimestamp | Self::NegativeDelay | Self::RootDistance(_))
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(code) => write!(
                f,
                "the server refuses us (kiss-o'-death {}): it is not asked again; choose another server",
                kiss(code)
            ),
            Self::Rate => {
                write!(f, "the server asks for fewer requests (kiss-o'-death RATE): interval doubled")
            }
            Self::Kiss(code) => write!(f, "the server sent kiss-o'-death {}", kiss(code)),
            Self::LeapAlarm => write!(f, "the server says that its clock is not synchronized (leap alarm)"),
            Self::Stratum(n) => write!(f, "the server is not synchronized (stratum {n})"),
            Self::ZeroTimestamp => write!(f, "the server sent an empty receive or transmit timestamp"),
            Self::NegativeDelay => write!(f, "the server's timestamps do not fit the time the exchange took"),
            Self::RootDistance(d) => {
                write!(f, "the server may be wrong by {d} (root distance); at most {MAX_DISTANCE} is used")
            }
        }
    }
}

fn kiss(code: &[u8; 4]) -> String {
    code.iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '?' }).collect()
}

/// Checks a packet and turns it into a measurement of `source`.
pub fn evaluate(
    exchange: &Exchange,
    bytes: &[u8],
    source: usize,
    poll_interval: Span,
) -> Result<Measurement, Rejection> {
    let p = Packet::decode(bytes).ok_or(Bogus::Short)?;
    if p.mode != MODE_SERVER {
        return Err(Bogus::Mode(p.mode).into());
    }
    if !(3..=4).contains(&p.version) {
        return Err(Bogus::Version(p.version).into());
    }
    if p.origin != NtpTimestamp(exchange.nonce) {
        return Err(Bogus::Origin.into());
    }
    if p.stratum == 0 {
        return Err(match &p.reference_id {
            code @ (b"DENY" | b"RSTR") => Refusal::Denied(*code),
            b"RATE" => Refusal::Rate,
            code => Refusal::Kiss(*code),
        }
        .into());
    }
    if p.stratum > 15 {
        return Err(Refusal::Stratum(p.stratum).into());
    }
    let leap = match p.leap {
        0 => Leap::None,
        1 => Leap::Insert,
        2 => Leap::Delete,
        _ => return Err(Refusal::LeapAlarm.into()),
    };
    if p.receive.0 == 0 || p.transmit.0 == 0 {
        return Err(Refusal::ZeroTimestamp.into());
    }
    let pivot = exchange.system.max(EARLIEST_PIVOT);
    let (t2, t3) = (p.receive.near(pivot), p.transmit.near(pivot));
    let round_trip = exchange.received - exchange.sent;
    let in_server = t3 - t2;
    let delay = round_trip - in_server;
    let precision = log2_span(p.precision) + LOCAL_PRECISION;
    // Clocks are read in steps: on loopback the delay may come out a step below nothing.
    if round_trip.is_negative() || in_server.is_negative() || (delay + precision).is_negative() {
        return Err(Refusal::NegativeDelay.into());
    }
    let delay = delay.max(Span::ZERO);
    // Middle of the server's stamps minus middle of ours; halves are taken of differences, so nothing overflows.
    let at = exchange.sent + Span::from_ns(round_trip.as_ns() / 2);
    let server_middle = t2 + Span::from_ns(in_server.as_ns() / 2);
    let measurement = Measurement {
        source,
        at,
        theta: Span::from_ns(server_middle.as_ns().saturating_sub(at.as_ns())),
        delay,
        round_trip,
        root_delay: short_span(p.root_delay),
        root_dispersion: short_span(p.root_dispersion),
        precision,
        stratum: p.stratum,
        leap,
        poll_interval,
        authenticated: false,
    };
    let distance = Span::from_ns(measurement.root_distance_ns().ceil() as i64);
    if distance >= MAX_DISTANCE {
        return Err(Refusal::RootDistance(distance).into());
    }
    Ok(measurement)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NONCE: u64 = 0xfeed_beef_dead_c0de;
    /// 1 January 2026 in NTP seconds.
    const NTP_2026: u64 = 1_767_225_600 + 2_208_988_800;

    fn exchange() -> Exchange {
        Exchange {
            nonce: NONCE,
            sent: MonoTime::from_ns(1_000_000_000),
            received: MonoTime::from_ns(1_020_000_000),
            system: Timestamp::from_secs(1_767_225_000),
        }
    }

    /// An answer that arrived 10 ms after sending and left 2 ms later, at the start of 2026.
    fn answer() -> [u8; 48] {
        let mut b = [0; 48];
        b[0] = 4 << 3 | 4;
        b[1] = 2;
        b[3] = (-20i8) as u8;
        b[24..32].copy_from_slice(&NONCE.to_be_bytes());
        b[32..40].copy_from_slice(&(NTP_2026 << 32).to_be_bytes());
        // 2 ms as a fraction of 2^32.
        b[40..48].copy_from_slice(&((NTP_2026 << 32) | 8_589_935).to_be_bytes());
        b
    }

    #[test]
    fn a_good_answer_gives_offset_and_delay() {
        let m = evaluate(&exchange(), &answer(), 3, Span::from_secs(4)).unwrap();
        assert_eq!(m.source, 3);
        assert_eq!(m.at.as_ns(), 1_010_000_000);
        assert_eq!(m.delay, Span::from_ms(18));
        assert_eq!(m.theta.as_ns(), 1_767_225_600_001_000_000 - 1_010_000_000);
        assert_eq!((m.stratum, m.leap), (2, Leap::None));
        assert_eq!(m.precision, Span::from_ns(954 + 100));
    }

    #[test]
    fn a_delay_below_nothing_by_less_than_the_precision_is_none() {
        let answer = answer();
        let after = |ns: i64| Exchange { received: MonoTime::from_ns(1_000_000_000 + ns), ..exchange() };
        let delay = |ns| evaluate(&after(ns), &answer, 0, Span::from_secs(4)).map(|m| m.delay);
        // The server took 2 ms, and its precision with ours is 1054 ns.
        assert_eq!(delay(2_000_500), Ok(Span::from_ns(500)));
        assert_eq!(delay(1_999_000), Ok(Span::ZERO));
        assert_eq!(delay(1_998_900), Err(Refusal::NegativeDelay.into()));
    }

    #[test]
    fn bytes_after_the_header_are_ignored() {
        let mut long = answer().to_vec();
        long.extend([7; 20]);
        assert!(evaluate(&exchange(), &long, 0, Span::from_secs(4)).is_ok());
    }

    #[test]
    fn every_refusal() {
        let check = |change: &dyn Fn(&mut [u8; 48]), want: Rejection| {
            let mut b = answer();
            change(&mut b);
            assert_eq!(evaluate(&exchange(), &b, 0, Span::from_secs(4)), Err(want));
        };
        let kiss = |code: &'static [u8; 4]| {
            move |b: &mut [u8; 48]| {
                b[1] = 0;
                b[12..16].copy_from_slice(code);
            }
        };
        check(&|b| b[0] = 4 << 3 | 3, Bogus::Mode(3).into());
        check(&|b| b[0] = 2 << 3 | 4, Bogus::Version(2).into());
        check(&|b| b[31] ^= 1, Bogus::Origin.into());
        check(&kiss(b"DENY"), Refusal::Denied(*b"DENY").into());
        check(&kiss(b"RSTR"), Refusal::Denied(*b"RSTR").into());
        check(&kiss(b"RATE"), Refusal::Rate.into());
        check(&kiss(b"INIT"), Refusal::Kiss(*b"INIT").into());
        check(&|b| b[0] |= 3 << 6, Refusal::LeapAlarm.into());
        check(&|b| b[1] = 16, Refusal::Stratum(16).into());
        check(&|b| b[1] = 255, Refusal::Stratum(255).into());
        check(&|b| b[32..40].fill(0), Refusal::ZeroTimestamp.into());
        check(&|b| b[40..48].fill(0), Refusal::ZeroTimestamp.into());
        // Half a second in the server, 20 ms in all.
        check(&|b| b[44] = 0x80, Refusal::NegativeDelay.into());
        // Left before it arrived.
        check(&|b| b[43] -= 1, Refusal::NegativeDelay.into());
        let short = evaluate(&exchange(), &answer()[..47], 0, Span::from_secs(4));
        assert_eq!(short, Err(Bogus::Short.into()));
        let mut far = answer();
        far[9] = 2;
        let refused = evaluate(&exchange(), &far, 0, Span::from_secs(4));
        assert!(
            matches!(refused, Err(Rejection::Refusal(Refusal::RootDistance(d))) if d > Span::from_secs(2))
        );
    }

    #[test]
    fn a_forged_kiss_is_ignored() {
        let mut b = answer();
        b[1] = 0;
        b[12..16].copy_from_slice(b"DENY");
        b[24] ^= 0xff;
        assert_eq!(evaluate(&exchange(), &b, 0, Span::from_secs(4)), Err(Bogus::Origin.into()));
    }

    #[test]
    fn a_system_clock_in_1970_still_finds_the_era() {
        let unset = Exchange { system: Timestamp::EPOCH, ..exchange() };
        let m = evaluate(&unset, &answer(), 0, Span::from_secs(4)).unwrap();
        assert_eq!(m.theta.as_ns(), 1_767_225_600_001_000_000 - 1_010_000_000);
    }

    proptest! {
        #[test]
        fn any_answer_is_judged_without_a_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..96), keep: bool, sent: i64, received: i64,
        ) {
            if keep && bytes.len() >= 48 {
                bytes[0] = bytes[0] & 0xc0 | 4 << 3 | 4;
                bytes[24..32].copy_from_slice(&NONCE.to_be_bytes());
            }
            let e = Exchange { sent: MonoTime::from_ns(sent), received: MonoTime::from_ns(received), ..exchange() };
            if let Ok(m) = evaluate(&e, &bytes, 0, Span::from_secs(4)) {
                prop_assert!(!m.delay.is_negative() && (1..=15).contains(&m.stratum));
            }
        }
    }
}
