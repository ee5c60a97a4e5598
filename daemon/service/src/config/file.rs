//! The configuration file: TOML in which every key is known.

use super::ConfigError;
use super::access::{AuthSection, ListenerSection, TlsSection};
use crate::actions::RetryPolicy;
use crate::engine::Retention;
use crate::store::embedded::PARTITIONS_MAX;
use chronotick_core::Span;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The whole file. A key that is not here is refused by name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ConfigFile {
    /// The address of HTTP and gRPC.
    pub listen: Option<String>,
    /// Where the timers are kept.
    pub data: Option<PathBuf>,
    /// The name or path of the clock page.
    pub shm: Option<String>,
    /// True to listen on an address that other machines reach.
    pub allow_remote_without_auth: Option<bool>,
    /// How timers are stored.
    pub store: Option<StoreSection>,
    /// How actions are carried out.
    pub actions: Option<ActionsSection>,
    /// Who comes in.
    pub auth: Option<AuthSection>,
    /// The listener's certificate.
    pub tls: Option<TlsSection>,
    /// How much anybody may take of the listener.
    pub listener: Option<ListenerSection>,
    /// How much each tenant may use.
    pub limits: Option<crate::access::quota::Limits>,
    /// Where the master key comes from.
    pub secrets: Option<super::SecretsSection>,
}

/// The section `[store]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoreSection {
    /// How many partitions a new data directory gets; one that is there keeps its own.
    pub partitions: Option<u64>,
    /// How long ended timers, their ledgers and their events are kept.
    pub history_s: Option<u64>,
}

impl StoreSection {
    /// How many partitions a new data directory gets, with its default filled in.
    pub fn partitions(&self) -> Result<u32, ConfigError> {
        let max = PARTITIONS_MAX.into();
        self.partitions.map_or(Ok(1), |n| within("store.partitions", n, 1, max).map(|n| n as u32))
    }

    /// How long history is kept, with its default filled in.
    pub fn retention(&self) -> Result<Retention, ConfigError> {
        const CENTURY_S: u64 = 100 * 366 * 86_400;
        self.history_s.map_or(Ok(Retention::default()), |secs| {
            let secs = within("store.history_s", secs, 1, CENTURY_S)?;
            Ok(Retention { keep: Span::from_secs(secs as i64) })
        })
    }
}

/// The section `[actions]`.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ActionsSection {
    /// How often an action is tried before it has failed.
    pub max_attempts: Option<u64>,
    /// The wait after the first attempt; it doubles after each.
    pub backoff_initial_ms: Option<u64>,
    /// The longest wait that doubling leads to.
    pub backoff_max_ms: Option<u64>,
    /// The longest wait that a receiver may ask for with Retry-After.
    pub retry_after_max_ms: Option<u64>,
    /// How many attempts run at once.
    pub max_in_flight: Option<u64>,
}

impl ConfigFile {
    /// Reads and parses the file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|reason| ConfigError::Unreadable { path: path.into(), reason })?;
        toml::from_str(&text)
            .map_err(|reason| ConfigError::Malformed { path: path.into(), reason: Box::new(reason) })
    }
}

impl ActionsSection {
    /// The retry policy with its defaults filled in.
    pub fn retry_policy(&self) -> Result<RetryPolicy, ConfigError> {
        const DAY_MS: u64 = 86_400_000;
        let default = RetryPolicy::default();
        let wait = |key, value: Option<u64>, default: Duration| match value {
            Some(ms) => within(key, ms, 1, DAY_MS).map(Duration::from_millis),
            None => Ok(default),
        };
        Ok(RetryPolicy {
            max_attempts: match self.max_attempts {
                Some(n) => within("actions.max_attempts", n, 1, 100)? as u32,
                None => default.max_attempts,
            },
            backoff_initial: wait(
                "actions.backoff_initial_ms",
                self.backoff_initial_ms,
                default.backoff_initial,
            )?,
            backoff_max: wait("actions.backoff_max_ms", self.backoff_max_ms, default.backoff_max)?,
            retry_after_max: wait(
                "actions.retry_after_max_ms",
                self.retry_after_max_ms,
                default.retry_after_max,
            )?,
        })
    }

    /// How many attempts run at once, with its default filled in.
    pub fn max_in_flight(&self) -> Result<usize, ConfigError> {
        Ok(match self.max_in_flight {
            Some(n) => within("actions.max_in_flight", n, 1, 65_536)? as usize,
            None => 256,
        })
    }
}

pub(super) fn within(key: &'static str, value: u64, min: u64, max: u64) -> Result<u64, ConfigError> {
    if (min..=max).contains(&value) {
        Ok(value)
    } else {
        Err(ConfigError::OutOfRange { key, value, min, max })
    }
}
