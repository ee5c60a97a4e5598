//! Why a timer fired when it did, or did not fire: read from its state, its ledger and the clock.

use super::words::{Cause, Verdict};
use serde_json::{Map, Value, json};

/// A fire that comes no later than this is on time.
const ON_TIME_NS: i64 = 10_000_000;

/// The verdict on a timer, its newest history and the service's status.
pub(super) fn explain(timer: &Value, history: &[Value], status: &Value) -> Verdict {
    let text = |field: &str| timer[field].as_str().unwrap_or_default().to_string();
    let state = text("state");
    let mut causes = Vec::new();
    let lateness_ns = timer["last_fire"]["lateness_ns"].as_i64().or_else(|| timer["lateness_ns"].as_i64());
    let verdict = match (state.as_str(), lateness_ns) {
        ("cancelled", _) => {
            causes.push(cause("cancelled", "it was cancelled", timer, &["ended_at", "cancel_reason"]));
            "cancelled"
        }
        ("paused", _) => {
            causes.push(cause(
                "paused",
                "it is paused: nothing fires until timer_resume",
                timer,
                &["pause_reason", "due_at"],
            ));
            "paused"
        }
        ("failed", _) => {
            causes.push(cause("actions_failed", "its actions failed", timer, &["results", "failures"]));
            "failed"
        }
        (_, Some(ns)) if ns > ON_TIME_NS => {
            causes.push(cause(
                "late_fire",
                "it fired after its due time: the service was down or busy then, and its misfire policy let it fire",
                timer,
                &["last_fire", "policies"],
            ));
            "late"
        }
        (_, Some(_)) => {
            causes.push(cause("fired", "it fired when it was due", timer, &["last_fire"]));
            "on_time"
        }
        (_, None) if !timer["waits_for"].is_null() && timer["due_at"].is_null() => {
            causes.push(cause("waits_for_others", "it waits for other timers", timer, &["waits_for"]));
            "waits_for_others"
        }
        (_, None) if history.iter().any(|e| e["outcome"] == "skipped") => "skipped",
        (_, None) => {
            causes.push(cause("not_due", "it has not fired: it waits for its due time", timer, &["due_at"]));
            "not_due"
        }
    };
    if let Some(skipped) = history.iter().find(|e| e["outcome"] == "skipped") {
        let fields = ["nominal_at", "last_nominal_at", "count", "reason", "skipped_at"];
        causes.push(cause("skipped", "occurrences were skipped by its policies", skipped, &fields));
    }
    let clock = &status["clock"];
    if clock["max_error_ns"].is_null() {
        let said = "the service's clock has no bound now: times are those of the operating system";
        causes.push(cause("clock_without_bound", said, clock, &["source", "detail"]));
    }
    if status["accepts_changes"] == json!(false) {
        causes.push(cause(
            "service_refuses",
            "the service takes no changes now",
            status,
            &["accepts_changes"],
        ));
    }
    let said: Vec<_> = causes.iter().map(|c| c.text.as_str()).collect();
    let sentence = format!("Timer {:?} is {state}: {}.", text("name"), said.join("; "));
    Verdict { id: text("id"), state, verdict: verdict.to_string(), causes, sentence }
}

fn cause(code: &str, text: &str, of: &Value, fields: &[&str]) -> Cause {
    let evidence: Map<_, _> = fields.iter().map(|f| ((*f).to_string(), of[*f].clone())).collect();
    Cause { code: code.to_string(), text: text.to_string(), evidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_state_has_its_verdict_and_evidence() {
        let good = json!({"clock": {"max_error_ns": 1000}, "accepts_changes": true});
        let cases = [
            (json!({"state": "cancelled", "cancel_reason": "enough"}), "cancelled", "cancelled"),
            (json!({"state": "paused"}), "paused", "paused"),
            (
                json!({"state": "completed", "last_fire": {"lateness_ns": 2_000_000_000_i64}}),
                "late",
                "late_fire",
            ),
            (json!({"state": "completed", "last_fire": {"lateness_ns": 90_000}}), "on_time", "fired"),
            (json!({"state": "scheduled", "due_at": "2030-01-01T00:00:00Z"}), "not_due", "not_due"),
        ];
        for (timer, verdict, code) in cases {
            let got = explain(&timer, &[], &good);
            assert_eq!(got.verdict, verdict, "{timer}");
            assert_eq!(got.causes[0].code, code, "{timer}");
            assert_eq!(got.causes.len(), 1, "{timer}");
        }
    }

    #[test]
    fn a_skipped_occurrence_and_a_clock_without_bound_are_named() {
        let timer = json!({"state": "completed", "name": "n"});
        let history = [json!({"outcome": "skipped", "reason": "misfire", "count": 3})];
        let got = explain(&timer, &history, &json!({"clock": {"max_error_ns": null}}));
        assert_eq!(got.verdict, "skipped");
        let codes: Vec<_> = got.causes.iter().map(|c| c.code.as_str()).collect();
        assert_eq!(codes, ["skipped", "clock_without_bound"]);
        assert_eq!(got.causes[0].evidence["count"], 3);
    }
}
