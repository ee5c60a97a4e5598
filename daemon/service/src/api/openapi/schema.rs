//! Small pieces of JSON Schema.

use crate::render::words::Words;
use serde_json::{Map, Value, json};

/// A schema of the components.
pub(super) fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// The same; text where there is no name.
pub(super) fn named_or_text(name: &str) -> Value {
    if name.is_empty() { text() } else { named(name) }
}

/// Text.
pub(super) fn text() -> Value {
    json!({"type": "string"})
}

/// Text of so many characters at most. The service counts bytes, so other than ASCII it takes less.
pub(super) fn short(max: usize) -> Value {
    json!({"type": "string", "maxLength": max})
}

/// A moment.
pub(super) fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// A duration as text.
pub(super) fn duration() -> Value {
    named("Duration")
}

/// A timer's id.
pub(super) fn id() -> Value {
    json!({"type": "string", "format": "uuid"})
}

/// A number that counts.
pub(super) fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

/// Any number without a fraction.
pub(super) fn integer() -> Value {
    json!({"type": "integer"})
}

/// True or false.
pub(super) fn flag() -> Value {
    json!({"type": "boolean"})
}

/// A list.
pub(super) fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// The same with at most so many.
pub(super) fn list_to(of: Value, max: usize) -> Value {
    json!({"type": "array", "items": of, "maxItems": max})
}

/// An object whose values are alike.
pub(super) fn map(of: Value) -> Value {
    json!({"type": "object", "additionalProperties": of})
}

/// One of some words.
pub(super) fn one_of<T: Copy + PartialEq>(words: &Words<T>) -> Value {
    json!({"type": "string", "enum": words.words().collect::<Vec<_>>()})
}

/// That, or null.
pub(super) fn or_null(mut schema: Value) -> Value {
    match schema.get("type").and_then(Value::as_str) {
        Some(name) if schema.get("enum").is_none() && schema.get("oneOf").is_none() => {
            schema["type"] = json!([name, "null"]);
            schema
        }
        _ => json!({"anyOf": [schema, {"type": "null"}]}),
    }
}

/// With a sentence on what it is.
pub(super) fn told(mut schema: Value, what: &str) -> Value {
    schema["description"] = what.into();
    schema
}

/// An answer: every field is always there, and later versions may have more.
pub(super) fn answer<const N: usize>(fields: [(&str, Value); N]) -> Value {
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let mut schema = json!({"type": "object", "required": names});
    schema["properties"] = properties(fields);
    schema
}

/// A request: some fields are needed, and none but these are known.
pub(super) fn request<const N: usize>(needed: &[&str], fields: [(&str, Value); N]) -> Value {
    let mut schema = json!({"type": "object", "additionalProperties": false});
    if !needed.is_empty() {
        schema["required"] = json!(needed);
    }
    schema["properties"] = properties(fields);
    schema
}

fn properties<const N: usize>(fields: [(&str, Value); N]) -> Value {
    fields.into_iter().map(|(name, schema)| (name.to_string(), schema)).collect::<Map<_, _>>().into()
}

/// Fields that may be null as well, which is the same as leaving them out.
pub(super) fn or_nulls<const N: usize>(fields: [(&'static str, Value); N]) -> [(&'static str, Value); N] {
    fields.map(|(name, schema)| (name, or_null(schema)))
}

/// One of these texts.
pub(super) fn one_of_texts(words: impl Iterator<Item = &'static str>) -> Value {
    json!({"type": "string", "enum": words.collect::<Vec<_>>()})
}
