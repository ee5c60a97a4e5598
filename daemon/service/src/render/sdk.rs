//! A timer in the words of the SDK's REST interface, and the body of the webhook that tells of its end.

use super::NS_PER_MS;
use super::{stored_json, to_text};
use crate::engine::FireOrder;
use minoots_kernel::{ScheduleSpec, TimerInstance, TimerState};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::borrow::Cow;

/// A timer as the SDK's clients know it. Times are milliseconds.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SdkTimer<'a> {
    id: String,
    name: &'a str,
    agent_id: Option<&'a str>,
    team: Option<&'a str>,
    duration: i64,
    start_time: i64,
    end_time: i64,
    status: &'static str,
    events: Cow<'a, RawValue>,
    metadata: Cow<'a, RawValue>,
    time_remaining: i64,
    progress: f64,
}

#[derive(Deserialize)]
struct Events<'a> {
    #[serde(borrow)]
    events: Option<&'a RawValue>,
}

/// The SDK's word for a state.
pub(crate) const fn sdk_status(state: TimerState) -> &'static str {
    match state {
        TimerState::Waiting | TimerState::Scheduled | TimerState::Paused => "running",
        TimerState::Firing | TimerState::Completed | TimerState::Failed | TimerState::Expired => "expired",
        TimerState::Cancelled => "cancelled",
    }
}

impl<'a> SdkTimer<'a> {
    /// As it stands at a moment on corrected time.
    pub(crate) fn new(timer: &'a TimerInstance, now_ns: i64) -> Self {
        let definition = &timer.definition;
        let start_ns = timer.status.created_ns;
        let end_ns = timer.due_ns().unwrap_or(start_ns);
        let status = sdk_status(timer.status.state);
        // What has ended stands still.
        let at_ns = match status {
            "running" => now_ns,
            "cancelled" => timer.status.ended_ns.unwrap_or(now_ns),
            _ => end_ns.max(start_ns),
        };
        let (span_ns, gone_ns) = (end_ns.saturating_sub(start_ns), at_ns.saturating_sub(start_ns));
        let progress = match span_ns {
            1.. => (gone_ns as f64 / span_ns as f64).clamp(0.0, 1.0),
            _ => 1.0,
        };
        let duration_ns = match definition.schedule {
            ScheduleSpec::AfterNs(ns) => ns,
            _ => span_ns,
        };
        let remaining_ns = if status == "running" { end_ns.saturating_sub(now_ns).max(0) } else { 0 };
        let events: Option<Events<'_>> =
            definition.origin_json.as_deref().and_then(|text| serde_json::from_str(text).ok());
        let empty = || Cow::Owned(empty_object());
        Self {
            id: timer.id.to_string(),
            name: &definition.name,
            agent_id: definition.labels.get("agent").map(String::as_str),
            team: definition.labels.get("team").map(String::as_str),
            duration: duration_ns / NS_PER_MS,
            start_time: start_ns.div_euclid(NS_PER_MS),
            end_time: end_ns.div_euclid(NS_PER_MS),
            status,
            events: events.and_then(|e| e.events).map_or_else(empty, Cow::Borrowed),
            metadata: definition.metadata_json.as_deref().and_then(stored_json).unwrap_or_else(empty),
            time_remaining: remaining_ns / NS_PER_MS,
            progress,
        }
    }
}

fn empty_object() -> Box<RawValue> {
    serde_json::value::to_raw_value(&serde_json::Map::new()).unwrap_or_default()
}

/// What the SDK's webhook says beside the timer; a parameter of the action.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TimerExpired<'a> {
    #[serde(borrow)]
    message: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
}

/// The body of the SDK's webhook.
pub(crate) fn timer_expired(order: &FireOrder, say: &TimerExpired<'_>) -> String {
    #[derive(Serialize)]
    struct Body<'a> {
        event: &'static str,
        timer: SdkTimer<'a>,
        message: Option<&'a RawValue>,
        data: Option<&'a RawValue>,
    }
    let now_ns = order.times.as_ref().map_or(order.firing.nominal_ns, |t| t.fired_ns);
    to_text(&Body {
        event: "timer_expired",
        timer: SdkTimer {
            status: "expired",
            time_remaining: 0,
            progress: 1.0,
            ..SdkTimer::new(&order.timer, now_ns)
        },
        message: say.message,
        data: say.data,
    })
}
