//! The public API: REST, server-sent events and gRPC on one port.

pub mod error;
mod feed;
pub mod grpc;

mod batch;
mod body;
mod changes;
mod definition;
mod etag;
mod events;
mod policies;
mod query;
mod rest;
mod schedule;
mod values;

use crate::actions::Connectors;
use crate::engine::{EngineHandle, Feed};
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use error::ApiError;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// The longest page of a listing, and the largest batch.
pub const PAGE_MAX: usize = 1_000;
/// The length of a page when none is asked for.
pub const PAGE_DEFAULT: usize = 100;

/// What every handler needs.
#[derive(Clone)]
pub struct App {
    /// Where commands go.
    pub engine: EngineHandle,
    /// Where events come from.
    pub feed: Feed,
    /// What checks the actions of a new timer.
    pub connectors: Connectors,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// Ends the streams, which would otherwise hold up a shutdown.
    pub shutdown: CancellationToken,
}

/// The whole API as one router.
pub async fn router(app: App) -> Router {
    let grpc = grpc::router(app.clone()).await;
    rest::routes()
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app)
        .merge(Router::new().fallback(not_rest).with_state(grpc))
}

/// gRPC has paths that no REST route has, and a media type of its own.
async fn not_rest(State(grpc): State<Router>, request: Request) -> Response {
    let content_type = request.headers().get(CONTENT_TYPE).map_or(&b""[..], |v| v.as_bytes());
    if content_type.starts_with(b"application/grpc") {
        return match grpc.oneshot(request).await {
            Ok(response) => response,
            Err(never) => match never {},
        };
    }
    let detail = format!("there is nothing at {}: the API is under /v1/timers", request.uri().path());
    ApiError::new(&error::ROUTE_NOT_FOUND, detail).into_response()
}

async fn method_not_allowed(request: Request) -> ApiError {
    let detail = format!(
        "{} does not know {}: the Allow header lists what it knows",
        request.uri().path(),
        request.method()
    );
    ApiError::new(&error::METHOD_NOT_ALLOWED, detail)
}
