//! Deterministic simulation of one partition of the timer service.
//!
//! The real kernel, the real rounds of the engine, the real event log and its recovery run over a disk that loses, tears
//! and reorders what was not synced, fills up and fails; a clock that steps, stalls and sleeps; an index that lags and
//! forgets; and crashes between any two operations on the disk. Everything follows from one seed. What must always hold
//! is checked after every step (see `check`).
#![forbid(unsafe_code)]

pub mod check;
pub mod clock;
pub mod disk;
pub mod world;

pub use disk::Sabotage;
pub use world::{Report, run};
