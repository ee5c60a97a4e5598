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

#[cfg(test)]
mod tests {
    use super::*;
    use minoots_kernel::{ClockSource, Event, EventRecord, TenantId, TimerDefinition, TimerState};

    fn timer(n: u128, state: TimerState) -> Arc<TimerInstance> {
        let event = Event::Scheduled {
            timer: TimerId::from_u128(n),
            definition: Arc::new(TimerDefinition::default()),
            due_ns: 1,
            nominal_ns: None,
        };
        let (tenant, clock) = (TenantId::default(), ClockSource::Os);
        let record = EventRecord { sequence: 1, tenant, at_ns: 0, clock, event };
        let mut timer = TimerInstance::created_by(&record).expect("it was created");
        timer.status.state = state;
        Arc::new(timer)
    }

    #[test]
    fn what_an_index_lacks_is_put_over_its_page() {
        use TimerState::{Cancelled, Scheduled};
        let page = |ids: &[u128], next: Option<u128>| IndexPage {
            timers: ids.iter().map(|n| timer(*n, Scheduled)).collect(),
            next: next.map(TimerId::from_u128),
        };
        // 3 was cancelled since, 4 is new, 2 was on the page before and 9 comes on a later one.
        let recent =
            || vec![timer(3, Cancelled), timer(4, Scheduled), timer(2, Scheduled), timer(9, Scheduled)];
        let check = |next, want: &[u128]| {
            let after = Some(TimerId::from_u128(2));
            let query = TimerQuery { state: Some(Scheduled), after, limit: 10, ..TimerQuery::default() };
            let merged = merge(vec![overlay(page(&[3, 5], next), &query, recent())], query.limit);
            let ids: Vec<_> = merged.timers.iter().map(|t| t.id.as_u128()).collect();
            assert_eq!((ids, merged.next.map(TimerId::as_u128)), (want.to_vec(), next));
        };
        check(Some(5), &[4, 5]);
        check(None, &[4, 5, 9]);
    }
}
