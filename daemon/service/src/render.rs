//! The JSON form of timers and events, as the API and the webhooks give it.

use crate::engine::FireOrder;
use chronotick_core::Span;
use minoots_kernel::{ActionResult, Event, EventRecord, ScheduleSpec, TimerInstance};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;
use std::collections::BTreeMap;

/// RFC 3339 in UTC with nine digits, the one form in which the API gives a time.
pub fn rfc3339(unix_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(t) => format!("{t:.9}"),
        // Unreachable: jiff reaches from year -9999 to 9999, an i64 of nanoseconds from 1677 to 2262.
        Err(_) => format!("{unix_ns} ns"),
    }
}

/// A timer as the API shows it. Every field is always there; what is not known yet is `null`.
#[derive(Debug, Serialize)]
pub struct TimerView<'a> {
    id: String,
    name: &'a str,
    state: &'static str,
    schedule: ScheduleView,
    due_at: Option<String>,
    created_at: String,
    clock: ClockView,
    fired_at: Option<String>,
    lateness_ns: Option<i64>,
    ended_at: Option<String>,
    cancel_reason: Option<&'a str>,
    labels: &'a BTreeMap<String, String>,
    metadata: Option<Cow<'a, RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    actions: Option<Vec<ActionView<'a>>>,
    results: Vec<ResultView<'a>>,
    idempotency_key: Option<&'a str>,
    version: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
enum ScheduleView {
    After(String),
    At(String),
    Every(String),
    Cron(String),
}

#[derive(Debug, Serialize)]
struct ClockView {
    source: &'static str,
}

#[derive(Debug, Serialize)]
struct ActionView<'a> {
    id: &'a str,
    kind: &'a str,
    parameters: Option<Cow<'a, RawValue>>,
}

#[derive(Debug, Serialize)]
struct ResultView<'a> {
    action: &'a str,
    ok: bool,
    attempts: u32,
    detail: &'a str,
}

impl<'a> From<&'a ActionResult> for ResultView<'a> {
    fn from(r: &'a ActionResult) -> Self {
        Self { action: &r.action, ok: r.ok, attempts: r.attempts, detail: &r.detail }
    }
}

impl<'a> TimerView<'a> {
    /// Everything about the timer.
    pub fn new(timer: &'a TimerInstance) -> Self {
        let actions = timer.definition.actions.iter().map(|a| ActionView {
            id: &a.id,
            kind: &a.kind,
            parameters: stored_json(&a.parameters_json),
        });
        Self { actions: Some(actions.collect()), ..Self::without_actions(timer) }
    }

    /// What one receiver may know: the parameters of the other actions can hold secrets.
    pub fn without_actions(timer: &'a TimerInstance) -> Self {
        let definition = &*timer.definition;
        let (status, last) = (&timer.status, timer.status.last.as_ref());
        Self {
            id: timer.id.to_string(),
            name: &definition.name,
            state: status.state.as_str(),
            schedule: match &definition.schedule {
                ScheduleSpec::AfterNs(ns) => ScheduleView::After(Span::from_ns(*ns).to_string()),
                ScheduleSpec::AtNs(ns) => ScheduleView::At(rfc3339(*ns)),
                ScheduleSpec::Interval(i) => ScheduleView::Every(Span::from_ns(i.every_ns).to_string()),
                ScheduleSpec::Cron(c) => ScheduleView::Cron(c.expression.clone()),
            },
            due_at: timer.due_ns().map(rfc3339),
            created_at: rfc3339(status.created_ns),
            clock: ClockView { source: status.created_clock.as_str() },
            fired_at: last.map(|l| rfc3339(l.fired_ns)),
            lateness_ns: last.map(|l| l.lateness_ns()),
            ended_at: status.ended_ns.map(rfc3339),
            cancel_reason: status.reason.as_deref(),
            labels: &definition.labels,
            metadata: definition.metadata_json.as_deref().and_then(stored_json),
            actions: None,
            results: last.map(|l| l.results.iter().map(ResultView::from).collect()).unwrap_or_default(),
            idempotency_key: definition.idempotency_key.as_deref(),
            version: status.version,
        }
    }
}

/// JSON text from the store; the edge had checked that it parses.
fn stored_json(text: &str) -> Option<Cow<'_, RawValue>> {
    serde_json::from_str::<&RawValue>(text).ok().map(Cow::Borrowed)
}

#[derive(Serialize)]
struct EventView<'a> {
    sequence: u64,
    r#type: &'static str,
    timer_id: String,
    at: String,
    clock: ClockView,
    #[serde(flatten)]
    details: DetailsView<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum DetailsView<'a> {
    Scheduled { name: &'a str, due_at: String, labels: &'a BTreeMap<String, String> },
    Cancelled { reason: Option<&'a str> },
    Fired { firing_id: String, due_at: String, lateness_ns: i64, max_error_ns: Option<i64> },
    Ended { firing_id: String, results: Vec<ResultView<'a>> },
}

/// An event as one line of JSON.
pub fn event(record: &EventRecord) -> String {
    let details = match &record.event {
        Event::Scheduled { definition, due_ns, .. } => DetailsView::Scheduled {
            name: &definition.name,
            due_at: rfc3339(*due_ns),
            labels: &definition.labels,
        },
        Event::Cancelled { reason, .. } => DetailsView::Cancelled { reason: reason.as_deref() },
        Event::Firing { firing, lateness_ns, max_error_ns, .. } => DetailsView::Fired {
            firing_id: firing.to_string(),
            due_at: rfc3339(firing.nominal_ns),
            lateness_ns: *lateness_ns,
            max_error_ns: *max_error_ns,
        },
        Event::Completed { firing, results, .. } | Event::Failed { firing, results, .. } => {
            DetailsView::Ended {
                firing_id: firing.to_string(),
                results: results.iter().map(ResultView::from).collect(),
            }
        }
        _ => DetailsView::Cancelled { reason: None },
    };
    to_text(&EventView {
        sequence: record.sequence,
        r#type: record.event.kind(),
        timer_id: record.event.timer().to_string(),
        at: rfc3339(record.at_ns),
        clock: ClockView { source: record.clock.as_str() },
        details,
    })
}

#[derive(Serialize)]
struct WebhookView<'a> {
    r#type: &'static str,
    timer: TimerView<'a>,
    firing_id: String,
    due_at: String,
    fired_at: Option<String>,
    lateness_ns: Option<i64>,
    clock: FiredClockView,
}

/// The clock that a fire was judged by.
#[derive(Serialize)]
struct FiredClockView {
    source: Option<&'static str>,
    /// Half the width of its bound; `null` where it had none.
    max_error_ns: Option<i64>,
}

/// The body of a webhook whose action gives none.
pub fn fired_webhook(order: &FireOrder) -> String {
    let last = order.timer.status.last.as_ref().filter(|l| l.nominal_ns == order.firing.nominal_ns);
    to_text(&WebhookView {
        r#type: "timer.fired",
        timer: TimerView::without_actions(&order.timer),
        firing_id: order.firing.to_string(),
        due_at: rfc3339(order.firing.nominal_ns),
        fired_at: last.map(|l| rfc3339(l.fired_ns)),
        lateness_ns: last.map(|l| l.lateness_ns()),
        clock: FiredClockView {
            source: last.map(|l| l.clock.as_str()),
            max_error_ns: last.and_then(|l| l.max_error_ns),
        },
    })
}

/// JSON text of a value whose keys are all strings.
pub fn to_text(value: &impl Serialize) -> String {
    serde_json::to_string(value).unwrap_or_else(|e| format!(r#"{{"error":"{e}"}}"#))
}

/// What a JSON error says, without the place: that is of use only where the user sent the text as it is.
pub fn json_error(error: &serde_json::Error) -> String {
    let text = error.to_string();
    match text.rfind(" at line ") {
        Some(place) => text[..place].to_string(),
        None => text,
    }
}

/// JSON text without the white space between its tokens, numbers and escapes as they were written. Two texts that
/// differ in layout only are then the same metadata to an idempotency key.
pub fn compact(raw: &RawValue) -> String {
    let mut out = String::with_capacity(raw.get().len());
    let (mut in_string, mut escaped) = (false, false);
    for c in raw.get().chars() {
        if in_string {
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
        } else if c.is_ascii_whitespace() {
            continue;
        } else {
            in_string = c == '"';
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_nine_digits_over_the_whole_range() {
        let check = |ns, want: &str| assert_eq!(rfc3339(ns), want);
        check(0, "1970-01-01T00:00:00.000000000Z");
        check(1_795_000_000_123_456_789, "2026-11-18T11:06:40.123456789Z");
        check(i64::MIN, "1677-09-21T00:12:43.145224192Z");
        check(i64::MAX, "2262-04-11T23:47:16.854775807Z");
    }

    #[test]
    fn compaction_touches_layout_only() {
        let check = |text: &str, want: &str| {
            assert_eq!(compact(&RawValue::from_string(text.into()).unwrap()), want);
        };
        check("{ \"a b\" :\n [ 1.50 , 12345678901234567890 ] }", r#"{"a b":[1.50,12345678901234567890]}"#);
        check(r#"[ "\" x", "\\" , "y z" ]"#, r#"["\" x","\\","y z"]"#);
        check(" null ", "null");
    }
}
