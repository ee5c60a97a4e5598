//! `/mcp`: the tools over streamable HTTP, in the service itself, for the caller of each request.

use super::backend::Backend;
use super::server::Server;
use super::sessions::{Limits, OpenStream, Sessions};
use crate::access::{Caller, Gate, Verb};
use crate::api::App;
use crate::api::error::{ApiError, NOT_FOUND};
use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::extract::{Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::StreamExt;
use rmcp::transport::{StreamableHttpServerConfig, StreamableHttpService};
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::Instant;

/// Where the metadata of RFC 9728 is.
const METADATA_PATH: &str = "/.well-known/oauth-protected-resource";
/// The header that names a session.
const SESSION: &str = "mcp-session-id";
/// The largest request.
const BODY_MAX_BYTES: usize = 1 << 20;
/// How often idle sessions are looked for.
const SWEEP_EVERY: Duration = Duration::from_secs(30);
/// How often a silent stream asks whether its caller may still come in; one that speaks asks each time.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// What the layer around the transport needs.
#[derive(Clone)]
struct Door {
    gate: Arc<Gate>,
    sessions: Arc<Sessions>,
}

/// `/mcp` and the metadata of the protected resource. `rest` answers the tools.
pub(crate) fn routes(app: &App, rest: Router) -> Router {
    // Hosts and origins were looked at when the caller was named, as for every other path.
    let config = StreamableHttpServerConfig::default()
        .disable_allowed_hosts()
        .disable_allowed_origins()
        .with_max_request_body_bytes(BODY_MAX_BYTES)
        .with_cancellation_token(app.shutdown.clone());
    let door = Door { gate: app.gate.clone(), sessions: Sessions::new(Limits::default()) };
    // One for each session, so that its subscriptions end with it.
    let server = move || Ok(Server::new(Backend::Inside(rest.clone())));
    let mcp = StreamableHttpService::new(server, door.sessions.manager.clone(), config);
    let (sessions, shutdown) = (door.sessions.clone(), app.shutdown.clone());
    tokio::spawn(async move {
        while tokio::time::timeout(SWEEP_EVERY, shutdown.cancelled()).await.is_err() {
            sessions.sweep(Instant::now()).await;
        }
    });
    Router::new()
        .route_service("/mcp", mcp)
        .layer(middleware::from_fn_with_state(door, enter))
        .route(METADATA_PATH, get(metadata))
        .route("/.well-known/oauth-protected-resource/mcp", get(metadata))
        .with_state(app.gate.clone())
}

fn session_of(headers: &HeaderMap) -> Option<String> {
    headers.get(SESSION).map(|id| id.to_str().unwrap_or_default().to_string())
}

/// Serves nobody whom the service does not know, and nobody in the session of another.
async fn enter(State(door): State<Door>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let Some(caller) = parts.extensions.get::<Caller>().cloned() else {
        return challenge(&door.gate, crate::access::unauthenticated().into_response(), &parts);
    };
    let named = session_of(&parts.headers);
    if let Some(id) = &named {
        if !door.sessions.is_of(id, &caller, Instant::now()) {
            let detail = "there is no such session: it has ended, or never was; initialize again";
            return ApiError::new(&NOT_FOUND, detail).into_response();
        }
        if parts.method == Method::DELETE {
            door.sessions.end(id).await;
            return StatusCode::NO_CONTENT.into_response();
        }
    }
    let response = next.run(Request::from_parts(parts.clone(), body)).await;
    let id = match (named, session_of(response.headers())) {
        (None, Some(opened)) => {
            door.sessions.opened(&opened, &caller, Instant::now()).await;
            Some(opened)
        }
        (named, _) => named,
    };
    let content = response.headers().get(header::CONTENT_TYPE);
    if !content.is_some_and(|v| v.as_bytes().starts_with(b"text/event-stream")) {
        return response;
    }
    let (head, body) = response.into_parts();
    let guarded = Guarded {
        body: body.into_data_stream(),
        stream: id.map(|id| door.sessions.stream(&id)),
        gate: door.gate,
        caller,
        parts,
    };
    let frames = futures::stream::unfold(guarded, async |mut guarded| Some((guarded.next().await?, guarded)));
    Response::from_parts(head, Body::from_stream(frames))
}

/// A stream of answers that ends when its caller may no longer come in, or no longer with the same rights.
struct Guarded {
    body: BodyDataStream,
    stream: Option<OpenStream>,
    gate: Arc<Gate>,
    caller: Caller,
    /// The head of the request, with its credential.
    parts: Parts,
}

impl Guarded {
    async fn next(&mut self) -> Option<Result<axum::body::Bytes, axum::Error>> {
        loop {
            let frame = tokio::time::timeout(ASK_EVERY, self.body.next()).await;
            if let Ok(None) = frame {
                return None;
            }
            let now = self.gate.authenticate(&self.parts).await;
            if !now.is_ok_and(|now| now.is_same(&self.caller)) {
                if let Some(stream) = &self.stream {
                    stream.end_session().await;
                }
                return None;
            }
            if let Ok(frame) = frame {
                return frame;
            }
        }
    }
}

/// Tells an MCP client where it learns how to get a token.
pub(crate) fn challenge(gate: &Gate, mut response: Response, asked: &Parts) -> Response {
    if response.status() == StatusCode::UNAUTHORIZED && asked.uri.path() == "/mcp" {
        let value = format!("Bearer resource_metadata=\"{}{METADATA_PATH}/mcp\"", origin(gate, asked));
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, value);
        }
    }
    response
}

/// The service as this client reached it.
pub(crate) fn origin(gate: &Gate, asked: &Parts) -> String {
    let header = |name: &str| asked.headers.get(name).and_then(|h| h.to_str().ok());
    let is_host = |h: &&str| h.bytes().all(|b| b.is_ascii_alphanumeric() || b".-:[]_".contains(&b));
    let host = asked.uri.authority().map(|a| a.as_str()).or_else(|| header("host"));
    // Whoever forges the word of a proxy misleads nobody but itself.
    let said = [asked.uri.scheme_str(), header("x-forwarded-proto")];
    let is_tls = gate.authenticator.has_tls() || said.contains(&Some("https"));
    let scheme = if is_tls { "https" } else { "http" };
    format!("{scheme}://{}", host.filter(is_host).unwrap_or("localhost"))
}

/// What RFC 9728 has a client know of the service. What has no elements is left out.
async fn metadata(State(gate): State<Arc<Gate>>, request: Request) -> Response {
    let (parts, _) = request.into_parts();
    let mut document = json!({
        "resource": format!("{}/mcp", origin(&gate, &parts)),
        "resource_name": "minoots timers",
        "bearer_methods_supported": ["header"],
    });
    let issuers: Vec<_> = gate.authenticator.issuers().collect();
    if !issuers.is_empty() {
        document["authorization_servers"] = json!(issuers);
        document["scopes_supported"] = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
    }
    ([(header::CONTENT_TYPE, "application/json")], document.to_string()).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_is_told_the_address_by_which_it_came() {
        fn check(uri: &str, headers: &[(&str, &str)], want: &str) {
            let mut request = Request::builder().uri(uri);
            for (name, value) in headers {
                request = request.header(*name, *value);
            }
            let parts = request.body(()).unwrap().into_parts().0;
            assert_eq!(origin(&Gate::default(), &parts), want, "{uri} {headers:?}");
        }
        check("/mcp", &[("host", "127.0.0.1:7878")], "http://127.0.0.1:7878");
        check("/mcp", &[("host", "[::1]:1")], "http://[::1]:1");
        check("https://timers.example/mcp", &[], "https://timers.example");
        let https = ("x-forwarded-proto", "https");
        check("/mcp", &[("host", "timers.example"), https], "https://timers.example");
        check("/mcp", &[("host", "a\"b")], "http://localhost");
        check("/mcp", &[], "http://localhost");
    }
}
