//! The three time types: a moment on the Unix timescale, a reading of a monotonic clock, a length of time.
//!
//! All are signed 64-bit nanoseconds, which reach from 1677 to 2262 around the Unix epoch. **Overflow rule:** the
//! operators saturate at `MIN` and `MAX`; `checked_*` variants return `None` instead. A `Timestamp` and a `MonoTime`
//! do not mix: their origins differ, and only the clock page says how one maps onto the other.

mod text;

pub use text::{ParseSpanError, format_span, parse_span};

use core::fmt;
use core::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// Nanoseconds in a second.
pub const NS_PER_SEC: i64 = 1_000_000_000;
/// Nanoseconds in a millisecond.
pub const NS_PER_MS: i64 = 1_000_000;
/// Nanoseconds in a microsecond.
pub const NS_PER_US: i64 = 1_000;

/// A moment: nanoseconds since the Unix epoch (UTC, leap seconds not counted). Arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Timestamp(i64);

/// A reading of a monotonic clock in nanoseconds; only differences mean anything. Arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MonoTime(i64);

/// A signed length of time in nanoseconds. Arithmetic saturates.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Span(i64);

macro_rules! instant_type {
    ($t:ident) => {
        impl $t {
            /// The earliest representable instant.
            pub const MIN: Self = Self(i64::MIN);
            /// The latest representable instant.
            pub const MAX: Self = Self(i64::MAX);

            /// From nanoseconds since this clock's origin.
            pub const fn from_ns(ns: i64) -> Self {
                Self(ns)
            }

            /// Nanoseconds since this clock's origin.
            pub const fn as_ns(self) -> i64 {
                self.0
            }

            /// `self - earlier`; `None` where the difference does not fit in a `Span`.
            pub const fn checked_since(self, earlier: Self) -> Option<Span> {
                match self.0.checked_sub(earlier.0) {
                    Some(ns) => Some(Span(ns)),
                    None => None,
                }
            }

            /// `self + span`; `None` on overflow.
            pub const fn checked_add(self, span: Span) -> Option<Self> {
                match self.0.checked_add(span.0) {
                    Some(ns) => Some(Self(ns)),
                    None => None,
                }
            }
        }

        impl Add<Span> for $t {
            type Output = Self;
            fn add(self, span: Span) -> Self {
                Self(self.0.saturating_add(span.0))
            }
        }

        impl AddAssign<Span> for $t {
            fn add_assign(&mut self, span: Span) {
                *self = *self + span;
            }
        }

        impl Sub<Span> for $t {
            type Output = Self;
            fn sub(self, span: Span) -> Self {
                Self(self.0.saturating_sub(span.0))
            }
        }

        impl Sub for $t {
            type Output = Span;
            fn sub(self, earlier: Self) -> Span {
                Span(self.0.saturating_sub(earlier.0))
            }
        }

        impl fmt::Debug for $t {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!(stringify!($t), "({} ns)"), self.0)
            }
        }
    };
}

instant_type!(Timestamp);
instant_type!(MonoTime);

impl Timestamp {
    /// The Unix epoch.
    pub const EPOCH: Self = Self(0);

    /// From whole seconds since the epoch; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NS_PER_SEC))
    }

    /// From milliseconds since the epoch; saturates.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms.saturating_mul(NS_PER_MS))
    }

    /// Whole milliseconds since the epoch, rounded down.
    pub const fn as_ms(self) -> i64 {
        self.0.div_euclid(NS_PER_MS)
    }

    /// Seconds since the epoch as a float. An `f64` has a step of 238 ns here: for display and old readers only.
    pub fn as_secs_f64(self) -> f64 {
        // Whole seconds and the remainder are both exact; one rounding happens in the sum.
        self.0.div_euclid(NS_PER_SEC) as f64 + self.0.rem_euclid(NS_PER_SEC) as f64 / 1e9
    }
}

impl Span {
    /// No time at all.
    pub const ZERO: Self = Self(0);
    /// The most negative span.
    pub const MIN: Self = Self(i64::MIN);
    /// The longest span, about 292 years.
    pub const MAX: Self = Self(i64::MAX);

    /// From nanoseconds.
    pub const fn from_ns(ns: i64) -> Self {
        Self(ns)
    }

    /// From microseconds; saturates.
    pub const fn from_us(us: i64) -> Self {
        Self(us.saturating_mul(NS_PER_US))
    }

    /// From milliseconds; saturates.
    pub const fn from_ms(ms: i64) -> Self {
        Self(ms.saturating_mul(NS_PER_MS))
    }

    /// From whole seconds; saturates.
    pub const fn from_secs(secs: i64) -> Self {
        Self(secs.saturating_mul(NS_PER_SEC))
    }

    /// From seconds as a float, rounded to the nearest nanosecond; saturates, and NaN is zero.
    pub fn from_secs_f64(secs: f64) -> Self {
        Self(libm::round(secs * 1e9) as i64)
    }

    /// In nanoseconds.
    pub const fn as_ns(self) -> i64 {
        self.0
    }

    /// In whole milliseconds, rounded down.
    pub const fn as_ms(self) -> i64 {
        self.0.div_euclid(NS_PER_MS)
    }

    /// In seconds as a float.
    pub fn as_secs_f64(self) -> f64 {
        self.0 as f64 / 1e9
    }

    /// The size of the span without its sign; saturates.
    pub const fn abs(self) -> Self {
        Self(self.0.saturating_abs())
    }

    /// True below zero.
    pub const fn is_negative(self) -> bool {
        self.0 < 0
    }

    /// As a `core::time::Duration`; a negative span becomes zero.
    pub const fn to_duration(self) -> core::time::Duration {
        core::time::Duration::from_nanos(if self.0 < 0 { 0 } else { self.0 as u64 })
    }

    /// From a `core::time::Duration`; saturates.
    pub const fn from_duration(d: core::time::Duration) -> Self {
        let ns = d.as_nanos();
        Self(if ns > i64::MAX as u128 { i64::MAX } else { ns as i64 })
    }
}

impl Add for Span {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }
}

impl AddAssign for Span {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Span {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }
}

impl SubAssign for Span {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl Neg for Span {
    type Output = Self;
    fn neg(self) -> Self {
        Self(self.0.saturating_neg())
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Span({} ns)", self.0)
    }
}

impl fmt::Display for Span {
    /// The same text that [`parse_span`] reads: `1h30m`, `250ms`, `0s`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&format_span(*self))
    }
}

impl core::str::FromStr for Span {
    type Err = ParseSpanError;
    fn from_str(s: &str) -> Result<Self, ParseSpanError> {
        parse_span(s)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arithmetic_saturates_instead_of_wrapping() {
        assert_eq!(Timestamp::MAX + Span::from_ns(1), Timestamp::MAX);
        assert_eq!(Timestamp::MIN - Span::from_ns(1), Timestamp::MIN);
        assert_eq!(Timestamp::MAX - Timestamp::MIN, Span::MAX);
        assert_eq!(-Span::MIN, Span::MAX);
        assert_eq!(Timestamp::MAX.checked_add(Span::from_ns(1)), None);
        assert_eq!(Timestamp::MIN.checked_since(Timestamp::MAX), None);
    }

    #[test]
    fn float_conversions_round_to_the_nearest() {
        assert_eq!(Span::from_secs_f64(0.001234), Span::from_ns(1_234_000));
        assert_eq!(Span::from_secs_f64(-0.25), Span::from_ms(-250));
        assert_eq!(Span::from_secs_f64(f64::NAN), Span::ZERO);
        assert_eq!(Span::from_secs_f64(f64::INFINITY), Span::MAX);
        assert_eq!(Timestamp::from_ns(-500_000_000).as_secs_f64(), -0.5);
    }

    #[test]
    fn whole_milliseconds_round_down_before_the_epoch_too() {
        assert_eq!(Timestamp::from_ns(-1).as_ms(), -1);
        assert_eq!(Timestamp::from_ns(1_999_999).as_ms(), 1);
    }
}
