//! What we answer to those who ask us for the time.

use crate::packet::{MODE_CLIENT, MODE_SERVER, NtpTimestamp, PACKET_SIZE, Packet, span_to_short};
use chronotick_core::{Span, Timestamp};

/// Stratum of a clock that is not synchronized.
const UNSYNCHRONIZED: u8 = 16;
/// Leap indicator of a clock that is not synchronized.
const LEAP_ALARM: u8 = 3;
/// Log2 of the precision that we claim: 1 us.
const PRECISION: u8 = -20i8 as u8;

/// What our clock can say of itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Served {
    /// Leap indicator: 0 none, 1 insert, 2 delete.
    pub leap: u8,
    /// Ours: one more than that of our source.
    pub stratum: u8,
    /// Our source.
    pub reference_id: [u8; 4],
    /// When our clock was last brought up to date.
    pub reference: Timestamp,
    /// The hard bound on its error now.
    pub max_error: Span,
}

/// A request that deserves an answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Request {
    version: u8,
    poll: u8,
    transmit: u64,
}

impl Request {
    /// Reads a request; `None` for anything that is not one of mode 3 and version 3 or 4. No answer is longer than 48
    /// bytes, and no request shorter: nothing is amplified.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let p = Packet::decode(bytes)?;
        (p.mode == MODE_CLIENT && (3..=4).contains(&p.version)).then_some(Self {
            version: p.version,
            poll: bytes[2],
            transmit: p.transmit.0,
        })
    }

    /// The answer; `None` as `served` says that our clock is not synchronized. The time at which it leaves is put in last,
    /// by [`stamp`].
    pub fn answer(&self, served: Option<&Served>, received: Timestamp) -> [u8; PACKET_SIZE] {
        let Some(s) = served.filter(|s| s.stratum < UNSYNCHRONIZED) else {
            let mut b = self.header(LEAP_ALARM, UNSYNCHRONIZED);
            b[8..12].copy_from_slice(&u32::MAX.to_be_bytes());
            b[32..40].copy_from_slice(&NtpTimestamp::of(received).0.to_be_bytes());
            return b;
        };
        let mut b = self.header(s.leap, s.stratum);
        // The whole bound goes into the dispersion: root_delay / 2 + root_dispersion >= max_error, with no delay.
        b[8..12].copy_from_slice(&span_to_short(s.max_error).to_be_bytes());
        b[12..16].copy_from_slice(&s.reference_id);
        b[16..24].copy_from_slice(&NtpTimestamp::of(s.reference).0.to_be_bytes());
        b[32..40].copy_from_slice(&NtpTimestamp::of(received).0.to_be_bytes());
        b
    }

    /// Kiss-o'-death RATE: ask less often.
    pub fn kiss_rate(&self) -> [u8; PACKET_SIZE] {
        let mut b = self.header(LEAP_ALARM, 0);
        b[12..16].copy_from_slice(b"RATE");
        b
    }

    fn header(&self, leap: u8, stratum: u8) -> [u8; PACKET_SIZE] {
        let mut b = [0; PACKET_SIZE];
        b[0] = leap << 6 | self.version << 3 | MODE_SERVER;
        b[1] = stratum;
        b[2] = self.poll;
        b[3] = PRECISION;
        b[24..32].copy_from_slice(&self.transmit.to_be_bytes());
        b
    }
}

/// Puts in the time at which the answer leaves.
pub fn stamp(answer: &mut [u8; PACKET_SIZE], leaves: Timestamp) {
    answer[40..].copy_from_slice(&NtpTimestamp::of(leaves).0.to_be_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::short_span;
    use proptest::prelude::*;

    #[test]
    fn only_requests_are_answered() {
        let check = |first: u8, length: usize, want: bool| {
            let mut b = vec![0; length];
            if let Some(byte) = b.first_mut() {
                *byte = first;
            }
            assert_eq!(Request::read(&b).is_some(), want, "{first:#x} of {length}");
        };
        check(4 << 3 | 3, 48, true);
        check(3 << 3 | 3, 48, true);
        check(4 << 3 | 3, 1000, true);
        check(4 << 3 | 3, 47, false);
        check(4 << 3 | 3, 0, false);
        check(2 << 3 | 3, 48, false);
        check(5 << 3 | 3, 48, false);
        // Symmetric, server, broadcast, control and private: the modes of amplification.
        for mode in [0, 1, 2, 4, 5, 6, 7] {
            check(4 << 3 | mode, 200, false);
        }
    }

    #[test]
    fn an_unsynchronized_clock_says_so() {
        let mut b = Packet::request(77);
        b[2] = 6;
        let answer = Request::read(&b).unwrap().answer(None, Timestamp::from_secs(5));
        let p = Packet::decode(&answer).unwrap();
        assert_eq!((p.leap, p.stratum, p.mode, p.version, p.poll), (3, 16, 4, 4, 6));
        assert_eq!(p.origin.0, 77);
        let kiss = Packet::decode(&Request::read(&b).unwrap().kiss_rate()).unwrap();
        assert_eq!((kiss.stratum, &kiss.reference_id, kiss.origin.0), (0, b"RATE", 77));
    }

    proptest! {
        #[test]
        fn the_bound_and_the_moments_survive_the_wire(
            error_ns in 0i64..60_000_000_000_000, now in 1_700_000_000_000_000_000i64..3_000_000_000_000_000_000,
        ) {
            let served = Served {
                leap: 1, stratum: 3, reference_id: *b"abcd", reference: Timestamp::from_ns(now - 1_000_000_000),
                max_error: Span::from_ns(error_ns),
            };
            let received = Timestamp::from_ns(now);
            let mut answer = Request::read(&Packet::request(1)).unwrap().answer(Some(&served), received);
            stamp(&mut answer, received + Span::from_ns(1000));
            let p = Packet::decode(&answer).unwrap();
            prop_assert_eq!((p.leap, p.stratum, p.reference_id), (1, 3, *b"abcd"));
            prop_assert!(short_span(p.root_delay) + short_span(p.root_dispersion) >= served.max_error);
            prop_assert!((p.receive.near(received) - received).abs() <= Span::from_ns(1));
            prop_assert!((p.transmit.near(received) - received - Span::from_ns(1000)).abs() <= Span::from_ns(1));
        }
    }
}
