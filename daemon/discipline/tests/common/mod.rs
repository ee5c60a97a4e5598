//! A seeded world for the discipline: a local clock with a wandering rate, servers, and networks between them.

use chronotick_core::{MonoTime, Span, Timestamp};
use chronotick_discipline::{Leap, Measurement};

/// SplitMix64: enough randomness for a simulation, reproducible from its seed.
#[derive(Clone)]
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in `[low, high)`.
    pub(crate) fn between(&mut self, low: f64, high: f64) -> f64 {
        low + (high - low) * (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    pub(crate) fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.between(0.0, 1.0)).ln()
    }

    pub(crate) fn chance(&mut self, probability: f64) -> bool {
        self.between(0.0, 1.0) < probability
    }
}

/// True time as a function of the local clock.
#[derive(Clone, Debug)]
pub(crate) struct Oscillator {
    pub(crate) theta_ns: i64,
    pub(crate) rate: f64,
    pub(crate) wander: f64,
    pub(crate) period_s: f64,
}

impl Oscillator {
    /// True time when the local clock reads `b`.
    pub(crate) fn truth(&self, b: MonoTime) -> Timestamp {
        let s = b.as_ns() as f64 / 1e9;
        let w = std::f64::consts::TAU / self.period_s;
        let drift_ns = (self.rate * s + self.wander / w * (w * s).sin()) * 1e9;
        Timestamp::from_ns(b.as_ns() + self.theta_ns + drift_ns.round() as i64)
    }
}

/// A server and the path to it.
#[derive(Clone, Debug)]
pub(crate) struct Server {
    pub(crate) out_ns: f64,
    pub(crate) back_ns: f64,
    pub(crate) jitter_ns: f64,
    pub(crate) spike: f64,
    pub(crate) loss: f64,
    /// Its error against true time: constant, and by time.
    pub(crate) error_ns: f64,
    pub(crate) error_rate: f64,
    pub(crate) root_delay: Span,
    pub(crate) root_dispersion: Span,
}

impl Server {
    /// A server that is right, on a symmetric path.
    pub(crate) fn honest(one_way_ns: f64, jitter_ns: f64) -> Self {
        Self {
            out_ns: one_way_ns,
            back_ns: one_way_ns,
            jitter_ns,
            spike: 0.0,
            loss: 0.0,
            error_ns: 0.0,
            error_rate: 0.0,
            root_delay: Span::ZERO,
            root_dispersion: Span::ZERO,
        }
    }

    fn stamp(&self, truth: Timestamp, start: Timestamp) -> Timestamp {
        let lie = self.error_ns + self.error_rate * (truth - start).as_ns() as f64;
        truth + Span::from_ns(lie.round() as i64)
    }

    /// One exchange begun at `sent`; `None` when a packet is lost. Returns the moment of the answer with it.
    pub(crate) fn exchange(
        &self,
        clock: &Oscillator,
        start: MonoTime,
        sent: MonoTime,
        poll_interval: Span,
        random: &mut Random,
    ) -> Option<(MonoTime, Measurement)> {
        let mut leg = |base: f64| {
            let queue = if random.chance(self.spike) { 2e8 } else { self.jitter_ns };
            Span::from_ns((base + random.exponential(queue)) as i64)
        };
        let (out, back) = (leg(self.out_ns), leg(self.back_ns));
        if random.chance(self.loss) {
            return None;
        }
        let arrived = sent + out;
        let left = arrived + Span::from_us(30);
        let received = left + back;
        let begin = clock.truth(start);
        let (t2, t3) = (self.stamp(clock.truth(arrived), begin), self.stamp(clock.truth(left), begin));
        let round_trip = received - sent;
        let at = sent + Span::from_ns(round_trip.as_ns() / 2);
        let theta_twice = (t2.as_ns() - sent.as_ns()) + (t3.as_ns() - received.as_ns());
        let delay = Span::from_ns((round_trip - (t3 - t2)).as_ns().max(1));
        let m = Measurement {
            source: 0,
            at,
            theta: Span::from_ns(theta_twice / 2),
            delay,
            round_trip,
            root_delay: self.root_delay,
            root_dispersion: self.root_dispersion,
            precision: Span::from_ns(100),
            stratum: 2,
            leap: Leap::None,
            poll_interval,
            authenticated: false,
        };
        Some((received, m))
    }
}
