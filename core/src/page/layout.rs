//! The names of the 128 bytes: offsets, magic, flags and enumerations, with compile-time proof of the layout.

/// The object is exactly this long.
pub const PAGE_SIZE: usize = 128;
/// The page as 64-bit words.
pub const WORDS: usize = 16;
/// The word that holds `sequence << 32 | confidence bits`.
pub const SEQUENCE_WORD: usize = 8;
/// The word whose upper half holds the magic and the anchor clock.
pub const MAGIC_WORD: usize = 10;
/// Bytes 84 to 86 of a version 2 page.
pub const MAGIC: [u8; 3] = [b'C', b'T', 2];
/// `offset_uncertainty` of a page that was withdrawn: the one signal that an old reader sees.
pub const WITHDRAWN_UNCERTAINTY_S: f64 = 1e9;

/// The page, field by field, as C lays it out. Only its offsets are used: memory is accessed by atomic words.
#[repr(C, align(64))]
#[derive(Clone, Copy, Debug)]
pub struct PageLayout {
    /// Unix s; corrected time at the write.
    pub corrected_timestamp: f64,
    /// Unix s; CLOCK_REALTIME at the write.
    pub system_timestamp: f64,
    /// s; corrected minus system at `prediction_time`.
    pub offset_correction: f64,
    /// s/s; rate of that offset.
    pub drift_rate: f64,
    /// s; one standard deviation of the offset.
    pub offset_uncertainty: f64,
    /// s/s; one standard deviation of the rate.
    pub drift_uncertainty: f64,
    /// Unix s on CLOCK_REALTIME; a whole second in version 2.
    pub prediction_time: f64,
    /// Unix s.
    pub valid_until: f64,
    /// 0 to 1.
    pub confidence: f32,
    /// The seqlock counter.
    pub sequence: u32,
    /// See [`Flags`].
    pub flags: u32,
    /// See [`Source`].
    pub source: u32,
    /// Accepted measurements.
    pub measurement_count: u32,
    /// See [`MAGIC`].
    pub magic: [u8; 3],
    /// Low nibble: see [`AnchorClock`]; high nibble: counter shift.
    pub anchor_clock: u8,
    /// Unix s.
    pub last_ntp_sync: f64,
    /// s.
    pub daemon_uptime: f64,
    /// Pages published.
    pub total_corrections: u32,
    /// s; hard bound on the error at `prediction_time`.
    pub max_error: f32,
    /// ms; mean time from due to published.
    pub average_latency_ms: f32,
    /// Meaning depends on the anchor clock.
    pub anchor_rate: u32,
    /// Reading of the anchor clock at `prediction_time`.
    pub anchor: i64,
}

macro_rules! offsets {
    ($($field:ident = $at:literal),* $(,)?) => {
        $(const _: () = assert!(core::mem::offset_of!(PageLayout, $field) == $at);)*
        /// Every field's name with its byte offset, in order.
        pub const OFFSETS: &[(&str, usize)] = &[$((stringify!($field), $at)),*];
    };
}

offsets! {
    corrected_timestamp = 0,
    system_timestamp = 8,
    offset_correction = 16,
    drift_rate = 24,
    offset_uncertainty = 32,
    drift_uncertainty = 40,
    prediction_time = 48,
    valid_until = 56,
    confidence = 64,
    sequence = 68,
    flags = 72,
    source = 76,
    measurement_count = 80,
    magic = 84,
    anchor_clock = 87,
    last_ntp_sync = 88,
    daemon_uptime = 96,
    total_corrections = 104,
    max_error = 108,
    average_latency_ms = 112,
    anchor_rate = 116,
    anchor = 120,
}
const _: () = assert!(size_of::<PageLayout>() == PAGE_SIZE);
const _: () = assert!(align_of::<PageLayout>() == 64);
#[cfg(not(target_endian = "little"))]
compile_error!("the clock page is little-endian; this target is not supported");
#[cfg(not(target_pointer_width = "64"))]
compile_error!("the clock page needs 64-bit atomic words; this target is not supported");

/// Which layout a page has.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Version {
    /// Written by the old Python daemon: no magic, no anchor, no hard bound, a sequence without parity.
    Legacy,
    /// Version 2.
    V2,
}

/// What the correction was computed from. The numbers are fixed: old readers raise on any other.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
#[repr(u32)]
pub enum Source {
    /// Nothing measured yet.
    #[default]
    NoData = 0,
    /// NTP measurements alone.
    Ntp = 1,
    /// The short-term model.
    CpuModel = 2,
    /// The long-term model.
    GpuModel = 3,
    /// Both models, fused.
    Fusion = 4,
}

impl Source {
    /// From the number in the page.
    pub const fn from_u32(n: u32) -> Option<Self> {
        Some(match n {
            0 => Self::NoData,
            1 => Self::Ntp,
            2 => Self::CpuModel,
            3 => Self::GpuModel,
            4 => Self::Fusion,
            _ => return None,
        })
    }

    /// The word that the old Python client uses.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoData => "no_data",
            Self::Ntp => "ntp",
            Self::CpuModel => "cpu_model",
            Self::GpuModel => "gpu_model",
            Self::Fusion => "fusion",
        }
    }
}

/// The flag word.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Flags(pub u32);

impl Flags {
    /// The record may be used.
    pub const VALID: u32 = 0x01;
    /// At least one NTP measurement was accepted.
    pub const NTP_READY: u32 = 0x02;
    /// The drift models have been fitted.
    pub const MODELS_READY: u32 = 0x04;
    /// Enough was measured for the correction to be trusted.
    pub const WARMUP_COMPLETE: u32 = 0x08;
    /// No fresh measurement: coasting on the model.
    pub const HOLDOVER: u32 = 0x10;
    /// The clock jumped, or the machine was moved or resumed: nothing may be trusted until it clears.
    pub const DISRUPTED: u32 = 0x20;
    /// The system clock was stepped since `prediction_time`.
    pub const STEPPED: u32 = 0x40;
    /// A leap second will be inserted at the end of the month.
    pub const LEAP_INSERT: u32 = 0x80;
    /// A leap second will be deleted at the end of the month.
    pub const LEAP_DELETE: u32 = 0x100;
    /// The servers smear leap seconds.
    pub const SMEARED: u32 = 0x200;
    /// Every source in use is authenticated.
    pub const AUTHENTICATED: u32 = 0x400;

    /// True when all of these bits are set.
    pub const fn has(self, bits: u32) -> bool {
        self.0 & bits == bits
    }

    /// How many disruptions there have been; wraps at 256.
    pub const fn disruption_count(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// TAI minus UTC in seconds; 0 is unknown.
    pub const fn tai_offset_s(self) -> i8 {
        (self.0 >> 24) as i8
    }

    /// The same flags with this disruption count.
    #[must_use]
    pub const fn with_disruption_count(self, n: u8) -> Self {
        Self(self.0 & !(0xff << 16) | (n as u32) << 16)
    }
}

/// Which clock the record is anchored on: readers measure elapsed time with it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum AnchorClock {
    /// No anchor (an old page): elapsed time is the system clock minus `prediction_time`.
    #[default]
    None,
    /// CLOCK_BOOTTIME, ns.
    Boottime,
    /// CLOCK_MONOTONIC_RAW, ns; `anchor_rate` is its rate against REALTIME as an i32 in units of 2^-42.
    MonotonicRaw,
    /// A hardware counter, ticks; ns per tick = `anchor_rate` * 2^-(32 - shift).
    Counter {
        /// 0 to 15.
        shift: u8,
    },
}

impl AnchorClock {
    /// From byte 87; `None` for a number from the future.
    pub const fn from_byte(byte: u8) -> Option<Self> {
        Some(match byte & 0x0f {
            0 => Self::None,
            1 => Self::Boottime,
            2 => Self::MonotonicRaw,
            3 => Self::Counter { shift: byte >> 4 },
            _ => return None,
        })
    }

    /// As byte 87.
    pub const fn to_byte(self) -> u8 {
        match self {
            Self::None => 0,
            Self::Boottime => 1,
            Self::MonotonicRaw => 2,
            Self::Counter { shift } => 3 | (shift << 4),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_the_page_read_back() {
        for n in 0..=5 {
            assert_eq!(Source::from_u32(n).map(|s| s as u32), (n < 5).then_some(n));
        }
        for byte in [0, 1, 2, 0x03, 0xf3] {
            assert_eq!(AnchorClock::from_byte(byte).map(AnchorClock::to_byte), Some(byte));
        }
        assert_eq!(AnchorClock::from_byte(4), None);
        let flags = Flags(Flags::VALID | 37 << 24).with_disruption_count(200);
        assert_eq!((flags.disruption_count(), flags.tai_offset_s()), (200, 37));
        assert!(flags.has(Flags::VALID) && !flags.has(Flags::VALID | Flags::HOLDOVER));
    }
}
