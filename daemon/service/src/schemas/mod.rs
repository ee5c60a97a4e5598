//! Schemas: of the service's events, built in, and of the payloads of tenants, registered and never changed.

use crate::api::error::{ApiError, INVALID_FIELD, INVALID_PAYLOAD, UNKNOWN_SCHEMA};
use crate::secrets::is_name;
use crate::store::{ControlStore, StoreError};
use jsonschema::{Draft, PatternOptions, Validator};
use minoots_kernel::{TenantId, TimerDefinition};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

const KIND: &str = "schema";
/// The largest schema.
pub const SCHEMA_MAX_BYTES: usize = 64 * 1024;
/// How deep a schema may be nested.
pub const DEPTH_MAX: usize = 32;
/// How large one regular expression may become.
const REGEX_MAX_BYTES: usize = 1 << 20;
/// How many versions one name may have.
const VERSIONS_MAX: usize = 1000;

macro_rules! event_schemas {
    ($($kind:literal),* $(,)?) => {
        /// The kinds of events that the feed emits, with their schemas.
        pub const EVENTS: &[(&str, &str)] =
            &[$((concat!("timer.", $kind), include_str!(concat!("../../schemas/events/timer.", $kind, ".json")))),*];
    };
}

event_schemas!(
    "scheduled",
    "held",
    "resolved",
    "rescheduled",
    "paused",
    "resumed",
    "cancelled",
    "fired",
    "buffered",
    "skipped",
    "completed",
    "failed",
    "acknowledged",
);

#[derive(Clone)]
struct Version {
    text: Arc<str>,
    validator: Arc<Validator>,
}

type Names = BTreeMap<(String, String), Vec<Version>>;

/// The schemas there are.
pub struct Schemas {
    control: Arc<dyn ControlStore>,
    payloads: RwLock<Names>,
}

impl std::fmt::Debug for Schemas {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Schemas").finish_non_exhaustive()
    }
}

fn walk(value: &Value, depth: usize) -> Result<(), String> {
    if depth > DEPTH_MAX {
        return Err(format!("it is nested deeper than {DEPTH_MAX}: make it flatter"));
    }
    match value {
        Value::Array(items) => items.iter().try_for_each(|item| walk(item, depth + 1)),
        Value::Object(members) => members.iter().try_for_each(|(name, member)| {
            if matches!(name.as_str(), "$ref" | "$dynamicRef")
                && let Value::String(target) = member
                && !target.starts_with('#')
            {
                return Err(format!(
                    "{name} {target:?} leads elsewhere: refer to the schema itself only (\"#/...\")"
                ));
            }
            if depth > 0 && name == "$id" && member.is_string() {
                return Err("it has an inner $id: leave it out".to_string());
            }
            walk(member, depth + 1)
        }),
        _ => Ok(()),
    }
}

/// A schema that can be used, or why it cannot.
pub fn compile(schema: &Value) -> Result<Validator, String> {
    if !matches!(schema, Value::Object(_) | Value::Bool(_)) {
        return Err("it is neither an object nor a boolean".into());
    }
    walk(schema, 0)?;
    if let Some(draft) = schema.get("$schema")
        && draft.as_str().map(|d| d.trim_end_matches('#'))
            != Some("https://json-schema.org/draft/2020-12/schema")
    {
        return Err(format!(
            "$schema is {draft}: use https://json-schema.org/draft/2020-12/schema, or leave it out"
        ));
    }
    jsonschema::options()
        .with_draft(Draft::Draft202012)
        .with_pattern_options(
            PatternOptions::regex().size_limit(REGEX_MAX_BYTES).dfa_size_limit(REGEX_MAX_BYTES),
        )
        .build(schema)
        .map_err(|e| format!("{e} (at {:?})", e.instance_path().as_str()))
}

fn place(tenant: &str, name: &str, version: usize) -> String {
    format!("{tenant}/{name}/{version:06}")
}

/// A name, and a version where one is given: `name@version`.
fn parse_reference(text: &str) -> Option<(&str, Option<usize>)> {
    let (name, version) = match text.split_once('@') {
        Some((name, version)) => (name, Some(version.parse().ok().filter(|v| *v > 0)?)),
        None => (text, None),
    };
    is_name(name).then_some((name, version))
}

/// What is told of a schema.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SchemaInfo {
    /// Its name.
    pub name: String,
    /// The version told of.
    pub version: usize,
    /// The schema, as it was registered.
    pub text: Arc<str>,
}

impl Schemas {
    /// Reads what there is.
    pub fn open(control: Arc<dyn ControlStore>) -> Result<Self, StoreError> {
        let mut payloads = Names::new();
        // In order of the keys: the versions of a name follow each other.
        for (key, value) in control.all(KIND)? {
            let mut parts = key.rsplitn(3, '/');
            let (_version, name, tenant) = (parts.next(), parts.next(), parts.next());
            let (Some(name), Some(tenant)) = (name, tenant) else { continue };
            let text = String::from_utf8_lossy(&value);
            let compiled = serde_json::from_str(&text).map_err(|e| e.to_string()).and_then(|v| compile(&v));
            let validator = compiled.unwrap_or_else(|why| {
                tracing::error!(
                    "the payload schema {key} cannot be used any more ({why}): it refuses everything"
                );
                jsonschema::validator_for(&Value::Bool(false))
                    .unwrap_or_else(|_| unreachable!("`false` is a schema"))
            });
            let version = Version { text: text.as_ref().into(), validator: Arc::new(validator) };
            payloads.entry((tenant.into(), name.into())).or_default().push(version);
        }
        Ok(Self { control, payloads: RwLock::new(payloads) })
    }

    /// Registers a schema: a new version, unless the newest is the same text. True where it is new.
    pub fn register(&self, tenant: &TenantId, name: &str, text: &str) -> Result<(usize, bool), ApiError> {
        let refuse =
            |why: String| ApiError::new(&INVALID_FIELD, format!("the schema {name:?} cannot be used: {why}"));
        if text.len() > SCHEMA_MAX_BYTES {
            return Err(refuse(format!("it has more than {SCHEMA_MAX_BYTES} bytes")));
        }
        let value: Value = serde_json::from_str(text).map_err(|e| refuse(e.to_string()))?;
        let validator = compile(&value).map_err(refuse)?;
        let text: Arc<str> = value.to_string().into();
        let mut payloads = self.payloads.write().unwrap_or_else(PoisonError::into_inner);
        let versions = payloads.entry((tenant.to_string(), name.to_string())).or_default();
        if versions.last().is_some_and(|newest| newest.text == text) {
            return Ok((versions.len(), false));
        }
        if versions.len() == VERSIONS_MAX {
            return Err(refuse(format!("it has {VERSIONS_MAX} versions already: take another name")));
        }
        let version = versions.len() + 1;
        self.control.put(KIND, &place(tenant.as_str(), name, version), text.as_bytes())?;
        versions.push(Version { text, validator: Arc::new(validator) });
        Ok((version, true))
    }

    /// The newest version of each of the tenant's schemas.
    pub fn list(&self, tenant: &TenantId) -> Vec<SchemaInfo> {
        let payloads = self.payloads.read().unwrap_or_else(PoisonError::into_inner);
        payloads
            .iter()
            .filter(|((of, _), _)| of == tenant.as_str())
            .filter_map(|((_, name), versions)| {
                let text = versions.last()?.text.clone();
                Some(SchemaInfo { name: name.clone(), version: versions.len(), text })
            })
            .collect()
    }

    fn find(&self, tenant: &TenantId, name: &str, version: Option<usize>) -> Option<(usize, Version)> {
        let payloads = self.payloads.read().unwrap_or_else(PoisonError::into_inner);
        let versions = payloads.get(&(tenant.to_string(), name.to_string()))?;
        let version = version.unwrap_or(versions.len());
        Some((version, versions.get(version.checked_sub(1)?)?.clone()))
    }

    /// One schema: of an event, or of the tenant's payloads.
    pub fn get(&self, tenant: &TenantId, name: &str, version: Option<usize>) -> Option<SchemaInfo> {
        if let Some((kind, text)) = EVENTS.iter().find(|(kind, _)| *kind == name) {
            let is_there = version.is_none_or(|v| v == 1);
            return is_there.then(|| SchemaInfo { name: kind.to_string(), version: 1, text: (*text).into() });
        }
        let (version, found) = self.find(tenant, name, version)?;
        Some(SchemaInfo { name: name.into(), version, text: found.text })
    }

    /// Checks a definition's metadata against the schema that it names.
    pub fn check(&self, definition: &TimerDefinition) -> Result<(), ApiError> {
        let Some(reference) = &definition.payload_schema else { return Ok(()) };
        let found = parse_reference(reference).and_then(|(name, v)| self.find(&definition.tenant, name, v));
        let Some((version, schema)) = found else {
            let shown: String = reference.chars().take(80).collect();
            return Err(ApiError::new(
                &UNKNOWN_SCHEMA,
                format!("payload_schema is {shown:?}: register it first with PUT /v1/schemas/{{name}}"),
            ));
        };
        let metadata = definition.metadata_json.as_deref().unwrap_or("null");
        let metadata: Value = serde_json::from_str(metadata)
            .map_err(|e| ApiError::new(&INVALID_PAYLOAD, format!("metadata is not JSON: {e}")))?;
        match schema.validator.validate(&metadata) {
            Ok(()) => Ok(()),
            Err(e) => {
                let (path, mut why) = (e.instance_path().as_str().to_string(), e.masked().to_string());
                why.truncate(why.floor_char_boundary(300));
                Err(ApiError::new(
                    &INVALID_PAYLOAD,
                    format!(
                        "metadata{path} does not fit version {version} of the schema {reference:?}: {why}"
                    ),
                ))
            }
        }
    }
}
