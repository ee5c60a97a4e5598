//! The REST interfaces of the two older systems, beside the native API: A is the SDK's, B the control plane's. A request
//! with `tenantId` in its body, its query or the header `x-tenant-id` speaks B, any other one A.

mod a;
mod account;
mod b;
pub(crate) mod common;

use super::App;
use super::body::{self, BODY_MAX_BYTES};
use super::error::{ApiError, INVALID_FIELD, QUOTA_EXCEEDED, TIMER_NOT_FOUND};
use super::rest::json_answer;
use crate::access::Caller;
use crate::access::caller::unauthenticated;
use crate::render::to_text;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/timers", get(list).post(create))
        .route("/timers/{id}", get(read).delete(remove))
        .route("/timers/{id}/cancel", post(cancel))
        .route("/quick/wait", post(quick_wait))
        .route("/teams/{team}/broadcast", post(broadcast))
        .route("/account/api-keys", get(list_keys).post(create_key))
        .route("/account/api-keys/{id}", delete(revoke_key).put(rename_key))
        .route("/account/usage", get(usage))
        .route("/mcp/config", get(mcp_config))
        .route("/health", get(health))
}

/// A refusal before any handler, in the words of the dialect; `None` for a path of the native API.
pub(super) fn refusal(parts: &Parts, refused: ApiError) -> Result<Response, ApiError> {
    const OURS: [&str; 6] = ["/timers", "/quick/", "/teams/", "/account/", "/mcp/config", "/health"];
    let path = parts.uri.path();
    if !OURS.iter().any(|ours| path.starts_with(ours)) {
        return Err(refused);
    }
    let tenant = parameters(parts).find(|(name, _)| name == "tenantId").map(|(_, value)| value);
    let is_b = tenant.is_some() || parts.headers.contains_key("x-tenant-id");
    Ok(if is_b { told_b(refused) } else { told_a(refused) })
}

fn parameters(parts: &Parts) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned()
}

/// A request, read.
struct Asked {
    app: App,
    parts: Parts,
    bytes: Vec<u8>,
    /// What makes it speak B.
    tenant: Option<Value>,
}

impl Asked {
    /// Reads a request; the body only of those that have one.
    async fn read(app: App, request: Request) -> Result<Self, Response> {
        let (parts, body) = request.into_parts();
        let mut asked = Self { app, parts, bytes: Vec::new(), tenant: None };
        asked.tenant = asked.parameter("tenantId").map(Value::String).or_else(|| {
            let text = asked.parts.headers.get("x-tenant-id")?;
            Some(Value::String(text.to_str().unwrap_or("?").to_string()))
        });
        if matches!(asked.parts.method, Method::POST | Method::PUT) {
            let has_body = asked.parts.headers.contains_key(header::CONTENT_TYPE)
                || asked.parts.headers.get(header::CONTENT_LENGTH).is_some_and(|v| v != "0");
            if has_body {
                let read = body::read_json(&asked.parts.headers, body, BODY_MAX_BYTES).await;
                asked.bytes = read.map_err(|e| asked.told(e))?;
            }
            let probe: Probe = serde_json::from_slice(&asked.bytes).unwrap_or_default();
            asked.tenant = probe.tenant_id.or(asked.tenant);
        }
        Ok(asked)
    }

    fn parameter(&self, name: &str) -> Option<String> {
        parameters(&self.parts).find(|(n, _)| n == name).map(|(_, value)| value)
    }

    fn caller(&self) -> Result<Caller, ApiError> {
        self.parts.extensions.get::<Caller>().cloned().ok_or_else(unauthenticated)
    }

    /// The body; unknown fields are passed over, as the old servers did.
    fn body<T: for<'de> Deserialize<'de>>(&self) -> Result<T, ApiError> {
        body::parse_or_empty(&self.bytes)
    }

    fn now_ns(&self) -> i64 {
        self.app.gate.authenticator.now().moment().now_ns
    }

    /// An error in the words of the dialect.
    fn told(&self, e: ApiError) -> Response {
        if self.tenant.is_some() { told_b(e) } else { told_a(e) }
    }
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Probe {
    #[serde(rename = "tenantId")]
    tenant_id: Option<Value>,
}

/// The tenant's name as text.
fn tenant_text(tenant: &Value) -> Result<&str, ApiError> {
    tenant.as_str().ok_or_else(|| ApiError::new(&INVALID_FIELD, "tenantId: give it as text"))
}

/// The words for one that is not there, which say nothing of the id.
fn detail_of(e: &ApiError) -> String {
    if *e.code == TIMER_NOT_FOUND { "Timer not found".into() } else { e.detail.clone() }
}

/// Over a limit it says the limit, and what of it is used: `current` of what is held, `used` of what is spent.
fn told_a(e: ApiError) -> Response {
    let mut body = json!({"success": false, "error": detail_of(&e)});
    if let Some(limits) = &e.limits {
        let used = limits.used.or_else(|| limits.remaining.map(|left| limits.limit.saturating_sub(left)));
        // Only what is held can be full without being spent; a text that is too large leaves nothing to count.
        let is_held = *e.code == QUOTA_EXCEEDED && limits.remaining.is_some();
        body[if is_held { "current" } else { "used" }] = used.unwrap_or(limits.limit).into();
        body["limit"] = limits.limit.into();
    }
    told(e, body.to_string())
}

fn told_b(e: ApiError) -> Response {
    let mut text = json!({"message": detail_of(&e)});
    if let Some(limits) = &e.limits {
        text["details"] = json!(**limits);
        text["details"]["code"] = e.code.code.into();
    } else if e.code.http == 400 {
        text["details"] = json!({"code": e.code.code});
    }
    told(e, text.to_string())
}

/// The status and headers of an error, with another body.
fn told(e: ApiError, text: String) -> Response {
    let mut response = e.into_response();
    *response.body_mut() = Body::from(text);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// A JSON answer.
fn answer(status: StatusCode, value: &impl Serialize) -> Response {
    json_answer(status, to_text(value))
}

/// A length of time in nanoseconds: a number of milliseconds, or a number with ms, s, m, h or d.
fn duration_ns(value: &Value) -> Result<i64, String> {
    const NS_PER_MS: f64 = 1e6;
    let shown = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    let invalid = || format!("Invalid duration: {shown}");
    let in_range = |ns: i128| i64::try_from(ns).map_err(|_| invalid());
    match value {
        Value::Number(n) => match n.as_u64() {
            Some(ms) => in_range(i128::from(ms) * 1_000_000),
            None => {
                let ms = n.as_f64().filter(|ms| ms.is_finite() && *ms >= 0.0).ok_or_else(invalid)?;
                in_range((ms * NS_PER_MS).round() as i128)
            }
        },
        Value::String(text) => {
            let digits = text.bytes().take_while(u8::is_ascii_digit).count();
            let (number, unit) = text.split_at(digits);
            let is_word = !unit.is_empty() && unit.bytes().all(|b| b.is_ascii_alphabetic());
            let number: i128 = number.parse::<u64>().map_err(|_| invalid())?.into();
            if !is_word {
                return Err(invalid());
            }
            let ms = match unit.to_ascii_lowercase().as_str() {
                "ms" => 1,
                "s" => 1_000,
                "m" => 60_000,
                "h" => 3_600_000,
                "d" => 86_400_000,
                _ => return Err(format!("Unknown unit: {unit}")),
            };
            in_range(number * ms * 1_000_000)
        }
        _ => Err(invalid()),
    }
}

/// Reads a request and has it answered in its dialect.
macro_rules! handler {
    ($name:ident, A $a:path, B $b:path) => {
        async fn $name(State(app): State<App>, request: Request) -> Response {
            let asked = match Asked::read(app, request).await {
                Ok(asked) => asked,
                Err(told) => return told,
            };
            let answered = match &asked.tenant {
                Some(tenant) => $b(&asked, tenant).await,
                None => $a(&asked).await,
            };
            answered.unwrap_or_else(|e| asked.told(e))
        }
    };
    ($name:ident, path A $a:path, B $b:path) => {
        async fn $name(State(app): State<App>, Path(named): Path<String>, request: Request) -> Response {
            let asked = match Asked::read(app, request).await {
                Ok(asked) => asked,
                Err(told) => return told,
            };
            let answered = match &asked.tenant {
                Some(tenant) => $b(&asked, tenant, &named).await,
                None => $a(&asked, &named).await,
            };
            answered.unwrap_or_else(|e| asked.told(e))
        }
    };
    ($name:ident, only A $a:path) => {
        async fn $name(State(app): State<App>, request: Request) -> Response {
            match Asked::read(app, request).await {
                Ok(asked) => $a(&asked).await.unwrap_or_else(told_a),
                Err(told) => told,
            }
        }
    };
    ($name:ident, path only A $a:path) => {
        async fn $name(State(app): State<App>, Path(named): Path<String>, request: Request) -> Response {
            match Asked::read(app, request).await {
                Ok(asked) => $a(&asked, &named).await.unwrap_or_else(told_a),
                Err(told) => told,
            }
        }
    };
}

handler!(create, A a::create, B b::create);
handler!(list, A a::list, B b::list);
handler!(read, path A a::read, B b::read);
handler!(remove, path only A a::remove);
handler!(quick_wait, only A a::quick_wait);
handler!(broadcast, path only A a::broadcast);
handler!(list_keys, only A account::list_keys);
handler!(create_key, only A account::create_key);
handler!(revoke_key, path only A account::revoke_key);
handler!(rename_key, path only A account::rename_key);
handler!(usage, only A account::usage);
handler!(mcp_config, only A a::mcp_config);
handler!(health, only A a::health);

/// Only B has it, so the tenant is needed.
async fn cancel(State(app): State<App>, Path(id): Path<String>, request: Request) -> Response {
    match Asked::read(app, request).await {
        Ok(asked) => {
            let tenant = asked.tenant.clone().unwrap_or_else(|| Value::String(String::new()));
            b::cancel(&asked, &tenant, &id).await.unwrap_or_else(told_b)
        }
        Err(told) => told,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_the_sdk_reads_them() {
        for (given, want) in [
            (json!(1500), Ok(1_500_000_000)),
            (json!(0.5), Ok(500_000)),
            (json!("250ms"), Ok(250_000_000)),
            (json!("2S"), Ok(2_000_000_000)),
            (json!("90d"), Ok(90 * 86_400 * 1_000_000_000)),
            (json!("5"), Err("Invalid duration: 5")),
            (json!("m"), Err("Invalid duration: m")),
            (json!("1h 5m"), Err("Invalid duration: 1h 5m")),
            (json!("5 m"), Err("Invalid duration: 5 m")),
            (json!("5y"), Err("Unknown unit: y")),
            (json!(-1), Err("Invalid duration: -1")),
            (json!("999999999999d"), Err("Invalid duration: 999999999999d")),
            (json!([1]), Err("Invalid duration: [1]")),
        ] {
            assert_eq!(duration_ns(&given), want.map_err(str::to_string), "{given}");
        }
    }
}
