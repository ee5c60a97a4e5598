//! The gate: every request passes it, whatever protocol it came by.

use super::policy::Policies;
use super::quota::{Limits, Permit, Quotas};
use super::tenants::Tenants;
use super::{Authenticator, Caller, Subject, Verb};
use crate::api::error::{ApiError, FORBIDDEN};
use crate::engine::EngineHandle;
use std::fmt;
use std::sync::Arc;

/// What a request takes of the tenant's quotas.
#[derive(Clone, Copy, Debug)]
pub enum Demand {
    /// So many new timers.
    Create {
        /// How many.
        timers: u64,
        /// The bytes of text in the largest of their definitions.
        bytes_max: u64,
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
#[derive(Clone, Default)]
pub struct Gate {
    /// Says who asks (access/authenticate.rs).
    pub(crate) authenticator: Authenticator,
    policies: Arc<Policies>,
    /// What each tenant may use.
    pub(crate) quotas: Arc<Quotas>,
    /// What the operator has said of tenants.
    pub(crate) tenants: Arc<Tenants>,
    /// Counts pending timers.
    engine: Option<EngineHandle>,
}

impl fmt::Debug for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Gate").field("authenticator", &self.authenticator).finish_non_exhaustive()
    }
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

    /// With these quotas of these tenants.
    pub(crate) fn with_quotas(mut self, limits: Limits, tenants: Arc<Tenants>, engine: EngineHandle) -> Self {
        self.quotas = Arc::new(Quotas::new(limits, tenants.clone()));
        self.tenants = tenants;
        self.engine = Some(engine);
        self
    }

    /// Whether the tenant has room for this; it is taken when it has, and given back with the permit.
    pub fn admit(&self, caller: &Caller, demand: Demand) -> Result<Permit, ApiError> {
        let pending = || self.engine.as_ref().map_or(0, |engine| engine.pending(&caller.tenant));
        self.quotas.admit(&caller.tenant, demand, pending)
    }

    /// Refuses the callers of a tenant that is disabled; the service's operator still comes in.
    pub(crate) fn refuse_disabled(&self, caller: &Caller) -> Result<(), ApiError> {
        if caller.every_tenant || !self.tenants.is_disabled(&caller.tenant) {
            return Ok(());
        }
        Err(ApiError::new(&FORBIDDEN, "the tenant is disabled: ask the operator of the service"))
    }
}
