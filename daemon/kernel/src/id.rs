//! Names of things: tenants, timers, firings.

use core::fmt;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Who owns a timer. Single-user mode has one tenant, [`TenantId::default`].
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TenantId(Arc<str>);

impl TenantId {
    /// From its name.
    pub fn new(name: &str) -> Self {
        Self(name.into())
    }

    /// Its name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Default for TenantId {
    fn default() -> Self {
        Self::new("default")
    }
}

impl fmt::Display for TenantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names a timer for ever; printed as a hyphenated UUID. The service injects time-ordered (version 7) ones.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct TimerId(uuid::Uuid);

impl TimerId {
    /// From 128 bits made elsewhere.
    pub const fn from_u128(bits: u128) -> Self {
        Self(uuid::Uuid::from_u128(bits))
    }

    /// The 128 bits.
    pub const fn as_u128(self) -> u128 {
        self.0.as_u128()
    }

    /// Reads the printed form; `None` for anything else.
    pub fn parse(text: &str) -> Option<Self> {
        // One spelling only, so that an id compares as text wherever it was stored.
        uuid::Uuid::try_parse(text).ok().filter(|u| u.as_hyphenated().to_string() == text).map(Self)
    }
}

impl fmt::Display for TimerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// Names one fire: the timer and the nominal time. Deterministic, so that a replayed fire has the same name and a
/// receiver can tell a repeated delivery. Printed as `<timer id>:<nominal Unix ns>`.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
pub struct FiringId {
    /// The timer that fired.
    pub timer: TimerId,
    /// The nominal time, Unix nanoseconds.
    pub nominal_ns: i64,
}

impl fmt::Display for FiringId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.timer, self.nominal_ns)
    }
}
