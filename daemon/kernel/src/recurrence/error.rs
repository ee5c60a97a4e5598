//! Why a recurrence cannot be used.

use super::spec::{EVERY_MIN_NS, EXCLUDE_DATES_MAX, EXPRESSION_MAX_BYTES};
use chronotick_core::Span;
use std::fmt;

/// Why a recurrence cannot be used. Each message says what happened and what to do next.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum RecurrenceError {
    /// The distance of an interval is below the minimum.
    EveryTooShort {
        /// The distance asked for.
        every_ns: i64,
    },
    /// A fixed delay was given an anchor.
    AnchorWithFixedDelay,
    /// The cron expression is too long.
    ExpressionTooLong {
        /// Its length.
        bytes: usize,
    },
    /// The cron expression does not parse.
    BadExpression {
        /// The expression as it was given.
        expression: String,
        /// What the parser says.
        reason: String,
    },
    /// No time zone has this name.
    UnknownZone(String),
    /// There are too many excluded dates.
    TooManyDates {
        /// How many there are.
        count: usize,
    },
    /// An excluded date is no date.
    BadDate(String),
    /// The end is not after the start.
    EndBeforeStart,
    /// The number of occurrences is zero.
    ZeroCount,
    /// The expression matches no moment that can be represented.
    NeverFires(String),
    /// No occurrence lies between the bounds.
    NothingInBounds,
}

impl fmt::Display for RecurrenceError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::EveryTooShort { every_ns } => write!(
                f,
                "the interval of {} is too short: give one of {} or more",
                Span::from_ns(*every_ns),
                Span::from_ns(EVERY_MIN_NS)
            ),
            Self::AnchorWithFixedDelay => f.write_str(
                "a fixed_delay interval counts from the end of the previous fire and has no anchor: leave anchor_ns out, \
                 or use fixed_rate",
            ),
            Self::ExpressionTooLong { bytes } => write!(
                f,
                "the cron expression has {bytes} bytes: shorten it to {EXPRESSION_MAX_BYTES} or fewer"
            ),
            Self::BadExpression { expression, reason } => write!(
                f,
                "the cron expression {expression:?} does not parse: {reason} Give five fields (minute, hour, day of \
                 month, month, day of week), or six with the second first"
            ),
            Self::UnknownZone(name) => write!(
                f,
                "no time zone is called {name:?}: give a name of the IANA database, such as Europe/Paris or UTC"
            ),
            Self::TooManyDates { count } => {
                write!(f, "{count} dates are excluded: exclude {EXCLUDE_DATES_MAX} or fewer")
            }
            Self::BadDate(text) => {
                write!(f, "the excluded date {text:?} is no date: write it as YYYY-MM-DD, such as 2026-12-25")
            }
            Self::EndBeforeStart => {
                f.write_str("the recurrence ends at its start or before: give an end after the start, or none")
            }
            Self::ZeroCount => f.write_str("the recurrence has a count of 0: give 1 or more, or none"),
            Self::NeverFires(expression) => write!(
                f,
                "the cron expression {expression:?} fires at no moment between the years 1677 and 2262: check that its \
                 day occurs in its month and is not excluded"
            ),
            Self::NothingInBounds => f.write_str(
                "the recurrence has no occurrence from its start until its end: widen them, or change the rule",
            ),
        }
    }
}

impl std::error::Error for RecurrenceError {}
