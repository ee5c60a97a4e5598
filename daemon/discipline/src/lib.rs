//! From measurements of remote clocks to one correction with an uncertainty and a hard bound.
//!
//! The crate is pure: measurements and `now` come in, a [`Correction`] goes out. It knows no socket, file, thread or
//! clock. Everything is on the timescale of `CLOCK_BOOTTIME` ([`MonoTime`](chronotick_core::MonoTime)): a measurement
//! says how far true time was ahead of it, so a step of the system clock disturbs nothing here.
//!
//! The path of a measurement:
//!
//! 1. [`source`] keeps the last samples of each source, refuses those that waited long in a queue, and fits an offset
//!    with a rate ([`fit`]).
//! 2. [`select`] finds the interval that the truth must lie in, provided that most sources are right.
//! 3. [`discipline`] combines the sources that agree, clips the estimate into that interval, and projects the result
//!    to any later moment with a bound that grows by [`PHI`] and by three sigma of the rate.
#![forbid(unsafe_code)]

pub mod discipline;
pub mod fit;
pub mod measurement;
pub mod select;
pub mod source;

pub use discipline::{Agreement, Config, Correction, Discipline, SourceReport, State};
pub use measurement::{Leap, Measurement};
pub use source::Verdict;

/// Frequency tolerance of RFC 5905 in seconds per second: how fast a disciplined clock may drift from its estimate.
pub const PHI: f64 = 15e-6;

/// One standard deviation of what is believed of the rate before anything was measured: crystals of computers lie
/// within some tens of ppm.
pub const RATE_PRIOR_SIGMA: f64 = 100e-6;

/// How fast the error of a prediction can grow, in seconds per second, when the rate has the deviation `rate_sigma`.
pub fn bound_growth(rate_sigma: f64) -> f64 {
    PHI + 3.0 * rate_sigma
}
