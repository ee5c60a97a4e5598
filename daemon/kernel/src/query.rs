//! Reading the kernel's timers a page at a time.

use crate::id::{TenantId, TimerId};
use crate::instance::{TimerInstance, TimerState};
use crate::kernel::Kernel;
use core::ops::Bound;

/// How many timers one listing looks at. A rare state or label would otherwise make the timing thread walk every
/// timer; a page that ends here is short (it may be empty) and its `next` goes on.
pub const LIST_SCAN_MAX: usize = 20_000;

/// Which timers to list.
#[derive(Clone, Copy, Debug)]
pub struct Selection<'a> {
    /// Whose.
    pub tenant: &'a TenantId,
    /// Only those in this state.
    pub state: Option<TimerState>,
    /// Only those that carry all of these labels.
    pub labels: &'a [(String, String)],
    /// Only those after this id.
    pub after: Option<TimerId>,
    /// At most so many; 0 is taken as 1.
    pub limit: usize,
}

/// One page, in order of id.
#[derive(Clone, Debug)]
pub struct Listing<'a> {
    /// The timers; fewer than asked for, even none, when they are rare.
    pub timers: Vec<&'a TimerInstance>,
    /// Where the next page starts; `None` only at the end.
    pub next: Option<TimerId>,
}

impl Selection<'_> {
    fn matches(&self, timer: &TimerInstance) -> bool {
        timer.definition.tenant == *self.tenant
            && self.state.is_none_or(|s| s == timer.state)
            && self.labels.iter().all(|(k, v)| timer.definition.labels.get(k) == Some(v))
    }
}

impl Kernel {
    /// One timer; `None` where there is none, or it is another tenant's.
    pub fn get(&self, tenant: &TenantId, id: TimerId) -> Option<&TimerInstance> {
        self.timer(id).filter(|t| t.definition.tenant == *tenant)
    }

    /// One page of timers.
    pub fn list(&self, selection: &Selection<'_>) -> Listing<'_> {
        let limit = selection.limit.max(1);
        let start = selection.after.map_or(Bound::Unbounded, Bound::Excluded);
        let mut timers = Vec::new();
        let mut seen = None;
        for (looked_at, timer) in self.timers_from(start).enumerate() {
            if timers.len() == limit || looked_at == LIST_SCAN_MAX {
                return Listing { timers, next: seen };
            }
            if selection.matches(timer) {
                timers.push(timer);
            }
            seen = Some(timer.id);
        }
        Listing { timers, next: None }
    }
}
