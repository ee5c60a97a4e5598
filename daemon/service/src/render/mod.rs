//! The JSON form of timers and events, as the API and the webhooks give it.

mod event;
mod history;
pub(crate) mod sdk;
mod timer;
pub mod words;

pub use event::event;
pub(crate) use event::superseded;
pub use history::HistoryEntryView;
pub use timer::TimerView;

use crate::engine::{FireOrder, FireTimes};
use minoots_kernel::{ActionResult, Occurrence};
use serde::Serialize;
use serde_json::value::RawValue;
use std::borrow::Cow;

/// The older interfaces give times in milliseconds.
pub(crate) const NS_PER_MS: i64 = 1_000_000;

/// RFC 3339 in UTC with nine digits, the one form in which the API gives a time.
pub fn rfc3339(unix_ns: i64) -> String {
    match jiff::Timestamp::from_nanosecond(i128::from(unix_ns)) {
        Ok(t) => format!("{t:.9}"),
        // Unreachable: jiff reaches from year -9999 to 9999, an i64 of nanoseconds from 1677 to 2262.
        Err(_) => format!("{unix_ns} ns"),
    }
}

#[derive(Debug, Serialize)]
struct ClockView {
    source: &'static str,
}

/// One time at which a timer is to fire.
#[derive(Debug, Serialize)]
struct OccurrenceView {
    nominal_at: String,
    due_at: String,
}

impl From<Occurrence> for OccurrenceView {
    fn from(o: Occurrence) -> Self {
        Self { nominal_at: rfc3339(o.nominal_ns), due_at: rfc3339(o.due_ns) }
    }
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

/// JSON text from the store; the edge had checked that it parses.
fn stored_json(text: &str) -> Option<Cow<'_, RawValue>> {
    serde_json::from_str::<&RawValue>(text).ok().map(Cow::Borrowed)
}

#[derive(Serialize)]
struct WebhookView<'a> {
    r#type: &'static str,
    timer: TimerView<'a>,
    firing_id: String,
    nominal_at: String,
    due_at: String,
    fired_at: Option<String>,
    lateness_ns: Option<i64>,
    clock: FiredClockView,
}

/// The clock that a fire was judged by.
#[derive(Debug, Serialize)]
struct FiredClockView {
    source: Option<&'static str>,
    /// Half the width of its bound; `null` where it had none.
    max_error_ns: Option<i64>,
}

/// The body of a webhook whose action gives none.
pub fn fired_webhook(order: &FireOrder) -> String {
    let times = order.times.as_ref();
    // Of a fire that a restart took up again, and that another has followed, only the start is kept with the timer.
    let flight = order.timer.status.flights.iter().find(|f| f.nominal_ns == order.firing.nominal_ns);
    let fired_ns = times.map(|t| t.fired_ns).or_else(|| flight.map(|f| f.fired_ns));
    to_text(&WebhookView {
        r#type: "timer.fired",
        timer: TimerView::without_actions(&order.timer),
        firing_id: order.firing.to_string(),
        nominal_at: rfc3339(order.firing.nominal_ns),
        due_at: rfc3339(times.map_or(order.firing.nominal_ns, |t| t.due_ns)),
        fired_at: fired_ns.map(rfc3339),
        lateness_ns: times.map(FireTimes::lateness_ns),
        clock: FiredClockView {
            source: times.map(|t| t.clock.as_str()),
            max_error_ns: times.and_then(|t| t.max_error_ns),
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
