//! A bounded store of compiled cron rules, so that a kernel that fires many occurrences compiles each rule once.

use super::cron::CronRule;
use super::error::RecurrenceError;
use super::spec::{Bounds, CronSpec};
use super::zone::Zone;
use super::{Recurrence, Rule};
use std::collections::BTreeMap;
use std::sync::Arc;

/// How many rules a cache holds unless told otherwise.
pub const CACHE_RULES_MAX: usize = 1024;

/// A bounded store of compiled cron rules. A full one is emptied: rules are cheap to compile again, and what is in use
/// comes back at its next occurrence. The answers do not depend on what it holds.
///
/// Rules are kept by their spec alone, since bounds cost nothing to compile. Rules of one zone share its table.
#[derive(Debug)]
pub struct RecurrenceCache {
    rules: BTreeMap<CronSpec, Arc<CronRule>>,
    zones: BTreeMap<String, Arc<Zone>>,
    rules_max: usize,
}

impl Default for RecurrenceCache {
    fn default() -> Self {
        Self::with_capacity(CACHE_RULES_MAX)
    }
}

impl RecurrenceCache {
    /// An empty cache for at most [`CACHE_RULES_MAX`] rules.
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty cache for at most this many rules, and at least one.
    pub fn with_capacity(rules_max: usize) -> Self {
        Self { rules: BTreeMap::new(), zones: BTreeMap::new(), rules_max: rules_max.max(1) }
    }

    /// How many rules it holds.
    pub fn len(&self) -> usize {
        self.rules.len()
    }

    /// True if it holds none.
    pub fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// The same as [`Recurrence::cron`], compiled only if the cache does not hold the rule. Errors are not kept.
    pub fn cron(&mut self, spec: &CronSpec, bounds: &Bounds) -> Result<Recurrence, RecurrenceError> {
        if let Some(rule) = self.rules.get(spec) {
            return Recurrence::bounded(Rule::Cron(rule.clone()), bounds);
        }
        let zones = &mut self.zones;
        let rule = Arc::new(CronRule::compile(spec, |name| {
            if let Some(zone) = zones.get(name) {
                return Ok(zone.clone());
            }
            let zone = Arc::new(Zone::named(name)?);
            // A name can be written in many ways, upper and lower case mixed.
            if zones.len() >= self.rules_max {
                zones.clear();
            }
            zones.insert(name.into(), zone.clone());
            Ok(zone)
        })?);
        let recurrence = Recurrence::bounded(Rule::Cron(rule.clone()), bounds)?;
        if self.rules.len() >= self.rules_max {
            self.rules.clear();
        }
        self.rules.insert(spec.clone(), rule);
        Ok(recurrence)
    }
}
