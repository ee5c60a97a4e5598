//! The tenants that the service's operator has named: whether they are let in, and what they may use.
//!
//! A tenant needs no record: one without has the limits of the configuration and is let in.

use super::quota::Limits;
use crate::store::{ControlStore, MemoryControl, StoreError};
use minoots_kernel::TenantId;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// Their kind in the control store.
const KIND: &str = "tenant";

/// What is kept of a tenant.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Tenant {
    /// Its name.
    pub name: String,
    /// When the record was made, Unix nanoseconds.
    pub created_ns: i64,
    /// Its callers are refused; its timers go on.
    #[serde(default)]
    pub disabled: bool,
    /// What differs from the limits of the configuration.
    #[serde(default)]
    pub limits: Limits,
}

/// The records.
pub struct Tenants {
    control: Arc<dyn ControlStore>,
    records: RwLock<BTreeMap<String, Arc<Tenant>>>,
    /// Held over a change, so that store and memory change in one order.
    changing: Mutex<()>,
}

impl fmt::Debug for Tenants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tenants")
    }
}

impl Default for Tenants {
    fn default() -> Self {
        let records = RwLock::default();
        Self { control: Arc::new(MemoryControl::default()), records, changing: Mutex::default() }
    }
}

impl Tenants {
    /// Reads the records of a store.
    pub fn open(control: Arc<dyn ControlStore>) -> Result<Self, StoreError> {
        let mut records = BTreeMap::new();
        for (name, value) in control.all(KIND)? {
            match serde_json::from_slice::<Tenant>(&value) {
                Ok(tenant) => {
                    records.insert(name, Arc::new(tenant));
                }
                // A tenant that was disabled must not come in because its record is damaged.
                Err(error) => {
                    tracing::error!(%name, %error, "the record of a tenant cannot be read: it is disabled");
                    let tenant = Tenant {
                        name: name.clone(),
                        created_ns: 0,
                        disabled: true,
                        limits: Limits::default(),
                    };
                    records.insert(name, Arc::new(tenant));
                }
            }
        }
        Ok(Self { control, records: RwLock::new(records), changing: Mutex::default() })
    }

    /// One record.
    pub fn get(&self, name: &str) -> Option<Arc<Tenant>> {
        self.records.read().unwrap_or_else(PoisonError::into_inner).get(name).cloned()
    }

    /// At most `limit` records after a name, in order of the names.
    pub fn list(&self, after: Option<&str>, limit: usize) -> Vec<Arc<Tenant>> {
        let records = self.records.read().unwrap_or_else(PoisonError::into_inner);
        let from = after.map_or(Bound::Unbounded, Bound::Excluded);
        records.range::<str, _>((from, Bound::Unbounded)).take(limit).map(|(_, t)| t.clone()).collect()
    }

    /// True where the callers of a tenant are refused.
    pub fn is_disabled(&self, tenant: &TenantId) -> bool {
        self.get(tenant.as_str()).is_some_and(|t| t.disabled)
    }

    /// Changes a record as `change` says, from what is there to what is to be; durable when it returns. `None` from
    /// `change` changes nothing.
    pub fn change(
        &self,
        name: &str,
        change: impl FnOnce(Option<&Tenant>) -> Option<Tenant>,
    ) -> Result<Option<Arc<Tenant>>, StoreError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(tenant) = change(self.get(name).as_deref()) else { return Ok(None) };
        let text = crate::render::to_text(&tenant);
        self.control.put(KIND, name, text.as_bytes())?;
        let tenant = Arc::new(tenant);
        self.records.write().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), tenant.clone());
        Ok(Some(tenant))
    }

    /// Removes a record; durable when it returns. False where there is none.
    pub fn remove(&self, name: &str) -> Result<bool, StoreError> {
        let _one_at_a_time = self.changing.lock().unwrap_or_else(PoisonError::into_inner);
        if self.get(name).is_none() {
            return Ok(false);
        }
        self.control.remove(KIND, name)?;
        self.records.write().unwrap_or_else(PoisonError::into_inner).remove(name);
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_outlive_the_process_and_a_damaged_one_lets_nobody_in() {
        let control = Arc::new(MemoryControl::default());
        let tenants = Tenants::open(control.clone()).unwrap();
        let limits = Limits { timers_pending: Some(3), ..Limits::default() };
        let a = Tenant { name: "a".into(), created_ns: 5, disabled: false, limits };
        tenants.change("a", |was| was.is_none().then(|| a.clone())).unwrap();
        assert!(tenants.change("a", |was| was.is_none().then(|| a.clone())).unwrap().is_none());
        control.put(KIND, "b", b"{").unwrap();
        let again = Tenants::open(control).unwrap();
        assert_eq!(again.get("a").as_deref(), Some(&a));
        assert!(again.is_disabled(&TenantId::new("b")) && !again.is_disabled(&TenantId::new("a")));
        let names =
            |after, limit| again.list(after, limit).iter().map(|t| t.name.clone()).collect::<Vec<_>>();
        assert_eq!((names(None, 9), names(Some("a"), 1)), (vec!["a".into(), "b".into()], vec!["b".into()]));
        assert!(again.remove("b").unwrap() && !again.remove("b").unwrap());
        assert!(!again.is_disabled(&TenantId::new("b")));
    }
}
