//! Messages for the operator, on standard error.

use serde::Deserialize;
use std::fmt;
use std::sync::atomic::{AtomicU8, Ordering};

/// How much is said.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Level {
    /// The daemon cannot go on.
    Error,
    /// Something an operator should look at.
    Warn,
    /// Changes of state.
    #[default]
    Info,
    /// Each exchange.
    Debug,
}

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);

/// Says no more than `level` from now on.
pub(crate) fn set_level(level: Level) {
    // Relaxed: a message more or less around the change harms nobody.
    LEVEL.store(level as u8, Ordering::Relaxed);
}

/// Writes one line; use through the functions below.
fn write(level: Level, word: &str, message: fmt::Arguments<'_>) {
    if level as u8 <= LEVEL.load(Ordering::Relaxed) {
        // A closed standard error must not end the clock.
        let _ = std::io::Write::write_fmt(
            &mut std::io::stderr().lock(),
            format_args!("chronotick-daemon: {word}: {message}\n"),
        );
    }
}

/// The daemon cannot go on.
pub(crate) fn error(message: fmt::Arguments<'_>) {
    write(Level::Error, "error", message);
}

/// Something an operator should look at.
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    write(Level::Warn, "warning", message);
}

/// A change of state.
pub(crate) fn info(message: fmt::Arguments<'_>) {
    write(Level::Info, "info", message);
}

/// One exchange.
pub(crate) fn debug(message: fmt::Arguments<'_>) {
    write(Level::Debug, "debug", message);
}
