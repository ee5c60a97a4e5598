//! Many timers in one request: creates, and the same change for those that are named or found.

use super::body::{self, Object};
use super::error::{ApiError, INVALID_FIELD, INVALID_QUERY};
use super::etag::refuse_if_match;
use super::operations::{AGENT_LABEL, Session, TEAM_LABEL};
use super::query::refuse_parameters;
use super::rest::json_answer;
use super::{App, PAGE_MAX, definition, values};
use crate::access::Caller;
use crate::render::words::STATES;
use crate::render::{self, TimerView};
use crate::store::TimerQuery;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use minoots_kernel::{Change, Outcome, TimerState};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use std::collections::BTreeMap;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CreateBatchBody {
    /// Each is read by itself, so that one that cannot be used does not stop the others.
    timers: Vec<Box<RawValue>>,
}

/// Which timers to change, and why.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ChangeBatchBody {
    ids: Option<Vec<String>>,
    filter: Option<Object<FilterBody>>,
    reason: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct FilterBody {
    // One word, or a list of them.
    state: Option<Value>,
    agent: Option<String>,
    team: Option<String>,
    #[serde(default)]
    labels: BTreeMap<String, String>,
    #[serde(default)]
    tags: Vec<String>,
    due_from: Option<Value>,
    due_until: Option<Value>,
}

/// `POST /v1/timers/batch`.
pub(super) async fn create(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let bytes = body::read_json(&headers, body, body::BATCH_MAX_BYTES).await?;
    refuse_parameters(&query)?;
    if headers.contains_key("idempotency-key") {
        let detail =
            "the Idempotency-Key header is for one timer: give each timer of a batch its idempotency_key";
        return Err(ApiError::new(&INVALID_QUERY, detail));
    }
    let CreateBatchBody { timers } = body::parse(&bytes)?;
    check_size("timers", timers.len())?;
    let definitions = timers
        .iter()
        .map(|timer| definition::from_json_of_batch(timer.get().as_bytes(), &app.connectors))
        .collect();
    let answers = app.session(caller).create_many(definitions).await?;
    Ok(results(answers.iter().map(|answer| ResultView::of(answer, true))))
}

/// `POST /v1/timers/batch/cancel`.
pub(super) async fn cancel(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = read(&query, headers, body).await?;
    change(&app.session(caller), asked, |reason| Ok(Change::Cancel { reason })).await
}

/// `POST /v1/timers/batch/pause`.
pub(super) async fn pause(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = read(&query, headers, body).await?;
    change(&app.session(caller), asked, |reason| Ok(Change::Pause { reason })).await
}

/// `POST /v1/timers/batch/resume`.
pub(super) async fn resume(
    State(app): State<App>,
    caller: Caller,
    query: RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let asked = read(&query, headers, body).await?;
    change(&app.session(caller), asked, |reason| match reason {
        None => Ok(Change::Resume),
        Some(_) => Err(ApiError::new(&INVALID_FIELD, "reason: a resume keeps no reason: leave it out")),
    })
    .await
}

async fn read(query: &RawQuery, headers: HeaderMap, body: Body) -> Result<ChangeBatchBody, ApiError> {
    let bytes = body::read_json(&headers, body, body::BODY_MAX_BYTES).await?;
    refuse_parameters(query)?;
    refuse_if_match(&headers, "change the timers one by one where their versions matter")?;
    body::parse(&bytes)
}

async fn change(
    session: &Session,
    asked: ChangeBatchBody,
    make: impl FnOnce(Option<String>) -> Result<Change, ApiError>,
) -> Result<Response, ApiError> {
    let change = make(asked.reason)?;
    change.check().map_err(ApiError::from)?;
    match (asked.ids, asked.filter) {
        (Some(ids), None) => {
            check_size("ids", ids.len())?;
            let ids = ids.iter().map(|id| values::timer_id(id)).collect();
            let answers = session.change_named(ids, &change).await?;
            Ok(results(answers.iter().map(|answer| ResultView::of(answer, false))))
        }
        (None, Some(Object(filter))) => {
            let changed = session.change_found(filter_query(filter)?, &change).await?;
            Ok(json_answer(StatusCode::OK, serde_json::json!({ "changed": changed }).to_string()))
        }
        _ => Err(no_choice()),
    }
}

/// Neither or both ways to choose the timers were given.
pub(super) fn no_choice() -> ApiError {
    ApiError::new(
        &INVALID_FIELD,
        "give exactly one of ids (a list) and filter (an object; {} finds every timer)",
    )
}

fn filter_query(filter: FilterBody) -> Result<TimerQuery, ApiError> {
    let time = |field, value: Option<Value>| value.map(|v| values::time_ns(field, &v)).transpose();
    let mut labels = filter.labels;
    values::add_label(&mut labels, AGENT_LABEL, filter.agent)?;
    values::add_label(&mut labels, TEAM_LABEL, filter.team)?;
    let tags = filter.tags.into_iter().map(|tag| (tag, String::new()));
    let mut query = TimerQuery {
        labels: labels.into_iter().chain(tags).collect(),
        due_from_ns: time("filter.due_from", filter.due_from)?,
        due_until_ns: time("filter.due_until", filter.due_until)?,
        limit: PAGE_MAX,
        ..TimerQuery::default()
    };
    query.in_states(filter.state.map(states).transpose()?.unwrap_or_default());
    Ok(query)
}

/// A state or a list of states.
fn states(value: Value) -> Result<Vec<TimerState>, ApiError> {
    let words = match value {
        Value::Array(words) if !words.is_empty() => words,
        other => vec![other],
    };
    let state = |word: Value| match word.as_str() {
        Some(text) => values::word("filter.state", text, &STATES),
        None => {
            let detail = format!("filter.state is {word}: use {}, or a list of them", STATES.listed());
            Err(ApiError::new(&INVALID_FIELD, detail))
        }
    };
    words.into_iter().map(state).collect()
}

pub(super) fn check_size(field: &str, count: usize) -> Result<(), ApiError> {
    if count > PAGE_MAX {
        let detail = format!("the batch has {count} {field}: send {PAGE_MAX} or fewer");
        return Err(ApiError::new(&INVALID_FIELD, detail));
    }
    Ok(())
}

/// What became of one timer of a batch.
#[derive(Serialize)]
#[serde(untagged)]
enum ResultView<'a> {
    Created { timer: Box<TimerView<'a>>, replayed: bool },
    Changed { timer: Box<TimerView<'a>> },
    Refused { error: super::error::Problem<'a> },
}

impl<'a> ResultView<'a> {
    fn of(answer: &'a Result<Outcome, ApiError>, is_create: bool) -> Self {
        match answer {
            Ok(outcome) => {
                let timer = Box::new(TimerView::new(&outcome.timer));
                if is_create {
                    Self::Created { timer, replayed: outcome.replayed }
                } else {
                    Self::Changed { timer }
                }
            }
            Err(e) => Self::Refused { error: e.problem() },
        }
    }
}

fn results<'a>(results: impl Iterator<Item = ResultView<'a>>) -> Response {
    #[derive(Serialize)]
    struct ResultsView<'a> {
        results: Vec<ResultView<'a>>,
    }
    json_answer(StatusCode::OK, render::to_text(&ResultsView { results: results.collect() }))
}
