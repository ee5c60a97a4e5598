//! The live stream of events as server-sent events.

use super::error::{ApiError, INVALID_QUERY};
use super::query::{parameters, unknown_parameter};
use super::{App, feed};
use crate::access::Caller;
use crate::engine::Cursor;
use crate::render;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use std::convert::Infallible;
use std::time::Duration;

/// Proxies drop connections that are silent for longer.
const KEEP_ALIVE_INTERVAL: Duration = Duration::from_secs(15);

pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let mut after = None;
    for (name, value) in parameters(&query) {
        match name.as_str() {
            "after" => after = Some(place(&app, "after", &value)?),
            _ => return Err(unknown_parameter(&name, "after")),
        }
    }
    // A browser that reconnects repeats the address and adds the header, so the header is the newer one.
    if let Some(id) = headers.get("last-event-id") {
        after = Some(place(&app, "Last-Event-ID", id.to_str().unwrap_or("?"))?);
    }
    let events = app
        .session(caller)
        .watch(after.as_ref())?
        .map(|event| {
            let sent = Event::default()
                .id(event.cursor.to_string())
                .event(event.record.event.kind())
                .data(render::event(&event));
            Ok::<_, Infallible>(sent)
        })
        .take_until(app.shutdown.clone().cancelled_owned());
    Ok(Sse::new(events).keep_alive(KeepAlive::new().interval(KEEP_ALIVE_INTERVAL)).into_response())
}

fn place(app: &App, name: &str, text: &str) -> Result<Cursor, ApiError> {
    feed::place(&app.feed, text)
        .map_err(|why| ApiError::new(&INVALID_QUERY, format!("{name} is {text:?}: {why}")))
}
