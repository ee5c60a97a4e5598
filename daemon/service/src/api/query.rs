//! Query parameters: reading them, and refusing the ones that a path does not know.

use super::error::{ApiError, INVALID_QUERY};
use super::{PAGE_DEFAULT, PAGE_MAX};
use crate::store::TimerQuery;
use axum::extract::RawQuery;
use minoots_kernel::{TimerId, TimerState};

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

/// The listing that the parameters ask for.
pub(super) fn list_query(query: &RawQuery) -> Result<TimerQuery, ApiError> {
    let refuse = |detail: String| ApiError::new(&INVALID_QUERY, detail);
    let mut list = TimerQuery { limit: PAGE_DEFAULT, ..TimerQuery::default() };
    for (name, value) in parameters(query) {
        match name.as_str() {
            "state" => {
                list.state = Some(parse_state(&value).ok_or_else(|| {
                    refuse(format!(
                        "state is {value:?}: use {}",
                        TimerState::ALL.map(TimerState::as_str).join(", ")
                    ))
                })?);
            }
            "label" => {
                let (key, value) = value
                    .split_once(':')
                    .ok_or_else(|| refuse(format!("label is {value:?}: write it as key:value")))?;
                list.labels.push((key.to_string(), value.to_string()));
            }
            "limit" => {
                list.limit = value.parse().ok().filter(|n| (1..=PAGE_MAX).contains(n)).ok_or_else(|| {
                    refuse(format!("limit is {value:?}: give a number from 1 to {PAGE_MAX}"))
                })?;
            }
            "cursor" => {
                list.after = Some(TimerId::parse(&value).ok_or_else(|| {
                    refuse(format!("cursor is {value:?}: give the next_cursor of the page before"))
                })?);
            }
            _ => return Err(unknown_parameter(&name, "state, label, limit, cursor")),
        }
    }
    Ok(list)
}

/// The state that a word names.
fn parse_state(word: &str) -> Option<TimerState> {
    TimerState::ALL.into_iter().find(|s| s.as_str() == word)
}
