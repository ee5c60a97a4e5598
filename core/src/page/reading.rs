//! What a reader is told: the corrected time with its bound, its sigma and its status.

use super::codec::Record;
use super::layout::Source;
use super::model::{self, Model};
use crate::bound::{Order, TimeBound};
use crate::time::{MonoTime, Span, Timestamp};
use core::fmt;

pub use super::model::PHI;

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

    /// From the number of the variant; an unknown one is the gravest.
    pub(super) const fn from_u8(n: u8) -> Self {
        match n {
            0 => Self::Synchronized,
            1 => Self::WarmingUp,
            2 => Self::Holdover,
            4 => Self::Expired,
            5 => Self::Legacy,
            6 => Self::NoData,
            _ => Self::Disrupted,
        }
    }

    /// True when the value may be used at all: neither disrupted, nor expired, nor without any measurement. A legacy
    /// page and one that warms up are usable, with their bound or without one.
    #[inline(always)]
    pub const fn is_usable(self) -> bool {
        !matches!(self, Self::Disrupted | Self::Expired | Self::NoData)
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
    /// What [`sigma`](Self::sigma) is worked out from.
    pub uncertainty: Sigma,
}

/// What one standard deviation is worked out from, when somebody asks for it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Sigma {
    /// s; one standard deviation at `prediction_time`.
    pub offset_uncertainty: f64,
    /// s/s; one standard deviation of the rate.
    pub drift_uncertainty: f64,
    /// Since `prediction_time`.
    pub elapsed: Span,
}

impl Sigma {
    /// One standard deviation of the estimate.
    pub fn span(&self) -> Span {
        model::sigma(self)
    }
}

impl Reading {
    /// One standard deviation of the estimate. Worked out at the call: its square root takes as long as the rest of
    /// the reading.
    pub fn sigma(&self) -> Span {
        self.uncertainty.span()
    }

    /// How old the correction is: time on the page's anchor clock since its `prediction_time`.
    pub fn age(&self) -> Span {
        self.uncertainty.elapsed
    }

    /// True when this moment is certainly before `t`.
    pub fn before(&self, t: Timestamp) -> bool {
        self.bound.is_before(t)
    }

    /// True when this moment is certainly after `t`.
    pub fn after(&self, t: Timestamp) -> bool {
        self.bound.is_after(t)
    }

    /// The order of two moments, as far as their bounds tell.
    pub fn ordered(&self, other: &Self) -> Order {
        self.bound.order(other.bound)
    }

    /// Half the width of the bound; [`Span::MAX`] when there is no bound.
    pub fn max_error(&self) -> Span {
        if self.bound.is_unbounded() { Span::MAX } else { self.bound.latest() - self.corrected }
    }
}

impl Record {
    /// What the record says of the time, ready to be evaluated more than once.
    pub fn model(&self) -> Model {
        Model::from(self)
    }

    /// Time on the anchor clock since `prediction_time`; negative before it.
    pub fn elapsed<C: Clocks>(&self, clocks: &C) -> Result<Span, AnchorUnavailable> {
        self.model().elapsed(clocks)
    }

    /// The time now.
    pub fn read<C: Clocks>(&self, clocks: &C) -> Result<Reading, AnchorUnavailable> {
        let model = self.model();
        Ok(model.read_at(model.elapsed(clocks)?))
    }

    /// The time `elapsed` after `prediction_time`, past or future.
    pub fn read_at(&self, elapsed: Span) -> Reading {
        self.model().read_at(elapsed)
    }

    /// The status `elapsed` after `prediction_time`. The gravest reason wins.
    pub fn status(&self, elapsed: Span) -> Status {
        self.model().status(elapsed)
    }
}

#[cfg(test)]
mod tests {
    use super::super::layout::{AnchorClock, Flags, Version};
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
        assert_eq!(r.sigma().as_ns(), 10_000);
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
