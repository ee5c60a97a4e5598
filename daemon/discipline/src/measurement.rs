//! One exchange with one source, reduced to what the discipline needs.

use crate::{RATE_PRIOR_SIGMA, bound_growth};
use chronotick_core::{MonoTime, Span};

/// The leap second warning that a source gives.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Leap {
    /// No leap second at the end of the day.
    #[default]
    None,
    /// The last minute of the day has 61 seconds.
    Insert,
    /// The last minute of the day has 59 seconds.
    Delete,
}

/// What one exchange with a source told.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Measurement {
    /// Which source, by its number in [`Discipline::new`](crate::Discipline::new).
    pub source: usize,
    /// The middle of the exchange on the local clock.
    pub at: MonoTime,
    /// True time minus the local clock at `at`, as the source sees it.
    pub theta: Span,
    /// Round trip on the network, without the time spent in the server.
    pub delay: Span,
    /// The whole exchange on the local clock, from sending to receiving.
    pub round_trip: Span,
    /// The source's own round trip to its reference clock.
    pub root_delay: Span,
    /// The source's own error against its reference clock, without that delay.
    pub root_dispersion: Span,
    /// Reading precision of both clocks together.
    pub precision: Span,
    /// Steps from the reference clock, 1 to 15.
    pub stratum: u8,
    /// Leap second warning.
    pub leap: Leap,
    /// How long until this source is asked again, outside the burst at the start.
    pub poll_interval: Span,
    /// The answer was authenticated (NTS), or the source is part of this machine.
    pub authenticated: bool,
}

impl Measurement {
    /// The root distance of RFC 5905 in nanoseconds: `theta` is at most this far from the truth at `at`, when the
    /// source tells the truth about itself.
    ///
    /// Half the network delay covers any asymmetry. The last term covers a local clock that ran at a wrong rate during
    /// the exchange, for any rate that three sigma of the prior allow.
    pub fn root_distance_ns(&self) -> f64 {
        let ns = |span: Span| span.as_ns() as f64;
        (ns(self.delay) + ns(self.root_delay)) / 2.0
            + ns(self.root_dispersion)
            + ns(self.precision).max(1.0)
            + ns(self.round_trip) * bound_growth(RATE_PRIOR_SIGMA)
    }
}
