//! The OpenAPI document against the service: the same routes, and every answer as the document says.

use crate::harness::{Answer, Running, config};
use jsonschema::{Draft, Validator};
use minoots::access::secret::{KeyText, system_random};
use minoots::api::openapi::{RouteDoc, document, routes};
use minoots::config::access::AuthMode;
use minoots::config::{AccessConfig, Config, SecretsSection};
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

const MISSING: &str = "01900000-0000-7000-8000-000000000000";
/// Streams without an end.
const ENDLESS: [&str; 2] = ["/v1/events", "/v1/events/ws"];

/// Method and path of every `.route(...)` in the native routers' sources: axum does not list what it has.
fn routed(directory: &Path, into: &mut BTreeSet<(String, String)>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            // Older dialects have paths of their own, which the document leaves to docs/compat.md.
            if !path.ends_with("dialects") {
                routed(&path, into);
            }
            continue;
        }
        let source = std::fs::read_to_string(&path).unwrap();
        for call in source.split(".route(").skip(1) {
            let Some((_, rest)) = call.split_once('"') else { continue };
            let (path, rest) = rest.split_once('"').unwrap();
            let mut depth = 1_i32;
            let end = rest.find(|c: char| {
                depth += i32::from(c == '(') - i32::from(c == ')');
                depth == 0
            });
            let handlers = &rest[..end.expect("the call is closed")];
            let before = into.len();
            for method in ["get", "post", "put", "delete", "patch", "any"] {
                let is_there = [",", " ", "."].iter().any(|c| handlers.contains(&format!("{c}{method}(")));
                if is_there {
                    into.insert((method.to_uppercase(), path.to_string()));
                }
            }
            assert!(into.len() > before, "{path}: no method is read from {handlers:?}");
        }
    }
}

#[test]
fn the_router_and_the_document_have_the_same_routes() {
    let mut in_code = BTreeSet::new();
    routed(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api"), &mut in_code);
    let in_table: BTreeSet<_> = routes().map(|r| (r.method.to_string(), r.path.to_string())).collect();
    assert!(in_table.len() > 40);
    assert_eq!(in_code, in_table);
}

/// The service, and what was seen of it.
struct Contract {
    service: Running,
    operator: String,
    document: Value,
    validators: BTreeMap<String, Validator>,
    seen: BTreeSet<(&'static str, u16)>,
    _dir: tempfile::TempDir,
}

impl Contract {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let key = KeyText::random(&system_random()).unwrap();
        let access = AccessConfig {
            mode: AuthMode::Required,
            bootstrap_key: Some(key.clone()),
            ..AccessConfig::default()
        };
        let master = "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=".to_string();
        let secrets = SecretsSection { from_env: Some(master.into()), ..Default::default() };
        let service = Running::whole(&Config { access, secrets, ..config(dir.path()) }).await;
        let (document, operator) = (document(), key.reveal().to_string());
        Self { service, operator, document, validators: BTreeMap::new(), seen: BTreeSet::new(), _dir: dir }
    }

    /// Fails unless the answer is one that the document has.
    fn check(&mut self, route: &'static RouteDoc, answer: &Answer) {
        let (status, method) = (answer.status.to_string(), route.method.to_lowercase());
        let told = format!("{} {}: {status} {}", route.method, route.path, answer.text);
        let said = &self.document["paths"][route.path][&method]["responses"][&status];
        assert!(said.is_object(), "the document does not know this answer: {told}");
        for header in said["headers"].as_object().into_iter().flatten().map(|(name, _)| name) {
            assert!(answer.headers.contains_key(header), "no {header}: {told}");
        }
        let media = answer.headers.get("content-type").map_or("", |v| v.to_str().unwrap());
        match said["content"].as_object() {
            None => assert!(answer.text.is_empty() && media.is_empty(), "a body, with {media:?}: {told}"),
            Some(content) => {
                assert!(content.contains_key(media), "the media type is {media:?}: {told}");
                if media.ends_with("json") {
                    let tokens =
                        ["paths", route.path, &method, "responses", &status, "content", media, "schema"];
                    let pointer = tokens.map(|t| t.replace('~', "~0").replace('/', "~1")).join("/");
                    self.validate(&pointer, &answer.json(), &told);
                }
            }
        }
        self.seen.insert((route.operation, answer.status));
    }

    fn validate(&mut self, pointer: &str, value: &Value, told: &str) {
        let document = &self.document;
        let validator = self.validators.entry(pointer.to_string()).or_insert_with(|| {
            let mut schema = document.clone();
            // In the address of a reference braces and spaces are written as bytes.
            let written: String = form_urlencoded::byte_serialize(pointer.as_bytes()).collect();
            schema["$ref"] = format!("#/{}", written.replace("%2F", "/").replace('+', "%20")).into();
            jsonschema::options()
                .with_draft(Draft::Draft202012)
                .should_validate_formats(true)
                .build(&schema)
                .unwrap_or_else(|e| panic!("{pointer}: {e}"))
        });
        let errors: Vec<_> =
            validator.iter_errors(value).map(|e| format!("{e} at {}", e.instance_path())).collect();
        assert!(errors.is_empty(), "{errors:#?}\n{told}");
    }

    /// Sends a request for an operation, and checks the answer. `path` fills the braces, and may have a query.
    async fn send(
        &mut self,
        operation: &str,
        path: &[&str],
        key: Option<&str>,
        body: Option<(&str, String)>,
        headers: &[(&str, &str)],
    ) -> Answer {
        let route = routes().find(|r| r.operation == operation).unwrap_or_else(|| panic!("no {operation}"));
        let (mut filled, mut values) = (String::new(), path.iter());
        for part in route.path.split('/').skip(1) {
            let part = if part.starts_with('{') { values.next().unwrap() } else { part };
            filled.push('/');
            filled.push_str(part);
        }
        // What is left over is a query.
        filled.extend(values.copied());
        let url = format!("{}{filled}", self.service.url);
        let mut request = self.service.client.request(route.method.parse().unwrap(), url);
        if let Some(key) = key {
            request = request.header("x-api-key", key);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        if let Some((media, text)) = body {
            request = request.header("content-type", media).body(text);
        }
        let answer = Answer::of(request).await;
        self.check(route, &answer);
        answer
    }

    /// The same by the operator; answers with the JSON of what is no error.
    async fn ok(&mut self, operation: &str, path: &[&str], body: Option<Value>) -> Value {
        let key = self.operator.clone();
        let body = body.map(|b| ("application/json", b.to_string()));
        let answer = self.send(operation, path, Some(&key), body, &[]).await;
        assert!(answer.status < 400, "{operation}: {} {}", answer.status, answer.text);
        if answer.text.starts_with('{') { answer.json() } else { Value::Null }
    }

    async fn refused(&mut self, operation: &str, path: &[&str], body: Value, status: u16) {
        let key = self.operator.clone();
        let body = Some(("application/json", body.to_string()));
        let answer = self.send(operation, path, Some(&key), body, &[]).await;
        assert_eq!(answer.status, status, "{operation}: {}", answer.text);
    }

    async fn timer(&mut self, body: Value) -> String {
        self.ok("createTimer", &[], Some(body)).await["id"].as_str().unwrap().to_string()
    }
}

/// Uses every operation as it is meant, and checks that no success that the document has was left out.
#[tokio::test(flavor = "multi_thread")]
async fn every_success_is_as_the_document_says() {
    let mut c = Contract::new().await;
    let id = c.timer(json!({"name": "a", "after": "1h", "labels": {"k": "v"}, "tags": ["t"]})).await;
    for body in [
        json!({"name": "b", "every": "1h", "jitter": "1s", "metadata": {"n": 1.5}, "team": "x", "agent": "y"}),
        json!({"name": "c", "cron": "0 9 * * mon-fri", "zone": "Europe/Paris", "gap": "shift", "count": 3}),
        json!({"name": "d", "at": "2200-01-01T00:00:00Z", "misfire": {"catch_up": {"max": 2, "within": "1h"}}}),
        json!({"name": "e", "after": "1h", "start_after": {"timers": [{"id": id, "on": "fired"}], "need": 1}}),
    ] {
        let id = c.timer(body).await;
        c.ok("getTimer", &[&id], None).await;
    }
    let (key, json_body) = (c.operator.clone(), "application/json");
    for want in [201, 200] {
        let body = Some((json_body, json!({"name": "k", "after": "1h"}).to_string()));
        let answer = c.send("createTimer", &[], Some(&key), body, &[("idempotency-key", "k")]).await;
        assert_eq!(answer.status, want);
    }
    c.ok("listTimers", &["?limit=2&state=scheduled&label=k:v"], None).await;
    c.ok("listTimers", &["?limit=1"], None).await;
    c.ok("pauseTimer", &[&id], Some(json!({"reason": "r"}))).await;
    c.ok("resumeTimer", &[&id], Some(json!({}))).await;
    c.ok("rescheduleTimer", &[&id], Some(json!({"extend_by": "1m"}))).await;
    let fired = c.ok("fireTimer", &[&id], Some(json!({}))).await;
    let firing = fired["last_fire"]["firing_id"].as_str().unwrap().to_string();
    c.ok("acknowledgeFire", &[&id], Some(json!({"firing_id": firing, "by": "me"}))).await;
    c.ok("listHistory", &[&id, "?limit=1"], None).await;
    c.ok("readReceipt", &[&id, &firing], None).await;
    let many = json!({"timers": [{"name": "m", "after": "1h"}, {"name": "n"}, 5]});
    c.ok("createTimers", &[], Some(many)).await;
    for operation in ["pauseTimers", "resumeTimers", "cancelTimers"] {
        c.ok(operation, &[], Some(json!({"filter": {"labels": {"none": "such"}}}))).await;
        c.ok(operation, &[], Some(json!({"ids": [id, MISSING]}))).await;
    }
    let gone = c.timer(json!({"name": "g", "after": "1h"})).await;
    c.ok("cancelTimer", &[&gone], Some(json!({}))).await;
    c.refused("pauseTimer", &[&gone], json!({}), 409).await;
    let gone = c.timer(json!({"name": "g", "after": "1h"})).await;
    c.ok("deleteTimer", &[&gone, "?reason=over"], None).await;
    let stale = [("if-match", "\"77\"")];
    let answer = c.send("fireTimer", &[&id], Some(&key), Some((json_body, String::new())), &stale).await;
    assert_eq!(answer.status, 412);
    let other = Some((json_body, json!({"name": "other", "after": "1h"}).to_string()));
    let answer = c.send("createTimer", &[], Some(&key), other, &[("idempotency-key", "k")]).await;
    assert_eq!(answer.status, 409);

    let draft = json!({"name": "key", "role": "agent", "agent": "x", "expires_after": "1h", "scopes": ["timers.read"]});
    let made = c.ok("createKey", &[], Some(draft.clone())).await["id"].as_str().unwrap().to_string();
    c.ok("listKeys", &["?limit=1"], None).await;
    c.ok("readKey", &[&made], None).await;
    c.ok("updateKey", &[&made], Some(draft.clone())).await;
    c.ok("rotateKey", &[&made], Some(json!({"overlap": "1h"}))).await;
    c.refused("rotateKey", &[&made], json!({"overlap": "800h"}), 400).await;
    c.ok("revokeKey", &[&made], None).await;
    c.refused("updateKey", &[&made], draft, 409).await;
    c.refused(
        "createKey",
        &[],
        json!({"name": "k", "role": "viewer", "expires_at": "2000-01-01T00:00:00Z"}),
        400,
    )
    .await;

    for operation in ["readAudit", "getSigningKeys", "listSchemas", "readUsage", "getStatus", "getMetrics"] {
        c.ok(operation, &[], None).await;
    }
    for operation in ["getHealth", "getReadiness", "getDocument"] {
        c.ok(operation, &[], None).await;
    }
    c.ok("readAudit", &["?limit=1"], None).await;
    c.ok("rotateSigningKey", &[], None).await;
    for schema in [json!({"type": "object"}), json!({"type": "object"}), json!(true)] {
        c.ok("putSchema", &["order"], Some(schema)).await;
    }
    c.refused("putSchema", &["timer.fired"], json!({}), 409).await;
    c.ok("readSchema", &["order"], None).await;
    c.ok("readSchemaVersion", &["order", "1"], None).await;
    c.ok("readSchema", &["timer.fired"], None).await;
    for value in ["one", "two"] {
        c.ok("putSecret", &["slack"], Some(json!({"value": value}))).await;
    }
    c.ok("listSecrets", &[], None).await;
    c.ok("readSecret", &["slack"], None).await;
    c.ok("rotateSecrets", &[], None).await;
    c.ok("deleteSecret", &["slack"], None).await;
    c.refused("putSecret", &["slack"], json!(["x"]), 400).await;
    let limits = json!({"timers_pending": 9, "reads_per_s": 5, "streams": null});
    c.ok("createTenant", &[], Some(json!({"name": "t", "limits": limits}))).await;
    c.refused("createTenant", &[], json!({"name": "t"}), 409).await;
    c.refused("createTenant", &[], json!({"name": "u", "limits": [1]}), 400).await;
    c.ok("listTenants", &["?limit=1"], None).await;
    c.ok("readTenant", &["t"], None).await;
    c.ok("updateTenant", &["t"], Some(json!({"disabled": true}))).await;
    c.ok("removeTenant", &["t"], None).await;

    for route in routes().filter(|r| !ENDLESS.contains(&r.path)) {
        for answer in route.answers {
            assert!(
                c.seen.contains(&(route.operation, answer.status)),
                "{} never answered {}",
                route.operation,
                answer.status
            );
        }
    }
    c.service.stop().await;
}

/// Asks every operation wrongly in the same ways. What comes back is an error that the document has.
#[tokio::test(flavor = "multi_thread")]
async fn every_error_is_as_the_document_says() {
    let mut c = Contract::new().await;
    let operator = c.operator.clone();
    let viewer = c.ok("createKey", &[], Some(json!({"name": "v", "role": "viewer"}))).await;
    let viewer = viewer["secret"].as_str().unwrap().to_string();
    for route in routes().filter(|r| !ENDLESS.contains(&r.path)) {
        let of_path: Vec<_> = route.path.split('/').filter(|part| part.starts_with('{')).collect();
        // A secret and a schema are made where there is none.
        let is_put = ["putSecret", "putSchema"].contains(&route.operation);
        let name = if is_put { "made" } else { "none" };
        let filled: Vec<_> = of_path.iter().map(|p| if *p == "{id}" { MISSING } else { name }).collect();
        let json_media = "application/json";
        let fit = |schema: &str| match schema {
            "NewTimer" => r#"{"name": "n", "after": "1h"}"#,
            "Acknowledgement" => r#"{"firing_id": "x"}"#,
            "NewDue" => r#"{"after": "1h"}"#,
            "NewKey" => r#"{"name": "n", "role": "viewer"}"#,
            "NewTenant" => r#"{"name": "n"}"#,
            "NewSecret" => r#"{"value": "v"}"#,
            "ChangeOfMany" | "ResumeOfMany" => r#"{"ids": []}"#,
            "NewTimers" => r#"{"timers": []}"#,
            _ => "{}",
        };
        let fitting = route.body.as_ref().map(|b| (json_media, fit(b.schema).to_string()));
        let operation = route.operation;
        if route.verb.is_some() {
            let nobody = c.send(operation, &filled, None, fitting.clone(), &[]).await;
            assert_eq!(nobody.status, 401, "{operation}: {}", nobody.text);
        }
        c.send(operation, &filled, Some(&viewer), fitting.clone(), &[]).await;
        let missing = c.send(operation, &filled, Some(&operator), fitting.clone(), &[]).await;
        if !of_path.is_empty() && !is_put {
            assert_eq!(missing.status, 404, "{operation}: {}", missing.text);
        }
        let query: Vec<_> = filled.iter().copied().chain(["?no=1"]).collect();
        c.send(operation, &query, Some(&operator), fitting.clone(), &[]).await;
        if let Some(body) = &route.body {
            // Schemas may be as they like, and what needs no field may be empty.
            for wrong in ["{", "[1]", r#"{"no": 1}"#, "5", "\u{0}", "null", r#"{"a": 1, "a": 1}"#] {
                let sent = Some((json_media, wrong.to_string()));
                let answer = c.send(operation, &filled, Some(&operator), sent, &[]).await;
                assert!(body.schema == "JsonSchema" || answer.status == 400, "{operation}: {wrong}");
            }
            for media in ["text/plain", "application/x-www-form-urlencoded", "x", "application/jsonx"] {
                let sent = Some((media, "{}".to_string()));
                let answer = c.send(operation, &filled, Some(&operator), sent, &[]).await;
                assert_eq!(answer.status, 415, "{operation}: {media}");
            }
            let sent = Some((json_media, "x".repeat(9 * 1024 * 1024)));
            let answer = c.send(operation, &filled, Some(&operator), sent, &[]).await;
            assert_eq!(answer.status, 413, "{operation}");
        }
    }
    // A tenant that asks too often.
    let limits = json!({"reads_per_s": 1, "changes_per_s": 1, "creates_per_s": 1});
    c.ok("createTenant", &[], Some(json!({"name": "slow", "limits": limits}))).await;
    let slow = [("x-tenant-id", "slow")];
    for (operation, body) in [
        ("listTimers", None),
        ("listKeys", None),
        ("createTimers", Some(json!({"timers": vec![json!({"name": "n", "after": "1h"}); 50]}))),
        ("cancelTimers", Some(json!({"ids": vec![MISSING; 50]}))),
    ] {
        let mut refused = false;
        for _ in 0..50 {
            let body = body.as_ref().map(|b| ("application/json", b.to_string()));
            refused |= c.send(operation, &[], Some(&operator), body, &slow).await.status == 429;
            if refused {
                break;
            }
        }
        assert!(refused, "{operation} was never refused");
    }
    c.service.stop().await;
}
