//! The schemas of what is sent.

use super::schema::{
    count, duration, id, list, list_to, map, named, one_of, or_null, or_nulls, request, short, text, time,
    told,
};
use crate::api::PAGE_MAX;
use crate::render::words::{FOLDS, GAPS, MODES, OVERLAPS, STATES, UPSTREAM_ONS};
use minoots_kernel::definition::{
    ACTIONS_MAX, CATCH_UP_MAX, DETAIL_MAX_BYTES, IDEMPOTENCY_KEY_MAX_BYTES, LABEL_MAX_BYTES, LABELS_MAX,
    NAME_MAX_BYTES, REASON_MAX_BYTES, UPSTREAMS_MAX,
};
use serde_json::{Map, Value, json};

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
            ("name", told(named_text(NAME_MAX_BYTES), "For people; need not be unique.")),
            ("after", or_null(told(duration(), "It fires so long after it is created."))),
            ("at", or_null(told(time(), "It fires at this moment of corrected time."))),
            ("every", or_null(told(duration(), "It fires again and again at this distance."))),
            ("mode", or_null(told(one_of(&MODES), "What the distance is counted from."))),
            ("anchor", or_null(told(time(), "A moment of the grid."))),
            ("cron", or_null(told(text(), "Five fields, or six with the second first."))),
            ("zone", or_null(told(text(), "Of the IANA database; UTC when it is left out."))),
            ("gap", or_null(one_of(&GAPS))),
            ("fold", or_null(one_of(&FOLDS))),
            ("exclude_dates", or_null(list(json!({"type": "string", "format": "date"})))),
            ("start", or_null(told(time(), "Nothing fires before it."))),
            ("end", or_null(told(time(), "Nothing fires at it or after it."))),
            ("count", or_null(told(count(), "How often it fires at most."))),
            ("jitter", or_null(duration())),
            ("misfire", or_null(named("Misfire"))),
            ("grace", or_null(told(duration(), "How late an occurrence may be before it counts as missed."))),
            ("overlap", or_null(one_of(&OVERLAPS))),
            ("priority", or_null(json!({"type": "integer", "minimum": i8::MIN, "maximum": i8::MAX}))),
            ("expire_after", or_null(duration())),
            ("start_after", or_null(named("StartAfter"))),
            ("actions", list_to(named("NewAction"), ACTIONS_MAX)),
            ("labels", named("Labels")),
            ("tags", tags()),
            ("metadata", told(json!({}), "Any JSON; it comes back as it was sent.")),
            (
                "idempotency_key",
                or_null(json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX_BYTES})),
            ),
            ("agent", or_null(told(short(LABEL_MAX_BYTES), "Whose it is; kept as the label `agent`."))),
            ("team", or_null(told(short(LABEL_MAX_BYTES), "Whose it is; kept as the label `team`."))),
            (
                "payload_schema",
                or_null(told(text(), "What the metadata is checked against: a name, or `name@version`.")),
            ),
            ("agent_binding", or_null(told(json!({"type": "object"}), "Which agent receives its commands."))),
        ],
    );
    schema["oneOf"] = ["after", "at", "every", "cron"].iter().map(|rule| given(&[rule])).collect();
    let of_interval = ["mode", "anchor"].map(|field| (field, given(&["every"])));
    let of_cron = ["zone", "gap", "fold", "exclude_dates"].map(|field| (field, given(&["cron"])));
    let needs = of_interval.into_iter().chain(of_cron);
    schema["allOf"] = needs.map(|(field, rule)| json!({"if": given(&[field]), "then": rule})).collect();
    schema
}

/// These fields are there, and none of them is null.
pub(super) fn given(fields: &[&str]) -> Value {
    let not_null = fields.iter().map(|field| (field.to_string(), json!({"not": {"type": "null"}})));
    json!({"required": fields, "properties": not_null.collect::<Map<_, _>>()})
}

/// Text that is not empty.
fn named_text(max: usize) -> Value {
    json!({"type": "string", "minLength": 1, "maxLength": max})
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
            ("parameters", or_null(told(json!({"type": "object"}), "The connector's."))),
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
    let mut timers =
        list_to(request(&["id"], [("id", id()), ("on", or_null(one_of(&UPSTREAM_ONS)))]), UPSTREAMS_MAX);
    timers["minItems"] = 1.into();
    let need = json!({
        "description": "How many of them it takes.",
        "oneOf": [{"type": "string", "enum": ["all", "any"]}, {"type": "integer", "minimum": 1, "maximum": UPSTREAMS_MAX}],
    });
    request(&["timers"], [("timers", timers), ("need", or_null(need))])
}

fn new_due() -> Value {
    let mut schema = request(
        &[],
        or_nulls([
            ("at", told(time(), "To this moment.")),
            ("after", told(duration(), "So long from now.")),
            (
                "extend_by",
                told(duration(), "So long after its present due time; a negative one brings it forward."),
            ),
        ]),
    );
    schema["oneOf"] = ["at", "after", "extend_by"].iter().map(|way| given(&[way])).collect();
    schema
}

fn acknowledgement() -> Value {
    request(
        &["firing_id"],
        [
            ("firing_id", told(text(), "The timer's latest fire.")),
            ("by", told(or_null(short(NAME_MAX_BYTES)), "Who answered.")),
            ("note", told(or_null(short(DETAIL_MAX_BYTES)), "In their words.")),
        ],
    )
}

fn change_of_many(has_reason: bool) -> Value {
    let (ids, filter) = (list_to(id(), PAGE_MAX), named("TimerFilter"));
    let mut schema = if has_reason {
        request(&[], [("ids", or_null(ids)), ("filter", or_null(filter)), ("reason", reason())])
    } else {
        request(
            &[],
            [("ids", or_null(ids)), ("filter", or_null(filter)), ("reason", json!({"type": "null"}))],
        )
    };
    schema["oneOf"] = json!([given(&["ids"]), given(&["filter"])]);
    schema
}

fn timer_filter() -> Value {
    let state = one_of(&STATES);
    let mut states = list(state.clone());
    states["minItems"] = 1.into();
    let filter = request(
        &[],
        [
            ("state", or_null(json!({"oneOf": [state, states]}))),
            ("agent", or_null(text())),
            ("team", or_null(text())),
            ("labels", map(text())),
            ("tags", list(text())),
            ("due_from", or_null(time())),
            ("due_until", or_null(time())),
        ],
    );
    told(filter, "Which timers; `{}` finds every one.")
}
