//! The REST routes.

use super::error::{ApiError, INTERNAL, ROUTE_NOT_FOUND};
use super::etag::etag;
use super::query::{ledger_query, list_query, refuse_parameters};
use super::{App, batch, body, changes, definition, events, openapi, socket, values};
use crate::access::{Caller, Subject, Verb};
use crate::render::{self, HistoryEntryView, TimerView};
use crate::telemetry;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use minoots_kernel::{TimerInstance, TimerState};
use serde::Serialize;
use serde_json::json;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/timers", get(list).post(create))
        .route("/v1/timers/{id}", get(read).delete(changes::delete))
        .route("/v1/timers/{id}/cancel", post(changes::cancel))
        .route("/v1/timers/{id}/reschedule", post(changes::reschedule))
        .route("/v1/timers/{id}/pause", post(changes::pause))
        .route("/v1/timers/{id}/resume", post(changes::resume))
        .route("/v1/timers/{id}/fire", post(changes::fire))
        .route("/v1/timers/{id}/acknowledge", post(changes::acknowledge))
        .route("/v1/timers/{id}/history", get(history))
        .route("/v1/timers/batch", post(batch::create))
        .route("/v1/timers/batch/cancel", post(batch::cancel))
        .route("/v1/timers/batch/pause", post(batch::pause))
        .route("/v1/timers/batch/resume", post(batch::resume))
        .route("/v1/events", get(events::stream))
        .merge(super::admin::routes())
        .route("/v1/events/ws", get(socket::open))
        .route("/v1/status", get(status))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/openapi.json", get(openapi::serve))
        .route_layer(middleware::from_fn(readable_path))
}

/// Names in a path are text; axum would answer other bytes in words of its own.
async fn readable_path(request: Request, next: Next) -> Response {
    let bytes = request.uri().path().as_bytes();
    if bytes.contains(&b'%') {
        let query = [b"p=", bytes].concat();
        // Decoding puts this mark where the bytes are no text.
        let (mut given, mark) = (form_urlencoded::parse(&query), char::REPLACEMENT_CHARACTER);
        if given.any(|(_, text)| text.contains(mark)) {
            let detail = format!("the path {} is not UTF-8 text", request.uri().path());
            return ApiError::new(&ROUTE_NOT_FOUND, detail).into_response();
        }
    }
    next.run(request).await
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    let definition = definition::from_json(&bytes, &headers, &app.connectors)?;
    let created = app.session(caller).create(definition).await?;
    let status = if created.replayed { StatusCode::OK } else { StatusCode::CREATED };
    let location = [(header::LOCATION, format!("/v1/timers/{}", created.timer.id))];
    Ok((location, timer_json(status, &created.timer)).into_response())
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let timer = app.session(caller).get(values::timer_id(&id)?).await?;
    Ok(timer_json(StatusCode::OK, &timer))
}

#[derive(Serialize)]
struct PageView<'a> {
    timers: Vec<TimerView<'a>>,
    next_cursor: Option<String>,
}

async fn list(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
    let page = app.session(caller).list(list_query(&query)?).await?;
    let view = PageView {
        timers: page.timers.iter().map(|t| TimerView::new(t)).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    };
    Ok(json_answer(StatusCode::OK, render::to_text(&view)))
}

#[derive(Serialize)]
struct HistoryView {
    entries: Vec<HistoryEntryView>,
    next_after: Option<String>,
}

async fn history(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let id = values::timer_id(&id)?;
    let page = app.session(caller).history(ledger_query(id, &query)?).await?;
    let view = HistoryView {
        entries: page.entries.iter().map(|e| HistoryEntryView::new(id, e)).collect(),
        next_after: page.next_after_ns.map(render::rfc3339),
    };
    Ok(json_answer(StatusCode::OK, render::to_text(&view)))
}

async fn healthz() -> Response {
    json_answer(StatusCode::OK, json!({"status": "ok", "service": "minoots"}).to_string())
}

async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    match app.engine.status().await?.refusal {
        None => Ok(json_answer(StatusCode::OK, json!({"status": "ready"}).to_string())),
        Some(refusal) => Err(refusal.into()),
    }
}

async fn status(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let is_operator = caller.every_tenant;
    app.session(caller).allow(Verb::ReadStatus, Subject::Tenant)?;
    let s = app.engine.status().await?;
    let timers: serde_json::Map<_, _> =
        TimerState::ALL.iter().map(|state| (state.as_str().into(), s.counts.of(*state).into())).collect();
    let view = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "clock": {
            "source": s.clock.as_str(),
            "detail": s.clock_detail,
            "max_error_ns": s.clock_max_error_ns,
        },
        // How many timers others have is nothing to a tenant.
        "timers": is_operator.then_some(timers),
        "in_memory": is_operator.then_some(s.in_memory),
        "last_sequence": s.last_sequences.iter().sum::<u64>(),
        "last_sequences": s.last_sequences,
        "accepts_changes": s.accepts_changes(),
    });
    Ok(json_answer(StatusCode::OK, view.to_string()))
}

async fn metrics(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    app.session(caller).allow(Verb::ReadMetrics, Subject::Tenant)?;
    let status = app.engine.status().await.ok();
    let text = app
        .metrics
        .text(status.as_ref())
        .map_err(|e| ApiError::new(&INTERNAL, format!("the metrics cannot be written: {e}")))?;
    Ok(([(header::CONTENT_TYPE, telemetry::CONTENT_TYPE)], text).into_response())
}

pub(super) fn timer_json(status: StatusCode, timer: &TimerInstance) -> Response {
    let tag = [(header::ETAG, etag(timer.status.version))];
    (tag, json_answer(status, render::to_text(&TimerView::new(timer)))).into_response()
}

pub(super) fn json_answer(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
