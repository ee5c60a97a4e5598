//! A: the SDK's dialect. Snake case in, camel case out; `{success: true, ...}` or `{success: false, error}`.

use super::common::{Origin, compacted, list_where, named};
use super::{Asked, account, answer, duration_ns};
use crate::access::{Subject, Verb};
use crate::api::definition::check_actions;
use crate::api::error::{
    ApiError, INVALID_DURATION, INVALID_FIELD, INVALID_QUERY, MISSING_FIELD, UNKNOWN_ACTION_KIND,
    WRONG_STATE, no_such_timer,
};
use crate::api::operations::{AGENT_LABEL, TEAM_LABEL};
use crate::render::sdk::{SdkTimer, sdk_status};
use crate::render::{self, rfc3339};
use crate::store::TimerQuery;
use axum::http::StatusCode;
use axum::response::Response;
use minoots_kernel::{ActionSpec, Change, ScheduleSpec, TimerDefinition, TimerId, TimerInstance};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// The most timers that one listing gives.
pub(super) const LIST_MAX: usize = 10_000;

type Answered = Result<Response, ApiError>;

#[derive(Default, Deserialize)]
#[serde(default)]
struct CreateBody {
    name: Option<String>,
    duration: Option<Value>,
    #[serde(alias = "agentId")]
    agent_id: Option<String>,
    team: Option<String>,
    events: Option<Box<RawValue>>,
    metadata: Option<Box<RawValue>>,
    callback: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Events {
    on_expire: Option<OnExpire>,
}

#[derive(Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct OnExpire {
    message: Option<Box<RawValue>>,
    data: Option<Value>,
    webhook: Option<WebhookBody>,
    file_write: Option<Box<RawValue>>,
    command: Option<Box<RawValue>>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum WebhookBody {
    Url(String),
    Full { url: String, message: Option<Value>, data: Option<Value> },
}

#[derive(Serialize)]
struct TimerAnswer<'a> {
    success: bool,
    timer: SdkTimer<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    usage: Option<Value>,
}

fn timer_answer(asked: &Asked, status: StatusCode, timer: &TimerInstance, usage: Option<Value>) -> Response {
    answer(status, &TimerAnswer { success: true, timer: SdkTimer::new(timer, asked.now_ns()), usage })
}

/// What `events` asks for, as actions.
pub(super) fn actions_of(asked: &Asked, events: Option<&RawValue>) -> Result<Vec<ActionSpec>, ApiError> {
    let Some(events) = events else { return Ok(Vec::new()) };
    let parsed: Option<Events> = serde_json::from_str(events.get())
        .map_err(|e| ApiError::new(&INVALID_FIELD, format!("events: {}", render::json_error(&e))))?;
    let Some(on_expire) = parsed.and_then(|e| e.on_expire) else { return Ok(Vec::new()) };
    let mut actions = Vec::new();
    if let Some(webhook) = on_expire.webhook {
        let said = on_expire.message.as_deref().and_then(|raw| serde_json::from_str(raw.get()).ok());
        let (url, message, data) = match webhook {
            WebhookBody::Url(url) => (url, None, None),
            WebhookBody::Full { url, message, data } => (url, message, data),
        };
        let say = json!({"message": message.or(said), "data": data.or(on_expire.data)});
        let parameters_json = json!({"url": url, "timer_expired": say}).to_string();
        actions.push(ActionSpec { id: "webhook".into(), kind: "webhook".into(), parameters_json });
    }
    for (kind, parameters) in [("file_write", on_expire.file_write), ("command", on_expire.command)] {
        let Some(parameters) = parameters else { continue };
        if asked.app.connectors.get(kind).is_none() {
            let detail = format!(
                "events.on_expire.{kind} is not carried out by this service (it has {}): leave it out, or use a webhook",
                asked.app.connectors.kinds()
            );
            return Err(ApiError::new(&UNKNOWN_ACTION_KIND, detail));
        }
        let parameters_json = render::compact(&parameters);
        actions.push(ActionSpec { id: kind.into(), kind: kind.into(), parameters_json });
    }
    check_actions(&actions, &asked.app.connectors)?;
    Ok(actions)
}

fn definition(asked: &Asked, body: CreateBody) -> Result<TimerDefinition, ApiError> {
    let duration =
        body.duration.ok_or_else(|| ApiError::new(&MISSING_FIELD, "Missing required field: duration"))?;
    let ns = duration_ns(&duration).map_err(|why| ApiError::new(&INVALID_DURATION, why))?;
    let events = body.events.as_deref().map(compacted).transpose()?;
    let actions = actions_of(asked, events.as_deref())?;
    let mut labels = BTreeMap::new();
    for (label, value) in [(AGENT_LABEL, body.agent_id), (TEAM_LABEL, body.team)] {
        if let Some(value) = value.filter(|v| !v.is_empty()) {
            labels.insert(label.to_string(), value);
        }
    }
    let origin = Origin { dialect: "sdk".into(), events, ..Origin::default() };
    Ok(TimerDefinition {
        name: named(body.name.unwrap_or_default()),
        schedule: ScheduleSpec::AfterNs(ns),
        actions,
        labels,
        metadata_json: body.metadata.map(|raw| render::compact(&raw)),
        origin_json: origin.to_json(),
        ..TimerDefinition::default()
    })
}

pub(super) async fn create(asked: &Asked) -> Answered {
    let session = asked.app.session(asked.caller()?);
    let created = session.create(definition(asked, asked.body()?)?).await?;
    let usage = account::counts(asked, &session).await;
    Ok(timer_answer(asked, StatusCode::CREATED, &created.timer, Some(usage)))
}

pub(super) async fn quick_wait(asked: &Asked) -> Answered {
    let session = asked.app.session(asked.caller()?);
    let mut body: CreateBody = asked.body()?;
    if let Some(callback) = body.callback.take().filter(|c| c.get() != "null") {
        let text = format!(r#"{{"on_expire":{{"webhook":{}}}}}"#, callback.get());
        body.events = RawValue::from_string(text).ok();
    }
    body.name = body.name.or_else(|| Some("quick_wait".into()));
    let created = session.create(definition(asked, body)?).await?;
    Ok(timer_answer(asked, StatusCode::OK, &created.timer, None))
}

fn timer_id(text: &str) -> Result<TimerId, ApiError> {
    TimerId::parse(text).ok_or_else(|| no_such_timer(text))
}

pub(super) async fn read(asked: &Asked, id: &str) -> Answered {
    let session = asked.app.session(asked.caller()?);
    let timer = session.get(timer_id(id)?).await?;
    Ok(timer_answer(asked, StatusCode::OK, &timer, None))
}

/// One that has ended already is gone for the SDK, so it is no error.
pub(super) async fn remove(asked: &Asked, id: &str) -> Answered {
    let session = asked.app.session(asked.caller()?);
    match session.change(timer_id(id)?, None, Change::Cancel { reason: None }).await {
        Err(e) if *e.code != WRONG_STATE => Err(e),
        _ => Ok(answer(StatusCode::OK, &json!({"success": true}))),
    }
}

#[derive(Serialize)]
struct ListAnswer<'a> {
    success: bool,
    timers: Vec<SdkTimer<'a>>,
    count: usize,
}

pub(super) async fn list(asked: &Asked) -> Answered {
    let session = asked.app.session(asked.caller()?);
    let status = asked.parameter("status").filter(|s| !s.is_empty());
    if let Some(other) = status.as_deref().filter(|s| !matches!(*s, "running" | "expired" | "cancelled")) {
        let detail = format!("status is {other:?}: use running, expired or cancelled");
        return Err(ApiError::new(&INVALID_QUERY, detail));
    }
    let mut query = TimerQuery::default();
    for (parameter, label) in [("agent_id", AGENT_LABEL), ("team", TEAM_LABEL)] {
        if let Some(value) = asked.parameter(parameter).filter(|v| !v.is_empty()) {
            query.labels.push((label.to_string(), value));
        }
    }
    let passes =
        |t: &TimerInstance| status.as_deref().is_none_or(|status| status == sdk_status(t.status.state));
    let (timers, _) = list_where(&session, query, LIST_MAX, passes).await?;
    let now_ns = asked.now_ns();
    let timers: Vec<_> = timers.iter().map(|t| SdkTimer::new(t, now_ns)).collect();
    Ok(answer(StatusCode::OK, &ListAnswer { success: true, count: timers.len(), timers }))
}

#[derive(Deserialize)]
struct BroadcastBody {
    message: Option<Value>,
    data: Option<Value>,
}

/// A timer that fires at once tells the team's listeners.
pub(super) async fn broadcast(asked: &Asked, team: &str) -> Answered {
    let session = asked.app.session(asked.caller()?);
    let body: BroadcastBody = asked.body()?;
    let message =
        body.message.ok_or_else(|| ApiError::new(&MISSING_FIELD, "Missing required field: message"))?;
    session.allow(Verb::Broadcast, Subject::Named(team))?;
    let created = session
        .create(TimerDefinition {
            name: "broadcast".into(),
            schedule: ScheduleSpec::AfterNs(0),
            labels: BTreeMap::from([(TEAM_LABEL.to_string(), team.to_string())]),
            metadata_json: Some(json!({"message": message, "data": body.data}).to_string()),
            origin_json: Origin { dialect: "sdk".into(), ..Origin::default() }.to_json(),
            ..TimerDefinition::default()
        })
        .await?;
    let timestamp = rfc3339(created.timer.status.created_ns);
    let told = json!({"team": team, "message": message, "data": body.data, "timestamp": timestamp});
    Ok(answer(StatusCode::OK, &json!({"success": true, "broadcast": told})))
}

pub(super) async fn health(asked: &Asked) -> Answered {
    Ok(answer(
        StatusCode::OK,
        &json!({
            "status": "healthy",
            "timestamp": rfc3339(asked.now_ns()),
            "service": "minoots",
            "version": env!("CARGO_PKG_VERSION"),
            "features": ["timers", "webhooks", "teams", "api-keys", "mcp"],
        }),
    ))
}

/// How an MCP client starts the server.
pub(super) async fn mcp_config(asked: &Asked) -> Answered {
    asked.caller()?;
    let env = json!({"MINOOTS_API_BASE": crate::mcp::http::origin(&asked.app.gate, &asked.parts)});
    let server = json!({"command": "minoots", "args": ["mcp"], "env": env});
    Ok(answer(StatusCode::OK, &json!({"success": true, "mcpServers": {"minoots": server}})))
}
