//! Whether a caller may still come in, long after its request did: who has a stream open is asked again now and then.

use super::caller::{Caller, Peer};
use super::gate::Gate;
use crate::api::error::{ApiError, NOT_FOUND, UNAUTHENTICATED};
use axum::http::Request;
use axum::http::request::Parts;
use std::fmt;
use std::sync::Arc;

/// The head of a request, with its credential.
#[derive(Clone)]
pub struct Standing(Arc<Parts>);

impl fmt::Debug for Standing {
    /// Without the credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Standing")
    }
}

impl Standing {
    /// Of a request.
    pub(crate) fn of(request: &Parts) -> Self {
        let (mut head, ()) = Request::new(()).into_parts();
        head.method = request.method.clone();
        head.uri = request.uri.clone();
        head.headers = request.headers.clone();
        if let Some(peer) = request.extensions.get::<Peer>() {
            head.extensions.insert(peer.clone());
        }
        Self(Arc::new(head))
    }
}

impl Gate {
    /// Refuses a caller whose credential is no longer good, or gives other rights than it did.
    pub(crate) async fn still_admits(&self, caller: &Caller) -> Result<(), ApiError> {
        let Some(Standing(head)) = &caller.standing else { return Ok(()) };
        let now = self.authenticate(head).await?;
        let now = now.for_tenant(caller.tenant.as_str()).ok_or_else(|| {
            ApiError::new(&NOT_FOUND, "there is nothing of this name for the caller any more")
        })?;
        if now.is_same(caller) {
            return Ok(());
        }
        Err(ApiError::new(
            &UNAUTHENTICATED,
            "the credential gives other rights than it did: open the stream again",
        ))
    }
}
