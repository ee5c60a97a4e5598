//! Sources that are part of this machine: the kernel's own clock discipline, a hardware clock, a chronyd that runs here.

pub(crate) mod chrony;
pub(crate) mod kernel;
pub(crate) mod phc;
#[expect(unsafe_code, reason = "adjtimex has no safe wrapper here")]
pub(crate) mod timex;

use super::{Ask, Failure};
use chronotick_core::{MonoTime, Span};
use chronotick_discipline::{Leap, Measurement};
use chronotick_ntp::exchange::MAX_DISTANCE;

/// A reading of a local clock.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Reading {
    /// When, on the local clock.
    pub(crate) at: MonoTime,
    /// True time minus the local clock, as this source sees it.
    pub(crate) theta: Span,
    /// From before the reading to after it; half of it may be wrong.
    pub(crate) width: Span,
    /// Round trip of the source to its own reference.
    pub(crate) root_delay: Span,
    /// How far the source may be wrong, without that.
    pub(crate) root_dispersion: Span,
    /// Steps from the reference.
    pub(crate) stratum: u8,
    /// Leap second warning.
    pub(crate) leap: Leap,
}

impl Reading {
    /// As a measurement; a reading that may be wrong by too much is none.
    ///
    /// `is_authenticated` is about where the time comes from, not about this machine: a system clock that somebody keeps
    /// with plain NTP is no better than plain NTP, and must not outvote servers under NTS.
    fn measurement(self, ask: &Ask<'_>, is_authenticated: bool) -> Result<Measurement, Failure> {
        let m = Measurement {
            source: ask.source,
            at: self.at,
            theta: self.theta,
            delay: self.width,
            round_trip: self.width,
            root_delay: self.root_delay,
            root_dispersion: self.root_dispersion,
            precision: Span::from_ns(100),
            stratum: self.stratum,
            leap: self.leap,
            poll_interval: ask.poll_interval,
            authenticated: is_authenticated,
        };
        let distance = Span::from_ns(m.root_distance_ns().ceil() as i64);
        if distance >= MAX_DISTANCE {
            return Err(Failure::Other(format!(
                "it may be wrong by {distance} (root distance); at most {MAX_DISTANCE} is used"
            )));
        }
        Ok(m)
    }
}
