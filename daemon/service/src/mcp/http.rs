//! `/mcp`: the tools over streamable HTTP, in the service itself, for the caller of each request.

use super::backend::Backend;
use super::server::Server;
use crate::api::App;
use axum::Router;
use axum::extract::Request;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use rmcp::transport::streamable_http_server::session::local::LocalSessionManager;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use std::sync::Arc;

/// Where the metadata of RFC 9728 is.
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";

/// `/mcp` and the metadata of the protected resource. `rest` answers the tools.
pub(crate) fn routes(app: &App, rest: Router) -> Router {
    let config = StreamableHttpServerConfig::default()
        .enforce_origin_validation()
        .with_cancellation_token(app.shutdown.clone());
    let backend = Backend::Inside(rest);
    let server = Server::new(backend);
    let mcp = StreamableHttpService::new(
        move || Ok(server.clone()),
        Arc::new(LocalSessionManager::default()),
        config,
    );
    Router::new()
        .route_service("/mcp", mcp)
        .layer(middleware::from_fn(named))
        .route(METADATA_PATH, get(metadata))
        .route("/.well-known/oauth-protected-resource/mcp", get(metadata))
}

/// Nobody is served whom the service does not know.
async fn named(request: Request, next: Next) -> Response {
    if request.extensions().get::<crate::access::Caller>().is_some() {
        return next.run(request).await;
    }
    let (parts, _) = request.into_parts();
    challenge(crate::access::unauthenticated().into_response(), &parts)
}

/// Tells an MCP client where it learns how to get a token.
pub(crate) fn challenge(mut response: Response, asked: &Parts) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED && asked.uri.path() == "/mcp" {
        let value = format!("Bearer resource_metadata=\"{}{METADATA_PATH}/mcp\"", origin(asked));
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}

/// The service as this client reached it.
fn origin(asked: &Parts) -> String {
    let host = asked.headers.get(header::HOST).and_then(|h| h.to_str().ok());
    let is_host = |h: &&str| h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]".contains(&b));
    let scheme = asked.uri.scheme_str().unwrap_or("http");
    format!("{scheme}://{}", host.filter(is_host).unwrap_or("localhost"))
}

async fn metadata(request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let document = serde_json::json!({
        "resource": format!("{}/mcp", origin(&parts)),
        "resource_name": "minoots timers",
        "authorization_servers": [],
        "bearer_methods_supported": ["header"],
    });
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}
