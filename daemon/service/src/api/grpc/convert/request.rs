//! What requests ask for: listings, ledgers, changes.

use super::time::{duration_ns, timestamp_ns, timestamp_ns_if};
use super::word;
use crate::api::batch::no_choice;
use crate::api::changes::no_new_due;
use crate::api::error::{ApiError, INVALID_FIELD, no_such_fire};
use crate::api::grpc::v2;
use crate::api::{PAGE_DEFAULT, PAGE_MAX, values};
use crate::store::{LedgerQuery, TimerQuery};
use minoots_kernel::{Change, FiringId, NewDue, TenantId, TimerId, TimerState};
use prost_types::Timestamp;
use std::collections::HashMap;

/// A timer's id. A malformed one names no timer.
pub(in crate::api::grpc) fn timer_id(text: &str) -> Result<TimerId, ApiError> {
    values::timer_id(text)
}

/// The name of a fire.
pub(in crate::api::grpc) fn firing(text: &str) -> Result<FiringId, ApiError> {
    FiringId::parse(text).ok_or_else(|| no_such_fire(text))
}

/// A listing.
pub(in crate::api::grpc) fn list_query(request: v2::ListTimersRequest) -> Result<TimerQuery, ApiError> {
    let after = match request.cursor.as_str() {
        "" => None,
        text => Some(TimerId::parse(text).ok_or_else(|| {
            ApiError::new(
                &INVALID_FIELD,
                format!("cursor is {text:?}: give the next_cursor of the page before"),
            )
        })?),
    };
    let mut query = TimerQuery {
        labels: labels_and_tags(request.labels, request.tags),
        due_from_ns: timestamp_ns_if("due_from", request.due_from.as_ref())?,
        due_until_ns: timestamp_ns_if("due_until", request.due_until.as_ref())?,
        after,
        limit: limit(request.limit)?,
        ..TimerQuery::default()
    };
    query.in_states(states("", request.state, &request.states)?);
    Ok(query)
}

fn states(of: &str, one: i32, more: &[i32]) -> Result<Vec<TimerState>, ApiError> {
    let one = word::to_state(&format!("{of}state"), one)?;
    let more = more.iter().map(|number| {
        let state = word::to_state(&format!("{of}states"), *number)?;
        state.ok_or_else(|| word::unknown(&format!("{of}states"), *number, "TimerState"))
    });
    one.into_iter().map(Ok).chain(more).collect()
}

fn labels_and_tags(labels: HashMap<String, String>, tags: Vec<String>) -> Vec<(String, String)> {
    labels.into_iter().chain(tags.into_iter().map(|tag| (tag, String::new()))).collect()
}

fn limit(sent: u32) -> Result<usize, ApiError> {
    match sent as usize {
        0 => Ok(PAGE_DEFAULT),
        n if n <= PAGE_MAX => Ok(n),
        n => {
            let detail = format!("limit is {n}: give a number from 1 to {PAGE_MAX}, or 0 for {PAGE_DEFAULT}");
            Err(ApiError::new(&INVALID_FIELD, detail))
        }
    }
}

/// A page of a ledger.
pub(in crate::api::grpc) fn ledger_query(
    id: TimerId,
    after: Option<&Timestamp>,
    sent_limit: u32,
) -> Result<LedgerQuery, ApiError> {
    let after_nominal_ns = timestamp_ns_if("after", after)?;
    Ok(LedgerQuery { tenant: TenantId::default(), id, after_nominal_ns, limit: limit(sent_limit)? })
}

/// Where an occurrence is moved to.
pub(in crate::api::grpc) fn new_due(
    to: Option<v2::reschedule_timer_request::To>,
) -> Result<NewDue, ApiError> {
    use v2::reschedule_timer_request::To;
    Ok(match to.ok_or_else(no_new_due)? {
        To::At(t) => NewDue::AtNs(timestamp_ns("at", &t)?),
        To::After(d) => NewDue::AfterNs(duration_ns("after", &d)?),
        To::ExtendBy(d) => NewDue::LaterByNs(duration_ns("extend_by", &d)?),
    })
}

/// Which timers are changed together.
pub(in crate::api::grpc) enum Which {
    /// These; malformed ids name no timer.
    Ids(Vec<Result<TimerId, ApiError>>),
    /// Every one that this finds.
    Query(TimerQuery),
}

/// Which timers a change is for.
pub(in crate::api::grpc) fn which(sent: Option<v2::change_timers_request::Which>) -> Result<Which, ApiError> {
    use v2::change_timers_request::Which as Sent;
    match sent.ok_or_else(no_choice)? {
        Sent::Ids(list) => Ok(Which::Ids(list.ids.iter().map(|id| timer_id(id)).collect())),
        Sent::Filter(f) => {
            let mut query = TimerQuery {
                labels: labels_and_tags(f.labels, f.tags),
                due_from_ns: timestamp_ns_if("filter.due_from", f.due_from.as_ref())?,
                due_until_ns: timestamp_ns_if("filter.due_until", f.due_until.as_ref())?,
                limit: PAGE_MAX,
                ..TimerQuery::default()
            };
            query.in_states(states("filter.", f.state, &f.states)?);
            Ok(Which::Query(query))
        }
    }
}

/// What to do to each of them.
pub(in crate::api::grpc) fn change(
    sent: Option<v2::change_timers_request::Change>,
) -> Result<Change, ApiError> {
    use v2::change_timers_request::Change as Sent;
    let change = match sent {
        Some(Sent::Cancel(v2::CancelChange { reason })) => Change::Cancel { reason },
        Some(Sent::Pause(v2::PauseChange { reason })) => Change::Pause { reason },
        Some(Sent::Resume(v2::ResumeChange {})) => Change::Resume,
        None => return Err(ApiError::new(&INVALID_FIELD, "set exactly one of cancel, pause and resume")),
    };
    change.check()?;
    Ok(change)
}
