//! The document is whole: what it refers to is there, and what is there is referred to.

use super::{document, routes};
use crate::api::error;
use serde_json::Value;
use std::collections::BTreeSet;

fn references(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            into.extend(fields.get("$ref").and_then(Value::as_str).map(str::to_string));
            fields.values().for_each(|v| references(v, into));
        }
        Value::Array(values) => values.iter().for_each(|v| references(v, into)),
        _ => {}
    }
}

#[test]
fn every_reference_leads_somewhere_and_every_component_is_used() {
    let document = document();
    let mut used = BTreeSet::new();
    references(&document, &mut used);
    for reference in &used {
        assert!(document.pointer(reference.trim_start_matches('#')).is_some(), "{reference}");
    }
    for kind in ["schemas", "parameters", "headers"] {
        for name in document["components"][kind].as_object().unwrap().keys() {
            assert!(used.contains(&format!("#/components/{kind}/{name}")), "nothing uses {kind}/{name}");
        }
    }
}

#[test]
fn operations_have_names_of_their_own_and_no_error_twice() {
    let mut names: Vec<_> = routes().iter().map(|r| r.operation).collect();
    names.sort_unstable();
    let all = names.len();
    names.dedup();
    assert_eq!(names.len(), all);
    for route in routes() {
        let codes: Vec<_> = route.errors.iter().copied().flatten().map(|c| c.code).collect();
        let different: BTreeSet<_> = codes.iter().collect();
        assert_eq!(codes.len(), different.len(), "{}: {codes:?}", route.operation);
        assert!(
            route.answers.iter().all(|a| !codes.is_empty() && error::ALL.iter().all(|e| e.http != a.status))
        );
    }
}

#[test]
fn the_committed_copy_is_fresh() {
    let committed = include_str!("../../../../../docs/api/openapi.json");
    let now = format!("{:#}\n", document());
    assert!(
        committed == now,
        "docs/api/openapi.json is not what the code says: run `cargo xtask gen` and commit it"
    );
}
