//! Who asks: over HTTP, whom the service's own authentication named for each request.

use crate::access::Caller;
use axum::http::request::Parts;
use rmcp::service::{RequestContext, RoleServer};
use std::sync::Arc;

/// Who asks. Over stdio nobody is named: the key of the program speaks for it.
#[derive(Clone, Default)]
pub(super) struct Who(Option<Arc<Caller>>);

impl Who {
    /// Who sent a request.
    pub(super) fn of(context: &RequestContext<RoleServer>) -> Self {
        Self::named(context.extensions.get::<Parts>())
    }

    /// Whom the head of a request names.
    pub(super) fn named(parts: Option<&Parts>) -> Self {
        Self(parts.and_then(|parts| parts.extensions.get::<Caller>()).cloned().map(Arc::new))
    }

    /// The caller.
    pub(super) fn caller(&self) -> Option<&Caller> {
        self.0.as_deref()
    }
}
