//! Scores ways to predict the time: ours, simple baselines, and what a trace recorded.
//!
//! Everything is judged on the scale of the local clock: a [`Predictor`] sees [`Measurement`]s and says at any later
//! moment how far true time is ahead of the local clock. Whoever knows the truth (a simulator, or a trace with a
//! local fit) adds the errors to [`Scores`].
//!
//! [`Measurement`]: chronotick_discipline::Measurement
#![forbid(unsafe_code)]

pub mod predictor;
pub mod scores;

pub use predictor::{Chronotick, Prediction, Predictor};
pub use scores::{Scores, Summary};
