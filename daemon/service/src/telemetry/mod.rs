//! What the service tells its operators: the log on stderr, the metrics at /metrics.

mod metrics;

pub use metrics::{CONTENT_TYPE, Metrics};

use std::io::IsTerminal;

/// Sends the log to stderr; stdout carries only the line that says where the service listens. `RUST_LOG` filters it.
pub fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    // A second call (tests in one process) leaves the first subscriber in place.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .try_init();
}
