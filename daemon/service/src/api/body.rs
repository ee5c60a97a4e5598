//! Reads the body of a request as strict JSON.

use super::error::{
    ApiError, BODY_TOO_LARGE, INVALID_FIELD, INVALID_JSON, MISSING_FIELD, UNKNOWN_FIELD,
    UNSUPPORTED_MEDIA_TYPE,
};
use crate::render;
use axum::body::Body;
use axum::http::{HeaderMap, header};
use http_body_util::BodyExt;
use serde::Deserialize;
use serde::de::{DeserializeOwned, Deserializer, MapAccess, Visitor, value::MapAccessDeserializer};
use serde_json::error::Category;
use std::fmt;
use std::marker::PhantomData;

/// The largest body.
pub(crate) const BODY_MAX_BYTES: usize = 1024 * 1024;
/// The largest body of a batch.
pub(crate) const BATCH_MAX_BYTES: usize = 8 * 1024 * 1024;
/// How much of a body that is too large is read and dropped, so that its sender reads the answer instead of a reset.
const DRAIN_MAX_BYTES: usize = 16 * 1024 * 1024;

/// The bytes of a body that says it is JSON, at most `max_bytes` of them.
pub(crate) async fn read_json(
    headers: &HeaderMap,
    body: Body,
    max_bytes: usize,
) -> Result<Vec<u8>, ApiError> {
    let refusal = media_type_refusal(headers);
    let bytes = read(body, max_bytes).await;
    match refusal {
        Some(e) => Err(e),
        None => bytes,
    }
}

/// A browser sends a form, text or untyped body across origins without asking; a JSON one it asks for first.
fn media_type_refusal(headers: &HeaderMap) -> Option<ApiError> {
    let given = headers.get(header::CONTENT_TYPE).map(|v| v.to_str().unwrap_or("?"));
    let essence = given.unwrap_or_default().split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return None;
    }
    let told = match given {
        Some(text) => format!("the Content-Type is {text:?}"),
        None => "there is no Content-Type".to_string(),
    };
    Some(ApiError::new(
        &UNSUPPORTED_MEDIA_TYPE,
        format!("{told}: send JSON with Content-Type: application/json"),
    ))
}

async fn read(mut body: Body, max_bytes: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::new();
    let mut total = 0;
    while let Some(frame) = body.frame().await {
        let frame = frame
            .map_err(|e| ApiError::new(&INVALID_JSON, format!("the body broke off ({e}): send it again")))?;
        let Ok(data) = frame.into_data() else { continue };
        total += data.len();
        if total <= max_bytes {
            bytes.extend_from_slice(&data);
        } else if total > DRAIN_MAX_BYTES {
            break;
        }
    }
    if total > max_bytes {
        let detail =
            format!("the body is over {max_bytes} bytes: keep large data elsewhere, send a link to it");
        return Err(ApiError::new(&BODY_TOO_LARGE, detail));
    }
    Ok(bytes)
}

/// A JSON object. Derived structs alone would take an array of their fields' values too.
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = Object<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }
            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }
        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// Parses the body of a verb, all of whose fields may be left out, and so the body too.
pub(crate) fn parse_or_empty<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    parse(if bytes.is_empty() { b"{}" } else { bytes })
}

/// Parses a body; the error names the place or the field.
pub(crate) fn parse<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ApiError> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value: Object<T> = serde_path_to_error::deserialize(&mut json).map_err(|e| {
        let path = e.path().to_string();
        let error = e.into_inner();
        if error.classify() != Category::Data {
            return not_json(&error);
        }
        let what = render::json_error(&error);
        let code = match () {
            () if what.starts_with("unknown field") => &UNKNOWN_FIELD,
            () if what.starts_with("missing field") => &MISSING_FIELD,
            () => &INVALID_FIELD,
        };
        ApiError::new(code, if path == "." { what } else { format!("{path}: {what}") })
    })?;
    json.end().map_err(|e| not_json(&e))?;
    Ok(value.0)
}

fn not_json(error: &serde_json::Error) -> ApiError {
    // serde_json's text ends with the line and the column.
    ApiError::new(&INVALID_JSON, format!("the body is not valid JSON: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::value::RawValue;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Sample {
        name: String,
        #[serde(default)]
        any: Option<Box<RawValue>>,
        #[serde(default)]
        list: Vec<i64>,
    }

    #[test]
    fn bodies_are_taken_strictly() {
        /// `want` is the code and a part of the detail.
        fn check(body: &str, want: (&str, &str)) {
            let e = parse::<Sample>(body.as_bytes()).expect_err(body);
            assert_eq!(e.code.code, want.0, "{body}: {e:?}");
            assert!(e.detail.contains(want.1), "{body}: {e:?}");
        }
        check("", ("invalid_json", "line 1 column 0"));
        check("{\n \"name\": }", ("invalid_json", "line 2 column 10"));
        check(r#"{"name":"x"} x"#, ("invalid_json", "trailing characters"));
        check("\u{0}", ("invalid_json", "line 1 column 1"));
        check(r#"{"nam":"x"}"#, ("unknown_field", "unknown field `nam`, expected one of `name`"));
        check("{}", ("missing_field", "missing field `name`"));
        check(r#"["x"]"#, ("invalid_field", "a JSON object"));
        check(r#"{"name":5}"#, ("invalid_field", "name: invalid type"));
        check(r#"{"name":"x","list":[1,"y"]}"#, ("invalid_field", "list[1]: invalid type"));
        check(r#"{"name":"x","name":"y"}"#, ("invalid_field", "duplicate field `name`"));
        let sample: Sample = parse(br#"{"name":"x","any":{"n":1.50}}"#).unwrap();
        assert_eq!(sample.any.unwrap().get(), r#"{"n":1.50}"#);
        assert_eq!((sample.name.as_str(), sample.list.len()), ("x", 0));
    }
}
