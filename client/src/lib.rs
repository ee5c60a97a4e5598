//! Corrected time with a hard bound, read from the clock page that `chronotick-daemon` publishes.
//!
//! ```no_run
//! let client = chronotick::Client::attach()?;
//! let reading = client.now()?;
//! println!("{} ns, at most {} ns off, {}", reading.corrected.as_ns(), reading.max_error().as_ns(), reading.status);
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! A reading is a value *and* a [`Status`]: look at both. One [`Client`] serves all threads; a read takes no lock,
//! makes no system call and allocates nothing.
#![deny(unsafe_code)]

mod attach;
mod client;
pub mod counter;
mod error;
mod evaluate;
pub mod name;
pub mod os_clock;
pub mod sigbus;
#[cfg(feature = "timers")]
pub mod timers;
#[cfg(feature = "verify")]
pub mod verify;
mod wait;

#[cfg(test)]
mod testing;

pub use chronotick_core::page::{Flags, Reading, Record, Source, Status};
pub use chronotick_core::{MonoTime, Order, Span, TimeBound, Timestamp};
pub use client::Client;
pub use error::{AttachError, ErrorCode, ReadError, WaitError};
pub use evaluate::{FixedClocks, evaluate};
pub use os_clock::OsClocks;
pub use wait::Waited;
