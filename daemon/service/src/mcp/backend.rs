//! Where the tools find the service: in this process, or at an address. Both are asked in the words of its REST API, so
//! that one implementation of the tools serves both, and policies and quotas hold as they do there.

use super::who::Who;
use crate::access::Caller;
use crate::access::authenticate::TENANT;
use axum::Router;
use axum::body::{Body, BodyDataStream};
use axum::http::{HeaderValue, Method, Request, header};
use futures::StreamExt;
use http_body_util::BodyExt;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tower::ServiceExt;

/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);
/// A stream that says nothing for so long, not even where it is, has lost its connection.
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How much of an event that has not ended is kept.
const PENDING_MAX_BYTES: usize = 1 << 20;

/// What was not done: the problem document of the API (`code`, `title`, `detail`).
pub(super) type Refused = Value;

/// A refusal of our own.
pub(super) fn refused(code: &str, detail: impl Into<String>) -> Refused {
    json!({"code": code, "title": "the tool could not do it", "detail": detail.into()})
}

/// The service.
#[derive(Clone)]
pub(super) enum Backend {
    /// In this process. The caller is the one of each request.
    Inside(Router),
    /// At an address, for the holder of one key.
    Remote(Arc<Remote>),
}

/// A service at an address.
pub(super) struct Remote {
    client: reqwest::Client,
    base: String,
    key: Option<String>,
    tenant: Option<HeaderValue>,
}

impl Remote {
    /// The service at an address (`http://host:port`).
    pub(super) fn new(base: &str, key: Option<String>, tenant: Option<&str>) -> Result<Self, String> {
        let tenant = tenant
            .map(|name| HeaderValue::from_str(name).map_err(|_| format!("{name:?} is no name of a tenant")))
            .transpose()?;
        let base = base.trim_end_matches('/').trim_end_matches("/v1").to_string();
        if !base.starts_with("http://") && !base.starts_with("https://") {
            return Err(format!("the address {base:?} is no URL: write it as http://127.0.0.1:7878"));
        }
        let mut roots = rustls::RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let tls =
            rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
                .with_safe_default_protocol_versions()
                .map_err(|e| format!("cannot set up TLS: {e}"))?
                .with_root_certificates(roots)
                .with_no_client_auth();
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(tls)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| format!("cannot set up the HTTP client: {e}"))?;
        Ok(Self { client, base, key, tenant })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<reqwest::Response, Refused> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(key) = &self.key {
            request = request.header("x-api-key", key);
        }
        if let Some(tenant) = &self.tenant {
            request = request.header(TENANT, tenant);
        }
        if let Some(body) = body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.to_string());
        }
        match tokio::time::timeout(ANSWER_TIMEOUT, request.send()).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(e)) => Err(self.unreachable(&e.to_string())),
            Err(_) => Err(self.unreachable(&format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()))),
        }
    }

    fn unreachable(&self, why: &str) -> Refused {
        let detail = format!(
            "the service at {} was not reached ({why}): start it with `minoots serve`, or name another with --url or \
             MINOOTS_URL",
            self.base
        );
        refused("service_unreachable", detail)
    }
}

impl Backend {
    /// Asks, and gives the answer's JSON or the problem.
    pub(super) async fn ask(
        &self,
        who: &Who,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Result<Value, Refused> {
        let (is_good, bytes) = match self {
            Self::Inside(router) => {
                let response = inside(router, who.caller(), method, path, body).await;
                let is_good = response.status().is_success();
                let bytes = response.into_body().collect().await.map(|b| b.to_bytes().to_vec());
                (is_good, bytes.map_err(|e| refused("internal", e.to_string()))?)
            }
            Self::Remote(remote) => {
                let response = remote.send(method, path, body.as_ref()).await?;
                let is_good = response.status().is_success();
                let bytes = tokio::time::timeout(ANSWER_TIMEOUT, response.bytes()).await;
                let bytes = bytes.map_err(|_| remote.unreachable("its answer did not end"))?;
                (is_good, bytes.map_err(|e| remote.unreachable(&e.to_string()))?.to_vec())
            }
        };
        let answer: Value = if bytes.is_empty() {
            json!({})
        } else {
            serde_json::from_slice(&bytes).map_err(|e| {
                refused(
                    "service_unreachable",
                    format!("the answer is no JSON ({e}): is this a timer service?"),
                )
            })?
        };
        if is_good { Ok(answer) } else { Err(answer) }
    }

    /// What happens to these timers, after a place or from now on. Nothing that happens after this has returned is
    /// missed.
    pub(super) async fn events(
        &self,
        who: &Who,
        ids: &[String],
        after: Option<&str>,
    ) -> Result<Events, Refused> {
        let path = {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.append_pair("timer", &ids.join(","));
            if let Some(after) = after {
                query.append_pair("after", after);
            }
            format!("/v1/events?{}", query.finish())
        };
        let problem = |bytes: &[u8]| {
            serde_json::from_slice(bytes)
                .unwrap_or_else(|_| refused("events_refused", "the events were not to be had"))
        };
        let source = match self {
            Self::Inside(router) => {
                let response = inside(router, who.caller(), Method::GET, &path, None).await;
                if !response.status().is_success() {
                    let bytes = response.into_body().collect().await.map(|b| b.to_bytes());
                    return Err(problem(&bytes.unwrap_or_default()));
                }
                Source::Inside(response.into_body().into_data_stream())
            }
            Self::Remote(remote) => {
                let response = remote.send(Method::GET, &path, None).await?;
                if !response.status().is_success() {
                    let bytes = tokio::time::timeout(ANSWER_TIMEOUT, response.bytes()).await;
                    let bytes = bytes.ok().and_then(Result::ok).unwrap_or_default();
                    return Err(problem(&bytes));
                }
                Source::Remote(response)
            }
        };
        Ok(Events { source, pending: Vec::new() })
    }
}

async fn inside(
    router: &Router,
    caller: Option<&Caller>,
    method: Method,
    path: &str,
    body: Option<Value>,
) -> axum::response::Response {
    let text = body.map_or_else(String::new, |b| b.to_string());
    let mut request = Request::new(Body::from(text));
    *request.method_mut() = method;
    match path.parse() {
        Ok(uri) => *request.uri_mut() = uri,
        Err(_) => *request.uri_mut() = axum::http::Uri::from_static("/v1/timers/not-an-id"),
    }
    request
        .headers_mut()
        .insert(header::CONTENT_TYPE, axum::http::HeaderValue::from_static("application/json"));
    if let Some(caller) = caller {
        request.extensions_mut().insert(caller.clone());
    }
    match router.clone().oneshot(request).await {
        Ok(response) => response,
        Err(never) => match never {},
    }
}

enum Source {
    Inside(BodyDataStream),
    Remote(reqwest::Response),
}

/// Events as they come.
pub(super) struct Events {
    source: Source,
    pending: Vec<u8>,
}

/// One message of a stream of events.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Message {
    /// The place after it.
    pub(super) cursor: Option<String>,
    /// The timer that something happened to.
    pub(super) timer: Option<String>,
    /// The last one.
    pub(super) is_end: bool,
}

impl Events {
    /// The next message; `None` when the stream has ended. What was read is kept when the caller gives up waiting.
    pub(super) async fn next(&mut self) -> Option<Message> {
        loop {
            if let Some(end) = self.pending.windows(2).position(|w| w == b"\n\n") {
                let event: Vec<u8> = self.pending.drain(..end + 2).collect();
                return Some(message(&String::from_utf8_lossy(&event)));
            }
            let chunk = match &mut self.source {
                Source::Inside(stream) => stream.next().await?.ok()?,
                Source::Remote(response) => {
                    tokio::time::timeout(SILENCE_MAX, response.chunk()).await.ok()?.ok()??
                }
            };
            self.pending.extend_from_slice(&chunk);
            if self.pending.len() > PENDING_MAX_BYTES {
                return None;
            }
        }
    }
}

/// What a server-sent event says.
fn message(text: &str) -> Message {
    let mut message = Message::default();
    for line in text.lines() {
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "id" => message.cursor = Some(value.to_string()),
            "event" => message.is_end = value == "end",
            "data" => {
                let data: Value = serde_json::from_str(value).unwrap_or_default();
                message.timer = data["timer_id"].as_str().map(str::to_string);
            }
            _ => {}
        }
    }
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_sent_event_names_its_place_and_its_timer() {
        fn check(text: &str, cursor: Option<&str>, timer: Option<&str>, is_end: bool) {
            let (cursor, timer) = (cursor.map(str::to_string), timer.map(str::to_string));
            assert_eq!(message(text), Message { cursor, timer, is_end }, "{text:?}");
        }
        check(":place\nid: 4\n\n", Some("4"), None, false);
        check("id:7\nevent:timer.fired\ndata:{\"timer_id\":\"a\"}\n\n", Some("7"), Some("a"), false);
        check("event: lag\ndata: {\"behind\":3}\n\n", None, None, false);
        check("id: 9\nevent: end\ndata: {}\n\n", Some("9"), None, true);
        check("data: {broken\n\n", None, None, false);
        check("\n\n", None, None, false);
    }
}
