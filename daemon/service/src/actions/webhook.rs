//! The connector `webhook`: one HTTP request for each attempt.
//!
//! The address is not filtered: a timer can make this service call any host that this machine reaches, the machine
//! itself included. So the service listens on loopback only, unless it is told otherwise.

use super::{Attempt, Connector, Outcome};
use crate::render;
use crate::render::sdk::{TimerExpired, timer_expired};
use crate::secrets::{Secrets, has_secret};
use crate::signing::Signing;
use chronotick::os_clock::realtime;
use futures::future::BoxFuture;
use minoots_kernel::TenantId;
use reqwest::header::{CONTENT_TYPE, DATE, HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use reqwest::{Client, Method, Response, StatusCode, Url};
use serde::Deserialize;
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::error::Error;
use std::sync::Arc;
use std::time::Duration;

const TIMEOUT_DEFAULT_MS: u64 = 10_000;
const TIMEOUT_MAX_MS: u64 = 300_000;
/// How much of an answer is read, so that its connection can be used again.
const ANSWER_READ_MAX_BYTES: usize = 64 * 1024;
/// How much of an answer goes into the log.
const ANSWER_SHOWN_MAX_BYTES: usize = 200;

/// Sends webhooks over one pool of connections.
pub struct Webhook {
    client: Client,
    signing: Arc<Signing>,
    secrets: Arc<Secrets>,
}

/// The parameters of a webhook action.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters<'a> {
    url: String,
    method: Option<String>,
    #[serde(default)]
    headers: BTreeMap<String, String>,
    #[serde(borrow)]
    body: Option<&'a RawValue>,
    timeout_ms: Option<u64>,
    /// The body is the one of the SDK's webhooks, with this in it.
    #[serde(borrow)]
    timer_expired: Option<TimerExpired<'a>>,
}

/// A request that can be sent.
#[derive(Debug)]
struct Target<'a> {
    url: Url,
    method: Method,
    headers: HeaderMap,
    body: Option<&'a RawValue>,
    timer_expired: Option<TimerExpired<'a>>,
    timeout: Duration,
}

impl Webhook {
    /// With the system's root certificates. An error when the TLS library cannot be set up.
    pub fn new(signing: Arc<Signing>, secrets: Arc<Secrets>) -> Result<Self, String> {
        Ok(Self { client: http_client()?, signing, secrets })
    }

    async fn send(&self, attempt: Attempt<'_>) -> Outcome {
        let target = match Target::parse(&attempt.action.parameters_json) {
            Ok(target) => target,
            Err(why) => return Outcome::Failed(why),
        };
        let mut headers = target.headers;
        let uses_secrets = has_secret(&attempt.action.parameters_json);
        if let Err(why) = self.fill(&attempt.order.timer.definition.tenant, &mut headers) {
            return Outcome::Failed(why);
        }
        match own_headers(&attempt) {
            Ok(own) => headers.extend(own),
            Err(why) => return Outcome::Failed(why),
        }
        let mut request = self.client.request(target.method.clone(), target.url).timeout(target.timeout);
        let body = match target.body {
            Some(body) => Some(body.get().to_string()),
            None if target.timer_expired.is_some() => {
                target.timer_expired.as_ref().map(|say| timer_expired(attempt.order, say))
            }
            None if matches!(target.method, Method::GET | Method::DELETE) => None,
            None => Some(render::fired_webhook(attempt.order)),
        };
        if let Err(why) = self.sign(&attempt, body.as_deref().unwrap_or_default(), &mut headers) {
            return Outcome::Failed(why);
        }
        if let Some(body) = body {
            headers.entry(CONTENT_TYPE).or_insert(HeaderValue::from_static("application/json"));
            request = request.body(body);
        }
        match request.headers(headers).send().await {
            Ok(response) => judge(response, uses_secrets).await,
            Err(e) if e.is_builder() => Outcome::Failed(chain(&e.without_url())),
            Err(e) if e.is_timeout() => Outcome::Retry {
                detail: format!("no answer within {} ms", target.timeout.as_millis()),
                wait: None,
            },
            // Without the address, which is in the definition and may hold a secret.
            Err(e) => Outcome::Retry { detail: chain(&e.without_url()), wait: None },
        }
    }
}

/// A client over the system's root certificates that follows no redirect and asks no proxy. An error when the TLS
/// library cannot be set up.
pub fn http_client() -> Result<Client, String> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = rustls::RootCertStore::empty();
    let (added, _) = roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if added == 0 {
        tracing::warn!("no root certificates found on this machine: calls to https addresses will fail");
    }
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|e| format!("cannot set up TLS: {e}"))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Client::builder()
        .tls_backend_preconfigured(tls)
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("minoots/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|e| format!("cannot set up the HTTP client: {}", chain(&e)))
}

impl Webhook {
    /// Puts the secrets into the headers, at this place only.
    fn fill(&self, tenant: &TenantId, headers: &mut HeaderMap) -> Result<(), String> {
        for (name, value) in headers.iter_mut() {
            let Some(text) = value.to_str().ok().filter(|text| text.contains("${secret:")) else { continue };
            let filled = self.secrets.fill(tenant, text).map_err(|e| format!("header {name}: {e}"))?;
            let mut filled = HeaderValue::from_str(&filled)
                .map_err(|_| format!("header {name}: the secret cannot go into a header"))?;
            filled.set_sensitive(true);
            *value = filled;
        }
        Ok(())
    }

    /// The signature in the form of Standard Webhooks.
    fn sign(&self, attempt: &Attempt<'_>, body: &str, headers: &mut HeaderMap) -> Result<(), String> {
        let id = attempt.idempotency_key();
        let timestamp_s = realtime().as_ns().div_euclid(1_000_000_000);
        let signature = self.signing.sign_webhook(&id, timestamp_s, body.as_bytes());
        let pairs = [
            ("webhook-id", id),
            ("webhook-timestamp", timestamp_s.to_string()),
            ("webhook-signature", signature),
        ];
        for (name, value) in pairs {
            let value = HeaderValue::try_from(value.as_str())
                .map_err(|_| format!("{name} would be {value:?}, which no header can carry"))?;
            headers.insert(HeaderName::from_static(name), value);
        }
        Ok(())
    }
}

impl Connector for Webhook {
    fn kind(&self) -> &'static str {
        "webhook"
    }

    fn validate(&self, parameters_json: &str) -> Result<(), String> {
        Target::parse(parameters_json).map(|_| ())
    }

    fn attempt<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Outcome> {
        Box::pin(self.send(attempt))
    }
}

impl<'a> Target<'a> {
    fn parse(parameters_json: &'a str) -> Result<Self, String> {
        let p: Parameters<'a> = serde_json::from_str(parameters_json).map_err(|e| render::json_error(&e))?;
        let url = Url::parse(&p.url)
            .map_err(|e| format!("url {:?} cannot be used ({e}): write it as https://host/path", p.url))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(format!("url has the scheme {:?}: use http or https", url.scheme()));
        }
        let method = match p.method.as_deref() {
            None | Some("POST") => Method::POST,
            Some("GET") => Method::GET,
            Some("PUT") => Method::PUT,
            Some("PATCH") => Method::PATCH,
            Some("DELETE") => Method::DELETE,
            Some(other) => {
                return Err(format!("method {other:?} is not known: use POST, PUT, PATCH, GET or DELETE"));
            }
        };
        let timeout_ms = p.timeout_ms.unwrap_or(TIMEOUT_DEFAULT_MS);
        if !(1..=TIMEOUT_MAX_MS).contains(&timeout_ms) {
            return Err(format!("timeout_ms is {timeout_ms}: give it a value from 1 to {TIMEOUT_MAX_MS}"));
        }
        Ok(Self {
            url,
            method,
            headers: user_headers(&p.headers)?,
            body: p.body,
            timer_expired: p.timer_expired,
            timeout: Duration::from_millis(timeout_ms),
        })
    }
}

fn user_headers(given: &BTreeMap<String, String>) -> Result<HeaderMap, String> {
    // These frame the message; a wrong one would break it or smuggle another.
    const FRAMING: [&str; 9] = [
        "webhook-id",
        "webhook-timestamp",
        "webhook-signature",
        "host",
        "content-length",
        "transfer-encoding",
        "connection",
        "upgrade",
        "idempotency-key",
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in given {
        let parsed = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| format!("header name {name:?} cannot be used: use letters, digits and hyphens"))?;
        if FRAMING.contains(&parsed.as_str()) || parsed.as_str().starts_with("x-minoots-") {
            return Err(format!("header {name:?} is set by the service: leave it out"));
        }
        let value = HeaderValue::from_str(value).map_err(|_| {
            format!("the value of header {name:?} cannot be used: use visible ASCII characters")
        })?;
        headers.insert(parsed, value);
    }
    Ok(headers)
}

/// What every delivery carries, whatever the user set.
fn own_headers(attempt: &Attempt<'_>) -> Result<HeaderMap, String> {
    let timer = &attempt.order.timer;
    let pairs = [
        ("idempotency-key", attempt.idempotency_key()),
        ("x-minoots-timer-id", timer.id.to_string()),
        ("x-minoots-tenant-id", timer.definition.tenant.to_string()),
        ("x-minoots-firing-id", attempt.order.firing.to_string()),
        ("x-minoots-attempt", attempt.number.to_string()),
    ];
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        let value = HeaderValue::try_from(value.as_str())
            .map_err(|_| format!("{name} would be {value:?}, which no header can carry"))?;
        headers.insert(HeaderName::from_static(name), value);
    }
    Ok(headers)
}

async fn judge(mut response: Response, uses_secrets: bool) -> Outcome {
    let status = response.status();
    let wait = retry_after(response.headers());
    let mut read = 0;
    let mut start = Vec::new();
    // The status has decided already: an answer that breaks off changes nothing.
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = ANSWER_SHOWN_MAX_BYTES.saturating_sub(start.len());
        start.extend_from_slice(&chunk[..room.min(chunk.len())]);
        read += chunk.len();
        if read > ANSWER_READ_MAX_BYTES {
            break;
        }
    }
    if status.is_success() {
        return Outcome::Done(status.to_string());
    }
    // A receiver may repeat what it was sent; what is not told cannot leak.
    let start = if uses_secrets { &[][..] } else { &start };
    let shown = String::from_utf8_lossy(start);
    let detail = match shown.trim() {
        "" => status.to_string(),
        text => format!("{status}: {text}"),
    };
    match status {
        StatusCode::REQUEST_TIMEOUT | StatusCode::TOO_MANY_REQUESTS => Outcome::Retry { detail, wait },
        s if s.is_server_error() => Outcome::Retry { detail, wait },
        s if s.is_redirection() => {
            Outcome::Failed(format!("{detail} (redirects are not followed: give the final url)"))
        }
        _ => Outcome::Failed(detail),
    }
}

/// Reads Retry-After. A date is taken against the answer's own Date, so that no clock of ours comes into it.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(secs) = text.parse::<u64>() {
        return Some(Duration::from_secs(secs));
    }
    let until = jiff::fmt::rfc2822::parse(text).ok()?;
    let date = jiff::fmt::rfc2822::parse(headers.get(DATE)?.to_str().ok()?).ok()?;
    Duration::try_from(until.timestamp().duration_since(date.timestamp())).ok()
}

/// An error with its causes, which is where reqwest keeps what happened.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(e) = cause {
        text.push_str(": ");
        text.push_str(&e.to_string());
        cause = e.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_checked_one_by_one() {
        /// `want` is part of the error, or empty for parameters that are accepted.
        fn check(parameters: &str, want: &str) {
            match Target::parse(parameters) {
                Ok(_) => assert_eq!(want, "", "accepted {parameters}"),
                Err(e) => assert!(!want.is_empty() && e.contains(want), "{parameters}: {e}, not {want:?}"),
            }
        }
        check(r#"{"url":"http://h/p"}"#, "");
        check(r#"{"url":"https://h","method":"PUT","headers":{"a":"b"},"body":[1.50],"timeout_ms":5}"#, "");
        check("{}", "missing field `url`");
        check("[]", "invalid");
        check(r#"{"url":"http://h","colour":1}"#, "unknown field `colour`");
        check(r#"{"url":"h/p"}"#, "https://host/path");
        check(r#"{"url":"http://"}"#, "https://host/path");
        check(r#"{"url":"ftp://h/p"}"#, "use http or https");
        check(r#"{"url":"file:///etc/passwd"}"#, "use http or https");
        check(r#"{"url":"http://h","method":"BREW"}"#, "use POST");
        check(r#"{"url":"http://h","timeout_ms":0}"#, "from 1 to 300000");
        check(r#"{"url":"http://h","timeout_ms":300001}"#, "from 1 to 300000");
        check(r#"{"url":"http://h","headers":{"a b":"c"}}"#, "header name");
        check(r#"{"url":"http://h","headers":{"a":"b\nc"}}"#, "value of header \"a\"");
        check(r#"{"url":"http://h","headers":{"Host":"x"}}"#, "set by the service");
        check(r#"{"url":"http://h","headers":{"Idempotency-Key":"x"}}"#, "set by the service");
        check(r#"{"url":"http://h","headers":{"X-Minoots-Attempt":"1"}}"#, "set by the service");
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        fn check(pairs: &[(HeaderName, &'static str)], want_secs: Option<u64>) {
            let headers: HeaderMap =
                pairs.iter().map(|(n, v)| (n.clone(), HeaderValue::from_static(v))).collect();
            assert_eq!(retry_after(&headers), want_secs.map(Duration::from_secs), "{pairs:?}");
        }
        let date = (DATE, "Sun, 06 Nov 1994 08:49:37 GMT");
        check(&[], None);
        check(&[(RETRY_AFTER, "120")], Some(120));
        check(&[(RETRY_AFTER, "soon")], None);
        check(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:47 GMT"), date.clone()], Some(10));
        check(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:27 GMT"), date], None);
        check(&[(RETRY_AFTER, "Sun, 06 Nov 1994 08:49:47 GMT")], None);
    }
}
