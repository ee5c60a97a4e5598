//! Scores ways to predict the time: ours, simple baselines, and what a trace recorded.
//!
//! Everything is judged on the scale of the local clock: a [`Predictor`] sees [`Measurement`]s and says at any later
//! moment how far true time is ahead of the local clock. Whoever knows the truth (a simulator, or a [`Trace`] with a
//! local fit) adds the errors to [`Scores`].
//!
//! [`Measurement`]: chronotick_discipline::Measurement
#![forbid(unsafe_code)]

pub mod baselines;
pub mod chrony_like;
mod csv;
pub mod predictor;
pub mod replay;
pub mod scores;
pub mod trace;
pub mod truth;

pub use predictor::{Chronotick, Prediction, Predictor};
pub use replay::{Evaluation, Options, evaluate};
pub use scores::{Scores, Summary};
pub use trace::{Trace, TraceError};
