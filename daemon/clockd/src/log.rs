//! Messages for the operator, on standard error: text, JSON, or text with the priorities of the journal.

use crate::utc::rfc3339;
use chronotick::os_clock::realtime;
use chronotick_core::Timestamp;
use serde::Deserialize;
use serde_json::{Map, Value};
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

impl Level {
    fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warning",
            Self::Info => "info",
            Self::Debug => "debug",
        }
    }

    /// The priority of syslog.
    fn priority(self) -> u8 {
        match self {
            Self::Error => 3,
            Self::Warn => 4,
            Self::Info => 6,
            Self::Debug => 7,
        }
    }
}

/// How a message is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, clap::ValueEnum, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Format {
    /// One line for people.
    #[default]
    Text,
    /// One JSON object a line: `time`, `level`, `message` and fields.
    Json,
    /// Text after the `<N>` by which the journal knows the priority.
    JournalPrefix,
}

impl Format {
    /// The journal's where standard error is the journal's, else text.
    pub(crate) fn fitting() -> Self {
        let ours = rustix::fs::fstat(std::io::stderr()).ok().map(|s| format!("{}:{}", s.st_dev, s.st_ino));
        match std::env::var("JOURNAL_STREAM") {
            Ok(stream) if Some(&stream) == ours.as_ref() => Self::JournalPrefix,
            _ => Self::Text,
        }
    }

    fn line(self, level: Level, time: Timestamp, message: fmt::Arguments<'_>, fields: Fields<'_>) -> String {
        match self {
            Self::Text => format!("chronotick-daemon: {}: {message}\n", level.word()),
            Self::JournalPrefix => format!("<{}>{message}\n", level.priority()),
            Self::Json => {
                let mut object = Map::new();
                object.insert("time".to_owned(), rfc3339(time).into());
                object.insert("level".to_owned(), level.word().into());
                object.insert("message".to_owned(), message.to_string().into());
                for (name, value) in fields {
                    object.insert((*name).to_owned(), value.clone());
                }
                format!("{}\n", Value::Object(object))
            }
        }
    }
}

/// What a message says, once more for programs. Numbers have their unit in the name.
pub(crate) type Fields<'a> = &'a [(&'a str, Value)];

static LEVEL: AtomicU8 = AtomicU8::new(Level::Info as u8);
static FORMAT: AtomicU8 = AtomicU8::new(Format::Text as u8);

/// Says no more than `level`, in this format, from now on.
pub(crate) fn set(level: Level, format: Format) {
    // Relaxed: a message more or less around the change harms nobody.
    LEVEL.store(level as u8, Ordering::Relaxed);
    FORMAT.store(format as u8, Ordering::Relaxed);
}

fn format() -> Format {
    let number = FORMAT.load(Ordering::Relaxed);
    [Format::Json, Format::JournalPrefix].into_iter().find(|&f| f as u8 == number).unwrap_or_default()
}

/// A message with fields. The text says everything too; only JSON has the fields.
pub(crate) fn event(level: Level, message: fmt::Arguments<'_>, fields: Fields<'_>) {
    if level as u8 <= LEVEL.load(Ordering::Relaxed) {
        let line = format().line(level, realtime(), message, fields);
        // In one piece, so that no other line comes in between. A closed standard error must not end the clock.
        let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), line.as_bytes());
    }
}

/// The daemon cannot go on.
pub(crate) fn error(message: fmt::Arguments<'_>) {
    event(Level::Error, message, &[]);
}

/// Something an operator should look at.
pub(crate) fn warn(message: fmt::Arguments<'_>) {
    event(Level::Warn, message, &[]);
}

/// A change of state.
pub(crate) fn info(message: fmt::Arguments<'_>) {
    event(Level::Info, message, &[]);
}

/// One exchange.
pub(crate) fn debug(message: fmt::Arguments<'_>) {
    event(Level::Debug, message, &[]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_format_has_its_line() {
        let fields = [("source", Value::from("a\"b")), ("bound_us", Value::from(12))];
        let check = |format: Format, level: Level, want: &str| {
            let line = format.line(level, Timestamp::EPOCH, format_args!("a \"quoted\"\nword"), &fields);
            assert_eq!(line, want);
        };
        check(Format::Text, Level::Warn, "chronotick-daemon: warning: a \"quoted\"\nword\n");
        check(Format::JournalPrefix, Level::Error, "<3>a \"quoted\"\nword\n");
        check(Format::JournalPrefix, Level::Debug, "<7>a \"quoted\"\nword\n");
        let json = Format::Json.line(Level::Info, Timestamp::EPOCH, format_args!("a\nb"), &fields);
        assert_eq!(json.matches('\n').count(), 1, "one line: {json}");
        let value: Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["time"], "1970-01-01T00:00:00.000000Z");
        assert_eq!((&value["level"], &value["message"]), (&"info".into(), &"a\nb".into()));
        assert_eq!((&value["source"], &value["bound_us"]), (&"a\"b".into(), &12.into()));
    }
}
