//! The C library of chronotick: the client behind a C ABI, declared in `include/chronotick.h`.
//!
//! The contract of every function is in `ffi-c/README.md`: a status code is returned, NULL is checked, a panic becomes
//! `CHRONOTICK_ERROR_INTERNAL`, outputs are written only on success, what is opened is closed explicitly, and one
//! client serves any number of threads. `cargo xtask gen` writes the header from these files.

mod client;
mod error;
mod evaluate;
mod names;
mod types;
mod verify;

pub use client::{
    ChronotickClient, chronotick_at, chronotick_at_system_time, chronotick_client_close,
    chronotick_client_open, chronotick_client_status, chronotick_now, chronotick_now_ns,
    chronotick_now_within, chronotick_wait_synchronized, chronotick_wait_until, chronotick_wait_until_or,
};
pub use error::{ChronotickError, chronotick_last_error_message};
pub use evaluate::{chronotick_compare, chronotick_evaluate, chronotick_sigma_ns};
pub use names::{chronotick_error_name, chronotick_source_name, chronotick_status_name, chronotick_version};
pub use types::{ChronotickClocks, ChronotickOrder, ChronotickReading, ChronotickWaited};
pub use verify::chronotick_verify_signature;
