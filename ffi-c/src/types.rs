//! The structures that cross into C: fixed widths, no padding, proven at compile time.

use chronotick::{FixedClocks, Order, Reading, Source, Status, Waited};
use std::mem::offset_of;

/// The time, as a clock page tells it. Look at the status before using the value.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C)]
pub struct ChronotickReading {
    /// The best estimate of the true time, Unix ns.
    pub corrected_ns: i64,
    /// The true time is not before this, Unix ns; INT64_MIN when there is no bound.
    pub earliest_ns: i64,
    /// The true time is not after this, Unix ns; INT64_MAX when there is no bound.
    pub latest_ns: i64,
    /// The system clock at the reading, Unix ns, as the page's anchor tells it.
    pub system_ns: i64,
    /// How old the correction is, ns: time since its prediction_time.
    pub age_ns: i64,
    /// The rate of the correction, s/s.
    pub drift_rate: f64,
    /// One standard deviation of the correction when it was made, s; chronotick_sigma_ns gives that of the reading.
    pub offset_uncertainty: f64,
    /// One standard deviation of the rate, s/s.
    pub drift_uncertainty: f64,
    /// The daemon's confidence, 0 to 1.
    pub confidence: f32,
    /// How far to trust it.
    pub status: Status,
    /// What the correction was computed from.
    pub source: Source,
    /// Zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ChronotickReading>() == 80);
const _: () = assert!(offset_of!(ChronotickReading, drift_rate) == 40);
const _: () = assert!(offset_of!(ChronotickReading, reserved) == 76);

impl From<Reading> for ChronotickReading {
    #[inline(always)]
    fn from(r: Reading) -> Self {
        Self {
            corrected_ns: r.corrected.as_ns(),
            earliest_ns: r.bound.earliest().as_ns(),
            latest_ns: r.bound.latest().as_ns(),
            system_ns: r.system.as_ns(),
            age_ns: r.uncertainty.elapsed.as_ns(),
            drift_rate: r.drift_rate,
            offset_uncertainty: r.uncertainty.offset_uncertainty,
            drift_uncertainty: r.uncertainty.drift_uncertainty,
            confidence: r.confidence,
            status: r.status,
            source: r.source,
            reserved: 0,
        }
    }
}

/// What two readings tell of the order of their moments.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
pub enum ChronotickOrder {
    /// The bounds touch: nobody can tell.
    Unknown = 0,
    /// The first is certainly earlier.
    Before = 1,
    /// The first is certainly later.
    After = 2,
}

impl From<Order> for ChronotickOrder {
    fn from(order: Order) -> Self {
        match order {
            Order::Before => Self::Before,
            Order::After => Self::After,
            Order::Unknown => Self::Unknown,
        }
    }
}

/// How a wait ended.
#[derive(Clone, Copy, PartialEq, Debug)]
#[repr(C)]
pub struct ChronotickWaited {
    /// The reading that found the target reached.
    pub reading: ChronotickReading,
    /// Corrected time at the wake-up minus the target, ns; never negative.
    pub late_by_ns: i64,
}

const _: () = assert!(size_of::<ChronotickWaited>() == 88);

impl From<Waited> for ChronotickWaited {
    fn from(w: Waited) -> Self {
        Self { reading: w.reading.into(), late_by_ns: w.late_by.as_ns() }
    }
}

/// Clock readings to evaluate a page at.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct ChronotickClocks {
    /// CLOCK_REALTIME, Unix ns.
    pub realtime_ns: i64,
    /// CLOCK_BOOTTIME, ns.
    pub boottime_ns: i64,
    /// CLOCK_MONOTONIC_RAW, ns.
    pub monotonic_raw_ns: i64,
    /// The hardware counter, ticks; looked at only when has_counter is not 0.
    pub counter: i64,
    /// Not 0 when counter was read.
    pub has_counter: u32,
    /// Set to zero.
    pub reserved: u32,
}

const _: () = assert!(size_of::<ChronotickClocks>() == 40);
const _: () = assert!(offset_of!(ChronotickClocks, reserved) == 36);

impl From<ChronotickClocks> for FixedClocks {
    fn from(c: ChronotickClocks) -> Self {
        Self {
            realtime_ns: c.realtime_ns,
            boottime_ns: c.boottime_ns,
            monotonic_raw_ns: c.monotonic_raw_ns,
            counter: (c.has_counter != 0).then_some(c.counter),
        }
    }
}
