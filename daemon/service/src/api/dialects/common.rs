//! What the interfaces of the older systems share: records, action bundles, and what is kept to answer in old words.

use crate::access::Caller;
use crate::access::grant::is_name;
use crate::actions::Connectors;
use crate::api::definition::check_actions;
use crate::api::error::{ApiError, INVALID_FIELD, MISSING_FIELD, NOT_FOUND};
use crate::api::operations::Session;
use crate::api::{App, PAGE_MAX};
use crate::render;
use crate::render::NS_PER_MS;
use crate::store::TimerQuery;
use minoots_kernel::{ActionSpec, ScheduleSpec, TimerId, TimerInstance, TimerState};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What stands between a reason and who cancelled; the kernel keeps one text for both.
const BY: &str = "(cancelled by ";
/// How many pages of the index one page of an old listing looks at.
const PAGES_MAX: usize = 20;

/// What an old interface was given that the kernel has no field for; the timer's `origin_json`.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Origin {
    /// Which interface made the timer.
    pub(crate) dialect: String,
    /// Who asked, in the words of the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) requested_by: Option<String>,
    /// The action bundle, as it was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) action_bundle: Option<Box<RawValue>>,
    /// The SDK's `events`, as they were given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) events: Option<Box<RawValue>>,
}

impl Origin {
    /// Of a timer; empty for one that another interface made.
    pub(crate) fn of(timer: &TimerInstance) -> Self {
        let text = timer.definition.origin_json.as_deref();
        text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    }

    /// As it is kept.
    pub(crate) fn to_json(&self) -> Option<String> {
        Some(render::to_text(self))
    }
}

/// A timer's place in its life, in the words of the control plane.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum RecordStatus {
    Scheduled,
    Fired,
    Cancelled,
    Failed,
}

impl RecordStatus {
    pub(crate) const fn of(state: TimerState) -> Self {
        match state {
            TimerState::Waiting | TimerState::Scheduled | TimerState::Paused => Self::Scheduled,
            TimerState::Firing | TimerState::Completed => Self::Fired,
            TimerState::Failed | TimerState::Expired => Self::Failed,
            TimerState::Cancelled => Self::Cancelled,
        }
    }

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Fired => "fired",
            Self::Cancelled => "cancelled",
            Self::Failed => "failed",
        }
    }
}

/// A timer as the control plane and `minoots.timer.v1` tell it.
pub(crate) struct Record<'a> {
    pub(crate) timer: &'a TimerInstance,
    origin: Origin,
}

impl<'a> Record<'a> {
    pub(crate) fn new(timer: &'a TimerInstance) -> Self {
        Self { timer, origin: Origin::of(timer) }
    }

    pub(crate) fn status(&self) -> RecordStatus {
        RecordStatus::of(self.timer.status.state)
    }

    pub(crate) fn requested_by(&self) -> &str {
        let created_by = self.timer.definition.created_by.as_deref();
        self.origin.requested_by.as_deref().or(created_by).unwrap_or_default()
    }

    pub(crate) fn duration_ms(&self) -> u64 {
        let ns = match self.timer.definition.schedule {
            ScheduleSpec::AfterNs(ns) => ns,
            _ => self.fire_ns().saturating_sub(self.timer.status.created_ns),
        };
        u64::try_from(ns / NS_PER_MS).unwrap_or_default()
    }

    pub(crate) fn fire_ns(&self) -> i64 {
        self.timer.due_ns().unwrap_or(match self.timer.definition.schedule {
            ScheduleSpec::AfterNs(ns) => self.timer.status.base_ns.saturating_add(ns),
            ScheduleSpec::AtNs(at) => at,
            _ => self.timer.status.base_ns,
        })
    }

    pub(crate) fn fired_ns(&self) -> Option<i64> {
        self.timer.status.last.as_ref().map(|last| last.fired_ns)
    }

    pub(crate) fn cancelled_ns(&self) -> Option<i64> {
        self.timer.status.ended_ns.filter(|_| self.is_cancelled())
    }

    fn is_cancelled(&self) -> bool {
        self.timer.status.state == TimerState::Cancelled
    }

    /// Why it was cancelled, and by whom.
    pub(crate) fn cancel(&self) -> (Option<&'a str>, Option<&'a str>) {
        match self.timer.status.reason.as_deref() {
            Some(text) if self.is_cancelled() => split_reason(text),
            _ => (None, None),
        }
    }

    /// The bundle as it was given, or the one that says what the timer does.
    pub(crate) fn action_bundle(&self) -> Option<Cow<'_, RawValue>> {
        #[derive(Serialize)]
        struct Action<'a> {
            id: &'a str,
            kind: &'a str,
            parameters: Option<Box<RawValue>>,
        }
        if let Some(bundle) = &self.origin.action_bundle {
            return Some(Cow::Borrowed(bundle));
        }
        let actions = &self.timer.definition.actions;
        let actions: Vec<_> = actions
            .iter()
            .map(|a| Action {
                id: &a.id,
                kind: &a.kind,
                parameters: serde_json::from_str(&a.parameters_json).ok(),
            })
            .collect();
        let bundle = serde_json::value::to_raw_value(&BTreeMap::from([("actions", &actions)]));
        bundle.ok().filter(|_| !actions.is_empty()).map(Cow::Owned)
    }
}

/// A reason with who cancelled, as the kernel keeps it.
pub(crate) fn join_reason(reason: Option<&str>, by: &str) -> String {
    match reason.filter(|r| !r.is_empty()) {
        Some(reason) => format!("{reason} {BY}{by})"),
        None => format!("{BY}{by})"),
    }
}

/// Takes apart what [`join_reason`] has joined; a reason of another interface stays whole.
pub(crate) fn split_reason(text: &str) -> (Option<&str>, Option<&str>) {
    let parts = text.strip_suffix(')').and_then(|t| t.rsplit_once(BY));
    match parts {
        Some(("", by)) => (None, Some(by)),
        Some((reason, by)) if reason.ends_with(' ') => (Some(&reason[..reason.len() - 1]), Some(by)),
        _ => (Some(text), None),
    }
}

/// The bundle of the control plane. What has no counterpart here is kept in its text and not read.
#[derive(Deserialize)]
struct Bundle {
    #[serde(default)]
    actions: Vec<BundleAction>,
}

#[derive(Deserialize)]
struct BundleAction {
    id: Option<String>,
    kind: String,
    parameters: Option<Box<RawValue>>,
}

/// The old names of a webhook's parameters beside the new ones.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct WebhookParameters {
    url: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    method: Option<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    headers: BTreeMap<String, String>,
    #[serde(alias = "payload", skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    #[serde(alias = "timeoutMs", skip_serializing_if = "Option::is_none")]
    timeout_ms: Option<u64>,
}

/// What a bundle asks for, as actions that connectors carry out. `field` names it in errors.
pub(crate) fn actions_of(
    field: &str,
    bundle: &RawValue,
    connectors: &Connectors,
) -> Result<Vec<ActionSpec>, ApiError> {
    let refuse = |detail: String| ApiError::new(&INVALID_FIELD, detail);
    let parsed: Option<Bundle> = serde_json::from_str(bundle.get())
        .map_err(|e| refuse(format!("{field}: {}", render::json_error(&e))))?;
    let mut actions = Vec::new();
    for (n, action) in parsed.map(|b| b.actions).unwrap_or_default().into_iter().enumerate() {
        let text = action.parameters.as_deref().map_or_else(|| "{}".to_string(), render::compact);
        let parameters_json = if action.kind == "webhook" {
            let webhook: WebhookParameters = serde_json::from_str(&text).map_err(|e| {
                refuse(format!("{field}.actions[{n}].parameters: {}", render::json_error(&e)))
            })?;
            render::to_text(&webhook)
        } else {
            text
        };
        let id = action.id.filter(|id| !id.is_empty()).unwrap_or_else(|| format!("action-{}", n + 1));
        actions.push(ActionSpec { id, kind: action.kind, parameters_json });
    }
    check_actions(&actions, connectors)?;
    Ok(actions)
}

/// JSON text that a field holds, without white space between its tokens; `None` for an empty field.
pub(crate) fn json_text(field: &str, text: &str) -> Result<Option<Box<RawValue>>, ApiError> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let raw: Box<RawValue> = serde_json::from_str(text)
        .map_err(|e| ApiError::new(&INVALID_FIELD, format!("{field} is not valid JSON: {e}")))?;
    compacted(&raw).map(Some)
}

/// JSON without white space between its tokens: an event that holds it fits into one line.
pub(crate) fn compacted(raw: &RawValue) -> Result<Box<RawValue>, ApiError> {
    RawValue::from_string(render::compact(raw))
        .map_err(|e| ApiError::new(&INVALID_FIELD, format!("this is not valid JSON: {e}")))
}

/// A timer's name. The old interfaces could do without one, the kernel cannot.
pub(crate) fn named(name: String) -> String {
    if name.is_empty() { "timer".into() } else { name }
}

/// A field that a request has to have.
pub(crate) fn needed<'a>(field: &str, value: &'a str) -> Result<&'a str, ApiError> {
    if value.is_empty() {
        return Err(ApiError::new(&MISSING_FIELD, format!("{field} is needed")));
    }
    Ok(value)
}

/// The service as a caller has it for the tenant that a request names. `Ok(None)` for a tenant that is not the caller's.
pub(crate) fn session_for(
    app: &App,
    caller: &Caller,
    field: &str,
    tenant: &str,
) -> Result<Option<Session>, ApiError> {
    if !is_name(needed(field, tenant)?) {
        let detail = format!("{field}: use 1 to 128 visible ASCII characters without spaces");
        return Err(ApiError::new(&INVALID_FIELD, detail));
    }
    Ok(caller.for_tenant(tenant).map(|caller| app.session(caller)))
}

/// The answer for a tenant that is not the caller's, where there is no timer to be missing.
pub(crate) fn no_such_tenant(tenant: &str) -> ApiError {
    ApiError::new(&NOT_FOUND, format!("there is no tenant {tenant:?} for this caller"))
}

/// A page of at most `size` timers that pass a test, and where the next one starts. A page may be short, even empty, and
/// have a next one.
pub(crate) async fn list_where(
    session: &Session,
    mut query: TimerQuery,
    size: usize,
    passes: impl Fn(&TimerInstance) -> bool,
) -> Result<(Vec<Arc<TimerInstance>>, Option<TimerId>), ApiError> {
    let mut found = Vec::new();
    query.limit = size.clamp(1, PAGE_MAX);
    for _ in 0..PAGES_MAX {
        let page = session.list(query.clone()).await?;
        for timer in page.timers {
            if !passes(&timer) {
                continue;
            }
            if found.len() == size {
                let last = found.last().map(|t: &Arc<TimerInstance>| t.id);
                return Ok((found, last));
            }
            found.push(timer);
        }
        query.after = page.next;
        if page.next.is_none() || found.len() == size {
            break;
        }
    }
    Ok((found, query.after))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_keeps_who_cancelled() {
        for (reason, by, kept) in [
            (Some("over"), "ann", "over (cancelled by ann)"),
            (None, "ann", "(cancelled by ann)"),
            (Some("a (cancelled by b)"), "c", "a (cancelled by b) (cancelled by c)"),
        ] {
            assert_eq!(join_reason(reason, by), kept);
            assert_eq!(split_reason(kept), (reason, Some(by)));
        }
        assert_eq!(split_reason("over"), (Some("over"), None));
    }
}
