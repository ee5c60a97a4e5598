//! What must hold for any bytes taken as an NTP packet.

use chronotick_core::{Span, Timestamp};
use chronotick_ntp::packet::{NtpTimestamp, PACKET_SIZE, Packet, log2_span, short_span};

/// `data`: a moment as little-endian i64 ns (zeros where missing), then the packet.
pub(crate) fn check(data: &[u8]) {
    let (pivot, bytes) = match data.split_first_chunk() {
        Some((pivot, bytes)) => (i64::from_le_bytes(*pivot), bytes),
        None => (0, data),
    };
    let Some(p) = Packet::decode(bytes) else {
        assert!(bytes.len() < PACKET_SIZE);
        return;
    };
    assert!(p.leap <= 3 && p.version <= 7 && p.mode <= 7);
    assert_eq!(p.leap << 6 | p.version << 3 | p.mode, bytes[0]);
    assert_eq!(p.transmit.0.to_be_bytes(), bytes[40..48]);
    assert!(!short_span(p.root_delay).is_negative() && !short_span(p.root_dispersion).is_negative());
    assert!(log2_span(p.precision) >= Span::from_ns(1) && log2_span(p.poll) <= Span::from_secs(16));
    // An era is 2^32 s: the moment meant is at most half of it away, where an i64 of ns reaches that far.
    let half_era = Span::from_secs(1 << 31) + Span::from_ns(1);
    let pivot = Timestamp::from_ns(pivot);
    for stamp in [p.reference, p.origin, p.receive, p.transmit] {
        let moment = stamp.near(pivot);
        assert!((moment - pivot).abs() <= half_era, "{stamp:?} near {pivot:?} is {moment:?}");
    }
    assert_eq!(Packet::request(p.transmit.0)[40..48], bytes[40..48]);
    assert_eq!(NtpTimestamp(p.transmit.0), p.transmit);
}
