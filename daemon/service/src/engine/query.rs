//! Answers over all partitions from the answers of each.

use super::handle::TimerPage;
use crate::store::IndexPage;
use minoots_kernel::TimerId;

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
