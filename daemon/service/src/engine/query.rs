//! Answers over all partitions from the answers of each.

use super::handle::TimerPage;
use crate::store::{IndexPage, TimerQuery};
use minoots_kernel::{TimerId, TimerInstance};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Puts what an index does not know yet over its page: timers that are new, and those that have changed.
pub(super) fn overlay(page: IndexPage, query: &TimerQuery, recent: Vec<Arc<TimerInstance>>) -> IndexPage {
    let is_on_page =
        |id: TimerId| query.after.is_none_or(|after| id > after) && page.next.is_none_or(|next| id <= next);
    let recent: BTreeMap<_, _> =
        recent.into_iter().filter(|t| is_on_page(t.id)).map(|timer| (timer.id, timer)).collect();
    let next = page.next;
    let mut timers: Vec<_> = page.timers.into_iter().filter(|t| !recent.contains_key(&t.id)).collect();
    timers.extend(recent.into_values().filter(|timer| query.matches(timer)));
    timers.sort_unstable_by_key(|t| t.id);
    IndexPage { timers, next }
}

/// Makes one page of the partitions' pages, each of which is in order of id.
pub(super) fn merge(pages: Vec<IndexPage>, limit: usize) -> TimerPage {
    // A partition that has more than it gave may have timers right after the last id that it looked at, so nothing past
    // the first such id may be shown yet.
    let known_to: Option<TimerId> = pages.iter().filter_map(|p| p.next).min();
    let mut timers: Vec<_> = pages.into_iter().flat_map(|p| p.timers).collect();
    timers.sort_unstable_by_key(|t| t.id);
    if let Some(known_to) = known_to {
        timers.retain(|t| t.id <= known_to);
    }
    let next = if timers.len() > limit {
        timers.truncate(limit);
        timers.last().map(|t| t.id)
    } else {
        known_to
    };
    TimerPage { timers, next }
}
