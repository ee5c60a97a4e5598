//! The clock page: 128 bytes of shared memory that hold the clock model, one writer, any number of readers.
//!
//! The byte layout is normative and documented in `docs/formats/clock-page.md`: little-endian, two cache lines,
//! sixteen 64-bit words. [`layout`] names the bytes, [`codec`] turns words into a [`Record`] and back, [`seqlock`]
//! moves sixteen words between processes without tearing, [`model`] computes the time from a record, and [`reading`] is
//! what it says. None of them touches memory that is not an atomic, so there is no `unsafe` here: mapping the object is the client's and
//! the daemon's business.

pub mod codec;
pub mod layout;
pub mod model;
mod model_cell;
pub mod reading;
pub mod seqlock;
mod sync;

pub use codec::{PageError, Record};
pub use layout::{AnchorClock, Flags, PAGE_SIZE, Source, Version, WORDS};
pub use model::Model;
pub use model_cell::ModelCell;
pub use reading::{Clocks, Reading, Sigma, Status};
pub use seqlock::{PageCell, SnapshotError};
#[cfg(feature = "writer")]
pub use seqlock::{PageWriter, Repair};
