//! The arithmetic of a reading: what a record says, reduced to the few numbers that every reading needs.
//!
//! The formulas are those of `docs/formats/clock-page.md`, in integer nanoseconds; a product with a rate is taken in
//! `f64`, where it is exact to below a nanosecond. A model is made once for each page that the writer publishes, and
//! evaluated for each reading: what can be computed once is computed here and not there.

use super::codec::Record;
use super::layout::{AnchorClock, Flags, Source, Version};
use super::reading::{AnchorUnavailable, Clocks, Reading, Sigma, Status};
use crate::bound::TimeBound;
use crate::time::{NS_PER_SEC, Span, Timestamp};

/// The frequency tolerance of an undisciplined oscillator, RFC 5905: 15 parts per million.
pub const PHI: f64 = 15e-6;

/// How many words a model packs into.
pub(super) const MODEL_WORDS: usize = 12;

/// What a record says of the time, ready to be evaluated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Model {
    /// `prediction_time`, Unix ns.
    system_ns: i64,
    /// Corrected minus system at `prediction_time`.
    offset_ns: i64,
    /// The last elapsed time at which the record is valid.
    valid_for_ns: i64,
    /// The bound at `prediction_time`; negative where the record gives no bound.
    error_ns: i64,
    /// Reading of the anchor clock at `prediction_time`.
    anchor: i64,
    /// Rate of the correction.
    drift_rate: f64,
    /// How much the bound grows in a nanosecond, ns.
    growth: f64,
    /// s; one standard deviation at `prediction_time`.
    offset_uncertainty: f64,
    /// s/s; one standard deviation of the rate.
    drift_uncertainty: f64,
    anchor_clock: AnchorClock,
    anchor_rate: u32,
    /// The status until `valid_for_ns` has passed.
    in_time: Status,
    /// The status afterwards.
    overdue: Status,
    source: Source,
    confidence: f32,
}

/// To the nearest integer, halves away from zero; saturates. The largest number below one half is added and the cast
/// cuts off: adding one half itself would round 0.49999999999999994 up.
#[inline(always)]
fn round(x: f64) -> i64 {
    (x + f64::copysign(0.499_999_999_999_999_94, x)) as i64
}

/// To the next integer upwards; saturates.
#[inline(always)]
fn ceil(x: f64) -> i64 {
    let whole = x as i64;
    whole.saturating_add(i64::from((whole as f64) < x))
}

#[inline(always)]
fn round_ns(seconds: f64) -> i64 {
    round(seconds * 1e9)
}

/// Unix seconds as nanoseconds; whole seconds are exact.
fn unix_ns(seconds: f64) -> i64 {
    let whole = seconds as i64;
    whole.saturating_mul(NS_PER_SEC).saturating_add(round_ns(seconds - whole as f64))
}

impl From<&Record> for Model {
    fn from(record: &Record) -> Self {
        let Record { flags, source, version, .. } = *record;
        let legacy = version == Version::Legacy;
        // An old page has a sigma and no bound; a withdrawn or disrupted one has lost its bound; zero is no bound.
        let bounded = !legacy
            && flags.has(Flags::VALID)
            && !flags.has(Flags::DISRUPTED)
            && source != Source::NoData
            && record.max_error > 0.0;
        // The gravest reason wins.
        let overdue = if flags.has(Flags::DISRUPTED) {
            Status::Disrupted
        } else if source == Source::NoData || (!legacy && record.sequence == 0) {
            Status::NoData
        } else {
            Status::Expired
        };
        let in_time = if overdue != Status::Expired || !flags.has(Flags::VALID) {
            overdue
        } else if legacy {
            Status::Legacy
        } else if flags.has(Flags::HOLDOVER) {
            Status::Holdover
        } else if !flags.has(Flags::WARMUP_COMPLETE) {
            Status::WarmingUp
        } else {
            Status::Synchronized
        };
        Self {
            system_ns: unix_ns(record.prediction_time),
            offset_ns: round_ns(record.offset_correction),
            valid_for_ns: round_ns(record.valid_until - record.prediction_time),
            error_ns: if bounded { ceil(f64::from(record.max_error) * 1e9) } else { -1 },
            anchor: record.anchor,
            drift_rate: record.drift_rate,
            growth: PHI + 3.0 * record.drift_uncertainty,
            offset_uncertainty: record.offset_uncertainty,
            drift_uncertainty: record.drift_uncertainty,
            anchor_clock: record.anchor_clock,
            anchor_rate: record.anchor_rate,
            in_time,
            overdue,
            source,
            confidence: record.confidence,
        }
    }
}

impl Model {
    /// Time on the anchor clock since `prediction_time`; negative before it.
    #[inline(always)]
    pub fn elapsed<C: Clocks>(&self, clocks: &C) -> Result<Span, AnchorUnavailable> {
        let since = |now: i64| now.saturating_sub(self.anchor);
        Ok(Span::from_ns(match self.anchor_clock {
            AnchorClock::Boottime => since(clocks.boottime().as_ns()),
            AnchorClock::Counter { shift } => {
                let ticks = since(clocks.counter().ok_or(AnchorUnavailable)?);
                // 63 bits of ticks times 32 of rate need 95.
                let scaled = (i128::from(ticks) * i128::from(self.anchor_rate)) >> (32 - u32::from(shift));
                i64::try_from(scaled).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
            }
            AnchorClock::None => clocks.realtime().as_ns().saturating_sub(self.system_ns),
            AnchorClock::MonotonicRaw => {
                let raw = since(clocks.monotonic_raw().as_ns());
                // 2^-42 is exact in f64; the rate says how much faster REALTIME ran than RAW.
                let rate = f64::from(self.anchor_rate as i32) / (1u64 << 42) as f64;
                raw.saturating_add(round(raw as f64 * rate))
            }
        }))
    }

    /// The time `elapsed` after `prediction_time`, past or future.
    #[inline(always)]
    pub fn read_at(&self, elapsed: Span) -> Reading {
        let elapsed_f64 = elapsed.as_ns() as f64;
        let system = Timestamp::from_ns(self.system_ns) + elapsed;
        let drift = Span::from_ns(round(elapsed_f64 * self.drift_rate));
        let corrected = system + Span::from_ns(self.offset_ns) + drift;
        let bound = if self.error_ns < 0 {
            TimeBound::UNBOUNDED
        } else {
            let growth = Span::from_ns(ceil(elapsed_f64.abs() * self.growth));
            TimeBound::around(corrected, Span::from_ns(self.error_ns) + growth)
        };
        Reading {
            corrected,
            bound,
            status: self.status(elapsed),
            source: self.source,
            confidence: self.confidence,
            system,
            drift_rate: self.drift_rate,
            uncertainty: Sigma {
                offset_uncertainty: self.offset_uncertainty,
                drift_uncertainty: self.drift_uncertainty,
                elapsed,
            },
        }
    }

    /// The status `elapsed` after `prediction_time`. The gravest reason wins.
    #[inline(always)]
    pub fn status(&self, elapsed: Span) -> Status {
        if elapsed.as_ns() > self.valid_for_ns { self.overdue } else { self.in_time }
    }

    /// `elapsed` at which the system clock, as the anchor tells it, is `system`.
    pub fn elapsed_at_system(&self, system: Timestamp) -> Span {
        system - Timestamp::from_ns(self.system_ns)
    }

    /// As words, of which the last is free for a sequence.
    pub(super) fn to_words(self) -> [u64; MODEL_WORDS] {
        let small = u32::from_le_bytes([
            self.anchor_clock.to_byte(),
            self.in_time as u8,
            self.overdue as u8,
            self.source as u8,
        ]);
        [
            self.system_ns as u64,
            self.offset_ns as u64,
            self.valid_for_ns as u64,
            self.error_ns as u64,
            self.anchor as u64,
            self.drift_rate.to_bits(),
            self.growth.to_bits(),
            self.offset_uncertainty.to_bits(),
            self.drift_uncertainty.to_bits(),
            u64::from(small) | u64::from(self.anchor_rate) << 32,
            u64::from(self.confidence.to_bits()),
            0,
        ]
    }

    /// The model with these words; what cannot be read is the gravest case. Only words of our own come here.
    #[inline(always)]
    pub(super) fn from_words(w: &[u64; MODEL_WORDS]) -> Self {
        let [anchor_byte, in_time, overdue, source] = (w[9] as u32).to_le_bytes();
        Self {
            system_ns: w[0] as i64,
            offset_ns: w[1] as i64,
            valid_for_ns: w[2] as i64,
            error_ns: w[3] as i64,
            anchor: w[4] as i64,
            drift_rate: f64::from_bits(w[5]),
            growth: f64::from_bits(w[6]),
            offset_uncertainty: f64::from_bits(w[7]),
            drift_uncertainty: f64::from_bits(w[8]),
            anchor_clock: AnchorClock::from_byte(anchor_byte).unwrap_or_default(),
            anchor_rate: (w[9] >> 32) as u32,
            in_time: Status::from_u8(in_time),
            overdue: Status::from_u8(overdue),
            source: Source::from_u32(u32::from(source)).unwrap_or_default(),
            confidence: f32::from_bits(w[10] as u32),
        }
    }
}

/// One standard deviation of a correction, not yet worked out: a square root takes as long as reading a clock.
pub(super) fn sigma(s: &Sigma) -> Span {
    let drift = s.drift_uncertainty * s.elapsed.as_secs_f64();
    let variance = s.offset_uncertainty * s.offset_uncertainty + drift * drift;
    Span::from_ns(round_ns(libm::sqrt(variance)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// By comparison of the cut-off part with one half, which is exact.
    fn round_by_definition(x: f64) -> i64 {
        let whole = x as i64;
        let rest = x - whole as f64;
        whole.saturating_add(i64::from(rest >= 0.5) - i64::from(rest <= -0.5))
    }

    #[test]
    fn rounding_is_exact_where_it_is_delicate() {
        let two_52 = (1u64 << 52) as f64;
        for x in [0.0, 0.5, 0.5f64.next_down(), 0.5f64.next_up(), 1.5, 2.5, two_52 - 0.5, two_52, two_52 + 1.0] {
            for x in [x, -x] {
                assert_eq!(round(x), round_by_definition(x), "{x}");
            }
        }
        assert_eq!((round(f64::MAX), round(f64::MIN), round(f64::NAN)), (i64::MAX, i64::MIN, 0));
    }

    proptest! {
        #[test]
        fn rounding_is_to_the_nearest(x in -1e16..1e16f64, bits: u64) {
            prop_assert_eq!(round(x), round_by_definition(x));
            let any = f64::from_bits(bits);
            prop_assert_eq!(round(any), round_by_definition(any));
        }

        #[test]
        fn a_model_survives_its_words(words: [u64; 16]) {
            if let Ok(record) = Record::from_words(&words) {
                let model = Model::from(&record);
                let again = Model::from_words(&model.to_words());
                prop_assert_eq!(again.to_words(), model.to_words());
            }
        }
    }
}
