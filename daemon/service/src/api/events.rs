//! The live stream of events as server-sent events.

use super::error::{ApiError, INVALID_QUERY};
use super::query::{parameters, unknown_parameter};
use super::watch::{EventFilter, FILTER_PARAMETERS, HEARTBEAT_DEFAULT, Told, heartbeat};
use super::{App, feed};
use crate::access::Caller;
use crate::engine::Cursor;
use crate::render;
use axum::extract::{RawQuery, State};
use axum::http::HeaderMap;
use axum::response::sse::{Event, Sse};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use std::convert::Infallible;
use std::time::Duration;

/// What the parameters of a stream ask for.
pub(super) struct Asked {
    pub(super) after: Option<Cursor>,
    pub(super) filter: EventFilter,
    pub(super) heartbeat: Duration,
}

impl Asked {
    /// Everything from now on.
    pub(super) fn nothing() -> Self {
        Self { after: None, filter: EventFilter::default(), heartbeat: HEARTBEAT_DEFAULT }
    }

    /// Reads the parameters.
    pub(super) fn read(app: &App, query: &RawQuery) -> Result<Self, ApiError> {
        let mut asked = Self::nothing();
        for (name, value) in parameters(query) {
            match name.as_str() {
                "after" => asked.after = Some(place(app, "after", &value)?),
                "heartbeat" => asked.heartbeat = heartbeat(&INVALID_QUERY, &value)?,
                _ if asked.filter.take(&INVALID_QUERY, &name, &value)? => {}
                _ => return Err(unknown_parameter(&name, &format!("after, heartbeat, {FILTER_PARAMETERS}"))),
            }
        }
        asked.filter.check(&INVALID_QUERY)?;
        Ok(asked)
    }
}

/// `GET /v1/events`.
pub(super) async fn stream(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let mut asked = Asked::read(&app, &query)?;
    // A browser that reconnects repeats the address and adds the header, so the header is the newer one.
    if let Some(id) = headers.get("last-event-id") {
        asked.after = Some(place(&app, "Last-Event-ID", id.to_str().unwrap_or("?"))?);
    }
    let told = app.session(caller).follow(asked.after.as_ref(), asked.filter, asked.heartbeat)?;
    Ok(Sse::new(told.map(|told| Ok::<_, Infallible>(sent(&told)))).into_response())
}

fn sent(told: &Told) -> Event {
    match told {
        Told::Event(event) => Event::default()
            .id(event.cursor.to_string())
            .event(event.record.event.kind())
            .data(render::event(event)),
        // Without data a browser dispatches nothing and keeps the id.
        Told::Place(reached) => Event::default().comment("place").id(reached.cursor.to_string()),
        Told::Lag(reached) => Event::default().event("lag").data(reached.json("lag")),
        Told::End(ended) => {
            Event::default().id(ended.cursor.to_string()).event("end").data(ended.json().to_string())
        }
    }
}

/// The place that a text names.
pub(super) fn place(app: &App, name: &str, text: &str) -> Result<Cursor, ApiError> {
    feed::place(&app.feed, text)
        .map_err(|why| ApiError::new(&INVALID_QUERY, format!("{name} is {text:?}: {why}")))
}
