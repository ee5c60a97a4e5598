//! The public API: REST, server-sent events and gRPC on one port.

pub mod error;
mod feed;
pub mod grpc;
pub mod openapi;

mod admin;
mod batch;
mod body;
mod changes;
mod definition;
mod dialects;
mod etag;
mod events;
pub(crate) mod operations;
mod policies;
mod query;
mod rest;
mod schedule;
mod socket;
mod trust;
mod values;
mod watch;

use crate::access::standing::Standing;
use crate::access::{Gate, Peer};
use crate::actions::{Connectors, FireLanes};
use crate::audit::Audit;
use crate::engine::{EngineHandle, Feed};
use crate::schemas::Schemas;
use crate::secrets::Secrets;
use crate::signing::Signing;
use crate::store::ControlStore;
use crate::telemetry::Metrics;
use axum::Router;
use axum::extract::{Request, State};
use axum::http::Method;
use axum::http::header::{CONTENT_TYPE, HeaderMap};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use chronotick::os_clock::boottime;
use error::ApiError;
use std::sync::Arc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
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
    /// What the control plane keeps.
    pub control: Arc<dyn ControlStore>,
    /// Who comes in, and what they may do.
    pub gate: Arc<Gate>,
    /// Where commands are written down.
    pub audit: Arc<Audit>,
    /// The service's signing keys.
    pub signing: Arc<Signing>,
    /// Event and payload schemas.
    pub schemas: Arc<Schemas>,
    /// Sealed credentials.
    pub secrets: Arc<Secrets>,
    /// What is counted.
    pub metrics: Arc<Metrics>,
    /// The fires that wait for their turn.
    pub lanes: FireLanes,
    /// Ends the streams, which would otherwise hold up a shutdown.
    pub shutdown: CancellationToken,
    /// Tasks that outlive their request: sockets. A shutdown waits for them.
    pub streams: TaskTracker,
}

/// The whole API as one router.
pub async fn router(app: App) -> Router {
    let grpc = grpc::router(app.clone()).await;
    let rest = rest::routes().with_state(app.clone());
    let mcp = crate::mcp::http::routes(&app, rest);
    rest::routes()
        .merge(trust::routes())
        .merge(dialects::routes())
        .method_not_allowed_fallback(method_not_allowed)
        .with_state(app.clone())
        .merge(mcp)
        .merge(Router::new().fallback(not_rest).with_state(grpc))
        .layer(middleware::from_fn_with_state(app, authenticate))
}

/// Puts the caller into the request's extensions. Where nobody is named, the handlers that need a caller refuse.
async fn authenticate(State(app): State<App>, request: Request, next: Next) -> Response {
    let (mut parts, body) = request.into_parts();
    let is_question = matches!(parts.method, Method::GET | Method::HEAD | Method::OPTIONS);
    // A session's commands on timers have waited for their lines already (operations.rs) unless they were refused, and gRPC
    // has no others.
    let has_waited = parts.uri.path().starts_with("/v1/timers") || is_grpc(&parts.headers);
    let audit = app.audit.clone();
    match app.gate.authenticate(&parts).await {
        Ok(mut caller) => {
            caller.standing = is_stream(parts.uri.path()).then(|| Standing::of(&parts));
            parts.extensions.insert(caller);
        }
        // Health needs no caller, and a wrong credential is worth an answer everywhere else.
        Err(refused) if !is_open(parts.uri.path()) => {
            let from = parts.extensions.get::<Peer>().map(|peer| peer.addr.ip());
            let told = app.gate.authenticator.refusals().note(from, refused.code.code, boottime());
            told.iter().for_each(|summary| audit.note_refused(summary));
            return if is_grpc(&parts.headers) {
                tonic::Status::from(refused).into_http()
            } else {
                let refused = dialects::refusal(&parts, refused).into_response();
                crate::mcp::http::challenge(&app.gate, refused, &parts)
            };
        }
        Err(_) => {}
    }
    let answer = next.run(Request::from_parts(parts, body)).await;
    let is_refused = answer.status().is_client_error() || answer.headers().contains_key("grpc-status");
    if !is_question && (!has_waited || is_refused) {
        // Nothing is answered whose line a crash of the process could still lose.
        audit.written().await;
    }
    answer
}

/// Paths whose answers may outlive the caller's credential.
fn is_stream(path: &str) -> bool {
    path.starts_with("/v1/events") || path.ends_with("/WatchEvents") || path.ends_with("/StreamTimerEvents")
}

/// Paths that answer anybody.
fn is_open(path: &str) -> bool {
    matches!(path, "/health" | "/healthz" | "/readyz" | "/openapi.json")
        || path.starts_with("/.well-known/")
        || path.starts_with("/grpc.health.v1.Health/")
}

fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(CONTENT_TYPE).is_some_and(|v| v.as_bytes().starts_with(b"application/grpc"))
}

/// gRPC has paths that no REST route has, and a media type of its own.
async fn not_rest(State(grpc): State<Router>, request: Request) -> Response {
    if is_grpc(request.headers()) {
        return match grpc.oneshot(request).await {
            Ok(response) => grpc::blame_the_request(response),
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
