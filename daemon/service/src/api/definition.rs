//! Turns the JSON of a create into a timer definition, or says why not.

use super::body::{self, Object};
use super::error::{ApiError, INVALID_ACTION, INVALID_FIELD, INVALID_QUERY, UNKNOWN_ACTION_KIND};
use super::operations::{AGENT_LABEL, TEAM_LABEL};
use super::schedule::{self, Timing};
use super::{policies, values};
use crate::actions::Connectors;
use crate::render;
use axum::http::HeaderMap;
use minoots_kernel::{ActionSpec, TimerDefinition};
use serde::Deserialize;
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

/// The body of `POST /v1/timers`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBody {
    name: String,
    // Any value for durations and times, so that a number gets an answer of its own.
    after: Option<Value>,
    at: Option<Value>,
    every: Option<Value>,
    mode: Option<String>,
    anchor: Option<Value>,
    cron: Option<String>,
    zone: Option<String>,
    gap: Option<String>,
    fold: Option<String>,
    exclude_dates: Option<Vec<String>>,
    start: Option<Value>,
    end: Option<Value>,
    count: Option<u64>,
    jitter: Option<Value>,
    misfire: Option<Value>,
    grace: Option<Value>,
    overlap: Option<String>,
    priority: Option<i64>,
    expire_after: Option<Value>,
    start_after: Option<Object<policies::StartAfterBody>>,
    #[serde(default)]
    actions: Vec<Object<ActionBody>>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    tags: Vec<String>,
    metadata: Option<Box<RawValue>>,
    idempotency_key: Option<String>,
    agent: Option<String>,
    team: Option<String>,
    payload_schema: Option<String>,
    agent_binding: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ActionBody {
    id: String,
    kind: String,
    parameters: Option<Box<RawValue>>,
}

/// Reads the body of a create, with the key that the header may carry.
pub(super) fn from_json(
    bytes: &[u8],
    headers: &HeaderMap,
    connectors: &Connectors,
) -> Result<TimerDefinition, ApiError> {
    let mut body: CreateBody = body::parse(bytes)?;
    body.idempotency_key = one_key(body.idempotency_key, headers)?;
    definition(body, connectors)
}

/// Reads one timer of a batch.
pub(super) fn from_json_of_batch(bytes: &[u8], connectors: &Connectors) -> Result<TimerDefinition, ApiError> {
    definition(body::parse(bytes)?, connectors)
}

fn definition(body: CreateBody, connectors: &Connectors) -> Result<TimerDefinition, ApiError> {
    let (schedule, bounds) = schedule::from_json(Timing {
        after: body.after,
        at: body.at,
        every: body.every,
        mode: body.mode,
        anchor: body.anchor,
        cron: body.cron,
        zone: body.zone,
        gap: body.gap,
        fold: body.fold,
        exclude_dates: body.exclude_dates,
        start: body.start,
        end: body.end,
        count: body.count,
    })?;
    let actions = body.actions.into_iter().map(|Object(a)| ActionSpec {
        id: a.id,
        kind: a.kind,
        parameters_json: a.parameters.map_or_else(|| "{}".to_string(), |raw| render::compact(&raw)),
    });
    let duration = |field, value: Option<Value>| value.map(|v| values::duration_ns(field, &v)).transpose();
    let mut labels = body.labels;
    values::add_tags(&mut labels, body.tags)?;
    values::add_label(&mut labels, AGENT_LABEL, body.agent)?;
    values::add_label(&mut labels, TEAM_LABEL, body.team)?;
    let definition = TimerDefinition {
        name: body.name,
        schedule,
        actions: actions.collect(),
        labels,
        metadata_json: body.metadata.map(|raw| render::compact(&raw)),
        idempotency_key: body.idempotency_key,
        bounds,
        jitter_ns: duration("jitter", body.jitter)?.unwrap_or_default(),
        misfire: body.misfire.map(policies::misfire).transpose()?,
        grace_ns: duration("grace", body.grace)?,
        overlap: body.overlap.map(|word| policies::overlap(&word)).transpose()?.unwrap_or_default(),
        priority: body.priority.map(values::priority).transpose()?.unwrap_or_default(),
        expire_after_ns: duration("expire_after", body.expire_after)?,
        start_after: body.start_after.map(|Object(after)| policies::start_after(after)).transpose()?,
        payload_schema: body.payload_schema,
        agent_binding_json: body.agent_binding.map(|raw| render::compact(&raw)),
        ..TimerDefinition::default()
    };
    check_actions(&definition.actions, connectors)?;
    Ok(definition)
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
pub(super) fn check_actions(actions: &[ActionSpec], connectors: &Connectors) -> Result<(), ApiError> {
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
