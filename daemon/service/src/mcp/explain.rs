//! Why a timer fired when it did, or did not fire: read from its state, its history, the clock and the service.

use super::words::{Cause, Explanation, Verdict};
use chronotick_core::Span;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

/// A fire that comes no later than this is on time.
const ON_TIME_NS: i64 = 10_000_000;
/// A timer that has not fired so long after its due time is overdue: less may lie between two questions.
const OVERDUE_NS: i64 = 1_000_000_000;

/// What an explanation is made from: answers of the API.
#[derive(Debug, Default)]
pub(super) struct Facts {
    pub(super) timer: Value,
    /// In order of the nominal times.
    pub(super) history: Vec<Value>,
    /// False where the history goes on after this.
    pub(super) is_whole: bool,
    pub(super) status: Value,
    pub(super) usage: Value,
    pub(super) now_ns: i64,
}

/// The verdict, and what led to it.
pub(super) fn explain(facts: &Facts) -> Explanation {
    let timer = &facts.timer;
    let text = |field: &str| timer[field].as_str().unwrap_or_default().to_string();
    let state = text("state");
    let mut causes = Vec::new();
    let verdict = match state.as_str() {
        "cancelled" => {
            causes.push(cause("cancelled", "it was cancelled", timer, &["ended_at", "cancel_reason"]));
            Verdict::Cancelled
        }
        "paused" => {
            let said = "it is paused: nothing fires until timer_resume";
            causes.push(cause("paused", said, timer, &["pause_reason", "due_at"]));
            Verdict::Paused
        }
        "waiting" => {
            causes.push(waits(timer));
            Verdict::WaitsForOthers
        }
        _ => by_fires(facts, &state, &mut causes),
    };
    causes.extend(skips(&facts.history));
    causes.extend(earlier_late(facts));
    if matches!(verdict, Verdict::Overdue) || causes.iter().any(|c| c.code == "queueing") {
        causes.extend(of_the_service(facts));
    }
    if !facts.is_whole {
        let said = "the history goes on after the part that was read: timer_history has the rest";
        causes.push(Cause { code: "history_goes_on".into(), text: said.into(), evidence: Map::new() });
    }
    let said: Vec<_> = causes.iter().map(|c| c.text.as_str()).collect();
    let sentence = format!("Timer {:?} is {state}: {}.", text("name"), said.join("; "));
    Explanation { id: text("id"), state, verdict, causes, sentence }
}

/// The verdict on a timer that nothing holds up.
fn by_fires(facts: &Facts, state: &str, causes: &mut Vec<Cause>) -> Verdict {
    let timer = &facts.timer;
    let overdue_ns = ns(&timer["due_at"]).map(|due_ns| facts.now_ns.saturating_sub(due_ns));
    let is_overdue = state == "scheduled" && overdue_ns.is_some_and(|ns| ns > OVERDUE_NS);
    if state == "failed" {
        causes.push(cause(
            "actions_failed",
            "an action of its last fire failed",
            timer,
            &["results", "failures"],
        ));
    }
    if is_overdue {
        let late = span(overdue_ns.unwrap_or(0));
        let said = format!("its due time passed {late} ago, and it has not fired");
        causes.push(cause("overdue", &said, timer, &["due_at", "fires"]));
        return Verdict::Overdue;
    }
    let last = &timer["last_fire"];
    if last.is_null() {
        if state == "expired" || facts.history.iter().any(|line| line["outcome"] == "skipped") {
            return Verdict::Skipped;
        }
        let said = "it has not fired: it waits for its due time";
        causes.push(cause("not_due", said, timer, &["due_at"]));
        return Verdict::NotDue;
    }
    let line = facts.history.iter().find(|line| line["firing_id"] == last["firing_id"]).unwrap_or(last);
    let is_late = lateness(line) > ON_TIME_NS;
    causes.extend(of_a_fire(timer, line));
    if last["delivered_at"].is_null() && !timer["in_flight"].as_array().is_none_or(Vec::is_empty) {
        let said = "the actions of its last fire have not ended yet";
        causes.push(cause("actions_under_way", said, timer, &["in_flight"]));
    }
    match (state, is_late) {
        ("failed", _) => Verdict::Failed,
        (_, true) => Verdict::Late,
        (_, false) => Verdict::OnTime,
    }
}

/// Why a fire came when it did.
fn of_a_fire(timer: &Value, line: &Value) -> Vec<Cause> {
    let mut of_fire = line.clone();
    let path = format!("/v1/timers/{}/receipts/{}", plain(&timer["id"]), plain(&line["firing_id"]));
    of_fire["receipt"] = json!(path);
    let fields = ["firing_id", "due_at", "armed_at", "fired_at", "lateness_ns", "clock", "receipt"];
    let of_fire = |code: &str, said: &str| cause(code, said, &of_fire, &fields);
    let (lateness_ns, due_ns, armed_ns) = (lateness(line), ns(&line["due_at"]), ns(&line["armed_at"]));
    if line["by_hand"] == true {
        return vec![of_fire("fired_by_hand", "it was fired by hand, beside its schedule")];
    }
    if lateness_ns < -ON_TIME_NS {
        return vec![of_fire("fired_early", "it was fired by hand, ahead of its due time")];
    }
    if lateness_ns <= ON_TIME_NS {
        return vec![of_fire("fired", "it fired when it was due")];
    }
    let late = span(lateness_ns);
    let is_recurring = !timer["schedule"]["every"].is_null() || !timer["schedule"]["cron"].is_null();
    let mut causes = Vec::new();
    let was_armed_late = due_ns.zip(armed_ns).is_some_and(|(due, armed)| armed > due);
    if line["armed_at"].is_null() {
        let said = format!(
            "it fired {late} late: its overlap policy had it wait until the fire before it had ended"
        );
        causes.push(of_fire("waited_for_earlier_fire", &said));
    } else if was_armed_late {
        let (code, why) = if is_recurring {
            ("service_down", "the service was down when it was due, or caught up with earlier occurrences")
        } else {
            ("service_down_or_paused", "the service was down when it was due, or the timer was paused then")
        };
        causes.push(of_fire(code, &format!("it fired {late} late: {why}")));
        let said = "its misfire policy lets a missed occurrence fire late";
        causes.push(cause("misfire_policy", said, &timer["policies"], &["misfire", "grace", "expire_after"]));
    } else {
        let said = format!(
            "it fired {late} late though it stood in the timing queue in time: the service or its machine was busy, or \
             stood still"
        );
        causes.push(of_fire("queueing", &said));
    }
    match line["clock"]["max_error_ns"].as_i64() {
        None => {
            let said = "the clock had no bound at that fire: how late it was is only what the operating system's clock says, \
                        which may have been stepped";
            causes.push(cause("clock_without_bound", said, &line["clock"], &["source", "max_error_ns"]));
        }
        Some(max_error_ns) if lateness_ns <= max_error_ns => {
            let said = "that is less than the clock could be wrong by: it may have been on time";
            causes.push(cause("within_clock_bound", said, &line["clock"], &["source", "max_error_ns"]));
        }
        Some(_) => {}
    }
    causes
}

/// Which of the timers that a timer waits for have not done what counts.
fn waits(timer: &Value) -> Cause {
    let upstreams = timer["waits_for"]["timers"].as_array().map_or(&[][..], Vec::as_slice);
    let ids = |counts: Value| -> Vec<&str> {
        upstreams.iter().filter(|u| u["counts"] == counts).filter_map(|u| u["id"].as_str()).collect()
    };
    let (open, lost) = (ids(Value::Null), ids(json!(false)));
    let mut said =
        format!("it waits for other timers, {} of which are open: {}", open.len(), open.join(", "));
    if !lost.is_empty() {
        said.push_str(&format!("; these can no longer do what counts: {}", lost.join(", ")));
    }
    cause("waits_for_others", &said, timer, &["waits_for"])
}

/// What its policies skipped: one cause for each reason, with the newest line that has it.
fn skips(history: &[Value]) -> Vec<Cause> {
    let mut by_reason: BTreeMap<&str, (u64, &Value)> = BTreeMap::new();
    for line in history.iter().filter(|line| line["outcome"] == "skipped") {
        let kept = by_reason.entry(line["reason"].as_str().unwrap_or("unknown")).or_insert((0, line));
        *kept = (kept.0 + line["count"].as_u64().unwrap_or(1), line);
    }
    let caused = by_reason.into_iter().map(|(reason, (count, newest))| {
        let why = match reason {
            "misfire" => "were missed (the service was down, or behind by more than the grace), and its misfire policy skips those",
            "coalesced" => "were missed (the service was down, or behind by more than the grace), and one later fire stood for them",
            "expired" => "could not fire before they expired",
            "overlap" => "came while an earlier fire was under way, and its overlap policy skips those",
            "buffer_full" => "came while one waited already for the earlier fire to end",
            "paused" => "came while the timer was paused",
            "cancelled" => "waited for an earlier fire to end when the timer was cancelled",
            _ => "were skipped",
        };
        let mut evidence = newest.clone();
        evidence["count_in_all"] = json!(count);
        let fields = ["reason", "count_in_all", "nominal_at", "last_nominal_at", "skipped_at"];
        cause(&format!("skipped_{reason}"), &format!("{count} occurrences {why}"), &evidence, &fields)
    });
    caused.collect()
}

/// The fires before the last one that were late.
fn earlier_late(facts: &Facts) -> Option<Cause> {
    let last = &facts.timer["last_fire"]["firing_id"];
    let late: Vec<_> = facts
        .history
        .iter()
        .filter(|line| {
            line["outcome"] == "fired" && line["firing_id"] != *last && lateness(line) > ON_TIME_NS
        })
        .collect();
    let worst = late.iter().max_by_key(|line| lateness(line))?;
    let said = format!("{} earlier fires were late, the worst by {}", late.len(), span(lateness(worst)));
    let fields = ["firing_id", "due_at", "armed_at", "fired_at", "lateness_ns", "clock"];
    Some(cause("earlier_fires_late", &said, worst, &fields))
}

/// What may hold up every timer of the service, or of the tenant.
fn of_the_service(facts: &Facts) -> Vec<Cause> {
    let mut causes = Vec::new();
    if facts.status["accepts_changes"] == false {
        let said = "the service takes no changes now: its store is full or has failed, and nothing fires";
        causes.push(cause("service_refuses", said, &facts.status, &["accepts_changes"]));
    }
    let clock = &facts.status["clock"];
    if clock.is_object() && clock["max_error_ns"].is_null() {
        let said = "the service's clock has no bound now: times are those of the operating system";
        causes.push(cause("clock_without_bound_now", said, clock, &["source", "detail"]));
    }
    if facts.usage["limits"]["fires_per_s"].is_u64() {
        let said = "the tenant has a quota of fires in a second: those beyond it wait";
        causes.push(cause("quota", said, &facts.usage["limits"], &["fires_per_s"]));
    }
    causes
}

fn lateness(line: &Value) -> i64 {
    line["lateness_ns"].as_i64().unwrap_or(0)
}

fn plain(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

fn span(ns: i64) -> String {
    // Nobody needs the nanoseconds of a second.
    let rounding_ns = if ns >= 1_000_000_000 { 1_000_000 } else { 1_000 };
    Span::from_ns(ns - ns % rounding_ns).to_string()
}

/// A time of the API in Unix nanoseconds.
fn ns(value: &Value) -> Option<i64> {
    let moment: jiff::Timestamp = value.as_str()?.parse().ok()?;
    i64::try_from(moment.as_nanosecond()).ok()
}

fn cause(code: &str, text: &str, of: &Value, fields: &[&str]) -> Cause {
    let evidence: Map<_, _> = fields.iter().map(|f| ((*f).to_string(), of[*f].clone())).collect();
    Cause { code: code.to_string(), text: text.to_string(), evidence }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DUE: &str = "2030-01-01T00:00:00Z";
    /// 2030-01-01T00:00:00Z.
    const DUE_NS: i64 = 1_893_456_000_000_000_000;

    /// A fire of the history: when it was armed and how late it was, in milliseconds from the due time.
    fn fired(id: &str, armed_ms: Option<i64>, late_ms: i64, max_error_ns: Option<i64>) -> Value {
        json!({
            "outcome": "fired", "firing_id": id, "due_at": DUE, "by_hand": false,
            "armed_at": armed_ms.map(|ms| crate::render::rfc3339(DUE_NS + ms * 1_000_000)),
            "fired_at": crate::render::rfc3339(DUE_NS + late_ms * 1_000_000),
            "lateness_ns": late_ms * 1_000_000,
            "clock": {"source": "page", "max_error_ns": max_error_ns},
        })
    }

    fn fired_timer(state: &str, line: &Value) -> Value {
        json!({
            "id": "t", "name": "n", "state": state, "schedule": {"at": DUE}, "last_fire": line, "fires": 1,
            "policies": {"misfire": "fire_now", "grace": "1s"}, "in_flight": [],
        })
    }

    fn check(facts: &Facts, verdict: Verdict, codes: &[&str]) -> Explanation {
        let got = explain(facts);
        assert_eq!(got.verdict, verdict, "{facts:?}");
        let got_codes: Vec<_> = got.causes.iter().map(|c| c.code.as_str()).collect();
        assert_eq!(got_codes, codes, "{facts:?}");
        got
    }

    fn facts(timer: Value, history: &[Value]) -> Facts {
        let status = json!({"clock": {"max_error_ns": 1000}, "accepts_changes": true});
        let now_ns = DUE_NS - 60_000_000_000;
        Facts { timer, history: history.to_vec(), is_whole: true, status, usage: Value::Null, now_ns }
    }

    #[test]
    fn what_holds_a_timer_up_is_named() {
        let timer = json!({"state": "cancelled", "cancel_reason": "enough"});
        let got = check(&facts(timer, &[]), Verdict::Cancelled, &["cancelled"]);
        assert_eq!(got.causes[0].evidence["cancel_reason"], "enough");
        let timer = json!({"state": "paused", "pause_reason": "lunch"});
        check(&facts(timer, &[]), Verdict::Paused, &["paused"]);
        let timer = json!({"state": "waiting", "waits_for": {"need": "all", "timers": [
            {"id": "a", "counts": null}, {"id": "b", "counts": true}, {"id": "c", "counts": false},
        ]}});
        let got = check(&facts(timer, &[]), Verdict::WaitsForOthers, &["waits_for_others"]);
        assert!(
            got.sentence.contains("1 of which are open: a; these can no longer do what counts: c"),
            "{got:?}"
        );
    }

    #[test]
    fn a_timer_before_its_due_time_waits_for_it_and_after_it_is_overdue() {
        let timer = json!({"state": "scheduled", "due_at": DUE, "last_fire": null, "fires": 0});
        check(&facts(timer.clone(), &[]), Verdict::NotDue, &["not_due"]);
        let mut late = facts(timer, &[]);
        late.now_ns = DUE_NS + 5_000_000_000;
        let got = check(&late, Verdict::Overdue, &["overdue"]);
        assert!(got.sentence.contains("passed 5s ago"), "{got:?}");
        late.status = json!({"clock": {"max_error_ns": null}, "accepts_changes": false});
        late.usage = json!({"limits": {"fires_per_s": 5}});
        let codes = ["overdue", "service_refuses", "clock_without_bound_now", "quota"];
        check(&late, Verdict::Overdue, &codes);
    }

    #[test]
    fn each_way_to_be_late_has_its_cause() {
        let cases = [
            (fired("f", Some(-50_000), 0, Some(1000)), Verdict::OnTime, &["fired"][..]),
            (fired("f", Some(-50_000), -8_000, Some(1000)), Verdict::OnTime, &["fired_early"]),
            (fired("f", Some(-50_000), 2_000, Some(1000)), Verdict::Late, &["queueing"]),
            (
                fired("f", Some(1_900), 2_000, Some(1000)),
                Verdict::Late,
                &["service_down_or_paused", "misfire_policy"],
            ),
            (fired("f", None, 2_000, Some(1000)), Verdict::Late, &["waited_for_earlier_fire"]),
            (fired("f", Some(-50_000), 2_000, None), Verdict::Late, &["queueing", "clock_without_bound"]),
            (fired("f", Some(-1), 20, Some(30_000_000)), Verdict::Late, &["queueing", "within_clock_bound"]),
        ];
        for (line, verdict, codes) in cases {
            let timer = fired_timer("completed", &line);
            check(&facts(timer, std::slice::from_ref(&line)), verdict, codes);
        }
        let line = fired("f", Some(1_900), 2_000, Some(1000));
        let mut timer = fired_timer("scheduled", &line);
        timer["schedule"] = json!({"every": "5s"});
        let got = check(&facts(timer, &[line]), Verdict::Late, &["service_down", "misfire_policy"]);
        assert_eq!(got.causes[0].evidence["receipt"], "/v1/timers/t/receipts/f");
        assert_eq!(got.causes[1].evidence["misfire"], "fire_now");
        let mut line = fired("f", None, 0, None);
        line["by_hand"] = json!(true);
        check(&facts(fired_timer("scheduled", &line), &[line]), Verdict::OnTime, &["fired_by_hand"]);
    }

    #[test]
    fn what_became_of_the_actions_is_told_beside_the_fire() {
        let line = fired("f", Some(-1), 2_000, Some(1000));
        let timer = fired_timer("failed", &line);
        check(&facts(timer, std::slice::from_ref(&line)), Verdict::Failed, &["actions_failed", "queueing"]);
        let mut timer = fired_timer("firing", &line);
        timer["in_flight"] = json!(["f"]);
        check(&facts(timer, &[line]), Verdict::Late, &["queueing", "actions_under_way"]);
    }

    #[test]
    fn every_reason_to_skip_is_told_once_with_its_count() {
        for reason in ["misfire", "coalesced", "expired", "overlap", "buffer_full", "paused", "cancelled"] {
            let line = json!({"outcome": "skipped", "reason": reason, "count": 2, "skipped_at": DUE});
            let timer = json!({"state": "expired", "name": "n", "last_fire": null});
            let code = format!("skipped_{reason}");
            let got = check(&facts(timer, &[line.clone(), line]), Verdict::Skipped, &[code.as_str()]);
            assert_eq!(got.causes[0].evidence["count_in_all"], 4);
            assert!(!got.sentence.contains("4 occurrences were skipped."), "{reason}");
        }
    }

    #[test]
    fn earlier_fires_and_a_history_that_goes_on_are_told() {
        let (late, last) = (fired("e", Some(-1), 3_000, Some(1)), fired("f", Some(-1), 0, Some(1)));
        let mut of = facts(fired_timer("scheduled", &last), &[late, last]);
        of.is_whole = false;
        let got = check(&of, Verdict::OnTime, &["fired", "earlier_fires_late", "history_goes_on"]);
        assert!(got.causes[1].text.contains("the worst by 3s"), "{got:?}");
    }

    #[test]
    fn nothing_is_needed_for_an_answer() {
        let got = explain(&Facts::default());
        assert_eq!(got.verdict, Verdict::NotDue);
    }
}
