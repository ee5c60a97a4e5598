//! Time types, time bounds, the clock page and the timer queue.
//!
//! This crate is pure: `no_std` with `alloc`, no I/O, no `unsafe`, and it reads no clock. Every function that
//! depends on the time takes it as an argument. The operating-system edges are in the crate `chronotick` (readers)
//! and in the two daemons.
#![cfg_attr(not(any(test, loom)), no_std)]
#![forbid(unsafe_code)]

extern crate alloc;

pub mod bound;
pub mod page;
pub mod queue;
pub mod schedule;
pub mod time;

pub use bound::{Order, TimeBound};
pub use time::{MonoTime, Span, Timestamp};
