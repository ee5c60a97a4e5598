//! Between the sixteen words of a page and a typed record, both ways, with every foreign value checked.

use super::layout::{AnchorClock, Flags, MAGIC, PAGE_SIZE, Source, Version, WORDS};
use core::fmt;

/// Why sixteen words are not a clock page.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PageError {
    /// A field that must be a finite number is not.
    NotFinite {
        /// Which field.
        field: &'static str,
    },
    /// A time or offset is outside what 64-bit nanoseconds hold (1677 to 2262).
    OutOfRange {
        /// Which field.
        field: &'static str,
    },
    /// A negative uncertainty or bound.
    Negative {
        /// Which field.
        field: &'static str,
    },
    /// `source` is none of 0 to 4.
    UnknownSource(u32),
    /// The magic says `CT` and a version that this reader does not know.
    UnknownVersion(u8),
    /// The anchor clock is one that this reader does not know.
    UnknownAnchor(u8),
    /// `prediction_time` of a version 2 page is not a whole second.
    FractionalPrediction,
}

impl fmt::Display for PageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FOREIGN: &str =
            "the object was not written by a ChronoTick daemon, or is damaged; restart the daemon";
        match self {
            Self::NotFinite { field } => write!(f, "clock page: {field} is not a finite number: {FOREIGN}"),
            Self::OutOfRange { field } => write!(f, "clock page: {field} is outside 1677 to 2262: {FOREIGN}"),
            Self::Negative { field } => write!(f, "clock page: {field} is negative: {FOREIGN}"),
            Self::UnknownSource(n) => write!(f, "clock page: source {n} is none of 0 to 4: {FOREIGN}"),
            Self::UnknownVersion(n) => {
                write!(f, "clock page: version {n} is newer than this library knows (2): update the library")
            }
            Self::UnknownAnchor(n) => {
                write!(f, "clock page: anchor clock {n} is newer than this library knows: update the library")
            }
            Self::FractionalPrediction => {
                write!(f, "clock page: prediction_time is not a whole second: {FOREIGN}")
            }
        }
    }
}

impl core::error::Error for PageError {}

/// What a page says. Fields, units and meanings are those of `docs/formats/clock-page.md`.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Record {
    /// Unix s; corrected time at the write (kept for old readers).
    pub corrected_timestamp: f64,
    /// Unix s; CLOCK_REALTIME at the write (kept for old readers).
    pub system_timestamp: f64,
    /// s; corrected minus system, at `prediction_time`.
    pub offset_correction: f64,
    /// s/s; rate of that offset.
    pub drift_rate: f64,
    /// s; one standard deviation of the offset at `prediction_time`.
    pub offset_uncertainty: f64,
    /// s/s; one standard deviation of the rate.
    pub drift_uncertainty: f64,
    /// Unix s on CLOCK_REALTIME; a whole second in version 2.
    pub prediction_time: f64,
    /// Unix s.
    pub valid_until: f64,
    /// 0 to 1.
    pub confidence: f32,
    /// The seqlock counter of the write. The writer sets it; what a record to be published holds is ignored.
    pub sequence: u32,
    /// State bits.
    pub flags: Flags,
    /// What the correction was computed from.
    pub source: Source,
    /// Accepted measurements.
    pub measurement_count: u32,
    /// Which layout the page has.
    pub version: Version,
    /// Which clock `anchor` is a reading of.
    pub anchor_clock: AnchorClock,
    /// Unix s of the last accepted measurement.
    pub last_ntp_sync: f64,
    /// s.
    pub daemon_uptime: f64,
    /// Pages published.
    pub total_corrections: u32,
    /// s; hard bound on the error of the corrected time at `prediction_time`. Zero means unknown in an old page.
    pub max_error: f32,
    /// ms; mean time from due to published.
    pub average_latency_ms: f32,
    /// Rate of the anchor clock; see [`AnchorClock`].
    pub anchor_rate: u32,
    /// Reading of the anchor clock at `prediction_time`: ns, or counter ticks.
    pub anchor: i64,
}

impl Default for Record {
    /// A version 2 page of a daemon that has measured nothing.
    fn default() -> Self {
        Self {
            corrected_timestamp: 0.0,
            system_timestamp: 0.0,
            offset_correction: 0.0,
            drift_rate: 0.0,
            offset_uncertainty: super::layout::WITHDRAWN_UNCERTAINTY_S,
            drift_uncertainty: 0.0,
            prediction_time: 0.0,
            valid_until: 0.0,
            confidence: 0.0,
            sequence: 0,
            flags: Flags(0),
            source: Source::NoData,
            measurement_count: 0,
            version: Version::V2,
            anchor_clock: AnchorClock::None,
            last_ntp_sync: 0.0,
            daemon_uptime: 0.0,
            total_corrections: 0,
            max_error: 0.0,
            average_latency_ms: 0.0,
            anchor_rate: 0,
            anchor: 0,
        }
    }
}

/// A number of the record with its limits.
struct Number {
    field: &'static str,
    value: f64,
    min: f64,
    max: f64,
}

/// Unix seconds that fit in an `i64` of nanoseconds, with room for an offset.
const MAX_SECONDS: f64 = 9.2e9;

impl Record {
    /// Reads the sixteen words of one untorn snapshot.
    #[inline(always)]
    pub fn from_words(w: &[u64; WORDS]) -> Result<Self, PageError> {
        let f = |i: usize| f64::from_bits(w[i]);
        let low = |i: usize| w[i] as u32;
        let high = |i: usize| (w[i] >> 32) as u32;
        let [m0, m1, m2, anchor_byte] = high(10).to_le_bytes();
        let version = match [m0, m1, m2] {
            MAGIC => Version::V2,
            [b'C', b'T', n] => return Err(PageError::UnknownVersion(n)),
            _ => Version::Legacy,
        };
        let anchored = version == Version::V2;
        let anchor_clock = if anchored {
            AnchorClock::from_byte(anchor_byte).ok_or(PageError::UnknownAnchor(anchor_byte & 0x0f))?
        } else {
            AnchorClock::None
        };
        let record = Self {
            corrected_timestamp: f(0),
            system_timestamp: f(1),
            offset_correction: f(2),
            drift_rate: f(3),
            offset_uncertainty: f(4),
            drift_uncertainty: f(5),
            prediction_time: f(6),
            valid_until: f(7),
            confidence: f32::from_bits(low(8)),
            sequence: high(8),
            flags: Flags(low(9)),
            source: Source::from_u32(high(9)).ok_or(PageError::UnknownSource(high(9)))?,
            measurement_count: low(10),
            version,
            anchor_clock,
            last_ntp_sync: f(11),
            daemon_uptime: f(12),
            total_corrections: low(13),
            // An old page keeps these bytes reserved: whatever stands there is not a bound.
            max_error: if anchored { f32::from_bits(high(13)) } else { 0.0 },
            average_latency_ms: f32::from_bits(low(14)),
            anchor_rate: if anchored { high(14) } else { 0 },
            anchor: if anchored { w[15] as i64 } else { 0 },
        };
        record.check()?;
        Ok(record)
    }

    /// Refuses numbers that no arithmetic downstream could survive.
    #[inline(always)]
    fn check(&self) -> Result<(), PageError> {
        // One pass without branches: this is on the path of every reading. A NaN fails every comparison.
        let sound =
            self.numbers().iter().fold(true, |sound, n| sound & (n.value >= n.min) & (n.value <= n.max));
        // Every number was compared with a finite limit, so the cast cannot saturate.
        let whole =
            self.version == Version::Legacy || self.prediction_time == self.prediction_time as i64 as f64;
        if sound & whole { Ok(()) } else { Err(self.fault()) }
    }

    /// Every number of the record with the limits it must keep.
    #[inline(always)]
    fn numbers(&self) -> [Number; 13] {
        let within = |field, value: f64, limit: f64| Number { field, value, min: -limit, max: limit };
        let size = |field, value: f64| Number { field, value, min: 0.0, max: MAX_SECONDS };
        [
            within("corrected_timestamp", self.corrected_timestamp, MAX_SECONDS),
            within("system_timestamp", self.system_timestamp, MAX_SECONDS),
            within("offset_correction", self.offset_correction, MAX_SECONDS),
            within("drift_rate", self.drift_rate, 1.0),
            size("offset_uncertainty", self.offset_uncertainty),
            size("drift_uncertainty", self.drift_uncertainty),
            within("prediction_time", self.prediction_time, MAX_SECONDS),
            within("valid_until", self.valid_until, MAX_SECONDS),
            within("confidence", f64::from(self.confidence), MAX_SECONDS),
            within("last_ntp_sync", self.last_ntp_sync, MAX_SECONDS),
            within("daemon_uptime", self.daemon_uptime, MAX_SECONDS),
            size("max_error", f64::from(self.max_error)),
            within("average_latency_ms", f64::from(self.average_latency_ms), f64::MAX),
        ]
    }

    /// What [`check`](Self::check) found, in words.
    #[cold]
    fn fault(&self) -> PageError {
        for Number { field, value, min, max } in self.numbers() {
            if !value.is_finite() {
                return PageError::NotFinite { field };
            }
            if value < min && min == 0.0 {
                return PageError::Negative { field };
            }
            if value < min || value > max {
                return PageError::OutOfRange { field };
            }
        }
        PageError::FractionalPrediction
    }

    /// As the sixteen words of a page. A legacy record is written without magic and anchor, as the old writer does.
    pub fn to_words(&self) -> [u64; WORDS] {
        let pack = |low: u32, high: u32| u64::from(low) | u64::from(high) << 32;
        let (magic, anchor_rate, anchor) = match self.version {
            Version::V2 => {
                let [a, b, c] = MAGIC;
                (u32::from_le_bytes([a, b, c, self.anchor_clock.to_byte()]), self.anchor_rate, self.anchor)
            }
            Version::Legacy => (0, 0, 0),
        };
        [
            self.corrected_timestamp.to_bits(),
            self.system_timestamp.to_bits(),
            self.offset_correction.to_bits(),
            self.drift_rate.to_bits(),
            self.offset_uncertainty.to_bits(),
            self.drift_uncertainty.to_bits(),
            self.prediction_time.to_bits(),
            self.valid_until.to_bits(),
            pack(self.confidence.to_bits(), self.sequence),
            pack(self.flags.0, self.source as u32),
            pack(self.measurement_count, magic),
            self.last_ntp_sync.to_bits(),
            self.daemon_uptime.to_bits(),
            pack(self.total_corrections, self.max_error.to_bits()),
            pack(self.average_latency_ms.to_bits(), anchor_rate),
            anchor as u64,
        ]
    }

    /// Reads the 128 bytes of one untorn snapshot.
    pub fn from_bytes(bytes: &[u8; PAGE_SIZE]) -> Result<Self, PageError> {
        Self::from_words(&words_of(bytes))
    }

    /// As the 128 bytes of a page.
    pub fn to_bytes(&self) -> [u8; PAGE_SIZE] {
        let mut bytes = [0; PAGE_SIZE];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(self.to_words()) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }

    /// The smallest `f32` that is not below `bound_s`: a bound may grow when it is stored, never shrink.
    pub fn max_error_from_f64(bound_s: f64) -> f32 {
        let nearest = bound_s as f32;
        if f64::from(nearest) < bound_s { nearest.next_up() } else { nearest }
    }
}

/// The bytes of a page as its words.
pub fn words_of(bytes: &[u8; PAGE_SIZE]) -> [u64; WORDS] {
    let mut words = [0; WORDS];
    for (word, chunk) in words.iter_mut().zip(bytes.as_chunks::<8>().0) {
        *word = u64::from_le_bytes(*chunk);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn foreign_numbers_are_refused_by_name() {
        let check = |change: fn(&mut Record), want: PageError| {
            let mut r = Record::default();
            change(&mut r);
            assert_eq!(Record::from_words(&r.to_words()), Err(want));
        };
        check(|r| r.offset_correction = f64::NAN, PageError::NotFinite { field: "offset_correction" });
        check(|r| r.valid_until = f64::INFINITY, PageError::NotFinite { field: "valid_until" });
        check(|r| r.prediction_time = 1e12, PageError::OutOfRange { field: "prediction_time" });
        check(|r| r.drift_rate = -2.0, PageError::OutOfRange { field: "drift_rate" });
        check(|r| r.max_error = -0.1, PageError::Negative { field: "max_error" });
        check(|r| r.drift_uncertainty = -1e-9, PageError::Negative { field: "drift_uncertainty" });
        check(|r| r.prediction_time = 1.5, PageError::FractionalPrediction);
    }

    #[test]
    fn versions_sources_and_anchors_from_the_future_are_refused() {
        let mut w = Record::default().to_words();
        w[9] = 5 << 32;
        assert_eq!(Record::from_words(&w), Err(PageError::UnknownSource(5)));
        let mut b = Record::default().to_bytes();
        b[86] = 3;
        assert_eq!(Record::from_bytes(&b), Err(PageError::UnknownVersion(3)));
        let mut b = Record::default().to_bytes();
        b[87] = 9;
        assert_eq!(Record::from_bytes(&b), Err(PageError::UnknownAnchor(9)));
    }

    #[test]
    fn a_stored_bound_never_shrinks() {
        for bound in [0.0, 1e-9, 0.1, 1.0 / 3.0, 12345.678] {
            assert!(f64::from(Record::max_error_from_f64(bound)) >= bound);
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered_and_what_reads_writes_back(words: [u64; WORDS]) {
            if let Ok(record) = Record::from_words(&words) {
                let again = Record::from_words(&record.to_words()).unwrap();
                prop_assert_eq!(record, again);
            }
        }

        #[test]
        fn records_round_trip(
            offset in -1e6..1e6f64, rate in -1e-3..1e-3f64, at in 0..4_000_000_000u32, seq: u32, flags: u32, anchor: i64,
        ) {
            let record = Record {
                offset_correction: offset, drift_rate: rate, prediction_time: f64::from(at), sequence: seq,
                flags: Flags(flags), anchor, anchor_clock: AnchorClock::Boottime, source: Source::Ntp,
                ..Record::default()
            };
            prop_assert_eq!(Record::from_bytes(&record.to_bytes()), Ok(record));
        }
    }
}
