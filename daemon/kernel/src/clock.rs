//! The time as the kernel is told it: a moment, how far it can be wrong, and where it came from.

use chronotick_core::{TimeBound, Timestamp};
use serde::{Deserialize, Serialize};

/// Where a time came from.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockSource {
    /// The clock page, synchronized.
    Page,
    /// The clock page, coasting on its model with a growing bound.
    PageHoldover,
    /// The operating system's clock: no page, or one that cannot be trusted now.
    Os,
}

impl ClockSource {
    /// The word used in the API, the log and the metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::PageHoldover => "page_holdover",
            Self::Os => "os",
        }
    }
}

/// `now`, as it is injected into every command.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ClockStamp {
    /// The best estimate of the true time.
    pub now: Timestamp,
    /// The interval that holds the true time; unbounded for the operating system's clock.
    pub bound: TimeBound,
    /// Where it came from.
    pub source: ClockSource,
}

impl ClockStamp {
    /// A stamp from the operating system's clock, of which no bound is known.
    pub const fn os(now: Timestamp) -> Self {
        Self { now, bound: TimeBound::UNBOUNDED, source: ClockSource::Os }
    }

    /// Half the width of the bound in nanoseconds; `None` where there is no bound.
    pub fn max_error_ns(&self) -> Option<i64> {
        (!self.bound.is_unbounded()).then(|| self.bound.width().as_ns() / 2)
    }
}
