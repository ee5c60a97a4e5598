//! The 48 bytes of an NTP packet (RFC 5905 figure 8), and its timestamps.
//!
//! ```text
//!  0  leap(2) version(3) mode(3) | stratum | poll | precision (signed, log2 seconds)
//!  4  root delay (16.16 s)         8  root dispersion (16.16 s)      12  reference id
//! 16  reference timestamp         24  origin timestamp
//! 32  receive timestamp           40  transmit timestamp            48  extensions, ignored
//! ```

use chronotick_core::{Span, Timestamp};

/// Bytes of a packet without extensions.
pub const PACKET_SIZE: usize = 48;
/// Mode of a request.
pub const MODE_CLIENT: u8 = 3;
/// Mode of an answer.
pub const MODE_SERVER: u8 = 4;
/// Seconds from 1900 to 1970.
const UNIX_EPOCH_S: i128 = 2_208_988_800;

/// Seconds since 1900 in the upper half (which wraps in 2036), their fraction in the lower.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct NtpTimestamp(pub u64);

impl NtpTimestamp {
    /// A moment as NTP writes it. Zero means "never" on the wire, so that one moment in 136 years is moved by 0.2 ns.
    pub fn of(moment: Timestamp) -> Self {
        let since_1900 = i128::from(moment.as_ns()) + UNIX_EPOCH_S * 1_000_000_000;
        let seconds = since_1900.div_euclid(1_000_000_000) as u32;
        let fraction = ((since_1900.rem_euclid(1_000_000_000) as u64) << 32) / 1_000_000_000;
        Self((u64::from(seconds) << 32 | fraction).max(1))
    }

    /// The moment it means: of all eras the one nearest to `pivot`, so anything within 68 years is right.
    pub fn near(self, pivot: Timestamp) -> Timestamp {
        let fraction_ns = ((u128::from(self.0 as u32) * 1_000_000_000 + (1 << 31)) >> 32) as i128;
        let in_era_0 = (i128::from(self.0 >> 32) - UNIX_EPOCH_S) * 1_000_000_000 + fraction_ns;
        const ERA_NS: i128 = (1 << 32) * 1_000_000_000;
        let eras = (i128::from(pivot.as_ns()) - in_era_0 + ERA_NS / 2).div_euclid(ERA_NS);
        let ns = (in_era_0 + eras * ERA_NS).clamp(i128::from(i64::MIN), i128::from(i64::MAX));
        Timestamp::from_ns(ns as i64)
    }
}

/// A decoded packet.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Packet {
    /// Leap indicator: 0 none, 1 insert, 2 delete, 3 not synchronized.
    pub leap: u8,
    /// Protocol version.
    pub version: u8,
    /// 3 client, 4 server.
    pub mode: u8,
    /// 0 kiss-o'-death, 1 to 15 steps from the reference, 16 not synchronized.
    pub stratum: u8,
    /// Log2 of the poll interval in seconds.
    pub poll: i8,
    /// Log2 of the precision in seconds.
    pub precision: i8,
    /// Round trip to the reference, 16.16 s.
    pub root_delay: u32,
    /// Error against the reference, 16.16 s.
    pub root_dispersion: u32,
    /// Reference id, or the kiss code.
    pub reference_id: [u8; 4],
    /// When the server's clock was set last.
    pub reference: NtpTimestamp,
    /// What the request had as transmit.
    pub origin: NtpTimestamp,
    /// When the request arrived.
    pub receive: NtpTimestamp,
    /// When the answer left.
    pub transmit: NtpTimestamp,
}

impl Packet {
    /// A request that tells nothing of this machine: all zero but for the random `nonce` as transmit timestamp.
    pub fn request(nonce: u64) -> [u8; PACKET_SIZE] {
        let mut bytes = [0; PACKET_SIZE];
        bytes[0] = 4 << 3 | MODE_CLIENT;
        bytes[40..].copy_from_slice(&nonce.to_be_bytes());
        bytes
    }

    /// Reads a packet; `None` when it is too short. Bytes after the header are ignored.
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let b: &[u8; PACKET_SIZE] = bytes.first_chunk()?;
        let word = |at: usize| u32::from_be_bytes([b[at], b[at + 1], b[at + 2], b[at + 3]]);
        let stamp = |at: usize| NtpTimestamp(u64::from(word(at)) << 32 | u64::from(word(at + 4)));
        Some(Self {
            leap: b[0] >> 6,
            version: b[0] >> 3 & 7,
            mode: b[0] & 7,
            stratum: b[1],
            poll: b[2] as i8,
            precision: b[3] as i8,
            root_delay: word(4),
            root_dispersion: word(8),
            reference_id: word(12).to_be_bytes(),
            reference: stamp(16),
            origin: stamp(24),
            receive: stamp(32),
            transmit: stamp(40),
        })
    }
}

/// 16.16 seconds as a span, rounded up.
pub fn short_span(short: u32) -> Span {
    Span::from_ns((((u64::from(short)) * 1_000_000_000).div_ceil(1 << 16)) as i64)
}

/// A span as 16.16 seconds, rounded up; all that does not fit is the largest, and a negative one is none.
pub fn span_to_short(span: Span) -> u32 {
    let units = (u128::from(span.as_ns().max(0) as u64) << 16).div_ceil(1_000_000_000);
    u32::try_from(units).unwrap_or(u32::MAX)
}

/// 2^`log2` seconds, between 1 ns and 16 s.
pub fn log2_span(log2: i8) -> Span {
    let ns = 1e9 * f64::from(log2.clamp(-30, 4)).exp2();
    Span::from_ns((ns.ceil() as i64).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_request_reads_back() {
        let p = Packet::decode(&Packet::request(0x0123_4567_89ab_cdef)).unwrap();
        assert_eq!((p.leap, p.version, p.mode, p.stratum), (0, 4, MODE_CLIENT, 0));
        assert_eq!(p.transmit, NtpTimestamp(0x0123_4567_89ab_cdef));
        assert_eq!((p.origin, p.receive), (NtpTimestamp(0), NtpTimestamp(0)));
    }

    #[test]
    fn timestamps_are_read_in_the_era_of_the_pivot() {
        let check = |raw: u64, pivot_s: i64, want_ns: i64| {
            let got = NtpTimestamp(raw).near(Timestamp::from_secs(pivot_s));
            assert_eq!(got.as_ns(), want_ns, "{raw:#x} near {pivot_s}");
        };
        // RFC 5905 figure 4: 1 January 1970, and the last second of era 0, 7 February 2036 at 06:28:15.
        check(2_208_988_800 << 32, 0, 0);
        check(0xffff_ffff << 32, 2_085_978_000, 2_085_978_495_000_000_000);
        // The first second of era 1, from both sides of the wrap.
        check(0, 2_085_978_495, 2_085_978_496_000_000_000);
        check(0, 2_085_978_500, 2_085_978_496_000_000_000);
        // The last second of era 0 seen from era 1.
        check(0xffff_ffff << 32, 2_085_978_500, 2_085_978_495_000_000_000);
        check((2_208_988_800 << 32) | 0x8000_0000, 0, 500_000_000);
        check((2_208_988_800 << 32) | 0xffff_ffff, 0, 1_000_000_000);
    }

    #[test]
    fn short_formats() {
        assert_eq!(short_span(0x0001_0000), Span::from_secs(1));
        assert_eq!(short_span(1), Span::from_ns(15_259));
        assert_eq!((span_to_short(Span::from_ns(-1)), span_to_short(Span::from_ns(1))), (0, 1));
        assert_eq!((span_to_short(Span::from_secs(1)), span_to_short(Span::MAX)), (0x0001_0000, u32::MAX));
        assert_eq!(log2_span(0), Span::from_secs(1));
        assert_eq!(log2_span(-20), Span::from_ns(954));
        assert_eq!(log2_span(i8::MIN), Span::from_ns(1));
        assert_eq!(log2_span(i8::MAX), Span::from_secs(16));
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_without_a_panic(bytes in prop::collection::vec(any::<u8>(), 0..128), pivot: i64) {
            let packet = Packet::decode(&bytes);
            prop_assert_eq!(packet.is_some(), bytes.len() >= PACKET_SIZE);
            if let Some(p) = packet {
                let _ = (p.receive.near(Timestamp::from_ns(pivot)), short_span(p.root_delay), log2_span(p.precision));
            }
        }

        #[test]
        fn a_moment_is_written_and_read_back(ns: i64) {
            let moment = Timestamp::from_ns(ns);
            prop_assert!((NtpTimestamp::of(moment).near(moment) - moment).abs() <= Span::from_ns(1));
        }

        #[test]
        fn a_timestamp_is_within_68_years_of_its_pivot(raw: u64, pivot_s in -5_000_000_000i64..5_000_000_000) {
            let pivot = Timestamp::from_secs(pivot_s);
            let apart = (NtpTimestamp(raw).near(pivot) - pivot).abs();
            prop_assert!(apart <= Span::from_secs(1 << 31) + Span::from_ns(1));
        }
    }
}
