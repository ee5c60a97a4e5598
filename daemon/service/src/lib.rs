//! The durable timer service: the kernel's shell and its adapters.
#![forbid(unsafe_code)]

pub mod clock;
pub mod engine;
pub mod store;
