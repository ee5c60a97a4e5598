//! Carries out what a fired timer asks for.
//!
//! An action is carried out at least once: a crash between the receiver's answer and our record of it repeats the
//! action, under the same idempotency key. The log holds each fire, and each end of a fire, exactly once.

mod attempts;
pub mod fair;
#[cfg(test)]
mod fair_tests;
mod lanes;
mod orchestrator;
mod retry;
mod webhook;

pub use lanes::FireLanes;
pub use orchestrator::{Orchestrator, OrchestratorConfig};
pub use retry::RetryPolicy;
pub use webhook::{Webhook, http_client};

use crate::engine::FireOrder;
use futures::future::BoxFuture;
use minoots_kernel::ActionSpec;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// One attempt at one action of a fire.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// The fire.
    pub order: &'a FireOrder,
    /// What to do.
    pub action: &'a ActionSpec,
    /// Counts the attempts of this run of the service, from 1.
    pub number: u32,
}

impl Attempt<'_> {
    /// The same for every attempt at this action of this fire, after a restart too.
    pub fn idempotency_key(&self) -> String {
        format!("{}/{}", self.order.firing, self.action.id)
    }
}

/// How an attempt ended. The detail is short and goes into the log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Outcome {
    /// It is done.
    Done(String),
    /// It may work later.
    Retry {
        /// What went wrong.
        detail: String,
        /// The wait that the receiver asked for.
        wait: Option<Duration>,
    },
    /// It will never work.
    Failed(String),
}

/// Carries out one kind of action.
pub trait Connector: Send + Sync {
    /// The kind of action, as a definition names it.
    fn kind(&self) -> &'static str;

    /// Checks the parameters when the timer is created; the error says what to change.
    fn validate(&self, parameters_json: &str) -> Result<(), String>;

    /// Makes one attempt. Its length is bounded by the connector.
    fn attempt<'a>(&'a self, attempt: Attempt<'a>) -> BoxFuture<'a, Outcome>;
}

/// The connectors by kind.
#[derive(Clone, Default)]
pub struct Connectors(BTreeMap<&'static str, Arc<dyn Connector>>);

impl Connectors {
    /// From a list; of two with the same kind the later one stays.
    pub fn new(connectors: impl IntoIterator<Item = Arc<dyn Connector>>) -> Self {
        Self(connectors.into_iter().map(|c| (c.kind(), c)).collect())
    }

    /// The one for this kind.
    pub fn get(&self, kind: &str) -> Option<&Arc<dyn Connector>> {
        self.0.get(kind)
    }

    /// The kinds there are, for people.
    pub fn kinds(&self) -> String {
        self.0.keys().copied().collect::<Vec<_>>().join(", ")
    }
}
