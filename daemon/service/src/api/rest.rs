//! The REST routes.

use super::error::{ApiError, INTERNAL, no_such_timer};
use super::query::{list_query, parameters, refuse_parameters, unknown_parameter};
use super::{App, body, definition, events};
use crate::render::{self, TimerView};
use crate::telemetry;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use minoots_kernel::{TenantId, TimerId, TimerInstance, TimerState};
use serde::Serialize;
use serde_json::json;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/timers", get(list).post(create))
        .route("/v1/timers/{id}", get(read).delete(cancel))
        .route("/v1/events", get(events::stream))
        .route("/v1/status", get(status))
        .route("/healthz", get(healthz))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

async fn create(State(app): State<App>, headers: HeaderMap, body: Body) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body).await?;
    let definition = definition::from_json(&bytes, &headers, &app.connectors)?;
    let created = app.engine.create(definition).await?;
    let status = if created.replayed { StatusCode::OK } else { StatusCode::CREATED };
    app.metrics.created(u64::from(!created.replayed));
    let location = [(header::LOCATION, format!("/v1/timers/{}", created.timer.id))];
    Ok((location, timer_json(status, &created.timer)).into_response())
}

async fn read(State(app): State<App>, Path(id): Path<String>, query: RawQuery) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let timer = app.engine.get(TenantId::default(), parse_id(&id)?).await?;
    Ok(timer_json(StatusCode::OK, &timer))
}

async fn cancel(
    State(app): State<App>,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let mut reason = None;
    for (name, value) in parameters(&query) {
        match name.as_str() {
            "reason" => reason = Some(value),
            _ => return Err(unknown_parameter(&name, "reason")),
        }
    }
    let outcome = app.engine.cancel(TenantId::default(), parse_id(&id)?, reason).await?;
    app.metrics.cancelled();
    Ok(timer_json(StatusCode::OK, &outcome.timer))
}

#[derive(Serialize)]
struct PageView<'a> {
    timers: Vec<TimerView<'a>>,
    next_cursor: Option<String>,
}

async fn list(State(app): State<App>, query: RawQuery) -> Result<Response, ApiError> {
    let page = app.engine.list(list_query(&query)?).await?;
    let view = PageView {
        timers: page.timers.iter().map(|t| TimerView::new(t)).collect(),
        next_cursor: page.next.map(|id| id.to_string()),
    };
    Ok(json_answer(StatusCode::OK, render::to_text(&view)))
}

async fn healthz() -> Response {
    json_answer(StatusCode::OK, json!({"status": "ok"}).to_string())
}

async fn readyz(State(app): State<App>) -> Result<Response, ApiError> {
    match app.engine.status().await?.refusal {
        None => Ok(json_answer(StatusCode::OK, json!({"status": "ready"}).to_string())),
        Some(refusal) => Err(refusal.into()),
    }
}

async fn status(State(app): State<App>) -> Result<Response, ApiError> {
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
        "timers": timers,
        "in_memory": s.in_memory,
        "last_sequences": s.last_sequences,
        "accepts_changes": s.accepts_changes(),
    });
    Ok(json_answer(StatusCode::OK, view.to_string()))
}

async fn metrics(State(app): State<App>) -> Result<Response, ApiError> {
    let status = app.engine.status().await.ok();
    let text = app
        .metrics
        .text(status.as_ref())
        .map_err(|e| ApiError::new(&INTERNAL, format!("the metrics cannot be written: {e}")))?;
    Ok(([(header::CONTENT_TYPE, telemetry::CONTENT_TYPE)], text).into_response())
}

fn parse_id(text: &str) -> Result<TimerId, ApiError> {
    TimerId::parse(text).ok_or_else(|| no_such_timer(text))
}

fn timer_json(status: StatusCode, timer: &TimerInstance) -> Response {
    json_answer(status, render::to_text(&TimerView::new(timer)))
}

fn json_answer(status: StatusCode, text: String) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}
