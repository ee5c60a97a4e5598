//! The gate: every request passes it, whatever protocol it came by.

use super::policy::Policies;
use super::{Authenticator, Caller, Subject, Verb};
use crate::api::error::ApiError;
use std::sync::Arc;

/// What a request takes of the tenant's quotas.
#[derive(Clone, Copy, Debug)]
pub enum Demand {
    /// So many new timers, with so many bytes of definitions.
    Create {
        /// How many.
        timers: u64,
        /// The sum of their definitions.
        bytes: u64,
    },
    /// So many changes to timers.
    Change {
        /// How many.
        timers: u64,
    },
    /// One question.
    Read,
    /// One stream that stays open.
    Stream,
}

/// Decides who comes in, and what they may do.
#[derive(Clone, Debug, Default)]
pub struct Gate {
    /// Says who asks (access/authenticate.rs).
    pub(crate) authenticator: Authenticator,
    policies: Arc<Policies>,
}

impl Gate {
    /// With these policies.
    pub(crate) fn with_policies(mut self, policies: Policies) -> Self {
        self.policies = Arc::new(policies);
        self
    }

    /// Whether the caller may do this. What it may not even see is answered as what is not there.
    pub fn authorize(&self, caller: &Caller, verb: Verb, subject: Subject<'_>) -> Result<(), ApiError> {
        self.policies.authorize(caller, verb, subject)
    }

    /// Whether a timer that a caller may see by its tenant and its agent may be hidden from it all the same.
    pub(crate) fn hides_timers(&self) -> bool {
        !self.policies.are_our_own()
    }

    /// Whether the tenant has room for this; it is taken when it has.
    pub fn admit(&self, _caller: &Caller, _demand: Demand) -> Result<(), ApiError> {
        Ok(())
    }
}
