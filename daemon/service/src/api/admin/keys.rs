//! `/v1/keys`: the tenant's API keys.

use crate::access::grant::{Grant, scopes_of};
use crate::access::keys::{Key, KeyDraft, KeyError, Keys, scope_words};
use crate::access::now::Moment;
use crate::access::secret::KeyText;
use crate::access::{Caller, Role, Subject, Verb};
use crate::api::error::{
    ApiError, FORBIDDEN, INTERNAL, INVALID_DURATION, INVALID_FIELD, INVALID_QUERY, NOT_FOUND, QUOTA_EXCEEDED,
    TIME_IN_PAST, WRONG_STATE,
};
use crate::api::operations::Session;
use crate::api::query::{parameters, refuse_parameters, unknown_parameter};
use crate::api::rest::json_answer;
use crate::api::{App, PAGE_DEFAULT, PAGE_MAX, body, values};
use crate::render::{rfc3339, to_text};
use axum::Router;
use axum::body::Body;
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::sync::Arc;

pub(super) fn routes() -> Router<App> {
    Router::new()
        .route("/v1/keys", get(list).post(create))
        .route("/v1/keys/{key}", get(read).put(update).delete(revoke))
        .route("/v1/keys/{key}/rotate", post(rotate))
}

impl From<KeyError> for ApiError {
    fn from(e: KeyError) -> Self {
        let code = match e {
            KeyError::NotFound(_) => &NOT_FOUND,
            KeyError::Invalid { field: "expires_at", .. } => &TIME_IN_PAST,
            KeyError::Invalid { field: "overlap", .. } => &INVALID_DURATION,
            KeyError::Invalid { .. } => &INVALID_FIELD,
            KeyError::Beyond(_) => &FORBIDDEN,
            KeyError::Revoked(_) => &WRONG_STATE,
            KeyError::TooMany => &QUOTA_EXCEEDED,
            KeyError::Random(_) => &INTERNAL,
            KeyError::Store(e) => return e.into(),
        };
        Self::new(code, e.to_string())
    }
}

/// What a key is to be, or to become.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct KeyBody {
    name: String,
    role: String,
    scopes: Option<Vec<String>>,
    agent: Option<String>,
    #[serde(default)]
    every_tenant: bool,
    expires_at: Option<Value>,
    expires_after: Option<Value>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RotateBody {
    overlap: Option<Value>,
}

/// A key as it is told: never with its secret.
#[derive(Serialize)]
struct KeyView<'a> {
    id: &'a str,
    name: &'a str,
    tenant: &'a str,
    role: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<&'static str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    agent: Option<&'a str>,
    every_tenant: bool,
    last4: &'a str,
    created_at: String,
    created_by: &'a str,
    rotated_at: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    revoked_at: Option<String>,
}

impl<'a> KeyView<'a> {
    fn new(key: &'a Key) -> Self {
        Self {
            id: &key.id,
            name: &key.name,
            tenant: key.grant.tenant.as_str(),
            role: key.grant.role.as_str(),
            scopes: scope_words(&key.grant),
            agent: key.grant.agent.as_deref(),
            every_tenant: key.grant.every_tenant,
            last4: key.last4(),
            created_at: rfc3339(key.created_at_ns),
            created_by: &key.created_by,
            rotated_at: rfc3339(key.rotated_at_ns()),
            previous_until: key.previous_until_ns().map(rfc3339),
            expires_at: key.expires_at_ns.map(rfc3339),
            revoked_at: key.revoked_at_ns.map(rfc3339),
        }
    }
}

/// A key with its secret, at the one time that it is told.
#[derive(Serialize)]
struct NewKeyView<'a> {
    #[serde(flatten)]
    key: KeyView<'a>,
    secret: &'a str,
}

#[derive(Serialize)]
struct KeysView<'a> {
    keys: Vec<KeyView<'a>>,
    next_cursor: Option<&'a str>,
}

fn key_json(key: &Key) -> Response {
    json_answer(StatusCode::OK, to_text(&KeyView::new(key)))
}

fn secret_json(status: StatusCode, key: &Key, text: &KeyText) -> Response {
    let view = NewKeyView { key: KeyView::new(key), secret: text.reveal() };
    // No cache may keep it.
    let no_store = [(header::CACHE_CONTROL, "no-store")];
    (no_store, json_answer(status, to_text(&view))).into_response()
}

impl KeyBody {
    fn into_draft(self, caller: &Caller, moment: Moment) -> Result<KeyDraft, ApiError> {
        let refuse = |detail: String| ApiError::new(&INVALID_FIELD, detail);
        let role = Role::parse(&self.role).ok_or_else(|| {
            refuse(format!("role is {:?}: use viewer, agent, operator or admin", self.role))
        })?;
        let scopes = self.scopes.as_deref().map(scopes_of).transpose().map_err(|word| {
            let known: Vec<_> = Verb::ALL.iter().map(|verb| verb.as_str()).collect();
            refuse(format!("scopes: {word:?} is not known: use {}", known.join(", ")))
        })?;
        let expires_at_ns = match (self.expires_at, self.expires_after) {
            (Some(_), Some(_)) => return Err(refuse("give one of expires_at and expires_after".into())),
            (Some(at), None) => Some(values::time_ns("expires_at", &at)?),
            (None, Some(after)) => {
                Some(moment.now_ns.saturating_add(values::duration_ns("expires_after", &after)?))
            }
            (None, None) => None,
        };
        let grant = Grant {
            tenant: caller.tenant.clone(),
            role,
            scopes,
            agent: self.agent.map(Into::into),
            every_tenant: self.every_tenant,
        };
        Ok(KeyDraft { name: self.name, grant, expires_at_ns })
    }
}

/// What a handler needs to work on the keys.
pub(in crate::api) struct Work {
    pub(in crate::api) session: Session,
    pub(in crate::api) keys: Arc<Keys>,
    moment: Moment,
}

impl Work {
    /// Asks the gate. What is foreign is answered after it, as what is missing is.
    pub(in crate::api) fn start(
        app: &App,
        caller: Caller,
        verb: Verb,
        subject: Subject<'_>,
    ) -> Result<Self, ApiError> {
        let session = app.session(caller);
        session.enter(verb, subject)?;
        let authenticator = &app.gate.authenticator;
        Ok(Self { keys: authenticator.keys().clone(), moment: authenticator.now().moment(), session })
    }

    /// Carries out a change where a wait for the disk holds nobody up, and writes it down. `name` is the key's id, or
    /// its name where it has no id yet.
    pub(in crate::api) async fn change<T: Send + 'static>(
        self,
        name: &str,
        change: impl FnOnce(&Keys, &Caller, Moment) -> Result<T, KeyError> + Send + 'static,
        id_of: impl FnOnce(&T) -> &str,
    ) -> Result<T, ApiError> {
        let Self { session, keys, moment } = self;
        let caller = session.caller.clone();
        let changed = tokio::task::spawn_blocking(move || change(&keys, &caller, moment))
            .await
            .map_err(|e| ApiError::new(&INTERNAL, format!("the change of the key broke off: {e}")))
            .and_then(|changed| changed.map_err(ApiError::from));
        let subject = changed.as_ref().map_or(name, id_of);
        let outcome = changed.as_ref().map(|_| ());
        session.app.audit.note(&session.caller, Verb::ManageKeys, subject, outcome);
        changed
    }
}

async fn create(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    refuse_parameters(&query)?;
    let asked: KeyBody = body::parse(&bytes)?;
    let work = Work::start(&app, caller, Verb::ManageKeys, Subject::Named(&asked.name))?;
    let name = asked.name.clone();
    let draft = asked.into_draft(&work.session.caller, work.moment)?;
    let (key, text) = work
        .change(&name, move |keys, caller, moment| keys.create(caller, draft, moment), |(key, _)| &key.id)
        .await?;
    let location = [(header::LOCATION, format!("/v1/keys/{}", key.id))];
    Ok((location, secret_json(StatusCode::CREATED, &key, &text)).into_response())
}

async fn list(State(app): State<App>, caller: Caller, query: RawQuery) -> Result<Response, ApiError> {
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
    let work = Work::start(&app, caller, Verb::ReadKeys, Subject::Tenant)?;
    // One more than asked for tells whether there is another page.
    let mut keys = work.keys.list(&work.session.caller, cursor.as_deref(), limit + 1);
    let has_more = keys.len() > limit;
    keys.truncate(limit);
    let view = KeysView {
        keys: keys.iter().map(|key| KeyView::new(key)).collect(),
        next_cursor: keys.last().filter(|_| has_more).map(|key| &*key.id),
    };
    Ok(json_answer(StatusCode::OK, to_text(&view)))
}

async fn read(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let work = Work::start(&app, caller, Verb::ReadKeys, Subject::Named(&id))?;
    Ok(key_json(&*work.keys.get(&work.session.caller, &id)?))
}

async fn update(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    refuse_parameters(&query)?;
    let asked: KeyBody = body::parse(&bytes)?;
    let work = Work::start(&app, caller, Verb::ManageKeys, Subject::Named(&id))?;
    let draft = asked.into_draft(&work.session.caller, work.moment)?;
    let of = id.clone();
    let change = move |keys: &Keys, caller: &Caller, moment| keys.update(caller, &of, draft, moment);
    Ok(key_json(&*work.change(&id, change, |key| &key.id).await?))
}

async fn revoke(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
) -> Result<Response, ApiError> {
    refuse_parameters(&query)?;
    let work = Work::start(&app, caller, Verb::ManageKeys, Subject::Named(&id))?;
    let of = id.clone();
    let change = move |keys: &Keys, caller: &Caller, moment| keys.revoke(caller, &of, moment);
    Ok(key_json(&*work.change(&id, change, |key| &key.id).await?))
}

async fn rotate(
    State(app): State<App>,
    caller: Caller,
    Path(id): Path<String>,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    const NS_PER_S: i64 = 1_000_000_000;
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    refuse_parameters(&query)?;
    let asked: RotateBody = body::parse_or_empty(&bytes)?;
    let work = Work::start(&app, caller, Verb::ManageKeys, Subject::Named(&id))?;
    let overlap_ns = asked.overlap.map_or(Ok(0), |value| values::duration_ns("overlap", &value))?;
    let of = id.clone();
    let change = move |keys: &Keys, caller: &Caller, moment| {
        keys.rotate(caller, &of, overlap_ns.div_euclid(NS_PER_S), moment)
    };
    let (key, text) = work.change(&id, change, |(key, _)| &key.id).await?;
    Ok(secret_json(StatusCode::OK, &key, &text))
}
