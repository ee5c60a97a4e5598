//! The durable timer service: the kernel's shell and its adapters.
#![forbid(unsafe_code)]

pub mod engine;
