//! `/v1/tenants`, for the service's operator, and `/v1/usage`, for every tenant.

use crate::access::quota::Limits;
use crate::access::tenants::{Tenant, Tenants};
use crate::access::{Caller, Subject, Verb, grant};
use crate::api::body::Object;
use crate::api::error::{ALREADY_EXISTS, ApiError, INTERNAL, INVALID_FIELD, INVALID_QUERY, NOT_FOUND};
use crate::api::operations::Session;
use crate::api::query::{parameters, refuse_parameters, unknown_parameter};
use crate::api::rest::json_answer;
use crate::api::{App, PAGE_DEFAULT, PAGE_MAX, body};
use crate::render::{rfc3339, to_text};
use crate::store::StoreError;
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/tenants", get(list).post(create))
        .route("/v1/tenants/{name}", get(read).put(update).delete(remove))
        .route("/v1/usage", get(usage))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewTenant {
    name: String,
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    limits: Option<Object<Limits>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantBody {
    #[serde(default)]
    disabled: bool,
    #[serde(default)]
    limits: Option<Object<Limits>>,
}

#[derive(Serialize)]
struct TenantView<'a> {
    name: &'a str,
    created_at: String,
    disabled: bool,
    limits: Limits,
}

#[derive(Serialize)]
struct TenantsView<'a> {
    tenants: Vec<TenantView<'a>>,
    next_cursor: Option<&'a str>,
}

impl<'a> TenantView<'a> {
    fn new(tenant: &'a Tenant) -> Self {
        Self {
            name: &tenant.name,
            created_at: rfc3339(tenant.created_ns),
            disabled: tenant.disabled,
            limits: tenant.limits,
        }
    }
}

fn tenant_json(status: StatusCode, tenant: &Tenant) -> Response {
    json_answer(status, to_text(&TenantView::new(tenant)))
}

/// What is not there, and all of it for whoever is not the service's operator.
fn no_such_tenant() -> ApiError {
    ApiError::new(
        &NOT_FOUND,
        "there is no such tenant, or it is not the caller's to see: GET /v1/tenants lists them",
    )
}

/// Asks the gate.
fn start(app: &App, caller: Caller, verb: Verb, name: &str) -> Result<Session, ApiError> {
    let session = app.session(caller);
    if !session.caller.every_tenant {
        let refused = no_such_tenant();
        if verb.is_command() {
            app.audit.note(&session.caller, verb, name, Err(&refused));
        }
        return Err(refused);
    }
    session.enter(verb, if name.is_empty() { Subject::Tenant } else { Subject::Named(name) })?;
    Ok(session)
}

/// Carries out a change where a wait for the disk holds nobody up, and writes it down.
async fn change<T: Send + 'static>(
    session: Session,
    name: &str,
    change: impl FnOnce(&Tenants) -> Result<Option<T>, StoreError> + Send + 'static,
    otherwise: impl FnOnce() -> ApiError,
) -> Result<T, ApiError> {
    let tenants = session.app.gate.tenants.clone();
    let changed = tokio::task::spawn_blocking(move || change(&tenants))
        .await
        .map_err(|e| ApiError::new(&INTERNAL, format!("the change of the tenant broke off: {e}")))
        .and_then(|changed| changed.map_err(ApiError::from)?.ok_or_else(otherwise));
    session.app.audit.note(&session.caller, Verb::ManageTenants, name, changed.as_ref().map(|_| ()));
    changed
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    let session = start(&app, caller, Verb::ManageTenants, "")?;
    refuse_parameters(&query)?;
    let NewTenant { name, disabled, limits } = body::parse(&bytes)?;
    let limits = limits.map_or_else(Limits::default, |Object(limits)| limits);
    if !grant::is_name(&name) {
        let what = "name: a tenant has 1 to 128 visible ASCII characters without a space";
        return Err(ApiError::new(&INVALID_FIELD, what));
    }
    let created_ns = app.gate.authenticator.now().moment().now_ns;
    let tenant = Tenant { name: name.clone(), created_ns, disabled, limits };
    let put = move |tenants: &Tenants| {
        let name = tenant.name.clone();
        tenants.change(&name, |was| was.is_none().then_some(tenant))
    };
    let exists = || ApiError::new(&ALREADY_EXISTS, "there is a tenant of this name: change it with PUT");
    let tenant = change(session, &name, put, exists).await?;
    let location = [(header::LOCATION, format!("/v1/tenants/{name}"))];
    Ok((location, tenant_json(StatusCode::CREATED, &tenant)).into_response())
}

async fn list(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
    let session = start(&app, caller, Verb::ReadTenants, "")?;
    let (mut limit, mut cursor) = (PAGE_DEFAULT, None);
    for (name, value) in parameters(&query) {
        match name.as_str() {
            "limit" => {
                limit = value.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).ok_or_else(|| {
                    let detail = format!("limit is {value:?}: give a number from 1 to {PAGE_MAX}");
                    ApiError::new(&INVALID_QUERY, detail)
                })?;
            }
            "cursor" => cursor = Some(value),
            _ => return Err(unknown_parameter(&name, "limit, cursor")),
        }
    }
    // One more than asked for tells whether there is another page.
    let mut tenants: Vec<Arc<Tenant>> = session.app.gate.tenants.list(cursor.as_deref(), limit + 1);
    let has_more = tenants.len() > limit;
    tenants.truncate(limit);
    let view = TenantsView {
        tenants: tenants.iter().map(|t| TenantView::new(t)).collect(),
        next_cursor: tenants.last().filter(|_| has_more).map(|t| t.name.as_str()),
    };
    Ok(json_answer(StatusCode::OK, to_text(&view)))
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let session = start(&app, caller, Verb::ReadTenants, &name)?;
    refuse_parameters(&query)?;
    let tenant = session.app.gate.tenants.get(&name).ok_or_else(no_such_tenant)?;
    Ok(tenant_json(StatusCode::OK, &tenant))
}

async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    let session = start(&app, caller, Verb::ManageTenants, &name)?;
    refuse_parameters(&query)?;
    let TenantBody { disabled, limits } = body::parse(&bytes)?;
    let limits = limits.map_or_else(Limits::default, |Object(limits)| limits);
    let of = name.clone();
    let put = move |tenants: &Tenants| {
        tenants.change(&of, |was| was.map(|was| Tenant { disabled, limits, ..was.clone() }))
    };
    Ok(tenant_json(StatusCode::OK, &*change(session, &name, put, no_such_tenant).await?))
}

async fn remove(
    State(app): State<App>,
    caller: Caller,
    Path(name): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    let session = start(&app, caller, Verb::ManageTenants, &name)?;
    refuse_parameters(&query)?;
    let of = name.clone();
    let remove = move |tenants: &Tenants| Ok(tenants.remove(&of)?.then_some(()));
    change(session, &name, remove, no_such_tenant).await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

#[derive(Serialize)]
struct UsageView<'a> {
    tenant: &'a str,
    timers_pending: u64,
    streams: u64,
    /// Fires whose actions wait for their turn.
    fires_waiting: u64,
    /// Fires whose actions could begin at once.
    #[serde(skip_serializing_if = "Option::is_none")]
    fires_left: Option<u64>,
    limits: Limits,
}

async fn usage(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let session = app.session(caller);
    session.enter(Verb::ReadUsage, Subject::Tenant)?;
    let tenant = &session.caller.tenant;
    let usage = app.gate.quotas.usage(tenant, &app.engine);
    let fires = app.lanes.status(tenant);
    let view = UsageView {
        tenant: tenant.as_str(),
        timers_pending: usage.timers_pending,
        streams: usage.streams,
        fires_waiting: fires.waiting,
        fires_left: fires.left,
        limits: usage.limits,
    };
    Ok(json_answer(StatusCode::OK, to_text(&view)))
}
