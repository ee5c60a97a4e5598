//! The arithmetic of a reading: what a record says, reduced to the few numbers that every reading needs.
//!
//! The formulas are those of `docs/formats/clock-page.md`, in integer nanoseconds; a product with a rate is taken in
//! `f64`, where it is exact to below a nanosecond. A model is made once for each page that the writer publishes, and
//! evaluated for each reading: what can be computed once is computed here and not there.

use super::codec::Record;
use super::layout::{AnchorClock, Flags, Source, Version};
use super::reading::{AnchorUnavailable, Clocks, Reading, Sigma, Status};
use crate::bound::TimeBound;
use crate::time::{MonoTime, NS_PER_SEC, Span, Timestamp};

/// The frequency tolerance of an undisciplined oscillator, RFC 5905: 15 parts per million.
pub const PHI: f64 = 15e-6;

/// How many words a model packs into.
pub(super) const MODEL_WORDS: usize = 14;
/// Which of them tells the anchor clock, in its lowest byte.
pub(super) const CLOCK_WORD: usize = 9;
/// The everyday path ends at this elapsed time, 73 minutes: nearly all pages expire sooner.
const PLAIN_LIMIT_NS: i64 = 1 << 42;
/// It takes no rate above this, 1.5 per cent.
const PLAIN_LIMIT_RATE: f64 = 1.0 / 64.0;
/// ... and no more ticks than this, hours of a fast counter: with 47 bits of scale, 93 bits.
const PLAIN_LIMIT_TICKS: u64 = 1 << 46;
/// How near, in units of 2^-64 ns, a product may come to where its rounding changes: 2^-16 ns. Below the limits above, the
/// product in f64 is within 2^42 * 2^-6 * 2^-53 = 2^-17 of the exact one, and that in fixed point, whose rate is cut off
/// at 2^-64, within 2^42 * 2^-64 = 2^-22. Farther away than their sum both round to the same integer.
const TOO_CLOSE: u64 = 1 << 48;

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
    /// Counter: ns per tick in units of 2^-32. CLOCK_MONOTONIC_RAW: its rate in units of 2^-42.
    scale: i64,
    /// The rates in units of 2^-64, for the everyday path.
    drift_fixed: i64,
    growth_fixed: u64,
    /// For an elapsed time from 0 to below this, the status is `in_time` and usable, there is a bound, and no sum can
    /// overflow. 0 where there is no such time.
    plain_below_ns: u64,
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
    (x + f64::copysign(ALMOST_HALF, x)) as i64
}

/// The largest number below one half.
const ALMOST_HALF: f64 = 0.499_999_999_999_999_94;

/// `factor * rate` to the nearest integer, for a rate in units of 2^-64; `None` where it is too close to call.
#[inline(always)]
fn nearest_product(factor: i64, rate: i64) -> Option<i64> {
    const HALF: u64 = 1 << 63;
    let product = i128::from(factor) * i128::from(rate);
    let nearest = ((product + i128::from(HALF)) >> 64) as i64;
    let to_half = (product as u64).wrapping_sub(HALF - TOO_CLOSE);
    (to_half > 2 * TOO_CLOSE).then_some(nearest)
}

/// `factor * rate` to the next integer upwards, for a rate in units of 2^-64; `None` where it is too close to call.
#[inline(always)]
fn product_upwards(factor: u64, rate: u64) -> Option<i64> {
    let product = u128::from(factor) * u128::from(rate);
    let to_whole = (product as u64).wrapping_add(TOO_CLOSE);
    (to_whole > 2 * TOO_CLOSE).then_some((product >> 64) as i64 + 1)
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
        let system_ns = unix_ns(record.prediction_time);
        let offset_ns = round_ns(record.offset_correction);
        let valid_for_ns = round_ns(record.valid_until - record.prediction_time);
        let error_ns = if bounded { ceil(f64::from(record.max_error) * 1e9) } else { -1 };
        let growth = PHI + 3.0 * record.drift_uncertainty;
        // With an elapsed time below 2^42 ns, numbers below these leave every sum far from 2^63.
        let small = |ns: i64| ns.unsigned_abs() < 1 << 60;
        let plain = bounded
            && in_time.is_usable()
            && valid_for_ns >= 0
            && growth <= PLAIN_LIMIT_RATE
            && record.drift_rate.abs() <= PLAIN_LIMIT_RATE
            && [offset_ns, error_ns].into_iter().all(small)
            && system_ns.unsigned_abs() < 1 << 62;
        let two_64 = (1u128 << 64) as f64;
        Self {
            system_ns,
            offset_ns,
            valid_for_ns,
            error_ns,
            anchor: record.anchor,
            drift_rate: record.drift_rate,
            growth,
            offset_uncertainty: record.offset_uncertainty,
            drift_uncertainty: record.drift_uncertainty,
            anchor_clock: record.anchor_clock,
            scale: match record.anchor_clock {
                AnchorClock::Counter { shift } => i64::from(record.anchor_rate) << shift,
                _ => i64::from(record.anchor_rate as i32),
            },
            drift_fixed: (record.drift_rate * two_64) as i64,
            growth_fixed: (growth * two_64) as u64,
            plain_below_ns: if plain { valid_for_ns.min(PLAIN_LIMIT_NS).unsigned_abs() + 1 } else { 0 },
            in_time,
            overdue,
            source,
            confidence: record.confidence,
        }
    }
}

impl Model {
    /// Time on the anchor clock since `prediction_time`; negative before it.
    #[inline]
    pub fn elapsed<C: Clocks>(&self, clocks: &C) -> Result<Span, AnchorUnavailable> {
        Ok(match self.anchor_clock {
            AnchorClock::Boottime => clocks.boottime() - MonoTime::from_ns(self.anchor),
            AnchorClock::Counter { .. } => {
                let ticks = clocks.counter().ok_or(AnchorUnavailable)?.saturating_sub(self.anchor);
                // 63 bits of ticks and 47 of scale: 32 bits of rate, shifted by up to 15.
                let scaled = (i128::from(ticks) * i128::from(self.scale)) >> 32;
                Span::from_ns(i64::try_from(scaled).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX }))
            }
            AnchorClock::None => self.elapsed_at_system(clocks.realtime()),
            AnchorClock::MonotonicRaw => {
                let raw = clocks.monotonic_raw() - MonoTime::from_ns(self.anchor);
                // 2^-42 is exact in f64; the rate says how much faster REALTIME ran than RAW.
                let rate = self.scale as f64 / (1u64 << 42) as f64;
                raw + Span::from_ns(round(raw.as_ns() as f64 * rate))
            }
        })
    }

    /// The reading at `now` on CLOCK_BOOTTIME where everything about it is everyday; `None` otherwise.
    #[inline(always)]
    pub(super) fn plain_at_boottime(&self, now: MonoTime) -> Option<Reading> {
        // An overflow makes a large number of it, which is not plain.
        self.read_plain(now.as_ns().wrapping_sub(self.anchor) as u64)
    }

    /// The same at `now_ticks` of the counter.
    #[inline(always)]
    pub(super) fn plain_at_counter(&self, now_ticks: i64) -> Option<Reading> {
        let ticks = now_ticks.wrapping_sub(self.anchor) as u64;
        if ticks >= PLAIN_LIMIT_TICKS {
            return None;
        }
        self.read_plain(((u128::from(ticks) * u128::from(self.scale as u64)) >> 32) as u64)
    }

    /// As [`read_at`](Self::read_at), in integers and without the extremes; `None` where those are, or where the two
    /// might round differently. What counts here is how long one instruction waits for another: the call of the clock
    /// waits for all that was begun before it, so a reading takes as long as its longest chain.
    #[inline(always)]
    fn read_plain(&self, elapsed_ns: u64) -> Option<Reading> {
        // A negative time is a large number here.
        if elapsed_ns >= self.plain_below_ns {
            return None;
        }
        let error_ns = self.error_ns.wrapping_add(product_upwards(elapsed_ns, self.growth_fixed)?);
        let elapsed_ns = elapsed_ns as i64;
        let drift_ns = nearest_product(elapsed_ns, self.drift_fixed)?;
        let system_ns = self.system_ns.wrapping_add(elapsed_ns);
        let corrected_ns = system_ns.wrapping_add(self.offset_ns).wrapping_add(drift_ns);
        let earliest = Timestamp::from_ns(corrected_ns.wrapping_sub(error_ns));
        let latest = Timestamp::from_ns(corrected_ns.wrapping_add(error_ns));
        Some(Reading {
            corrected: Timestamp::from_ns(corrected_ns),
            bound: TimeBound::of_ordered(earliest, latest),
            status: self.in_time,
            source: self.source,
            confidence: self.confidence,
            system: Timestamp::from_ns(system_ns),
            drift_rate: self.drift_rate,
            uncertainty: self.sigma(Span::from_ns(elapsed_ns)),
        })
    }

    #[inline(always)]
    pub(super) fn is_on_boottime(&self) -> bool {
        self.anchor_clock == AnchorClock::Boottime
    }

    #[inline(always)]
    pub(super) fn is_on_counter(&self) -> bool {
        matches!(self.anchor_clock, AnchorClock::Counter { .. })
    }

    #[inline(always)]
    fn sigma(&self, elapsed: Span) -> Sigma {
        let Self { offset_uncertainty, drift_uncertainty, .. } = *self;
        Sigma { offset_uncertainty, drift_uncertainty, elapsed }
    }

    /// The time `elapsed` after `prediction_time`, past or future.
    #[inline]
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
            uncertainty: self.sigma(elapsed),
        }
    }

    /// The status `elapsed` after `prediction_time`. The gravest reason wins.
    #[inline]
    pub fn status(&self, elapsed: Span) -> Status {
        if elapsed.as_ns() > self.valid_for_ns { self.overdue } else { self.in_time }
    }

    /// `elapsed` at which the system clock, as the anchor tells it, is `system`.
    pub fn elapsed_at_system(&self, system: Timestamp) -> Span {
        system - Timestamp::from_ns(self.system_ns)
    }

    /// As words.
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
            u64::from(small) | u64::from(self.confidence.to_bits()) << 32,
            self.scale as u64,
            self.plain_below_ns,
            self.drift_fixed as u64,
            self.growth_fixed,
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
            scale: w[10] as i64,
            plain_below_ns: w[11],
            drift_fixed: w[12] as i64,
            growth_fixed: w[13],
            in_time: Status::from_u8(in_time),
            overdue: Status::from_u8(overdue),
            source: Source::from_u32(u32::from(source)).unwrap_or_default(),
            confidence: f32::from_bits((w[9] >> 32) as u32),
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

    struct Now(i64);

    impl Clocks for Now {
        fn realtime(&self) -> Timestamp {
            Timestamp::from_ns(self.0)
        }
        fn boottime(&self) -> MonoTime {
            MonoTime::from_ns(self.0)
        }
        fn monotonic_raw(&self) -> MonoTime {
            MonoTime::from_ns(self.0)
        }
        fn counter(&self) -> Option<i64> {
            Some(self.0)
        }
    }

    #[test]
    fn an_everyday_page_takes_the_everyday_path() {
        let record = Record {
            offset_correction: 0.001,
            drift_rate: 12e-6,
            drift_uncertainty: 1e-8,
            prediction_time: 1_760_272_795.0,
            valid_until: 1_760_272_805.0,
            max_error: 0.002,
            flags: Flags(Flags::VALID | Flags::WARMUP_COMPLETE),
            source: Source::Ntp,
            sequence: 2,
            anchor_clock: AnchorClock::Boottime,
            ..Record::default()
        };
        let model = record.model();
        let plain = |ns| model.plain_at_boottime(MonoTime::from_ns(ns));
        let taken = (0..10_000).filter(|&i| plain(i * 999_983 + 1).is_some()).count();
        assert!(taken > 9_990, "only {taken} of 10,000");
        // Where no growth at all is rounded up, before the correction, and past its validity, it is not.
        assert_eq!((plain(0), plain(-1), plain(10_000_000_001)), (None, None, None));
    }

    /// By comparison of the cut-off part with one half, which is exact.
    fn round_by_definition(x: f64) -> i64 {
        let whole = x as i64;
        let rest = x - whole as f64;
        whole.saturating_add(i64::from(rest >= 0.5) - i64::from(rest <= -0.5))
    }

    #[test]
    fn rounding_is_exact_where_it_is_delicate() {
        let two_52 = (1u64 << 52) as f64;
        for x in
            [0.0, 0.5, 0.5f64.next_down(), 0.5f64.next_up(), 1.5, 2.5, two_52 - 0.5, two_52, two_52 + 1.0]
        {
            for x in [x, -x] {
                assert_eq!(round(x), round_by_definition(x), "{x}");
            }
        }
        assert_eq!((round(f64::MAX), round(f64::MIN), round(f64::NAN)), (i64::MAX, i64::MIN, 0));
    }

    proptest! {
        #[test]
        fn the_everyday_path_agrees_with_the_general_one(
            seconds in -9_000_000_000..9_000_000_000i64, offset in -9.0..9.0f64, rate in -1.0..1.0f64,
            scale in 0..16i32, rate_sigma in 0.0..1e-3f64, max_error in 0.0..10.0f32, elapsed in -1i64..1 << 43,
            anchor: i64, anchor_rate: u32, shift in 0..16u8,
        ) {
            let record = Record {
                prediction_time: seconds as f64,
                valid_until: seconds as f64 + 1e6,
                offset_correction: offset * 10f64.powi(scale - 8),
                drift_rate: rate / 10f64.powi(scale),
                drift_uncertainty: rate_sigma,
                max_error,
                flags: Flags(Flags::VALID | Flags::WARMUP_COMPLETE),
                source: Source::Ntp,
                sequence: 2,
                anchor_clock: AnchorClock::Boottime,
                anchor,
                anchor_rate,
                ..Record::default()
            };
            let record = Record::from_words(&record.to_words()).unwrap();
            let boottime = record.model();
            let counter = Record { anchor_clock: AnchorClock::Counter { shift }, ..record }.model();
            for elapsed in [elapsed, elapsed >> 20, elapsed % 1_000_000_001] {
                let now = anchor.wrapping_add(elapsed);
                if let Some(plain) = boottime.plain_at_boottime(MonoTime::from_ns(now)) {
                    let general = boottime.elapsed(&Now(now)).unwrap();
                    prop_assert_eq!(plain, boottime.read_at(general));
                }
                if let Some(plain) = counter.plain_at_counter(now) {
                    let general = counter.elapsed(&Now(now)).unwrap();
                    prop_assert_eq!(plain, counter.read_at(general));
                }
            }
        }

        #[test]
        fn any_page_reads_the_same_on_both_paths(words: [u64; 16], elapsed: i64) {
            if let Ok(record) = Record::from_words(&words) {
                let now = record.anchor.wrapping_add(elapsed);
                if let Some(plain) = record.model().plain_at_boottime(MonoTime::from_ns(now)) {
                    prop_assert_eq!(plain, record.read_at(MonoTime::from_ns(now) - MonoTime::from_ns(record.anchor)));
                }
            }
        }

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
