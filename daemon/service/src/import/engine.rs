//! Imports straight into an engine, for one tenant.

use super::TimerSink;
use crate::engine::{EngineError, EngineHandle};
use futures::FutureExt;
use futures::future::BoxFuture;
use minoots_kernel::{CommandError, TenantId, TimerDefinition, TimerId};

/// An engine as the place where imported timers go.
pub struct EngineSink {
    engine: EngineHandle,
    tenant: TenantId,
}

impl EngineSink {
    /// For a tenant.
    pub fn new(engine: EngineHandle, tenant: TenantId) -> Self {
        Self { engine, tenant }
    }
}

impl TimerSink for EngineSink {
    fn create(&self, mut definition: TimerDefinition) -> BoxFuture<'_, Result<(TimerId, bool), String>> {
        definition.tenant = self.tenant.clone();
        definition.created_by = Some("import".into());
        let made = async move {
            match self.engine.create(definition).await {
                Ok(outcome) => Ok((outcome.timer.id, outcome.replayed)),
                Err(EngineError::Refused(CommandError::IdempotencyConflict { id })) => Ok((id, true)),
                Err(e) => Err(e.to_string()),
            }
        };
        made.boxed()
    }

    fn cancel(&self, id: TimerId, reason: String) -> BoxFuture<'_, Result<(), String>> {
        let cancelled = async move {
            match self.engine.cancel(self.tenant.clone(), id, Some(reason)).await {
                Ok(_) | Err(EngineError::Refused(CommandError::WrongState { .. })) => Ok(()),
                Err(e) => Err(e.to_string()),
            }
        };
        cancelled.boxed()
    }
}
