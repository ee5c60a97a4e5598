//! Values that many bodies and queries hold: durations, times, ids, words.

use super::error::{
    ApiError, ErrorCode, INVALID_DURATION, INVALID_FIELD, INVALID_TIME, TIME_TOO_FAR, no_such_timer,
};
use crate::render::words::Words;
use chronotick_core::Span;
use minoots_kernel::TimerId;
use serde_json::Value;

const DURATION_HINT: &str = "write a duration as text with its unit, as in \"250ms\", \"2s\" or \"1h30m\"";
const TIME_HINT: &str = "write a time as RFC 3339 with its offset, as in \"2030-01-31T09:00:00+01:00\"";

/// A duration in nanoseconds; a number gets an answer of its own.
pub(super) fn duration_ns(field: &str, value: &Value) -> Result<i64, ApiError> {
    let Value::String(text) = value else {
        return Err(ApiError::new(&INVALID_DURATION, format!("{field} is {value}: {DURATION_HINT}")));
    };
    let span: Span = text.parse().map_err(|e| ApiError::new(&INVALID_DURATION, format!("{field}: {e}")))?;
    Ok(span.as_ns())
}

/// A time in Unix nanoseconds; a number gets an answer of its own.
pub(super) fn time_ns(field: &str, value: &Value) -> Result<i64, ApiError> {
    match value {
        Value::String(text) => time_text_ns(&INVALID_TIME, field, text),
        other => Err(ApiError::new(&INVALID_TIME, format!("{field} is {other}: {TIME_HINT}"))),
    }
}

/// A time as text; what is no time is refused with `code`.
pub(super) fn time_text_ns(code: &'static ErrorCode, field: &str, text: &str) -> Result<i64, ApiError> {
    let moment: jiff::Timestamp =
        text.parse().map_err(|_| ApiError::new(code, format!("{field} is {text:?}: {TIME_HINT}")))?;
    // Years before 1677 have passed, years after 2262 are too far: the nearest end says the right one.
    i64::try_from(moment.as_nanosecond())
        .or_else(|_| if moment.as_nanosecond() < 0 { Ok(i64::MIN) } else { Err(too_far()) })
}

/// Past what an `i64` of nanoseconds holds.
pub(super) fn too_far() -> ApiError {
    ApiError::new(&TIME_TOO_FAR, "that moment lies past the year 2262, the last this service can keep")
}

/// What a word of a table stands for.
pub(super) fn word<T: Copy + PartialEq>(field: &str, text: &str, words: &Words<T>) -> Result<T, ApiError> {
    words
        .parse(text)
        .ok_or_else(|| ApiError::new(&INVALID_FIELD, format!("{field} is {text:?}: use {}", words.listed())))
}

/// A timer's id. A malformed one names no timer.
pub(super) fn timer_id(text: &str) -> Result<TimerId, ApiError> {
    TimerId::parse(text).ok_or_else(|| no_such_timer(text))
}

/// A priority.
pub(super) fn priority(number: i64) -> Result<i8, ApiError> {
    i8::try_from(number).map_err(|_| {
        ApiError::new(&INVALID_FIELD, format!("priority is {number}: give a number from -128 to 127"))
    })
}

/// Puts the tags among the labels: a tag is a label with an empty value.
pub(super) fn add_tags(
    labels: &mut std::collections::BTreeMap<String, String>,
    tags: Vec<String>,
) -> Result<(), ApiError> {
    for tag in tags {
        match labels.get(&tag) {
            Some(value) if !value.is_empty() => {
                let detail = format!(
                    "tags: {tag:?} is a label with the value {value:?} as well: use another word for one of them"
                );
                return Err(ApiError::new(&INVALID_FIELD, detail));
            }
            _ => labels.insert(tag, String::new()),
        };
    }
    Ok(())
}

/// Puts a label that has a field of its own among the labels.
pub(super) fn add_label(
    labels: &mut std::collections::BTreeMap<String, String>,
    name: &str,
    value: Option<String>,
) -> Result<(), ApiError> {
    let Some(value) = value else { return Ok(()) };
    match labels.get(name) {
        Some(other) if *other != value => {
            let detail = format!("{name} is {value:?} and labels.{name} is {other:?}: give one of them");
            Err(ApiError::new(&INVALID_FIELD, detail))
        }
        _ => {
            labels.insert(name.to_string(), value);
            Ok(())
        }
    }
}
