//! From measurements of remote clocks to one correction with an uncertainty and a hard bound.
//!
//! The crate is pure: measurements and `now` come in, a [`Correction`] goes out. It knows no socket, file, thread or
//! clock. Everything is on the timescale of `CLOCK_BOOTTIME` ([`MonoTime`](chronotick_core::MonoTime)): a measurement
//! says how far true time was ahead of it, so a step of the system clock disturbs nothing here.
//!
//! The path of a measurement:
//!
//! 1. [`source`] keeps the last samples of each source for the interval that it vouches for, and refuses those that
//!    waited long in a queue. Two predictors follow its offset and rate side by side: a [`bank`] of Kalman filters
//!    ([`kalman`]) over the path's delay [`floor`], and a [`regression`] over a history as long as it is straight.
//! 2. [`calibration`] scores what was expected of each sample, and widens claims that were too bold.
//! 3. [`select`] finds the interval that the truth must lie in, provided that most sources are right.
//! 4. [`mod@combine`] joins the sources that agree; [`discipline`] clips the result into that interval and projects it to
//!    any later moment, with a bound that grows by [`PHI`] and by three sigma of the rate.
//! 5. [`fusion`] lets the [`longterm`] model, and models from outside, move the rate as time passes without a
//!    measurement. They never narrow the bound.
#![forbid(unsafe_code)]

pub mod bank;
pub mod calibration;
pub mod combine;
pub mod discipline;
pub mod fit;
pub mod floor;
pub mod fusion;
pub mod kalman;
pub mod longterm;
pub mod measurement;
pub mod moments;
pub mod regression;
pub mod select;
pub mod source;

pub use discipline::{
    Agreement, Config, Correction, Discipline, Disruption, Model, ModelReport, Saved, SourceReport, State,
};
pub use longterm::Forecast;
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
