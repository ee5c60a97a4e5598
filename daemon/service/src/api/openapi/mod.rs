//! The OpenAPI 3.1 document of the native REST API, made from one table of routes and from the tables that the code itself
//! works with. `docs/api/openapi.json` is a copy, which `cargo xtask gen` writes.
//!
//! A new route is one row in `routes.rs`; a new kind of body is one schema in `requests.rs` or `answers.rs`.

mod admin;
mod answers;
mod parameters;
mod requests;
mod routes;
mod schema;
#[cfg(test)]
mod tests;

pub use routes::{RouteDoc, routes};

use super::error::{ErrorCode, PROBLEM_JSON};
use super::rest::json_answer;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::LazyLock;

/// The media type of an answer in JSON.
const JSON: &str = "application/json";

/// `GET /openapi.json`.
pub(super) async fn serve() -> Response {
    static TEXT: LazyLock<String> = LazyLock::new(|| document().to_string());
    json_answer(StatusCode::OK, TEXT.clone())
}

/// The document.
pub fn document() -> Value {
    let mut paths = Map::new();
    for route in routes() {
        let path = paths.entry(route.path).or_insert_with(|| json!({}));
        path[route.method.to_ascii_lowercase()] = operation(route);
    }
    let schemas = answers::schemas().into_iter().chain(requests::schemas()).chain(admin::schemas());
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "minoots",
            "version": env!("CARGO_PKG_VERSION"),
            "summary": "Durable timers",
            "description": "Creates, reads and changes timers, and streams what happens to them. docs/api/rest.md is the guide.",
            "license": {"name": "Apache-2.0 OR MIT", "identifier": "Apache-2.0 OR MIT"},
        },
        "servers": [{"url": "/"}],
        // Single-user mode on loopback needs none of them.
        "security": [{}, {"bearer": []}, {"api_key": []}],
        "paths": paths,
        "components": {
            "schemas": schemas.map(|(name, schema)| (name.to_string(), schema)).collect::<Map<_, _>>(),
            "parameters": parameters::all(),
            "headers": parameters::headers(),
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer", "description": "An API key, or a token of the identity provider."},
                "api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
            },
        },
    })
}

fn operation(route: &RouteDoc) -> Value {
    let mut responses = Map::new();
    for answer in route.answers {
        let mut response = json!({"description": answer.what});
        if !answer.media.is_empty() {
            response["content"] = json!({answer.media: {"schema": schema::named_or_text(answer.schema)}});
        }
        for header in answer.headers {
            response["headers"][header] = json!({"$ref": format!("#/components/headers/{header}")});
        }
        if route.operation == "createTimer" {
            response["links"] = links();
        }
        responses.insert(answer.status.to_string(), response);
    }
    let mut errors: BTreeMap<u16, Vec<&ErrorCode>> = BTreeMap::new();
    for code in route.errors.iter().copied().flatten() {
        errors.entry(code.http).or_default().push(code);
    }
    for (status, codes) in errors {
        responses.insert(status.to_string(), problem(&codes));
    }
    let mut operation = json!({
        "operationId": route.operation,
        "tags": [route.tag],
        "summary": route.summary,
        "responses": responses,
    });
    match route.verb {
        Some(verb) => operation["x-minoots-verb"] = verb.as_str().into(),
        None => operation["security"] = json!([]),
    }
    let in_path = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let named = in_path.chain(route.parameters.iter().copied());
    let named: Vec<_> =
        named.map(|name| json!({"$ref": format!("#/components/parameters/{name}")})).collect();
    if !named.is_empty() {
        operation["parameters"] = named.into();
    }
    if let Some(body) = &route.body {
        // Where no field is needed the body may be empty, but the Content-Type may not be left out, as OpenAPI has it
        // for a body that is not required: that header is what keeps the forms of other sites out.
        operation["requestBody"] = json!({
            "required": true,
            "content": {JSON: {"schema": schema::named(body.schema)}},
        });
        if !body.is_needed {
            operation["requestBody"]["description"] =
                "The body may be empty; its Content-Type has to be there all the same.".into();
        }
    }
    operation
}

/// An answer for the rows of the table of errors that share a status.
fn problem(codes: &[&ErrorCode]) -> Value {
    let words: Vec<_> = codes.iter().map(|c| c.code).collect();
    let titles: Vec<_> = codes.iter().map(|c| format!("`{}`: {}", c.code, c.title)).collect();
    let schema = json!({
        "allOf": [schema::named("Problem"), {"properties": {"code": {"enum": words}}}],
    });
    let mut response = json!({
        "description": titles.join(". "),
        "content": {PROBLEM_JSON: {"schema": schema}},
    });
    if codes.iter().all(|c| c.retry_after_secs.is_some()) {
        response["headers"] = json!({"Retry-After": {"$ref": "#/components/headers/Retry-After"}});
    }
    response
}

/// What can be done to a timer that was made.
fn links() -> Value {
    let to_timer = routes().filter(|r| r.path.contains("/timers/{id}") && !r.path.contains("{firing_id}"));
    let link = |r: &RouteDoc| {
        (
            r.operation.to_string(),
            json!({"operationId": r.operation, "parameters": {"id": "$response.body#/id"}}),
        )
    };
    to_timer.map(link).collect::<Map<_, _>>().into()
}
