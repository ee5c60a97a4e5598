//! B: the control plane's dialect. Bare records; errors as `{message, details?}`.

use super::common::{
    Origin, Record, actions_of, compacted, join_reason, list_where, named, needed, no_such_tenant,
    session_for,
};
use super::{Asked, a, answer, duration_ns, tenant_text};
use crate::api::error::{
    ApiError, INVALID_DURATION, INVALID_FIELD, INVALID_SCHEDULE, INVALID_TIME, no_such_timer,
};
use crate::api::operations::Session;
use crate::api::values::time_ns;
use crate::render::rfc3339;
use crate::store::TimerQuery;
use axum::http::StatusCode;
use axum::response::Response;
use minoots_kernel::{Change, ScheduleSpec, TimerDefinition, TimerId, TimerInstance};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

type Answered = Result<Response, ApiError>;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct RecordView<'a> {
    id: String,
    tenant_id: &'a str,
    name: &'a str,
    status: &'static str,
    duration_ms: u64,
    created_at: String,
    fire_at: String,
    requested_by: String,
    metadata: Option<&'a RawValue>,
    labels: &'a BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    action_bundle: Option<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent_binding: Option<&'a RawValue>,
    #[serde(skip_serializing_if = "Option::is_none")]
    fired_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancel_reason: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cancelled_by: Option<&'a str>,
}

impl<'a> RecordView<'a> {
    fn new(timer: &'a TimerInstance) -> Self {
        let record = Record::new(timer);
        let (cancel_reason, cancelled_by) = record.cancel();
        let definition = &timer.definition;
        let stored = |text: &'a Option<String>| text.as_deref().and_then(|t| serde_json::from_str(t).ok());
        Self {
            id: timer.id.to_string(),
            tenant_id: definition.tenant.as_str(),
            name: &definition.name,
            status: record.status().as_str(),
            duration_ms: record.duration_ms(),
            created_at: rfc3339(timer.status.created_ns),
            fire_at: rfc3339(record.fire_ns()),
            requested_by: record.requested_by().to_string(),
            metadata: stored(&definition.metadata_json),
            labels: &definition.labels,
            action_bundle: record.action_bundle().map(Cow::into_owned),
            agent_binding: stored(&definition.agent_binding_json),
            fired_at: record.fired_ns().map(rfc3339),
            cancelled_at: record.cancelled_ns().map(rfc3339),
            cancel_reason,
            cancelled_by,
        }
    }
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CreateBody {
    requested_by: String,
    name: Option<String>,
    duration: Option<Value>,
    fire_at: Option<Value>,
    metadata: Option<Box<RawValue>>,
    labels: Option<BTreeMap<String, String>>,
    action_bundle: Option<Box<RawValue>>,
    agent_binding: Option<Box<RawValue>>,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct CancelBody {
    requested_by: String,
    reason: Option<String>,
}

fn session(asked: &Asked, tenant: &str) -> Result<Option<Session>, ApiError> {
    session_for(&asked.app, &asked.caller()?, "tenantId", tenant)
}

pub(super) async fn create(asked: &Asked, tenant: &Value) -> Answered {
    let tenant = tenant_text(tenant)?;
    let session = session(asked, tenant)?.ok_or_else(|| no_such_tenant(tenant))?;
    let body: CreateBody = asked.body()?;
    let requested_by = needed("requestedBy", &body.requested_by)?.to_string();
    let schedule = match (&body.duration, &body.fire_at) {
        (Some(duration), None) => {
            ScheduleSpec::AfterNs(duration_ns(duration).map_err(|why| ApiError::new(&INVALID_DURATION, why))?)
        }
        (None, Some(at)) => {
            ScheduleSpec::AtNs(time_ns("fireAt", at).map_err(|e| ApiError::new(&INVALID_TIME, e.detail))?)
        }
        _ => return Err(ApiError::new(&INVALID_SCHEDULE, "give one of duration and fireAt")),
    };
    let given = |raw: Option<Box<RawValue>>| {
        raw.filter(|raw| raw.get() != "null").map(|raw| compacted(&raw)).transpose()
    };
    let action_bundle = given(body.action_bundle)?;
    let actions = match &action_bundle {
        Some(bundle) => actions_of("actionBundle", bundle, &asked.app.connectors)?,
        None => Vec::new(),
    };
    let origin = Origin {
        dialect: "control".into(),
        requested_by: Some(requested_by),
        action_bundle,
        ..Origin::default()
    };
    let created = session
        .create(TimerDefinition {
            name: named(body.name.unwrap_or_default()),
            schedule,
            actions,
            labels: body.labels.unwrap_or_default(),
            metadata_json: given(body.metadata)?.map(|raw| raw.get().to_string()),
            agent_binding_json: given(body.agent_binding)?.map(|raw| raw.get().to_string()),
            origin_json: origin.to_json(),
            ..TimerDefinition::default()
        })
        .await?;
    Ok(answer(StatusCode::CREATED, &RecordView::new(&created.timer)))
}

pub(super) async fn list(asked: &Asked, tenant: &Value) -> Answered {
    // Another's tenant is as one without timers.
    let timers = match session(asked, tenant_text(tenant)?)? {
        Some(session) => list_where(&session, TimerQuery::default(), a::LIST_MAX, |_| true).await?.0,
        None => Vec::new(),
    };
    let records: Vec<_> = timers.iter().map(|t| RecordView::new(t)).collect();
    Ok(answer(StatusCode::OK, &records))
}

fn timer_id(text: &str) -> Result<TimerId, ApiError> {
    TimerId::parse(text).ok_or_else(|| no_such_timer(text))
}

pub(super) async fn read(asked: &Asked, tenant: &Value, id: &str) -> Answered {
    let session = session(asked, tenant_text(tenant)?)?.ok_or_else(|| no_such_timer(id))?;
    let timer = session.get(timer_id(id)?).await?;
    Ok(answer(StatusCode::OK, &RecordView::new(&timer)))
}

pub(super) async fn cancel(asked: &Asked, tenant: &Value, id: &str) -> Answered {
    let session = session(asked, tenant_text(tenant)?)?;
    let body: CancelBody = asked.body().map_err(|e| ApiError::new(&INVALID_FIELD, e.detail))?;
    let by = needed("requestedBy", &body.requested_by)?;
    let session = session.ok_or_else(|| no_such_timer(id))?;
    let reason = Some(join_reason(body.reason.as_deref(), by));
    let outcome = session.change(timer_id(id)?, None, Change::Cancel { reason }).await?;
    Ok(answer(StatusCode::OK, &RecordView::new(&outcome.timer)))
}
