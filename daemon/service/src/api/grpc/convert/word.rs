//! The enums of the wire and the kernel's, value by value.

use crate::api::error::{ApiError, INVALID_FIELD};
use crate::api::grpc::v2;
use minoots_kernel::recurrence::{FoldPolicy, GapPolicy, IntervalMode};
use minoots_kernel::{ClockSource, DeliveryEnd, OverlapPolicy, SkipReason, TimerState, UpstreamOn};

/// Makes a function to the wire: a kernel's value without a value there does not compile.
macro_rules! to_wire {
    ($name:ident, $enum:ident: $($value:ident),*) => {
        pub(super) fn $name(value: $enum) -> i32 {
            match value {
                $($enum::$value => v2::$enum::$value.into(),)*
            }
        }
    };
}

/// Makes a function from the wire: `None` where it is unspecified, an error for a number that is not known.
macro_rules! from_wire {
    ($name:ident, $enum:ident: $($value:ident),*) => {
        pub(super) fn $name(field: &str, number: i32) -> Result<Option<$enum>, ApiError> {
            match v2::$enum::try_from(number) {
                Ok(v2::$enum::Unspecified) => Ok(None),
                $(Ok(v2::$enum::$value) => Ok(Some($enum::$value)),)*
                Err(_) => Err(unknown(field, number, stringify!($enum))),
            }
        }
    };
}

to_wire!(clock, ClockSource: Page, PageHoldover, Os);
to_wire!(state, TimerState: Waiting, Scheduled, Paused, Firing, Completed, Failed, Cancelled, Expired);
from_wire!(to_state, TimerState: Waiting, Scheduled, Paused, Firing, Completed, Failed, Cancelled, Expired);
to_wire!(mode, IntervalMode: FixedRate, FixedDelay);
from_wire!(to_mode, IntervalMode: FixedRate, FixedDelay);
to_wire!(gap, GapPolicy: Skip, Shift, RunAtEnd);
from_wire!(to_gap, GapPolicy: Skip, Shift, RunAtEnd);
to_wire!(fold, FoldPolicy: First, Second, Both);
from_wire!(to_fold, FoldPolicy: First, Second, Both);
to_wire!(overlap, OverlapPolicy: Allow, Skip, BufferOne, CancelPrevious);
from_wire!(to_overlap, OverlapPolicy: Allow, Skip, BufferOne, CancelPrevious);
to_wire!(on, UpstreamOn: Fired, Completed, Failed, Ended);
from_wire!(to_on, UpstreamOn: Fired, Completed, Failed, Ended);
to_wire!(skip_reason, SkipReason: Misfire, Coalesced, Expired, Overlap, BufferFull, Paused, Cancelled);
to_wire!(end, DeliveryEnd: Completed, Failed, Superseded);

/// A number that the enum of a field does not have.
pub(super) fn unknown(field: &str, number: i32, of: &str) -> ApiError {
    ApiError::new(&INVALID_FIELD, format!("{field} is {number}: use a value of {of}"))
}
