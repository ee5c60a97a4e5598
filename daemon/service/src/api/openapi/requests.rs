//! The schemas of what is sent.

use super::schema::{
    count, duration, id, list, list_to, map, named, one_of, or_null, request, short, text, time, told,
};
use crate::api::PAGE_MAX;
use crate::render::words::{FOLDS, GAPS, MODES, OVERLAPS, STATES, UPSTREAM_ONS};
use minoots_kernel::definition::{
    ACTIONS_MAX, CATCH_UP_MAX, IDEMPOTENCY_KEY_MAX_BYTES, LABEL_MAX_BYTES, LABELS_MAX, NAME_MAX_BYTES,
    REASON_MAX_BYTES, UPSTREAMS_MAX,
};
use serde_json::{Value, json};

/// Every one, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    vec![
        ("Duration", duration_text()),
        ("Labels", labels()),
        ("NewTimer", new_timer()),
        ("NewTimers", request(&["timers"], [("timers", list_to(named("NewTimer"), PAGE_MAX))])),
        ("NewAction", new_action()),
        ("Misfire", misfire()),
        ("StartAfter", start_after()),
        ("Reason", request(&[], [("reason", reason())])),
        ("NoFields", request(&[], [])),
        ("NewDue", new_due()),
        ("Acknowledgement", acknowledgement()),
        ("ChangeOfMany", change_of_many(true)),
        ("ResumeOfMany", change_of_many(false)),
        ("TimerFilter", timer_filter()),
    ]
}

fn duration_text() -> Value {
    json!({
        "type": "string",
        "description": "Numbers with units, as in `250ms`, `2s` or `1h30m`.",
        "examples": ["250ms", "2s", "1h30m"],
        "pattern": r"^-?([0-9]{1,6}(\.[0-9]{1,9})?(ns|us|µs|ms|s|m|h|d))+$",
    })
}

fn labels() -> Value {
    let mut labels = map(short(LABEL_MAX_BYTES));
    labels["maxProperties"] = LABELS_MAX.into();
    labels["propertyNames"] = json!({"minLength": 1, "maxLength": LABEL_MAX_BYTES});
    labels
}

fn tags() -> Value {
    list_to(json!({"type": "string", "minLength": 1, "maxLength": LABEL_MAX_BYTES}), LABELS_MAX)
}

fn reason() -> Value {
    or_null(told(short(REASON_MAX_BYTES), "Why, for the record."))
}

fn new_timer() -> Value {
    let mut schema = request(
        &["name"],
        [
            ("name", told(short(NAME_MAX_BYTES), "For people; need not be unique.")),
            ("after", told(duration(), "It fires so long after it is created.")),
            ("at", told(time(), "It fires at this moment of corrected time.")),
            ("every", told(duration(), "It fires again and again at this distance.")),
            ("mode", told(one_of(&MODES), "What the distance is counted from.")),
            ("anchor", told(time(), "A moment of the grid.")),
            ("cron", told(text(), "Five fields, or six with the second first.")),
            ("zone", told(text(), "Of the IANA database; UTC when it is left out.")),
            ("gap", one_of(&GAPS)),
            ("fold", one_of(&FOLDS)),
            ("exclude_dates", list(json!({"type": "string", "format": "date"}))),
            ("start", told(time(), "Nothing fires before it.")),
            ("end", told(time(), "Nothing fires at it or after it.")),
            ("count", told(count(), "How often it fires at most.")),
            ("jitter", duration()),
            ("misfire", named("Misfire")),
            ("grace", told(duration(), "How late an occurrence may be before it counts as missed.")),
            ("overlap", one_of(&OVERLAPS)),
            ("priority", json!({"type": "integer", "minimum": i8::MIN, "maximum": i8::MAX})),
            ("expire_after", duration()),
            ("start_after", named("StartAfter")),
            ("actions", list_to(named("NewAction"), ACTIONS_MAX)),
            ("labels", named("Labels")),
            ("tags", tags()),
            ("metadata", told(json!({}), "Any JSON; it comes back as it was sent.")),
            (
                "idempotency_key",
                json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX_BYTES}),
            ),
            ("agent", told(short(LABEL_MAX_BYTES), "Whose it is; kept as the label `agent`.")),
            ("team", told(short(LABEL_MAX_BYTES), "Whose it is; kept as the label `team`.")),
            (
                "payload_schema",
                told(text(), "What the metadata is checked against: a name, or `name@version`."),
            ),
            ("agent_binding", told(json!({"type": "object"}), "Which agent receives its commands.")),
        ],
    );
    schema["oneOf"] =
        ["after", "at", "every", "cron"].iter().map(|rule| json!({"required": [rule]})).collect();
    schema["dependentRequired"] = json!({
        "mode": ["every"], "anchor": ["every"],
        "zone": ["cron"], "gap": ["cron"], "fold": ["cron"], "exclude_dates": ["cron"],
    });
    schema
}

fn new_action() -> Value {
    request(
        &["id", "kind"],
        [
            (
                "id",
                told(
                    json!({"type": "string", "minLength": 1, "pattern": "^[!-~]+$"}),
                    "Unique within the timer.",
                ),
            ),
            ("kind", told(text(), "Which connector carries it out: `webhook`.")),
            ("parameters", told(json!({"type": "object"}), "The connector's.")),
        ],
    )
}

fn misfire() -> Value {
    let numbers = request(
        &["max", "within"],
        [("max", json!({"type": "integer", "minimum": 1, "maximum": CATCH_UP_MAX})), ("within", duration())],
    );
    json!({
        "description": "What becomes of occurrences that were missed.",
        "oneOf": [
            {"type": "string", "enum": ["fire_now", "skip", "fire_once"]},
            request(&["catch_up"], [("catch_up", numbers)]),
        ],
    })
}

fn start_after() -> Value {
    let mut timers = list_to(request(&["id"], [("id", id()), ("on", one_of(&UPSTREAM_ONS))]), UPSTREAMS_MAX);
    timers["minItems"] = 1.into();
    let need = json!({
        "description": "How many of them it takes.",
        "oneOf": [{"type": "string", "enum": ["all", "any"]}, {"type": "integer", "minimum": 1, "maximum": UPSTREAMS_MAX}],
    });
    request(&["timers"], [("timers", timers), ("need", need)])
}

fn new_due() -> Value {
    let mut schema = request(
        &[],
        [
            ("at", told(time(), "To this moment.")),
            ("after", told(duration(), "So long from now.")),
            (
                "extend_by",
                told(duration(), "So long after its present due time; a negative one brings it forward."),
            ),
        ],
    );
    schema["minProperties"] = 1.into();
    schema["maxProperties"] = 1.into();
    schema
}

fn acknowledgement() -> Value {
    request(
        &["firing_id"],
        [
            ("firing_id", told(text(), "The timer's latest fire.")),
            ("by", told(or_null(short(REASON_MAX_BYTES)), "Who answered.")),
            ("note", told(or_null(short(REASON_MAX_BYTES)), "In their words.")),
        ],
    )
}

fn change_of_many(has_reason: bool) -> Value {
    let (ids, filter) = (list_to(id(), PAGE_MAX), named("TimerFilter"));
    let mut schema = if has_reason {
        request(&[], [("ids", ids), ("filter", filter), ("reason", reason())])
    } else {
        request(&[], [("ids", ids), ("filter", filter)])
    };
    schema["oneOf"] = json!([{"required": ["ids"]}, {"required": ["filter"]}]);
    schema
}

fn timer_filter() -> Value {
    let state = one_of(&STATES);
    let mut states = list(state.clone());
    states["minItems"] = 1.into();
    let filter = request(
        &[],
        [
            ("state", json!({"oneOf": [state, states]})),
            ("agent", text()),
            ("team", text()),
            ("labels", map(text())),
            ("tags", list(text())),
            ("due_from", time()),
            ("due_until", time()),
        ],
    );
    told(filter, "Which timers; `{}` finds every one.")
}
