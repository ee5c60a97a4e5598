//! The parameters of queries, paths and headers, and the headers of answers.

use super::schema::{duration, id, one_of, text, time, told};
use crate::api::query::FILTERS_MAX;
use crate::api::{PAGE_DEFAULT, PAGE_MAX};
use crate::render::words::{EVENT_KINDS, STATES};
use minoots_kernel::definition::{IDEMPOTENCY_KEY_MAX_BYTES, REASON_MAX_BYTES};
use serde_json::{Map, Value, json};

/// Every one, by the name under which a route asks for it.
pub(super) fn all() -> Value {
    let label = json!({"type": "string", "pattern": "^[^:]+:.*$"});
    let kinds = json!({"type": "string", "enum": EVENT_KINDS});
    let limit = json!({"type": "integer", "minimum": 1, "maximum": PAGE_MAX, "default": PAGE_DEFAULT});
    let key = json!({"type": "string", "minLength": 1, "maxLength": IDEMPOTENCY_KEY_MAX_BYTES, "pattern": "^[!-~]+$"});
    let cursor = json!({"type": "string", "pattern": "^[0-9]+(\\.[0-9]+)*$"});
    let tag = "\"[0-9]{1,19}\"";
    [
        ("id", in_path("id", id(), "The timer.")),
        ("key_cursor", one(text(), "cursor", "The `next_cursor` of the page before.")),
        (
            "audit_after",
            one(json!({"type": "integer", "minimum": 0}), "after", "The `next_after` of the page before."),
        ),
        ("principal", one(text(), "principal", "Only lines of this principal.")),
        ("verb", one(text(), "verb", "Only lines of this verb.")),
        ("state", many(one_of(&STATES), "state", "Only those in one of these states.")),
        ("label", many(label, "label", "Only those that carry all of these labels: `key:value`.")),
        ("tag", many(text(), "tag", "Only those that carry all of these tags.")),
        ("agent", one(text(), "agent", "Only those of this agent.")),
        ("team", one(text(), "team", "Only those of this team.")),
        ("due_from", one(time(), "due_from", "Only those that are, or were, due from this time on.")),
        ("due_until", one(time(), "due_until", "Only those that are, or were, due before this time.")),
        ("limit", one(limit, "limit", "At most so many.")),
        ("cursor", one(id(), "cursor", "The `next_cursor` of the page before.")),
        ("history_after", one(time(), "after", "The `next_after` of the page before.")),
        (
            "reason",
            one(json!({"type": "string", "maxLength": REASON_MAX_BYTES}), "reason", "Why, for the record."),
        ),
        ("after", one(cursor.clone(), "after", "Start after the event with this id; 0 is the beginning.")),
        ("type", many(kinds, "type", "Only events of these types.")),
        ("timer", many(id(), "timer", "Only events of these timers.")),
        ("heartbeat", one(duration(), "heartbeat", "How often an idle stream shows its place: 1s to 5m.")),
        (
            "If-Match",
            in_header(
                json!({"anyOf": [{"const": "*"}, {"type": "string", "pattern": format!("^{tag}$")}]}),
                "If-Match",
                "Only if the timer still has this version.",
            ),
        ),
        (
            "Idempotency-Key",
            in_header(
                key,
                "Idempotency-Key",
                "A repeated create with this key answers with the first timer.",
            ),
        ),
        ("Last-Event-ID", in_header(cursor, "Last-Event-ID", "As `after`, and wins over it.")),
    ]
    .into_iter()
    .chain(super::admin::path_parameters().map(|(name, schema, what)| (name, in_path(name, schema, what))))
    .map(|(name, parameter)| (name.to_string(), parameter))
    .collect::<Map<_, _>>()
    .into()
}

fn in_path(name: &str, schema: Value, what: &str) -> Value {
    json!({"name": name, "in": "path", "required": true, "schema": schema, "description": what})
}

fn one(schema: Value, name: &str, what: &str) -> Value {
    json!({"name": name, "in": "query", "schema": schema, "description": what})
}

fn many(of: Value, name: &str, what: &str) -> Value {
    let schema = json!({"type": "array", "items": of, "maxItems": FILTERS_MAX});
    json!({
        "name": name, "in": "query", "style": "form", "explode": true, "schema": schema, "description": what,
    })
}

fn in_header(schema: Value, name: &str, what: &str) -> Value {
    json!({"name": name, "in": "header", "schema": schema, "description": what})
}

/// The headers of answers.
pub(super) fn headers() -> Value {
    json!({
        "ETag": {
            "description": "The timer's version in quotes: for `If-Match`.",
            "schema": {"type": "string", "pattern": "^\"[0-9]+\"$"},
        },
        "Location": {"description": "Where the timer is.", "schema": told(text(), "A path.")},
        "Retry-After": {"description": "When to try again, in seconds.", "schema": {"type": "integer", "minimum": 1}},
    })
}
