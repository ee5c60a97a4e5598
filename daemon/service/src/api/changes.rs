//! Changes to one timer: the bodies and routes of its verbs.

use super::error::{ApiError, FIRE_NOT_FOUND, INVALID_FIELD, no_such_fire};
use super::etag::{expected_version, refuse_if_match};
use super::operations::Session;
use super::query::{parameters, refuse_parameters, unknown_parameter};
use super::rest::timer_json;
use super::{App, body, values};
use crate::access::Caller;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minoots_kernel::{Change, FiringId, NewDue};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// The body of a cancel or a pause.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ReasonBody {
    pub(super) reason: Option<String>,
}

/// The body of a verb that needs nothing said.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct NoFields {}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RescheduleBody {
    at: Option<Value>,
    after: Option<Value>,
    extend_by: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct AcknowledgeBody {
    firing_id: String,
    by: Option<String>,
    note: Option<String>,
}

/// What a request for a verb brings.
pub(super) struct Asked {
    id: String,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

impl Asked {
    async fn read(id: String, query: &RawQuery, headers: HeaderMap, body: Body) -> Result<Self, ApiError> {
        let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
        refuse_parameters(query)?;
        Ok(Self { id, headers, bytes })
    }

    fn body<T: DeserializeOwned>(&self) -> Result<T, ApiError> {
        body::parse_or_empty(&self.bytes)
    }

    async fn change(&self, session: &Session, change: Change) -> Result<Response, ApiError> {
        let (id, expected) = (values::timer_id(&self.id)?, expected_version(&self.headers)?);
        let outcome = session.change(id, expected, change).await?;
        Ok(timer_json(StatusCode::OK, &outcome.timer))
    }
}

/// `POST /v1/timers/{id}/cancel`.
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked::read(id, &query, headers, body).await?;
    let ReasonBody { reason } = asked.body()?;
    asked.change(&app.session(caller), Change::Cancel { reason }).await
}

/// `DELETE /v1/timers/{id}`: a cancel whose reason is in the address.
pub(super) async fn delete(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let mut reason = None;
    for (name, value) in parameters(&query) {
        match name.as_str() {
            "reason" => reason = Some(value),
            _ => return Err(unknown_parameter(&name, "reason")),
        }
    }
    let asked = Asked { id, headers, bytes: Vec::new() };
    asked.change(&app.session(caller), Change::Cancel { reason }).await
}

/// `POST /v1/timers/{id}/pause`.
pub(super) async fn pause(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked::read(id, &query, headers, body).await?;
    let ReasonBody { reason } = asked.body()?;
    asked.change(&app.session(caller), Change::Pause { reason }).await
}

/// `POST /v1/timers/{id}/resume`.
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked::read(id, &query, headers, body).await?;
    let NoFields {} = asked.body()?;
    asked.change(&app.session(caller), Change::Resume).await
}

/// `POST /v1/timers/{id}/fire`.
pub(super) async fn fire(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked::read(id, &query, headers, body).await?;
    let NoFields {} = asked.body()?;
    asked.change(&app.session(caller), Change::FireNow).await
}

/// `POST /v1/timers/{id}/reschedule`.
pub(super) async fn reschedule(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = Asked::read(id, &query, headers, body).await?;
    let to = match asked.body()? {
        RescheduleBody { at: Some(at), after: None, extend_by: None } => {
            NewDue::AtNs(values::time_ns("at", &at)?)
        }
        RescheduleBody { at: None, after: Some(after), extend_by: None } => {
            NewDue::AfterNs(values::duration_ns("after", &after)?)
        }
        RescheduleBody { at: None, after: None, extend_by: Some(by) } => {
            NewDue::LaterByNs(values::duration_ns("extend_by", &by)?)
        }
        _ => return Err(no_new_due()),
    };
    asked.change(&app.session(caller), Change::Reschedule(to)).await
}

/// None or several of the ways to say it were given.
pub(super) fn no_new_due() -> ApiError {
    ApiError::new(
        &INVALID_FIELD,
        "give exactly one of at (a time), after (a duration from now) and extend_by (a duration from the present due \
         time)",
    )
}

/// `POST /v1/timers/{id}/acknowledge`.
pub(super) async fn acknowledge(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    refuse_if_match(&headers, "the firing_id says which fire is meant")?;
    let asked = Asked::read(id, &query, headers, body).await?;
    let AcknowledgeBody { firing_id, by, note } = asked.body()?;
    let id = values::timer_id(&asked.id)?;
    let firing = FiringId::parse(&firing_id).ok_or_else(|| no_such_fire(&firing_id))?;
    if firing.timer != id {
        let detail = format!("the fire {firing} is of another timer: send it to the path of that timer");
        return Err(ApiError::new(&FIRE_NOT_FOUND, detail));
    }
    let outcome = app.session(caller).acknowledge(firing, by, note).await?;
    Ok(timer_json(StatusCode::OK, &outcome.timer))
}
