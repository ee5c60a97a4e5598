//! Query parameters: reading them, and refusing the ones that a path does not know.

use super::error::{ApiError, INVALID_QUERY};
use super::operations::{AGENT_LABEL, TEAM_LABEL};
use super::values::time_text_ns;
use super::{PAGE_DEFAULT, PAGE_MAX};
use crate::render::words::STATES;
use crate::store::{LedgerQuery, TimerQuery};
use axum::extract::RawQuery;
use minoots_kernel::{TenantId, TimerId};

/// How many states, labels and tags a listing may name, of each.
pub(super) const FILTERS_MAX: usize = 100;

/// The parameters, decoded, in order.
pub(super) fn parameters(query: &RawQuery) -> impl Iterator<Item = (String, String)> + '_ {
    form_urlencoded::parse(query.0.as_deref().unwrap_or_default().as_bytes()).into_owned()
}

/// A misspelt parameter that was passed over would give a wrong answer.
pub(super) fn unknown_parameter(name: &str, known: &str) -> ApiError {
    ApiError::new(
        &INVALID_QUERY,
        format!("the query parameter {name:?} is not known: this path knows {known}"),
    )
}

/// For a path that knows none.
pub(super) fn refuse_parameters(query: &RawQuery) -> Result<(), ApiError> {
    match parameters(query).next() {
        Some((name, _)) => Err(unknown_parameter(&name, "none")),
        None => Ok(()),
    }
}

/// Refuses a parameter that is given twice where only one can count.
#[derive(Default)]
struct Once(Vec<String>);

impl Once {
    fn note(&mut self, name: &str) -> Result<(), ApiError> {
        if self.0.iter().any(|n| n == name) {
            return Err(ApiError::new(&INVALID_QUERY, format!("{name} is given twice: give it once")));
        }
        self.0.push(name.to_string());
        Ok(())
    }
}

/// The listing that the parameters ask for.
pub(super) fn list_query(query: &RawQuery) -> Result<TimerQuery, ApiError> {
    let refuse = |detail: String| ApiError::new(&INVALID_QUERY, detail);
    let mut list = TimerQuery { limit: PAGE_DEFAULT, ..TimerQuery::default() };
    let (mut once, mut states, mut labels, mut tags) = (Once::default(), Vec::new(), 0, 0);
    for (name, value) in parameters(query) {
        if !matches!(name.as_str(), "label" | "tag" | "state") {
            once.note(&name)?;
        }
        match name.as_str() {
            "state" => {
                for word in value.split(',') {
                    let unknown = || refuse(format!("state is {word:?}: use {}", STATES.listed()));
                    states.push(STATES.parse(word).ok_or_else(unknown)?);
                }
            }
            "label" => {
                let (key, value) = value
                    .split_once(':')
                    .ok_or_else(|| refuse(format!("label is {value:?}: write it as key:value")))?;
                labels += 1;
                list.labels.push((key.to_string(), value.to_string()));
            }
            "tag" => {
                tags += 1;
                list.labels.push((value, String::new()));
            }
            AGENT_LABEL | TEAM_LABEL => list.labels.push((name, value)),
            "due_from" => list.due_from_ns = Some(time("due_from", &value)?),
            "due_until" => list.due_until_ns = Some(time("due_until", &value)?),
            "limit" => list.limit = limit(&value)?,
            "cursor" => {
                list.after = Some(TimerId::parse(&value).ok_or_else(|| {
                    refuse(format!("cursor is {value:?}: give the next_cursor of the page before"))
                })?);
            }
            _ => {
                return Err(unknown_parameter(
                    &name,
                    "state, agent, team, label, tag, due_from, due_until, limit, cursor",
                ));
            }
        }
    }
    for (what, count) in [("states", states.len()), ("labels", labels), ("tags", tags)] {
        if count > FILTERS_MAX {
            return Err(refuse(format!("there are {count} {what}: ask for {FILTERS_MAX} at most")));
        }
    }
    list.in_states(states);
    Ok(list)
}

/// The lines of the ledger that the parameters ask for.
pub(super) fn ledger_query(id: TimerId, query: &RawQuery) -> Result<LedgerQuery, ApiError> {
    let mut ask =
        LedgerQuery { tenant: TenantId::default(), id, after_nominal_ns: None, limit: PAGE_DEFAULT };
    let mut once = Once::default();
    for (name, value) in parameters(query) {
        once.note(&name)?;
        match name.as_str() {
            "after" => ask.after_nominal_ns = Some(time("after", &value)?),
            "limit" => ask.limit = limit(&value)?,
            _ => return Err(unknown_parameter(&name, "after, limit")),
        }
    }
    Ok(ask)
}

fn limit(value: &str) -> Result<usize, ApiError> {
    value.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).ok_or_else(|| {
        ApiError::new(&INVALID_QUERY, format!("limit is {value:?}: give a number from 1 to {PAGE_MAX}"))
    })
}

fn time(name: &str, value: &str) -> Result<i64, ApiError> {
    time_text_ns(&INVALID_QUERY, name, value).map_err(|mut e| {
        if value.contains(' ') {
            e.detail.push_str(" (in an address a + is written %2B)");
        }
        e
    })
}
