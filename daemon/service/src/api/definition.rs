//! Turns what a client sent into a timer definition, or says why not.

use super::body::{self, Object};
use super::error::{
    ApiError, INVALID_ACTION, INVALID_DURATION, INVALID_FIELD, INVALID_QUERY, INVALID_SCHEDULE, INVALID_TIME,
    TIME_TOO_FAR, UNKNOWN_ACTION_KIND,
};
use crate::actions::Connectors;
use crate::render;
use axum::http::HeaderMap;
use chronotick_core::Span;
use minoots_kernel::{ActionSpec, ScheduleSpec, TenantId, TimerDefinition};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

const DURATION_HINT: &str = "write a duration as text with its unit, as in \"250ms\", \"2s\" or \"1h30m\"";
const TIME_HINT: &str = "write a time as RFC 3339 with its offset, as in \"2030-01-31T09:00:00+01:00\"";

/// The body of `POST /v1/timers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    name: String,
    // Any value, so that a number gets an answer of its own.
    after: Option<Value>,
    at: Option<Value>,
    #[serde(default)]
    actions: Vec<Object<ActionBody>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    metadata: Option<Box<RawValue>>,
    idempotency_key: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionBody {
    id: String,
    kind: String,
    parameters: Option<Box<RawValue>>,
}

/// Reads the body of a create, with the key that the header may carry.
pub(crate) fn from_json(
    bytes: &[u8],
    headers: &HeaderMap,
    connectors: &Connectors,
) -> Result<TimerDefinition, ApiError> {
    let body: CreateBody = body::parse(bytes)?;
    let schedule = match (&body.after, &body.at) {
        (Some(after), None) => ScheduleSpec::AfterNs(parse_after(after)?),
        (None, Some(at)) => ScheduleSpec::AtNs(parse_at(at)?),
        (None, None) => return Err(no_schedule("neither")),
        (Some(_), Some(_)) => return Err(no_schedule("both")),
    };
    let actions = body.actions.into_iter().map(|Object(a)| ActionSpec {
        id: a.id,
        kind: a.kind,
        parameters_json: a.parameters.map_or_else(|| "{}".to_string(), |raw| render::compact(&raw)),
    });
    let definition = TimerDefinition {
        tenant: TenantId::default(),
        name: body.name,
        schedule,
        actions: actions.collect(),
        labels: body.labels,
        metadata_json: body.metadata.map(|raw| render::compact(&raw)),
        idempotency_key: one_key(body.idempotency_key, headers)?,
        ..TimerDefinition::default()
    };
    check_actions(&definition.actions, connectors)?;
    Ok(definition)
}

/// Neither or both of the two were given.
pub(crate) fn no_schedule(given: &str) -> ApiError {
    ApiError::new(
        &INVALID_SCHEDULE,
        format!("{given} of after and at is given: give after (a duration) or at (a time), one of them"),
    )
}

fn parse_after(value: &Value) -> Result<i64, ApiError> {
    let Value::String(text) = value else {
        return Err(ApiError::new(&INVALID_DURATION, format!("after is {value}: {DURATION_HINT}")));
    };
    let span: Span = text.parse().map_err(|e| ApiError::new(&INVALID_DURATION, format!("after: {e}")))?;
    Ok(span.as_ns())
}

fn parse_at(value: &Value) -> Result<i64, ApiError> {
    let Value::String(text) = value else {
        return Err(ApiError::new(&INVALID_TIME, format!("at is {value}: {TIME_HINT}")));
    };
    let moment: jiff::Timestamp =
        text.parse().map_err(|_| ApiError::new(&INVALID_TIME, format!("at is {text:?}: {TIME_HINT}")))?;
    // Years before 1677 have passed, years after 2262 are too far: the nearest end says the right one.
    i64::try_from(moment.as_nanosecond())
        .or_else(|_| if moment.as_nanosecond() < 0 { Ok(i64::MIN) } else { Err(too_far()) })
}

/// Past what an `i64` of nanoseconds holds.
pub(crate) fn too_far() -> ApiError {
    ApiError::new(&TIME_TOO_FAR, "that moment lies past the year 2262, the last this service can keep")
}

fn one_key(in_body: Option<String>, headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    let mut given = headers.get_all("idempotency-key").iter();
    let in_header = match (given.next(), given.next()) {
        (None, _) => return Ok(in_body),
        (Some(value), None) => value.to_str().map_err(|_| {
            ApiError::new(
                &INVALID_QUERY,
                "the Idempotency-Key header has other than visible ASCII characters",
            )
        })?,
        (Some(_), Some(_)) => {
            return Err(ApiError::new(&INVALID_QUERY, "there are two Idempotency-Key headers: send one"));
        }
    };
    match in_body {
        Some(key) if key != in_header => Err(ApiError::new(
            &INVALID_FIELD,
            "idempotency_key: the Idempotency-Key header has another value: send the key once, or twice the same",
        )),
        _ => Ok(Some(in_header.to_string())),
    }
}

/// Checks each action with its connector.
pub(crate) fn check_actions(actions: &[ActionSpec], connectors: &Connectors) -> Result<(), ApiError> {
    for (i, action) in actions.iter().enumerate() {
        // The id becomes part of the Idempotency-Key header.
        if !action.id.bytes().all(|b| b.is_ascii_graphic()) {
            let detail = format!("actions[{i}].id: use visible ASCII characters without spaces");
            return Err(ApiError::new(&INVALID_FIELD, detail));
        }
        let Some(connector) = connectors.get(&action.kind) else {
            let detail =
                format!("actions[{i}].kind is {:?}: the kinds are {}", action.kind, connectors.kinds());
            return Err(ApiError::new(&UNKNOWN_ACTION_KIND, detail));
        };
        if !action.parameters_json.starts_with('{') {
            let detail = format!("actions[{i}].parameters: give a JSON object");
            return Err(ApiError::new(&INVALID_ACTION, detail));
        }
        connector
            .validate(&action.parameters_json)
            .map_err(|why| ApiError::new(&INVALID_ACTION, format!("actions[{i}].parameters: {why}")))?;
    }
    Ok(())
}
