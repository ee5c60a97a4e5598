//! The routes of trust: the audit, signing keys and receipts, schemas, secrets.

use super::body::Object;
use super::error::{
    ALREADY_EXISTS, ApiError, INTERNAL, INVALID_FIELD, INVALID_JSON, INVALID_QUERY, NO_MASTER_KEY, NOT_FOUND,
    STORE_FAILED,
};
use super::query::{parameters, refuse_parameters, unknown_parameter};
use super::rest::json_answer;
use super::{App, PAGE_DEFAULT, PAGE_MAX, body, error, values};
use crate::access::{Caller, Subject, Verb};
use crate::audit;
use crate::render::{self, rfc3339};
use crate::schemas::{SCHEMA_MAX_BYTES, SchemaInfo};
use crate::secrets::{SealError, SecretError, SecretInfo, VALUE_MAX_BYTES, is_name};
use crate::signing::{SigningError, receipt};
use crate::store::LedgerQuery;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use minoots_kernel::{FiringId, LedgerOutcome};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/audit", get(read_audit))
        .route("/.well-known/minoots-keys.json", get(keys))
        .route("/v1/signing-keys/rotate", post(rotate_signing))
        .route("/v1/timers/{id}/receipts/{firing_id}", get(read_receipt))
        .route("/v1/schemas", get(list_schemas))
        .route("/v1/schemas/{name}", get(read_schema).put(put_schema))
        .route("/v1/schemas/{name}/{version}", get(read_schema_version))
        .route("/v1/secrets", get(list_secrets))
        .route("/v1/secrets/rotate", post(rotate_secrets))
        .route("/v1/secrets/{name}", get(read_secret).put(put_secret).delete(delete_secret))
}

fn now_ns(app: &App) -> i64 {
    app.gate.authenticator.now().moment().now_ns
}

impl From<SecretError> for ApiError {
    fn from(e: SecretError) -> Self {
        let code = match &e {
            SecretError::Store(_) => &STORE_FAILED,
            SecretError::Seal(SealError::NoMaster) => &NO_MASTER_KEY,
            SecretError::Seal(_) | SecretError::Damaged(_) => &INTERNAL,
            SecretError::Unknown(_) => &NOT_FOUND,
        };
        Self::new(code, e.to_string())
    }
}

impl From<SigningError> for ApiError {
    fn from(e: SigningError) -> Self {
        let code = if matches!(e, SigningError::Store(_)) { &STORE_FAILED } else { &INTERNAL };
        Self::new(code, e.to_string())
    }
}

/// Writes down how a command of this plane ended.
fn noted<T>(
    app: &App,
    caller: &Caller,
    verb: Verb,
    name: &str,
    outcome: Result<T, ApiError>,
) -> Result<T, ApiError> {
    app.audit.note(caller, verb, name, outcome.as_ref().map(|_| ()));
    outcome
}

/// Runs what waits for the disk or for another program beside the event loop.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, ApiError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|e| ApiError::new(&INTERNAL, format!("the work was not carried out: {e}")))
}

/// Writes a refused command down.
fn refused<T>(app: &App, caller: &Caller, verb: Verb, name: &str, e: ApiError) -> Result<T, ApiError> {
    // A bad name can be long, and is only a word of whoever sent it.
    let shown: String = name.chars().take(80).collect();
    noted(app, caller, verb, &shown, Err(e))
}

fn named(name: &str) -> Result<(), ApiError> {
    if is_name(name) {
        return Ok(());
    }
    let shown: String = name.chars().take(80).collect();
    let detail = format!(
        "the name {shown:?} cannot be used: take 1 to 64 letters, digits, dots, hyphens, underscores"
    );
    Err(ApiError::new(&INVALID_FIELD, detail))
}

fn nothing(what: &str, name: &str) -> ApiError {
    let shown: String = name.chars().take(80).collect();
    ApiError::new(&NOT_FOUND, format!("no {what} {shown:?}: GET /v1/{what}s lists the ones there are"))
}

async fn read_audit(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
    let (mut filters, mut limit) = (audit::Filters::default(), PAGE_DEFAULT);
    let mut every = false;
    for (name, value) in parameters(&query) {
        let refuse = |want: &str| ApiError::new(&INVALID_QUERY, format!("{name} is {value:?}: {want}"));
        match name.as_str() {
            "after" => filters.after = value.parse().map_err(|_| refuse("give it the seq of a line"))?,
            "limit" => {
                limit = value
                    .parse()
                    .ok()
                    .filter(|n| (1..=PAGE_MAX).contains(n))
                    .ok_or_else(|| refuse("give it a number from 1 to 1000"))?;
            }
            "principal" => filters.principal = Some(value),
            "verb" => filters.verb = Some(value),
            "tenant" if value == "*" && caller.every_tenant => every = true,
            "tenant" => {
                filters.tenant = match caller.for_tenant(&value) {
                    Some(of) => Some(of.tenant.to_string()),
                    // As a tenant of which nothing was written.
                    None => {
                        return Ok(json_answer(
                            StatusCode::OK,
                            json!({"lines": [], "next_after": null}).to_string(),
                        ));
                    }
                }
            }
            _ => return Err(unknown_parameter(&name, "after, limit, principal, verb, tenant")),
        }
    }
    if !every && filters.tenant.is_none() {
        filters.tenant = Some(caller.tenant.to_string());
    }
    app.session(caller).enter(Verb::ReadAudit, Subject::Tenant)?;
    let audit = app.audit.clone();
    let page = beside(move || {
        audit.flush();
        audit.directory().map_or_else(|| Ok(audit::Page::default()), |dir| audit::page(dir, &filters, limit))
    })
    .await?
    .map_err(|e| ApiError::new(&STORE_FAILED, format!("the audit cannot be read: {e}")))?;
    // Each line as it is in the file, in a string: its hash is over these very bytes.
    Ok(json_answer(StatusCode::OK, json!({"lines": page.lines, "next_after": page.next_after}).to_string()))
}

async fn keys(State(app): State<App>) -> Response {
    let headers =
        [(header::CONTENT_TYPE, "application/jwk-set+json"), (header::CACHE_CONTROL, "max-age=300")];
    (headers, app.signing.jwks()).into_response()
}

async fn rotate_signing(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let verb = Verb::ManageSigning;
    app.session(caller.clone()).enter(verb, Subject::Tenant)?;
    let (signing, now_ns) = (app.signing.clone(), now_ns(&app));
    let rotated = beside(move || signing.rotate(now_ns)).await?.map_err(ApiError::from);
    let id = noted(&app, &caller, verb, "", rotated)?;
    Ok(json_answer(StatusCode::OK, json!({"key_id": &*id}).to_string()))
}

async fn read_receipt(
    State(app): State<App>,
    caller: Caller,
    Path((id, firing)): Path<(String, String)>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let id = values::timer_id(&id)?;
    let unknown = || error::no_such_fire(&firing);
    let named: Option<FiringId> = FiringId::parse(&firing);
    let nominal_ns = named.filter(|f| f.timer == id).map(|f| f.nominal_ns);
    let tenant = caller.tenant.clone();
    // A foreign timer is not found before the fire is looked at.
    let ask = LedgerQuery {
        tenant: tenant.clone(),
        id,
        after_nominal_ns: nominal_ns.and_then(|ns| ns.checked_sub(1)),
        limit: 1,
    };
    let page = app.session(caller).history(ask).await?;
    let nominal_ns = nominal_ns.ok_or_else(unknown)?;
    let entry = page.entries.into_iter().find(|e| e.nominal_ns == nominal_ns).ok_or_else(unknown)?;
    let LedgerOutcome::Fired(fired) = &entry.outcome else { return Err(unknown()) };
    let partition = app.engine.place(&tenant, id) as u32;
    let envelope = receipt::sign(&app.signing, &tenant, FiringId { timer: id, nominal_ns }, fired, partition);
    Ok(json_answer(StatusCode::OK, render::to_text(&envelope)))
}

fn schema_answer(status: StatusCode, schema: &SchemaInfo) -> Response {
    let text = RawValue::from_string(schema.text.to_string()).ok();
    let view = SchemaView { name: &schema.name, version: schema.version, schema: text };
    json_answer(status, render::to_text(&view))
}

#[derive(serde::Serialize)]
struct SchemaView<'a> {
    name: &'a str,
    version: usize,
    schema: Option<Box<RawValue>>,
}

async fn list_schemas(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let tenant = caller.tenant.clone();
    app.session(caller).enter(Verb::ReadSchemas, Subject::Tenant)?;
    let payloads: Vec<Value> = app
        .schemas
        .list(&tenant)
        .into_iter()
        .map(|s| json!({"name": s.name, "version": s.version}))
        .collect();
    let events: Vec<Value> =
        crate::schemas::EVENTS.iter().map(|(name, _)| json!({"name": name, "version": 1})).collect();
    Ok(json_answer(StatusCode::OK, json!({"schemas": payloads, "events": events}).to_string()))
}

async fn read_schema(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let tenant = caller.tenant.clone();
    app.session(caller).enter(Verb::ReadSchemas, Subject::Named(&name))?;
    let found = app.schemas.get(&tenant, &name, None).ok_or_else(|| nothing("schema", &name))?;
    Ok(schema_answer(StatusCode::OK, &found))
}

async fn read_schema_version(
    State(app): State<App>,
    caller: Caller,
    Path((name, version)): Path<(String, String)>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let tenant = caller.tenant.clone();
    app.session(caller).enter(Verb::ReadSchemas, Subject::Named(&name))?;
    let version = version.parse().ok();
    let found = version.and_then(|v| app.schemas.get(&tenant, &name, Some(v)));
    Ok(schema_answer(StatusCode::OK, &found.ok_or_else(|| nothing("schema", &name))?))
}

async fn put_schema(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let verb = Verb::ManageSchemas;
    app.session(caller.clone()).enter(verb, Subject::Named(&name))?;
    let read = async {
        named(&name)?;
        if crate::schemas::EVENTS.iter().any(|(kind, _)| *kind == name) {
            let detail = format!("the schema {name:?} is of an event and built in: take another name");
            return Err(ApiError::new(&ALREADY_EXISTS, detail));
        }
        let bytes = body::read_json(&headers, body, SCHEMA_MAX_BYTES).await?;
        String::from_utf8(bytes)
            .map_err(|e| ApiError::new(&INVALID_JSON, format!("the body is not UTF-8 text: {e}")))
    };
    let text = match read.await {
        Ok(text) => text,
        Err(e) => return refused(&app, &caller, verb, &name, e),
    };
    let (schemas, tenant) = (app.schemas.clone(), caller.tenant.clone());
    let asked = name.clone();
    let registered = beside(move || schemas.register(&tenant, &asked, &text)).await?;
    let (version, is_new) = noted(&app, &caller, verb, &name, registered)?;
    let status = if is_new { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_answer(status, json!({"name": name, "version": version}).to_string()))
}

fn secret_view(info: &SecretInfo) -> Value {
    json!({
        "name": info.name,
        "version": info.version,
        "created_at": rfc3339(info.created_ns),
        "updated_at": rfc3339(info.updated_ns),
    })
}

async fn list_secrets(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let tenant = caller.tenant.clone();
    app.session(caller).enter(Verb::ReadSecrets, Subject::Tenant)?;
    let secrets: Vec<_> = app.secrets.list(&tenant).iter().map(secret_view).collect();
    Ok(json_answer(StatusCode::OK, json!({"secrets": secrets}).to_string()))
}

async fn read_secret(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let tenant = caller.tenant.clone();
    app.session(caller).enter(Verb::ReadSecrets, Subject::Named(&name))?;
    let found = app.secrets.list(&tenant).into_iter().find(|s| s.name == name);
    let found = found.ok_or_else(|| nothing("secret", &name))?;
    Ok(json_answer(StatusCode::OK, secret_view(&found).to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecretBody {
    value: String,
}

/// The value of a secret's body.
async fn read_secret_value(headers: &HeaderMap, body: Body) -> Result<zeroize::Zeroizing<String>, ApiError> {
    let bytes = zeroize::Zeroizing::new(body::read_json(headers, body, 8 * VALUE_MAX_BYTES).await?);
    // The parser's own words could repeat the value.
    let Object(SecretBody { value }) = serde_json::from_slice(&bytes).map_err(|_| {
        ApiError::new(&INVALID_FIELD, "the body is not {\"value\": \"...\"} with a text and nothing else")
    })?;
    let value = zeroize::Zeroizing::new(value);
    // It goes into headers, so it must be able to.
    if value.is_empty() || value.len() > VALUE_MAX_BYTES || !value.bytes().all(|b| (0x20..0x7f).contains(&b))
    {
        let detail = format!(
            "the value cannot go into a header: give 1 to {VALUE_MAX_BYTES} visible ASCII characters"
        );
        return Err(ApiError::new(&INVALID_FIELD, detail));
    }
    Ok(value)
}

async fn put_secret(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let verb = Verb::ManageSecrets;
    app.session(caller.clone()).enter(verb, Subject::Named(&name))?;
    let read = async {
        named(&name)?;
        if name == "rotate" {
            return Err(ApiError::new(
                &INVALID_FIELD,
                "the name \"rotate\" is taken by a route: take another",
            ));
        }
        read_secret_value(&headers, body).await
    };
    let value = match read.await {
        Ok(value) => value,
        Err(e) => return refused(&app, &caller, verb, &name, e),
    };
    let (secrets, tenant, asked) = (app.secrets.clone(), caller.tenant.clone(), name.clone());
    let now_ns = now_ns(&app);
    let set = beside(move || secrets.set(&tenant, &asked, &value, now_ns)).await?.map_err(ApiError::from);
    let info = noted(&app, &caller, verb, &name, set)?;
    let status = if info.version == 1 { StatusCode::CREATED } else { StatusCode::OK };
    Ok(json_answer(status, secret_view(&info).to_string()))
}

async fn delete_secret(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let verb = Verb::ManageSecrets;
    app.session(caller.clone()).enter(verb, Subject::Named(&name))?;
    let (secrets, tenant, asked) = (app.secrets.clone(), caller.tenant.clone(), name.clone());
    let removed = beside(move || secrets.remove(&tenant, &asked)).await?.map_err(ApiError::from);
    let removed =
        removed.and_then(|was_there| if was_there { Ok(()) } else { Err(nothing("secret", &name)) });
    noted(&app, &caller, verb, &name, removed)?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn rotate_secrets(State(app): State<App>, caller: Caller) -> Result<Response, ApiError> {
    let verb = Verb::ManageSecrets;
    app.session(caller.clone()).enter(verb, Subject::Tenant)?;
    let (secrets, tenant) = (app.secrets.clone(), caller.tenant.clone());
    let rotated = beside(move || secrets.rotate(&tenant)).await?.map_err(ApiError::from);
    let count = noted(&app, &caller, verb, "rotate", rotated)?;
    Ok(json_answer(StatusCode::OK, json!({"sealed_anew": count}).to_string()))
}
