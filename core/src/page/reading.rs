//! From a record and a clock reading to the time: corrected, with its bound, its sigma and its status.
//!
//! The formulas are those of `docs/formats/clock-page.md`, in integer nanoseconds; a product with a rate is taken in
//! `f64`, where it is exact to below a nanosecond. The bound's growth, 15 ppm, is PHI of RFC 5905.

use super::codec::Record;
use super::layout::{AnchorClock, Flags, Source, Version};
use crate::bound::TimeBound;
use crate::time::{MonoTime, NS_PER_SEC, Span, Timestamp};
use core::fmt;

/// The frequency tolerance of an undisciplined oscillator, RFC 5905: 15 parts per million.
pub const PHI: f64 = 15e-6;

/// How far a reading can be trusted. Separate from the value; nobody may hide it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum Status {
    /// Measured, and within its time of validity.
    Synchronized = 0,
    /// Measured, but not often enough yet.
    WarmingUp = 1,
    /// No fresh measurement: coasting on the model, with a growing bound.
    Holdover = 2,
    /// The clock jumped, or the machine was moved or resumed. Do not use the value.
    Disrupted = 3,
    /// Past its time of validity, or withdrawn by a daemon that stopped.
    Expired = 4,
    /// An old page: a correction with a sigma but no hard bound.
    Legacy = 5,
    /// A daemon is there but has measured nothing.
    NoData = 6,
}

impl Status {
    /// The word used in every language and tool.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Synchronized => "synchronized",
            Self::WarmingUp => "warming_up",
            Self::Holdover => "holdover",
            Self::Disrupted => "disrupted",
            Self::Expired => "expired",
            Self::Legacy => "legacy",
            Self::NoData => "no_data",
        }
    }

    /// True when the bound of a reading with this status holds: synchronized or in holdover.
    pub const fn is_trusted(self) -> bool {
        matches!(self, Self::Synchronized | Self::Holdover)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The clocks of this machine, read on demand: only the one that the page is anchored on is.
pub trait Clocks {
    /// CLOCK_REALTIME.
    fn realtime(&self) -> Timestamp;
    /// CLOCK_BOOTTIME.
    fn boottime(&self) -> MonoTime;
    /// CLOCK_MONOTONIC_RAW.
    fn monotonic_raw(&self) -> MonoTime;
    /// The hardware counter, ticks; `None` where a program cannot read it.
    fn counter(&self) -> Option<i64>;
}

/// The page is anchored on a hardware counter that this program cannot read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct AnchorUnavailable;

impl fmt::Display for AnchorUnavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the clock page is anchored on a hardware counter that this program cannot read: \
             start the daemon without the counter anchor",
        )
    }
}

impl core::error::Error for AnchorUnavailable {}

/// The time, as a page tells it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Reading {
    /// The best estimate of the true time.
    pub corrected: Timestamp,
    /// The interval that holds the true time; unbounded where the status allows no bound.
    pub bound: TimeBound,
    /// One standard deviation of the estimate.
    pub sigma: Span,
    /// How far to trust it.
    pub status: Status,
    /// What the correction was computed from.
    pub source: Source,
    /// The writer's confidence, 0 to 1.
    pub confidence: f32,
    /// The system clock at the reading, as the page's anchor tells it: corrected minus the correction.
    pub system: Timestamp,
    /// The rate of the correction, s/s.
    pub drift_rate: f64,
}

impl Reading {
    /// Half the width of the bound; [`Span::MAX`] when there is no bound.
    pub fn max_error(&self) -> Span {
        if self.bound.is_unbounded() { Span::MAX } else { self.bound.latest() - self.corrected }
    }
}

/// To the nearest integer, halves away from zero; saturates. The cast truncates in one instruction, where the library
/// function for `f64` is a page of software on a baseline processor.
#[inline(always)]
fn round(x: f64) -> i64 {
    let whole = x as i64;
    let rest = x - whole as f64;
    whole.saturating_add(i64::from(rest >= 0.5) - i64::from(rest <= -0.5))
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
#[inline(always)]
fn unix_ns(seconds: f64) -> i64 {
    let whole = seconds as i64;
    whole.saturating_mul(NS_PER_SEC).saturating_add(round_ns(seconds - whole as f64))
}

impl Record {
    /// Time on the anchor clock since `prediction_time`; negative before it.
    #[inline(always)]
    pub fn elapsed<C: Clocks>(&self, clocks: &C) -> Result<Span, AnchorUnavailable> {
        let since = |now: i64| now.saturating_sub(self.anchor);
        Ok(Span::from_ns(match self.anchor_clock {
            AnchorClock::None => clocks.realtime().as_ns().saturating_sub(unix_ns(self.prediction_time)),
            AnchorClock::Boottime => since(clocks.boottime().as_ns()),
            AnchorClock::MonotonicRaw => {
                let raw = since(clocks.monotonic_raw().as_ns());
                // 2^-42 is exact in f64; the rate says how much faster REALTIME ran than RAW.
                let rate = f64::from(self.anchor_rate as i32) / (1u64 << 42) as f64;
                raw.saturating_add(round(raw as f64 * rate))
            }
            AnchorClock::Counter { shift } => {
                let ticks = since(clocks.counter().ok_or(AnchorUnavailable)?);
                let scaled = (i128::from(ticks) * i128::from(self.anchor_rate)) >> (32 - u32::from(shift));
                i64::try_from(scaled).unwrap_or(if ticks < 0 { i64::MIN } else { i64::MAX })
            }
        }))
    }

    /// The time now.
    #[inline(always)]
    pub fn read<C: Clocks>(&self, clocks: &C) -> Result<Reading, AnchorUnavailable> {
        Ok(self.read_at(self.elapsed(clocks)?))
    }

    /// The time `elapsed` after `prediction_time`, past or future.
    #[inline(always)]
    pub fn read_at(&self, elapsed: Span) -> Reading {
        let system = Timestamp::from_ns(unix_ns(self.prediction_time)) + elapsed;
        let drift = Span::from_ns(round(elapsed.as_ns() as f64 * self.drift_rate));
        let corrected = system + Span::from_ns(round_ns(self.offset_correction)) + drift;
        let drift_sigma = self.drift_uncertainty * elapsed.as_secs_f64();
        let sigma = libm::sqrt(self.offset_uncertainty * self.offset_uncertainty + drift_sigma * drift_sigma);
        let status = self.status(elapsed);
        Reading {
            corrected,
            bound: self.bound(elapsed, corrected),
            sigma: Span::from_ns(round_ns(sigma)),
            status,
            source: self.source,
            confidence: self.confidence,
            system,
            drift_rate: self.drift_rate,
        }
    }

    #[inline(always)]
    fn bound(&self, elapsed: Span, corrected: Timestamp) -> TimeBound {
        // An old page has a sigma and no bound; a withdrawn or disrupted one has lost its bound; zero is no bound.
        let bounded = self.version == Version::V2
            && self.flags.has(Flags::VALID)
            && !self.flags.has(Flags::DISRUPTED)
            && self.source != Source::NoData
            && self.max_error > 0.0;
        if !bounded {
            return TimeBound::UNBOUNDED;
        }
        let growth = ceil(elapsed.abs().as_ns() as f64 * (PHI + 3.0 * self.drift_uncertainty));
        let error = Span::from_ns(ceil(f64::from(self.max_error) * 1e9)) + Span::from_ns(growth);
        TimeBound::around(corrected, error)
    }

    /// The status `elapsed` after `prediction_time`. The gravest reason wins.
    #[inline(always)]
    pub fn status(&self, elapsed: Span) -> Status {
        let f = self.flags;
        let valid_for = Span::from_ns(round_ns(self.valid_until - self.prediction_time));
        if f.has(Flags::DISRUPTED) {
            Status::Disrupted
        } else if self.source == Source::NoData || (self.version == Version::V2 && self.sequence == 0) {
            Status::NoData
        } else if !f.has(Flags::VALID) || elapsed > valid_for {
            Status::Expired
        } else if self.version == Version::Legacy {
            Status::Legacy
        } else if f.has(Flags::HOLDOVER) {
            Status::Holdover
        } else if !f.has(Flags::WARMUP_COMPLETE) {
            Status::WarmingUp
        } else {
            Status::Synchronized
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    struct Fixed(i64);

    impl Clocks for Fixed {
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
            (self.0 >= 0).then_some(self.0)
        }
    }

    fn page() -> Record {
        Record {
            offset_correction: 0.001_234,
            drift_rate: 1.5e-6,
            offset_uncertainty: 1e-5,
            drift_uncertainty: 1e-9,
            prediction_time: 1_760_272_795.0,
            valid_until: 1_760_272_855.0,
            confidence: 0.95,
            sequence: 42,
            flags: Flags(Flags::VALID | Flags::NTP_READY | Flags::WARMUP_COMPLETE),
            source: Source::Ntp,
            anchor_clock: AnchorClock::Boottime,
            max_error: 0.002,
            anchor: 5_000,
            ..Record::default()
        }
    }

    #[test]
    fn anchored_time_follows_the_formulas() {
        let r = page().read(&Fixed(5_000 + 30_000_000_000)).unwrap();
        assert_eq!(r.corrected.as_ns(), 1_760_272_825_001_279_000);
        assert_eq!(r.system.as_ns(), 1_760_272_825_000_000_000);
        assert_eq!(r.sigma.as_ns(), 10_000);
        assert_eq!(
            r.max_error().as_ns(),
            2_000_001 + 450_090,
            "max_error as f32 rounds up, plus 30 s of growth"
        );
        assert_eq!(r.status, Status::Synchronized);
    }

    #[test]
    fn other_anchors_measure_the_same_time() {
        let elapsed = |anchor_clock, anchor_rate: u32, now: i64| {
            Record { anchor_clock, anchor_rate, anchor: 0, ..page() }.elapsed(&Fixed(now)).map(Span::as_ns)
        };
        assert_eq!(elapsed(AnchorClock::None, 0, 1_760_272_796_000_000_000), Ok(1_000_000_000));
        // One part in 2^20, as 2^22 units of 2^-42.
        assert_eq!(elapsed(AnchorClock::MonotonicRaw, 1 << 22, 1 << 30), Ok((1 << 30) + (1 << 10)));
        assert_eq!(
            elapsed(AnchorClock::MonotonicRaw, (-(1i32 << 22)) as u32, 1 << 30),
            Ok((1 << 30) - (1 << 10))
        );
        // A 2 GHz counter: half a nanosecond for each tick, 2^31 * 2^-32.
        assert_eq!(elapsed(AnchorClock::Counter { shift: 0 }, 1 << 31, 4_000_000_000), Ok(2_000_000_000));
        // A 24 MHz counter: 41.666 ns a tick needs the shift.
        assert_eq!(elapsed(AnchorClock::Counter { shift: 6 }, 2_796_202_667, 24_000_000), Ok(1_000_000_000));
        assert_eq!(elapsed(AnchorClock::Counter { shift: 0 }, 1, -1), Err(AnchorUnavailable));
    }

    #[test]
    fn the_gravest_status_wins() {
        let check = |change: fn(&mut Record), elapsed_s: i64, want: Status| {
            let mut r = page();
            change(&mut r);
            assert_eq!(r.status(Span::from_secs(elapsed_s)), want);
        };
        check(|_| {}, 60, Status::Synchronized);
        check(|_| {}, 61, Status::Expired);
        check(|_| {}, -3_600, Status::Synchronized);
        check(|r| r.flags.0 |= Flags::HOLDOVER, 0, Status::Holdover);
        check(|r| r.flags.0 |= Flags::HOLDOVER | Flags::DISRUPTED, 99, Status::Disrupted);
        check(|r| r.flags.0 &= !Flags::WARMUP_COMPLETE, 0, Status::WarmingUp);
        check(|r| r.flags.0 &= !Flags::VALID, 0, Status::Expired);
        check(|r| r.source = Source::NoData, 0, Status::NoData);
        check(|r| r.version = Version::Legacy, 0, Status::Legacy);
        check(|r| r.version = Version::Legacy, 61, Status::Expired);
    }

    #[test]
    fn there_is_no_bound_where_none_can_be_given() {
        let check = |change: fn(&mut Record)| {
            let mut r = page();
            change(&mut r);
            assert_eq!(r.read_at(Span::ZERO).bound, TimeBound::UNBOUNDED);
        };
        check(|r| r.version = Version::Legacy);
        check(|r| r.flags.0 |= Flags::DISRUPTED);
        check(|r| r.flags.0 &= !Flags::VALID);
        check(|r| r.source = Source::NoData);
        check(|r| r.max_error = 0.0);
    }

    proptest! {
        #[test]
        fn the_bound_never_shrinks_with_age(a in 0..1i64 << 50, b in 0..1i64 << 50, rate_sigma in 0.0..1e-3f64) {
            let r = Record { drift_uncertainty: rate_sigma, ..page() };
            let width = |ns| r.read_at(Span::from_ns(ns)).max_error();
            prop_assert!(width(a.max(b)) >= width(a.min(b)));
            prop_assert!(width(-a.max(b)) >= width(-a.min(b)));
        }

        #[test]
        fn any_record_at_any_time_is_answered(words: [u64; 16], elapsed: i64) {
            if let Ok(r) = Record::from_words(&words) {
                let reading = r.read_at(Span::from_ns(elapsed));
                prop_assert!(reading.bound.contains(reading.corrected));
            }
        }
    }
}
