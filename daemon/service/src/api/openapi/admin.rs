//! The rows of the table for keys, secrets, schemas, the audit and what is signed; and the schemas of their bodies.

use super::requests::given;
use super::routes::{ANY, Answer, BODY, Body, Codes, OPEN, QUERY, RouteDoc, json, json_with};
use super::schema::{answer, count, flag, list, named, one_of_texts, or_null, request, text, time, told};
use crate::access::{Role, Verb};
use crate::api::error::{
    ALREADY_EXISTS, FIRE_NOT_FOUND, NO_MASTER_KEY, NOT_FOUND, QUOTA_EXCEEDED, STORE_FULL, TIMER_NOT_FOUND,
    WRONG_STATE,
};
use crate::secrets::VALUE_MAX_BYTES as SECRET_MAX_BYTES;
use serde_json::{Value, json as object};

const NAMED: Codes = &[&NOT_FOUND];
const WRITE: Codes = &[&QUOTA_EXCEEDED, &STORE_FULL];
const SEALED: Codes = &[&NO_MASTER_KEY];
const TIMES: Codes = &[&crate::api::error::INVALID_DURATION, &crate::api::error::INVALID_TIME];
const FAR: Codes = &[&crate::api::error::TIME_TOO_FAR, &crate::api::error::TIME_IN_PAST];
const KEY_STATE: Codes = &[&WRONG_STATE];

const fn ask(
    method: &'static str,
    path: &'static str,
    operation: &'static str,
    verb: Verb,
    summary: &'static str,
    answers: &'static [Answer],
    errors: &'static [Codes],
) -> RouteDoc {
    RouteDoc {
        method,
        path,
        operation,
        tag: "access",
        verb: Some(verb),
        summary,
        parameters: &[],
        body: None,
        answers,
        errors,
    }
}

const fn with(mut route: RouteDoc, schema: &'static str, is_needed: bool) -> RouteDoc {
    route.body = Some(Body { schema, is_needed });
    route
}

const fn by(mut route: RouteDoc, parameters: &'static [&'static str]) -> RouteDoc {
    route.parameters = parameters;
    route
}

const fn of(mut route: RouteDoc, tag: &'static str) -> RouteDoc {
    route.tag = tag;
    route
}

/// The rows.
pub(super) const ROUTES: &[RouteDoc] = &[
    by(
        ask(
            "GET",
            "/v1/keys",
            "listKeys",
            Verb::ReadKeys,
            "The tenant's API keys, without their secrets.",
            &[json(200, "A page.", "Keys")],
            &[ANY, QUERY],
        ),
        &["limit", "key_cursor"],
    ),
    with(
        ask(
            "POST",
            "/v1/keys",
            "createKey",
            Verb::ManageKeys,
            "Makes an API key; its secret is told this once.",
            &[json_with(201, "The key and its secret.", "NewKeyAnswer", &["Location"])],
            &[ANY, BODY, WRITE, TIMES, FAR],
        ),
        "NewKey",
        true,
    ),
    ask(
        "GET",
        "/v1/keys/{key}",
        "readKey",
        Verb::ReadKeys,
        "One key, without its secret.",
        &[json(200, "The key.", "Key")],
        &[ANY, QUERY, NAMED],
    ),
    with(
        ask(
            "PUT",
            "/v1/keys/{key}",
            "updateKey",
            Verb::ManageKeys,
            "Changes what a key gives.",
            &[json(200, "The key.", "Key")],
            &[ANY, BODY, NAMED, WRITE, TIMES, FAR, KEY_STATE],
        ),
        "NewKey",
        true,
    ),
    ask(
        "DELETE",
        "/v1/keys/{key}",
        "revokeKey",
        Verb::ManageKeys,
        "Revokes a key, at once and for good.",
        &[json(200, "The key.", "Key")],
        &[ANY, QUERY, NAMED, &[&STORE_FULL]],
    ),
    with(
        ask(
            "POST",
            "/v1/keys/{key}/rotate",
            "rotateKey",
            Verb::ManageKeys,
            "Gives a key a new secret; the old one holds for `overlap`.",
            &[json(200, "The key and its new secret.", "NewKeyAnswer")],
            &[ANY, BODY, NAMED, WRITE, TIMES, KEY_STATE],
        ),
        "Rotation",
        false,
    ),
    of(
        by(
            ask(
                "GET",
                "/v1/audit",
                "readAudit",
                Verb::ReadAudit,
                "Lines of the tenant's audit.",
                &[json(200, "A page of lines, each as it is in the file.", "AuditLines")],
                &[ANY, QUERY],
            ),
            &["limit", "audit_after", "principal", "verb"],
        ),
        "trust",
    ),
    of(
        RouteDoc {
            method: "GET",
            path: "/.well-known/minoots-keys.json",
            operation: "getSigningKeys",
            tag: "trust",
            verb: None,
            summary: "The public keys of what the service signs, as a JWK set.",
            parameters: &[],
            body: None,
            answers: &[Answer {
                status: 200,
                what: "RFC 7517.",
                media: "application/jwk-set+json",
                schema: "KeySet",
                headers: &[],
            }],
            errors: &[OPEN],
        },
        "trust",
    ),
    of(
        ask(
            "POST",
            "/v1/signing-keys/rotate",
            "rotateSigningKey",
            Verb::ManageSigning,
            "Signs with a new key from now on.",
            &[json(200, "The new key.", "SigningKey")],
            &[ANY, WRITE, SEALED],
        ),
        "trust",
    ),
    of(
        ask(
            "GET",
            "/v1/timers/{id}/receipts/{firing_id}",
            "readReceipt",
            Verb::ReadHistory,
            "A signed receipt of a fire.",
            &[json(200, "The receipt.", "Envelope")],
            &[ANY, QUERY, &[&TIMER_NOT_FOUND, &FIRE_NOT_FOUND]],
        ),
        "trust",
    ),
    of(
        ask(
            "GET",
            "/v1/schemas",
            "listSchemas",
            Verb::ReadSchemas,
            "The tenant's payload schemas and those of events.",
            &[json(200, "Their names and newest versions.", "Schemas")],
            &[ANY, QUERY],
        ),
        "trust",
    ),
    of(
        ask(
            "GET",
            "/v1/schemas/{name}",
            "readSchema",
            Verb::ReadSchemas,
            "The newest version of a schema.",
            &[json(200, "The schema.", "RegisteredSchema")],
            &[ANY, QUERY, NAMED],
        ),
        "trust",
    ),
    of(
        ask(
            "GET",
            "/v1/schemas/{name}/{version}",
            "readSchemaVersion",
            Verb::ReadSchemas,
            "One version of a schema.",
            &[json(200, "The schema.", "RegisteredSchema")],
            &[ANY, QUERY, NAMED],
        ),
        "trust",
    ),
    of(
        with(
            ask(
                "PUT",
                "/v1/schemas/{name}",
                "putSchema",
                Verb::ManageSchemas,
                "Registers a payload schema (JSON Schema 2020-12): a new version where it differs from the newest.",
                &[
                    json(201, "A new version.", "SchemaVersion"),
                    json(200, "It is the newest already.", "SchemaVersion"),
                ],
                &[ANY, BODY, &[&ALREADY_EXISTS], WRITE],
            ),
            "JsonSchema",
            true,
        ),
        "trust",
    ),
    of(
        ask(
            "GET",
            "/v1/secrets",
            "listSecrets",
            Verb::ReadSecrets,
            "The names of the tenant's secrets; never their values.",
            &[json(200, "Names and versions.", "Secrets")],
            &[ANY, QUERY],
        ),
        "trust",
    ),
    of(
        ask(
            "GET",
            "/v1/secrets/{name}",
            "readSecret",
            Verb::ReadSecrets,
            "When a secret was set; never its value.",
            &[json(200, "The secret's name and version.", "Secret")],
            &[ANY, QUERY, NAMED],
        ),
        "trust",
    ),
    of(
        with(
            ask(
                "PUT",
                "/v1/secrets/{name}",
                "putSecret",
                Verb::ManageSecrets,
                "Sets a secret.",
                &[json(201, "It is new.", "Secret"), json(200, "It has a new value.", "Secret")],
                &[ANY, BODY, WRITE, SEALED],
            ),
            "NewSecret",
            true,
        ),
        "trust",
    ),
    of(
        ask(
            "DELETE",
            "/v1/secrets/{name}",
            "deleteSecret",
            Verb::ManageSecrets,
            "Removes a secret.",
            &[Answer { status: 204, what: "It is gone.", media: "", schema: "", headers: &[] }],
            &[ANY, QUERY, NAMED, &[&STORE_FULL]],
        ),
        "trust",
    ),
    of(
        ask(
            "POST",
            "/v1/secrets/rotate",
            "rotateSecrets",
            Verb::ManageSecrets,
            "Seals the tenant's secrets anew.",
            &[json(200, "How many.", "SealedAnew")],
            &[ANY, WRITE, SEALED],
        ),
        "trust",
    ),
    ask(
        "GET",
        "/v1/tenants",
        "listTenants",
        Verb::ReadTenants,
        "The tenants that have a record.",
        &[json(200, "A page.", "Tenants")],
        &[ANY, QUERY, NAMED],
    ),
    with(
        ask(
            "POST",
            "/v1/tenants",
            "createTenant",
            Verb::ManageTenants,
            "Makes the record of a tenant.",
            &[json_with(201, "The tenant.", "Tenant", &["Location"])],
            &[ANY, BODY, NAMED, &[&ALREADY_EXISTS], WRITE],
        ),
        "NewTenant",
        true,
    ),
    ask(
        "GET",
        "/v1/tenants/{name}",
        "readTenant",
        Verb::ReadTenants,
        "The record of a tenant.",
        &[json(200, "The tenant.", "Tenant")],
        &[ANY, QUERY, NAMED],
    ),
    with(
        ask(
            "PUT",
            "/v1/tenants/{name}",
            "updateTenant",
            Verb::ManageTenants,
            "Changes the record of a tenant.",
            &[json(200, "The tenant.", "Tenant")],
            &[ANY, BODY, NAMED, WRITE],
        ),
        "TenantChange",
        true,
    ),
    ask(
        "DELETE",
        "/v1/tenants/{name}",
        "removeTenant",
        Verb::ManageTenants,
        "Removes the record of a tenant: the limits of the service hold for it.",
        &[Answer { status: 204, what: "It is gone.", media: "", schema: "", headers: &[] }],
        &[ANY, QUERY, NAMED, &[&STORE_FULL]],
    ),
    ask(
        "GET",
        "/v1/usage",
        "readUsage",
        Verb::ReadUsage,
        "What is used of each of the tenant's quotas.",
        &[json(200, "Each quota.", "Usage")],
        &[ANY, QUERY],
    ),
];

/// The schemas of their bodies, by name.
pub(super) fn schemas() -> Vec<(&'static str, Value)> {
    let mut new_key = answer(key_fields());
    new_key["properties"]["secret"] = told(text(), "`mnt_` and 64 digits; told this once.");
    if let Some(needed) = new_key["required"].as_array_mut() {
        needed.push("secret".into());
    }
    // What a key may not have is left out.
    let mut key = answer(key_fields());
    for schema in [&mut key, &mut new_key] {
        if let Some(needed) = schema["required"].as_array_mut() {
            needed.retain(|name| {
                !["scopes", "agent", "previous_until", "expires_at", "revoked_at"]
                    .contains(&name.as_str().unwrap_or(""))
            });
        }
    }
    vec![
        ("Key", key),
        ("NewKeyAnswer", new_key),
        ("Keys", answer([("keys", list(named("Key"))), ("next_cursor", or_null(text()))])),
        ("NewKey", new_key_body()),
        ("Rotation", request(&[], [("overlap", or_null(named("Duration")))])),
        (
            "AuditLines",
            answer([
                ("lines", list(told(text(), "A line, as it was hashed."))),
                ("next_after", or_null(count())),
            ]),
        ),
        ("KeySet", answer([("keys", list(public_key()))])),
        ("SigningKey", answer([("key_id", text())])),
        (
            "Envelope",
            answer([
                ("payload", told(text(), "JSON, exactly as it was signed.")),
                ("key_id", text()),
                ("signature", told(text(), "Base64.")),
            ]),
        ),
        (
            "Schemas",
            answer([("schemas", list(named("SchemaVersion"))), ("events", list(named("SchemaVersion")))]),
        ),
        ("SchemaVersion", answer([("name", text()), ("version", count())])),
        (
            "RegisteredSchema",
            answer([("name", text()), ("version", count()), ("schema", named("JsonSchema"))]),
        ),
        ("JsonSchema", object!({"type": ["object", "boolean"]})),
        ("Secrets", answer([("secrets", list(named("Secret")))])),
        (
            "Secret",
            answer([("name", text()), ("version", count()), ("created_at", time()), ("updated_at", time())]),
        ),
        (
            "NewSecret",
            request(
                &["value"],
                [(
                    "value",
                    object!({
                        "type": "string", "minLength": 1, "maxLength": SECRET_MAX_BYTES, "pattern": "^[ -~]+$",
                    }),
                )],
            ),
        ),
        ("Tenants", answer([("tenants", list(named("Tenant"))), ("next_cursor", or_null(text()))])),
        (
            "Tenant",
            answer([
                ("name", text()),
                ("created_at", time()),
                ("disabled", flag()),
                ("limits", named("Limits")),
            ]),
        ),
        (
            "NewTenant",
            request(
                &["name"],
                [("name", word()), ("disabled", flag()), ("limits", or_null(named("Limits")))],
            ),
        ),
        ("TenantChange", request(&[], [("disabled", flag()), ("limits", or_null(named("Limits")))])),
        ("Limits", told(request(&[], limits()), "What is left out has no limit of the tenant's own.")),
        ("Usage", usage()),
        ("SealedAnew", answer([("sealed_anew", count())])),
    ]
}

/// A name of visible ASCII characters without a space.
fn word() -> Value {
    object!({"type": "string", "pattern": "^[!-~]{1,128}$"})
}

/// The quotas of a tenant.
fn limits() -> [(&'static str, Value); 8] {
    let number = |max: u64| object!({"type": ["integer", "null"], "minimum": 0, "maximum": max});
    let (small, large) = (|| number(u32::MAX.into()), || number(u64::MAX));
    [
        ("timers_pending", told(large(), "Timers that have not ended.")),
        ("creates_per_s", told(small(), "New timers in a second.")),
        ("changes_per_s", told(small(), "Changes to timers in a second.")),
        ("reads_per_s", told(small(), "Questions in a second.")),
        (
            "fires_per_s",
            told(
                small(),
                "Fires whose actions begin in a second; what is over it waits, and is never refused.",
            ),
        ),
        ("fires_burst", told(small(), "Of these, so many at once after a quiet time; one second's worth.")),
        ("payload_bytes", told(large(), "Bytes of text in one timer.")),
        ("streams", told(large(), "Streams of events that are open at once.")),
    ]
}

fn usage() -> Value {
    let mut usage = answer([
        ("tenant", text()),
        ("timers_pending", count()),
        ("streams", count()),
        ("fires_waiting", told(count(), "Fires whose actions have not begun.")),
        ("fires_left", told(count(), "Fires whose actions could begin at once; with a limit only.")),
        ("limits", named("Limits")),
    ]);
    if let Some(required) = usage["required"].as_array_mut() {
        required.retain(|name| name != "fires_left");
    }
    usage
}

fn public_key() -> Value {
    object!({"type": "object", "required": ["kty", "crv", "kid", "x"]})
}

fn key_fields() -> [(&'static str, Value); 14] {
    let scopes = list(one_of_texts(Verb::ALL.iter().map(|verb| verb.as_str())));
    [
        ("id", text()),
        ("name", text()),
        ("tenant", text()),
        ("role", one_of_texts(Role::ALL.into_iter().map(Role::as_str))),
        ("scopes", scopes),
        ("agent", text()),
        ("every_tenant", flag()),
        ("last4", text()),
        ("created_at", time()),
        ("created_by", text()),
        ("rotated_at", time()),
        ("previous_until", time()),
        ("expires_at", time()),
        ("revoked_at", time()),
    ]
}

fn new_key_body() -> Value {
    let mut scopes = list(one_of_texts(Verb::ALL.iter().map(|verb| verb.as_str())));
    scopes["minItems"] = 1.into();
    let mut schema = request(
        &["name", "role"],
        [
            ("name", key_name()),
            ("role", one_of_texts(Role::ALL.into_iter().map(Role::as_str))),
            ("scopes", or_null(scopes)),
            ("agent", or_null(word())),
            ("every_tenant", flag()),
            ("expires_at", or_null(time())),
            ("expires_after", or_null(named("Duration"))),
        ],
    );
    let of_agent = object!({"required": ["role"], "properties": {"role": {"const": Role::Agent.as_str()}}});
    schema["allOf"] = object!([
        {"if": of_agent, "then": given(&["agent"])},
        {"not": given(&["expires_at", "expires_after"])},
    ]);
    schema
}

/// Not blank, and without control characters.
fn key_name() -> Value {
    const ANY: &str = r"[^\u0000-\u001f\u007f-\u009f]*";
    const SEEN: &str = r"[^\s\u0000-\u001f\u007f-\u009f]";
    object!({"type": "string", "maxLength": 100, "pattern": format!("^{ANY}{SEEN}{ANY}$")})
}

/// The parameters in their paths, by the name in braces.
pub(super) fn path_parameters() -> [(&'static str, Value, &'static str); 4] {
    [
        ("key", text(), "The key's id."),
        ("name", object!({"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"}), "Its name."),
        ("version", object!({"type": "integer", "minimum": 1}), "Which version."),
        ("firing_id", text(), "Which fire."),
    ]
}
