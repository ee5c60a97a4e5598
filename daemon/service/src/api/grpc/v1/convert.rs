//! Between the messages of `minoots.timer.v1` and the kernel's timers.

use super::v1;
use crate::actions::Connectors;
use crate::api::dialects::common::{Origin, Record, RecordStatus, actions_of, json_text, named, needed};
use crate::api::error::{ApiError, INVALID_DURATION, INVALID_FIELD, INVALID_SCHEDULE, INVALID_TIME};
use crate::api::values::time_text_ns;
use crate::api::{PAGE_DEFAULT, PAGE_MAX};
use crate::render::rfc3339;
use crate::store::TimerQuery;
use minoots_kernel::{ActionResult, ScheduleSpec, TimerDefinition, TimerId, TimerInstance};
use v1::TimerStatus as Sent;
use v1::timer_schedule_request::ScheduleTime;

/// A malformed id is an error of the request here.
pub(super) fn timer_id(text: &str) -> Result<TimerId, ApiError> {
    TimerId::parse(text).ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        ApiError::new(&INVALID_FIELD, format!("timer_id is {shown:?}: give the id of a timer, a UUID"))
    })
}

pub(super) fn definition(
    sent: v1::TimerScheduleRequest,
    connectors: &Connectors,
) -> Result<TimerDefinition, ApiError> {
    let requested_by = needed("requested_by", &sent.requested_by)?.to_string();
    let schedule = match &sent.schedule_time {
        Some(ScheduleTime::DurationMs(ms)) => {
            let ns = i64::try_from(*ms).ok().and_then(|ms| ms.checked_mul(1_000_000));
            ScheduleSpec::AfterNs(ns.ok_or_else(|| {
                let detail = format!("duration_ms is {ms}: the longest is 292 years");
                ApiError::new(&INVALID_DURATION, detail)
            })?)
        }
        Some(ScheduleTime::FireTimeIso(text)) => {
            ScheduleSpec::AtNs(time_text_ns(&INVALID_TIME, "fire_time_iso", text)?)
        }
        None => {
            let detail = "set one of duration_ms and fire_time_iso";
            return Err(ApiError::new(&INVALID_SCHEDULE, detail));
        }
    };
    let action_bundle = json_text("action_bundle_json", &sent.action_bundle_json)?;
    let actions = match &action_bundle {
        Some(bundle) => actions_of("action_bundle_json", bundle, connectors)?,
        None => Vec::new(),
    };
    let origin = Origin {
        dialect: "minoots.timer.v1".into(),
        requested_by: Some(requested_by),
        action_bundle,
        events: None,
    };
    Ok(TimerDefinition {
        name: named(sent.name),
        schedule,
        actions,
        labels: sent.labels.into_iter().collect(),
        metadata_json: json_text("metadata_json", &sent.metadata_json)?.map(|raw| raw.get().to_string()),
        agent_binding_json: json_text("agent_binding_json", &sent.agent_binding_json)?
            .map(|raw| raw.get().to_string()),
        origin_json: origin.to_json(),
        ..TimerDefinition::default()
    })
}

pub(super) fn timer(timer: &TimerInstance) -> v1::Timer {
    let record = Record::new(timer);
    let (reason, by) = record.cancel();
    let definition = &timer.definition;
    v1::Timer {
        id: timer.id.to_string(),
        tenant_id: definition.tenant.to_string(),
        requested_by: record.requested_by().to_string(),
        name: definition.name.clone(),
        status: status(record.status()).into(),
        created_at_iso: rfc3339(timer.status.created_ns),
        fire_at_iso: rfc3339(record.fire_ns()),
        fired_at_iso: record.fired_ns().map(rfc3339).unwrap_or_default(),
        cancelled_at_iso: record.cancelled_ns().map(rfc3339).unwrap_or_default(),
        cancel_reason: reason.unwrap_or_default().to_string(),
        cancelled_by: by.unwrap_or_default().to_string(),
        duration_ms: record.duration_ms(),
        metadata_json: definition.metadata_json.clone().unwrap_or_default(),
        action_bundle_json: record.action_bundle().map(|raw| raw.get().to_string()).unwrap_or_default(),
        agent_binding_json: definition.agent_binding_json.clone().unwrap_or_default(),
        labels: definition.labels.clone().into_iter().collect(),
    }
}

fn status(status: RecordStatus) -> Sent {
    match status {
        RecordStatus::Scheduled => Sent::Scheduled,
        RecordStatus::Fired => Sent::Fired,
        RecordStatus::Cancelled => Sent::Cancelled,
        RecordStatus::Failed => Sent::Failed,
    }
}

/// Which timers to list.
pub(super) struct Listing {
    pub(super) query: TimerQuery,
    pub(super) size: usize,
    statuses: Vec<i32>,
}

impl Listing {
    pub(super) fn of(sent: v1::TimerListRequest) -> Result<Self, ApiError> {
        let refuse = |detail: String| ApiError::new(&INVALID_FIELD, detail);
        let after = match sent.page_token.as_str() {
            "" => None,
            text => Some(TimerId::parse(text).ok_or_else(|| {
                refuse(format!("page_token is {text:?}: give the next_page_token of the page before"))
            })?),
        };
        if let Some(unknown) = sent.statuses.iter().find(|n| Sent::try_from(**n).is_err()) {
            return Err(refuse(format!("statuses: {unknown} is no TimerStatus")));
        }
        let size = match sent.page_size as usize {
            0 => PAGE_DEFAULT,
            n if n <= PAGE_MAX => n,
            n => return Err(refuse(format!("page_size is {n}: give at most {PAGE_MAX}, or 0"))),
        };
        // UNSPECIFIED asks for nothing in particular.
        let statuses = sent.statuses.into_iter().filter(|n| *n != 0).collect();
        Ok(Self { query: TimerQuery { after, ..TimerQuery::default() }, size, statuses })
    }

    pub(super) fn passes(&self, timer: &TimerInstance) -> bool {
        let is = i32::from(status(RecordStatus::of(timer.status.state)));
        self.statuses.is_empty() || self.statuses.contains(&is)
    }
}

pub(super) fn execution(results: &[ActionResult], ended_ns: i64) -> v1::ExecutionResult {
    let actions = results.iter().map(|r| v1::ActionResult {
        action_id: r.action.clone(),
        success: r.ok,
        output: r.detail.clone(),
        metadata_json: format!(r#"{{"attempts":{}}}"#, r.attempts),
    });
    v1::ExecutionResult { actions: actions.collect(), completed_at_iso: rfc3339(ended_ns) }
}

/// The events that a stream sends.
#[derive(Clone, Copy)]
pub(super) struct Topics {
    pub(super) scheduled: bool,
    pub(super) fired: bool,
    pub(super) cancelled: bool,
}

impl Topics {
    /// Of the topics as they were sent; `minoots.` in front of one is the subject on the old bus.
    pub(super) fn of(sent: &[String]) -> Result<Self, ApiError> {
        let mut topics = Self { scheduled: false, fired: false, cancelled: false };
        for topic in sent {
            match topic.strip_prefix("minoots.").unwrap_or(topic) {
                "timer.scheduled" => topics.scheduled = true,
                "timer.fired" => topics.fired = true,
                "timer.cancelled" => topics.cancelled = true,
                _ => {
                    let shown: String = topic.chars().take(64).collect();
                    let detail = format!(
                        "topics: {shown:?} is not known: use timer.scheduled, timer.fired, timer.cancelled, or none for all"
                    );
                    return Err(ApiError::new(&INVALID_FIELD, detail));
                }
            }
        }
        Ok(if sent.is_empty() { Self { scheduled: true, fired: true, cancelled: true } } else { topics })
    }
}
