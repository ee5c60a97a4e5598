//! The engine's feed as callers subscribe to it, and the places in it.

use super::error::{ApiError, EVENTS_GONE};
use crate::engine::{Cursor, Feed, Subscription};
use crate::store::StoreError;

/// Events after a place, then each new one; `None` for only those from now on.
pub(super) fn subscribe(feed: &Feed, after: Option<&Cursor>) -> Result<Subscription, ApiError> {
    feed.subscribe(after).map_err(|e| match e {
        StoreError::Gone { .. } => gone(feed),
        other => other.into(),
    })
}

/// A place that is no longer kept.
pub(super) fn gone(feed: &Feed) -> ApiError {
    ApiError::new(
        &EVENTS_GONE,
        format!(
            "events after that place are no longer kept: read the timers as they stand, then go on after {}, the oldest \
             place there is",
            feed.oldest()
        ),
    )
}

/// The place that a text names: the cursor of an event, or 0 for the beginning. The error says what is wrong.
pub(super) fn place(feed: &Feed, text: &str) -> Result<Cursor, String> {
    let hint = "give the id of the last event seen, or 0 for the beginning";
    let cursor: Cursor = text.trim().parse().map_err(|()| hint.to_string())?;
    let partitions = feed.newest().0.len();
    // A number without the others would be taken for a place in the first partition, and skip events of it.
    if cursor.0.len() != partitions && cursor.0 != [0] {
        return Err(format!("it has {} numbers where this service has {partitions}: {hint}", cursor.0.len()));
    }
    Ok(cursor)
}
