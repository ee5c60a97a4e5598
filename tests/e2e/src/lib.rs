//! Real processes for end-to-end tests and the demo: our programs, and an NTP server that lies.
#![forbid(unsafe_code)]

mod binaries;
pub mod clock_daemon;
pub mod ntp_liar;
pub mod patience;

pub use binaries::bin;
pub use clock_daemon::ClockDaemon;
pub use ntp_liar::{Behaviour, LiarConfig, NtpLiar};
pub use patience::{eventually, pause};
