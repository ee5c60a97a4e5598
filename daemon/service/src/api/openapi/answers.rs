//! The schemas of what is answered.

use super::schema::{
    answer, count, duration, flag, id, integer, list, named, one_of, or_null, text, time, told,
};
use crate::api::error;
use crate::render::words::{ENDS, FOLDS, GAPS, MODES, OVERLAPS, STATES, UPSTREAM_ONS};
use serde_json::{Map, Value, json};

/// Every one, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Problem", problem()),
        ("Timer", timer()),
        ("Schedule", schedule()),
        ("Occurrence", answer([("nominal_at", time()), ("due_at", time())])),
        ("WaitsFor", waits_for()),
        ("FireClock", answer([("source", or_null(clock_source())), ("max_error_ns", or_null(count()))])),
        ("LastFire", last_fire()),
        ("Policies", policies()),
        ("ActionResult", action_result()),
        ("Timers", answer([("timers", list(named("Timer"))), ("next_cursor", or_null(text()))])),
        ("CreateResults", answer([("results", list(create_result()))])),
        ("ChangeResults", change_results()),
        ("HistoryEntry", history_entry()),
        ("History", answer([("entries", list(named("HistoryEntry"))), ("next_after", or_null(time()))])),
        ("Health", answer([("status", text())])),
        ("Status", status()),
        ("Document", json!({"type": "object", "required": ["openapi", "info", "paths"]})),
    ]
}

fn problem() -> Value {
    let codes: Vec<_> = error::ALL.iter().map(|c| c.code).collect();
    answer([
        ("type", told(text(), "`urn:minoots:error:` and the code.")),
        ("title", told(text(), "What is wrong, for every case of it.")),
        ("status", integer()),
        ("detail", told(text(), "What happened this time, and what to do next.")),
        ("code", json!({"type": "string", "enum": codes})),
    ])
}

fn clock_source() -> Value {
    json!({"type": "string", "enum": ["page", "page_holdover", "os"]})
}

fn timer() -> Value {
    answer([
        ("id", id()),
        ("name", text()),
        ("state", one_of(&STATES)),
        ("schedule", named("Schedule")),
        ("due_at", told(or_null(time()), "When it is, or was, to fire.")),
        ("next", told(or_null(named("Occurrence")), "What it waits for.")),
        ("buffered", or_null(named("Occurrence"))),
        ("waits_for", or_null(named("WaitsFor"))),
        ("created_at", time()),
        ("clock", answer([("source", clock_source())])),
        ("fired_at", or_null(time())),
        ("lateness_ns", told(or_null(integer()), "Fired minus due.")),
        ("last_fire", or_null(named("LastFire"))),
        ("in_flight", told(list(text()), "The firing ids of the fires under way.")),
        ("occurrences", count()),
        ("fires", count()),
        ("completions", count()),
        ("failures", count()),
        ("ended_at", or_null(time())),
        ("cancel_reason", or_null(text())),
        ("pause_reason", or_null(text())),
        ("policies", named("Policies")),
        ("labels", json!({"type": "object", "additionalProperties": text()})),
        ("tags", list(text())),
        ("metadata", json!({})),
        ("actions", list(answer([("id", text()), ("kind", text()), ("parameters", json!({}))]))),
        ("results", list(named("ActionResult"))),
        ("idempotency_key", or_null(text())),
        ("created_by", or_null(text())),
        ("payload_schema", or_null(text())),
        ("agent_binding", json!({})),
        ("version", told(count(), "Counts its events; the ETag in quotes.")),
    ])
}

fn schedule() -> Value {
    let bounds = || [("start", or_null(time())), ("end", or_null(time())), ("count", or_null(count()))];
    let [start, end, times] = bounds();
    let every = answer([
        ("every", duration()),
        ("mode", one_of(&MODES)),
        ("anchor", or_null(time())),
        start,
        end,
        times,
    ]);
    let [start, end, times] = bounds();
    let cron = answer([
        ("cron", text()),
        ("zone", text()),
        ("gap", or_null(one_of(&GAPS))),
        ("fold", or_null(one_of(&FOLDS))),
        ("exclude_dates", list(text())),
        start,
        end,
        times,
    ]);
    json!({"oneOf": [answer([("after", duration())]), answer([("at", time())]), every, cron]})
}

fn waits_for() -> Value {
    let upstream = answer([("id", id()), ("on", one_of(&UPSTREAM_ONS)), ("counts", or_null(flag()))]);
    let need =
        json!({"oneOf": [{"type": "string", "enum": ["all", "any"]}, {"type": "integer", "minimum": 1}]});
    answer([("need", need), ("timers", list(upstream))])
}

fn last_fire() -> Value {
    answer([
        ("firing_id", text()),
        ("nominal_at", time()),
        ("due_at", time()),
        ("armed_at", or_null(time())),
        ("fired_at", time()),
        ("lateness_ns", integer()),
        ("clock", named("FireClock")),
        ("delivered_at", or_null(time())),
        ("acknowledged_at", or_null(time())),
    ])
}

fn policies() -> Value {
    answer([
        ("misfire", named("Misfire")),
        ("grace", duration()),
        ("overlap", one_of(&OVERLAPS)),
        ("jitter", duration()),
        ("expire_after", or_null(duration())),
        ("priority", integer()),
    ])
}

fn action_result() -> Value {
    answer([("action", text()), ("ok", flag()), ("attempts", count()), ("detail", text())])
}

fn refused() -> Value {
    answer([("error", named("Problem"))])
}

fn create_result() -> Value {
    json!({"oneOf": [answer([("timer", named("Timer")), ("replayed", flag())]), refused()]})
}

fn change_results() -> Value {
    let one = json!({"oneOf": [answer([("timer", named("Timer"))]), refused()]});
    json!({"oneOf": [answer([("results", list(one))]), answer([("changed", count())])]})
}

fn history_entry() -> Value {
    let reasons = ["misfire", "coalesced", "expired", "overlap", "buffer_full", "paused", "cancelled"];
    answer([
        ("nominal_at", time()),
        ("outcome", json!({"type": "string", "enum": ["fired", "skipped", "buffered"]})),
        ("firing_id", text()),
        ("sequence", or_null(count())),
        ("due_at", or_null(time())),
        ("armed_at", or_null(time())),
        ("fired_at", or_null(time())),
        ("lateness_ns", or_null(integer())),
        ("clock", or_null(named("FireClock"))),
        ("by_hand", flag()),
        ("delivered_at", or_null(time())),
        ("end", or_null(one_of(&ENDS))),
        ("buffered_at", or_null(time())),
        ("skipped_at", or_null(time())),
        ("reason", or_null(json!({"type": "string", "enum": reasons}))),
        ("count", count()),
        ("last_nominal_at", time()),
    ])
}

fn status() -> Value {
    let mut timers = Map::new();
    for state in STATES.words() {
        timers.insert(state.into(), count());
    }
    answer([
        ("version", text()),
        (
            "clock",
            answer([("source", clock_source()), ("detail", text()), ("max_error_ns", or_null(count()))]),
        ),
        (
            "timers",
            json!({"type": "object", "required": STATES.words().collect::<Vec<_>>(), "properties": timers}),
        ),
        ("in_memory", count()),
        ("last_sequence", count()),
        ("last_sequences", list(count())),
        ("accepts_changes", flag()),
    ])
}
