//! Real processes for end-to-end tests and the demo: our programs, an NTP server that lies, a receiver of webhooks.
#![forbid(unsafe_code)]

mod binaries;
pub mod chronyd;
pub mod chronyd_client;
pub mod clock_daemon;
pub mod http;
pub mod ntp_liar;
pub mod patience;
pub mod random;
pub mod relay;
pub mod timer_service;
pub mod webhook_sink;

pub use binaries::{bin, build, build_directory, repository};
pub use chronyd::{Chronyd, free_port};
pub use chronyd_client::ChronydClient;
pub use clock_daemon::ClockDaemon;
pub use http::Http;
pub use ntp_liar::{Behaviour, LiarConfig, NtpLiar};
pub use patience::{eventually, pause};
pub use random::Random;
pub use relay::{Relay, RelayConfig};
pub use timer_service::TimerService;
pub use webhook_sink::WebhookSink;
