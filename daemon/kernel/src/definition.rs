//! What the user asked for: the immutable definition of a timer.

use crate::id::TenantId;
use chronotick_core::schedule::Schedule;
use chronotick_core::{Span, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// The longest timer name, in bytes.
pub const NAME_MAX_BYTES: usize = 256;
/// The most labels a timer may carry.
pub const LABELS_MAX: usize = 64;
/// The longest idempotency key, in bytes.
pub const IDEMPOTENCY_KEY_MAX_BYTES: usize = 256;

/// The longest label key or label value, in bytes.
pub const LABEL_MAX_BYTES: usize = 256;
/// The most actions a timer may have.
pub const ACTIONS_MAX: usize = 64;
/// The largest definition: the sum of its texts, in bytes.
pub const DEFINITION_MAX_BYTES: usize = 1 << 20;
/// The longest reason of a cancellation, in bytes.
pub const REASON_MAX_BYTES: usize = 1024;
/// The longest detail of an action's result that is kept, in bytes; the rest is cut off.
pub const DETAIL_MAX_BYTES: usize = 4096;

/// The immutable part of a timer.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct TimerDefinition {
    /// Who owns it.
    pub tenant: TenantId,
    /// A name for people; need not be unique.
    pub name: String,
    /// When it fires.
    pub schedule: ScheduleSpec,
    /// What it does, in order.
    #[serde(default)]
    pub actions: Vec<ActionSpec>,
    /// Short strings to find it by.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// Anything the user wants back, as JSON text; the edge has checked that it parses.
    #[serde(default)]
    pub metadata_json: Option<String>,
    /// A repeated create with this key and the same definition answers with the timer of the first.
    #[serde(default)]
    pub idempotency_key: Option<String>,
}

/// A schedule as it is stored. Nanoseconds, so that it reads back exactly.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleSpec {
    /// Once, this many nanoseconds after creation.
    AfterNs(i64),
    /// Once, at this many nanoseconds since the Unix epoch, corrected time.
    AtNs(i64),
}

impl From<ScheduleSpec> for Schedule {
    fn from(spec: ScheduleSpec) -> Self {
        match spec {
            ScheduleSpec::AfterNs(ns) => Self::After(Span::from_ns(ns)),
            ScheduleSpec::AtNs(ns) => Self::At(Timestamp::from_ns(ns)),
        }
    }
}

/// One thing to do when the timer fires.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct ActionSpec {
    /// Unique within the timer.
    pub id: String,
    /// Which connector carries it out: `webhook`.
    pub kind: String,
    /// The connector's parameters as JSON text; the edge has checked them with the connector.
    pub parameters_json: String,
}
