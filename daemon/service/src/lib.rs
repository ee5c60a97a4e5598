//! The durable timer service: the kernel's shell and its adapters.
#![forbid(unsafe_code)]

pub mod access;
pub mod actions;
pub mod api;
pub mod audit;
pub mod cli;
pub mod clock;
pub mod config;
pub mod engine;
pub mod ids;
pub mod import;
pub mod listen;
pub mod mcp;
pub mod render;
pub mod schemas;
pub mod secrets;
pub mod serve;
pub mod signing;
pub mod store;
pub mod telemetry;
