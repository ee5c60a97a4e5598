//! The part of the state that is not in memory: what the kernel asks of an index beside the log.

use crate::id::{TenantId, TimerId};
use crate::instance::TimerInstance;
use core::fmt;
use std::sync::Arc;

/// Reads timers that are not in memory. It is asked only for timers whose latest change it has been given, so its
/// answer is never old.
pub trait ColdState {
    /// One timer.
    fn timer(&self, tenant: &TenantId, id: TimerId) -> Result<Option<Arc<TimerInstance>>, ColdError>;

    /// The timer that an idempotency key made.
    fn timer_of_key(&self, tenant: &TenantId, key: &str) -> Result<Option<TimerId>, ColdError>;
}

/// The index could not be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColdError(pub String);

impl fmt::Display for ColdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the index cannot be read ({}): restart the service, it is made again from the log", self.0)
    }
}

impl std::error::Error for ColdError {}

/// No timers but those in memory.
#[derive(Clone, Copy, Debug, Default)]
pub struct NothingCold;

impl ColdState for NothingCold {
    fn timer(&self, _: &TenantId, _: TimerId) -> Result<Option<Arc<TimerInstance>>, ColdError> {
        Ok(None)
    }

    fn timer_of_key(&self, _: &TenantId, _: &str) -> Result<Option<TimerId>, ColdError> {
        Ok(None)
    }
}
