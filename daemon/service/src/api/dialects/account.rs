//! A's account: API keys and what is used.

use super::a::LIST_MAX;
use super::common::list_where;
use super::{Asked, answer};
use crate::access::grant::Grant;
use crate::access::keys::{Key, KeyDraft};
use crate::access::{Subject, Verb};
use crate::api::PAGE_MAX;
use crate::api::admin::keys::Work;
use crate::api::error::{ApiError, INVALID_QUERY};
use crate::api::operations::Session;
use crate::render::NS_PER_MS;
use crate::render::rfc3339;
use crate::store::TimerQuery;
use axum::http::StatusCode;
use axum::response::Response;
use minoots_kernel::TimerId;
use serde::Deserialize;
use serde_json::{Value, json};
use std::collections::BTreeMap;

const NS_PER_DAY: i64 = 86_400 * 1_000_000_000;

type Answered = Result<Response, ApiError>;

fn key_view(key: &Key) -> Value {
    json!({
        "id": &*key.id,
        "name": key.name,
        "last4": key.last4(),
        "createdAt": rfc3339(key.created_at_ns),
        "expiresAt": key.expires_at_ns.map(rfc3339),
        "revokedAt": key.revoked_at_ns.map(rfc3339),
        "active": key.revoked_at_ns.is_none(),
    })
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct KeyBody {
    name: Option<String>,
}

/// The key can do what its maker can, for the maker's tenant.
pub(super) async fn create_key(asked: &Asked) -> Answered {
    let body: KeyBody = asked.body()?;
    let name = body.name.filter(|n| !n.is_empty()).unwrap_or_else(|| "API key".into());
    let work = Work::start(&asked.app, asked.caller()?, Verb::ManageKeys, Subject::Named(&name))?;
    let grant = Grant { every_tenant: false, ..Grant::of(&work.session.caller) };
    let draft = KeyDraft { name: name.clone(), grant, expires_at_ns: None };
    let (key, text) = work
        .change(&name, move |keys, caller, moment| keys.create(caller, draft, moment), |(key, _)| &key.id)
        .await?;
    let mut view = key_view(&key);
    view["key"] = Value::String(text.reveal().to_string());
    let mut told = answer(StatusCode::CREATED, &json!({"success": true, "apiKey": view}));
    let no_store = axum::http::HeaderValue::from_static("no-store");
    told.headers_mut().insert(axum::http::header::CACHE_CONTROL, no_store);
    Ok(told)
}

pub(super) async fn list_keys(asked: &Asked) -> Answered {
    let work = Work::start(&asked.app, asked.caller()?, Verb::ReadKeys, Subject::Tenant)?;
    let keys = work.keys.list(&work.session.caller, None, PAGE_MAX);
    let views: Vec<_> = keys.iter().map(|key| key_view(key)).collect();
    Ok(answer(StatusCode::OK, &json!({"success": true, "count": views.len(), "apiKeys": views})))
}

pub(super) async fn revoke_key(asked: &Asked, id: &str) -> Answered {
    let work = Work::start(&asked.app, asked.caller()?, Verb::ManageKeys, Subject::Named(id))?;
    let of = id.to_string();
    work.change(id, move |keys, caller, moment| keys.revoke(caller, &of, moment), |key| &key.id).await?;
    Ok(answer(StatusCode::OK, &json!({"success": true})))
}

pub(super) async fn rename_key(asked: &Asked, id: &str) -> Answered {
    let body: KeyBody = asked.body()?;
    let work = Work::start(&asked.app, asked.caller()?, Verb::ManageKeys, Subject::Named(id))?;
    let key = work.keys.get(&work.session.caller, id)?;
    let draft = KeyDraft {
        name: body.name.unwrap_or_else(|| key.name.clone()),
        grant: key.grant.clone(),
        expires_at_ns: key.expires_at_ns,
    };
    let of = id.to_string();
    let change = move |keys: &crate::access::keys::Keys, caller: &crate::access::Caller, moment| {
        keys.update(caller, &of, draft, moment)
    };
    let key = work.change(id, change, |key| &key.id).await?;
    Ok(answer(StatusCode::OK, &json!({"success": true, "apiKey": key_view(&key)})))
}

/// The place before the first id of a moment: ids begin with their milliseconds.
fn before(ns: i64) -> Option<TimerId> {
    let ms = u128::try_from(ns.div_euclid(NS_PER_MS)).ok()?;
    Some(TimerId::from_u128(ms << 80))
}

/// What is used of the quotas, with their limits: those made today, counted up to a page, which nothing limits, and
/// those that have not ended. `null` where there is no limit, or no leave to look.
pub(super) async fn counts(asked: &Asked, session: &Session) -> Value {
    let today_ns = asked.now_ns().div_euclid(NS_PER_DAY) * NS_PER_DAY;
    let query = TimerQuery { after: before(today_ns), limit: PAGE_MAX, ..TimerQuery::default() };
    let page = session.list(query).await.ok();
    let made = page.map(|p| p.timers.iter().filter(|t| t.status.created_ns >= today_ns).count());
    let leave = session.allow(Verb::ReadUsage, Subject::Tenant).ok();
    let held = leave.map(|()| asked.app.gate.quotas.usage(&session.caller.tenant, &asked.app.engine));
    let (current, limit) = (held.map(|h| h.timers_pending), held.and_then(|h| h.limits.timers_pending));
    let remaining = limit.zip(current).map(|(limit, current)| limit.saturating_sub(current));
    json!({
        "daily": {"used": made, "limit": null, "remaining": null},
        "concurrent": {"current": current, "limit": limit, "remaining": remaining},
    })
}

pub(super) async fn usage(asked: &Asked) -> Answered {
    let session = asked.app.session(asked.caller()?);
    session.allow(Verb::ReadUsage, Subject::Tenant)?;
    let days = match asked.parameter("days") {
        None => 7,
        Some(text) => text.parse().ok().filter(|n| (1..=90).contains(n)).ok_or_else(|| {
            ApiError::new(&INVALID_QUERY, format!("days is {text:?}: give a number from 1 to 90"))
        })?,
    };
    let today = asked.now_ns().div_euclid(NS_PER_DAY);
    let query = TimerQuery { after: before((today - days + 1) * NS_PER_DAY), ..TimerQuery::default() };
    let (timers, _) = list_where(&session, query, LIST_MAX, |_| true).await?;
    let mut by_day: BTreeMap<String, u64> = BTreeMap::new();
    for day in (today - days + 1)..=today {
        by_day.insert(date(day * NS_PER_DAY), 0);
    }
    for timer in &timers {
        *by_day.entry(date(timer.status.created_ns)).or_default() += 1;
    }
    let history: Vec<_> =
        by_day.iter().map(|(date, timers)| json!({"date": date, "timers": timers})).collect();
    let usage = counts(asked, &session).await;
    Ok(answer(StatusCode::OK, &json!({"success": true, "usage": usage, "days": days, "history": history})))
}

fn date(ns: i64) -> String {
    rfc3339(ns).chars().take(10).collect()
}
