//! What must hold for any answer to a request, at any readings of the clocks; for any request that we serve; and for any
//! answer of a chronyd.

use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_ntp::answer::{Request, Served, stamp};
use chronotick_ntp::chrony;
use chronotick_ntp::exchange::{Exchange, MAX_DISTANCE, Rejection, evaluate};
use chronotick_ntp::packet::{MODE_CLIENT, Packet, short_span};

/// `data`: when the request was sent, when the answer came, and the system clock, as little-endian i64 ns; then the
/// answer.
pub(crate) fn check(data: &[u8]) {
    let number = |at: usize| {
        data.get(at..at + 8).map_or(0, |b| i64::from_le_bytes(b.try_into().expect("eight bytes")))
    };
    let bytes = data.get(24..).unwrap_or_default();
    let mut exchange = Exchange {
        nonce: 0,
        sent: MonoTime::from_ns(number(0)),
        received: MonoTime::from_ns(number(8)),
        system: Timestamp::from_ns(number(16)),
    };
    judged(&exchange, bytes);
    if let Some(packet) = Packet::decode(bytes) {
        // As if it were the answer to our request, and came at a plausible time.
        exchange.nonce = packet.origin.0;
        judged(&exchange, bytes);
        exchange.received = exchange.sent + Span::from_ms(20);
        judged(&exchange, bytes);
    }
    served(bytes, Timestamp::from_ns(number(16)), Span::from_ns(number(0)));
    let sequence = bytes.get(16..20).map_or(0, |b| u32::from_be_bytes(b.try_into().expect("four bytes")));
    if let Ok(t) = chrony::read(bytes, sequence) {
        assert!([t.current_correction, t.root_delay, t.root_dispersion].iter().all(|x| x.is_finite()));
    }
}

fn judged(exchange: &Exchange, bytes: &[u8]) {
    match evaluate(exchange, bytes, 0, Span::from_secs(4)) {
        Ok(m) => {
            assert!(
                !m.delay.is_negative()
                    && !m.round_trip.is_negative()
                    && m.delay <= m.round_trip + m.precision
            );
            assert!((1..=15).contains(&m.stratum) && !m.authenticated);
            assert!(m.root_distance_ns() < MAX_DISTANCE.as_ns() as f64);
            assert!(exchange.sent <= m.at && m.at <= exchange.received);
        }
        Err(Rejection::Bogus(bogus)) => assert!(!bogus.to_string().is_empty()),
        Err(Rejection::Refusal(refusal)) => assert!(!refusal.to_string().is_empty()),
    }
}

fn served(bytes: &[u8], now: Timestamp, max_error: Span) {
    let Some(request) = Request::read(bytes) else { return };
    let asked = Packet::decode(bytes).expect("a request is a packet");
    assert!(asked.mode == MODE_CLIENT && (3..=4).contains(&asked.version));
    let ours = Served {
        leap: 0,
        stratum: 3,
        reference_id: *b"fuzz",
        reference: now,
        max_error: max_error.abs().min(Span::from_secs(60_000)),
    };
    let mut answer = request.answer(Some(&ours), now);
    stamp(&mut answer, now);
    assert!(answer.len() <= bytes.len(), "nothing is amplified");
    for answer in [answer, request.answer(None, now), request.kiss_rate()] {
        let p = Packet::decode(&answer).expect("an answer is a packet");
        assert_eq!((p.mode, p.version, p.origin), (4, asked.version, asked.transmit));
    }
    let p = Packet::decode(&answer).expect("an answer is a packet");
    assert!(short_span(p.root_delay) + short_span(p.root_dispersion) >= ours.max_error);
}
