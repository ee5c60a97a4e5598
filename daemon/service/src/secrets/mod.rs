//! Secrets of tenants, sealed: a data key for each tenant seals them, and the master key wraps the data keys.

pub mod master;

pub use master::{KeyWrapper, Master, SealError};

use crate::store::{ControlStore, StoreError};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use master::{seal, unseal};
use minoots_kernel::{ActionSpec, TenantId};
use ring::rand::{SecureRandom, SystemRandom};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use zeroize::Zeroizing;

const SECRET: &str = "secret";
const DATA_KEY: &str = "data_key";
/// The longest value, in bytes.
pub const VALUE_MAX_BYTES: usize = 16 * 1024;
/// The longest name of a secret or schema, in bytes.
pub const NAME_MAX_BYTES: usize = 64;

/// Why a secret cannot be had. Never holds a value.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It cannot be sealed or unsealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// There is none of this name.
    #[error("no secret {0:?}: set it with PUT /v1/secrets/{0}")]
    Unknown(String),
    /// The record is damaged.
    #[error("the record of the secret {0:?} is damaged: set it again")]
    Damaged(String),
}

#[derive(Clone, Serialize, Deserialize)]
struct Record {
    version: u64,
    data_key: u64,
    sealed: String,
    created_ns: i64,
    updated_ns: i64,
}

/// What may be told of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SecretInfo {
    /// Its name.
    pub name: String,
    /// Counts its values, from 1.
    pub version: u64,
    /// When it was first set.
    pub created_ns: i64,
    /// When it was last set.
    pub updated_ns: i64,
}

#[derive(Default)]
struct State {
    /// By tenant and name.
    secrets: BTreeMap<(String, String), Record>,
    /// The wrapped data keys by tenant and number.
    data_keys: BTreeMap<(String, u64), String>,
}

/// The secrets of all tenants.
pub struct Secrets {
    control: Arc<dyn ControlStore>,
    master: Option<Arc<Master>>,
    state: Mutex<State>,
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Secrets").finish_non_exhaustive()
    }
}

/// A tenant and a name as one key of the store; a name has no slash.
fn place(tenant: &str, name: &str) -> String {
    format!("{tenant}/{name}")
}

fn value_context(tenant: &str, name: &str, version: u64) -> Vec<u8> {
    // Lengths first, so that no two triples are the same bytes.
    format!("minoots secret v1\n{}:{tenant}\n{}:{name}\n{version}", tenant.len(), name.len()).into_bytes()
}

fn key_context(tenant: &str, number: u64) -> Vec<u8> {
    format!("minoots data key v1\n{}:{tenant}\n{number}", tenant.len()).into_bytes()
}

/// Whether a name of a secret or a schema can be used.
pub fn is_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() <= NAME_MAX_BYTES
        && name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-'))
}

/// The names in the placeholders `${secret:NAME}` of a text.
fn placeholders(text: &str) -> impl Iterator<Item = Result<&str, String>> {
    text.split("${secret:").skip(1).map(|rest| match rest.split_once('}') {
        Some((name, _)) if is_name(name) => Ok(name),
        _ => Err("a placeholder is not of the form ${secret:NAME}".to_string()),
    })
}

impl Secrets {
    /// Reads what there is, and wraps with the master key in use what the one before it had wrapped.
    pub fn open(control: Arc<dyn ControlStore>, master: Option<Arc<Master>>) -> Result<Self, SecretError> {
        let mut state = State::default();
        for (key, value) in control.all(SECRET)? {
            let (tenant, name) = key.rsplit_once('/').ok_or_else(|| SecretError::Damaged(key.clone()))?;
            let record = serde_json::from_slice(&value).map_err(|_| SecretError::Damaged(name.into()))?;
            state.secrets.insert((tenant.into(), name.into()), record);
        }
        for (key, value) in control.all(DATA_KEY)? {
            let damaged = || SecretError::Damaged(key.clone());
            let (tenant, number) = key.rsplit_once('/').ok_or_else(damaged)?;
            let number: u64 = number.parse().map_err(|_| damaged())?;
            let mut wrapped = String::from_utf8(value).map_err(|_| damaged())?;
            if let Some(master) = &master
                && !master.is_current(&wrapped)
            {
                let context = key_context(tenant, number);
                wrapped = master.wrap(&master.unwrap(&wrapped, &context)?, &context)?;
                control.put(DATA_KEY, &key, wrapped.as_bytes())?;
            }
            state.data_keys.insert((tenant.into(), number), wrapped);
        }
        Ok(Self { control, master, state: Mutex::new(state) })
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn master(&self) -> Result<&Master, SealError> {
        self.master.as_deref().ok_or(SealError::NoMaster)
    }

    fn data_key(&self, state: &State, tenant: &str, number: u64) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let wrapped = state.data_keys.get(&(tenant.to_string(), number)).ok_or(SealError::Unsealable)?;
        Ok(self.master()?.unwrap(wrapped, &key_context(tenant, number))?)
    }

    /// Makes the tenant's next data key.
    fn new_data_key(&self, state: &mut State, tenant: &str) -> Result<u64, SecretError> {
        let number = newest_key(state, tenant).map_or(1, |n| n + 1);
        let mut key = Zeroizing::new([0; 32]);
        SystemRandom::new().fill(&mut *key).map_err(|_| SealError::Random)?;
        let wrapped = self.master()?.wrap(&*key, &key_context(tenant, number))?;
        self.control.put(DATA_KEY, &place(tenant, &number.to_string()), wrapped.as_bytes())?;
        state.data_keys.insert((tenant.into(), number), wrapped);
        Ok(number)
    }

    fn keep(&self, state: &mut State, tenant: &str, name: &str, record: Record) -> Result<(), SecretError> {
        self.control.put(SECRET, &place(tenant, name), crate::render::to_text(&record).as_bytes())?;
        state.secrets.insert((tenant.into(), name.into()), record);
        Ok(())
    }

    /// Sets a secret.
    pub fn set(
        &self,
        tenant: &TenantId,
        name: &str,
        value: &str,
        now_ns: i64,
    ) -> Result<SecretInfo, SecretError> {
        let tenant = tenant.as_str();
        let mut state = self.state();
        let data_key = match newest_key(&state, tenant) {
            Some(number) => number,
            None => self.new_data_key(&mut state, tenant)?,
        };
        let key = self.data_key(&state, tenant, data_key)?;
        let before = state.secrets.get(&(tenant.into(), name.into()));
        let (version, created_ns) = before.map_or((1, now_ns), |r| (r.version + 1, r.created_ns));
        let sealed = STANDARD.encode(seal(&key, value.as_bytes(), &value_context(tenant, name, version))?);
        self.keep(
            &mut state,
            tenant,
            name,
            Record { version, data_key, sealed, created_ns, updated_ns: now_ns },
        )?;
        Ok(SecretInfo { name: name.into(), version, created_ns, updated_ns: now_ns })
    }

    /// What may be told of a tenant's secrets, in order of the names.
    pub fn list(&self, tenant: &TenantId) -> Vec<SecretInfo> {
        let state = self.state();
        state
            .secrets
            .iter()
            .filter(|((of, _), _)| of == tenant.as_str())
            .map(|((_, name), r)| SecretInfo {
                name: name.clone(),
                version: r.version,
                created_ns: r.created_ns,
                updated_ns: r.updated_ns,
            })
            .collect()
    }

    /// Removes a secret; false where there is none.
    pub fn remove(&self, tenant: &TenantId, name: &str) -> Result<bool, SecretError> {
        let mut state = self.state();
        let key = (tenant.to_string(), name.to_string());
        if !state.secrets.contains_key(&key) {
            return Ok(false);
        }
        self.control.remove(SECRET, &place(tenant.as_str(), name))?;
        state.secrets.remove(&key);
        Ok(true)
    }

    fn unseal_record(
        &self,
        state: &State,
        tenant: &str,
        name: &str,
        record: &Record,
    ) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        let key = self.data_key(state, tenant, record.data_key)?;
        let sealed = STANDARD.decode(&record.sealed).map_err(|_| SecretError::Damaged(name.into()))?;
        Ok(unseal(&key, &sealed, &value_context(tenant, name, record.version))?)
    }

    /// Gives the tenant a new data key and seals its secrets anew; how many they were.
    pub fn rotate(&self, tenant: &TenantId) -> Result<usize, SecretError> {
        let tenant = tenant.as_str();
        let mut state = self.state();
        let data_key = self.new_data_key(&mut state, tenant)?;
        let key = self.data_key(&state, tenant, data_key)?;
        let own: Vec<_> = state
            .secrets
            .iter()
            .filter(|((of, _), _)| of == tenant)
            .map(|((_, name), record)| (name.clone(), record.clone()))
            .collect();
        for (name, record) in &own {
            let value = self.unseal_record(&state, tenant, name, record)?;
            let sealed = STANDARD.encode(seal(&key, &value, &value_context(tenant, name, record.version))?);
            self.keep(&mut state, tenant, name, Record { data_key, sealed, ..record.clone() })?;
        }
        // Only now: a crash before this leaves both keys, and every secret names its own.
        let old: Vec<_> = state
            .data_keys
            .keys()
            .filter(|(of, number)| of == tenant && *number != data_key)
            .cloned()
            .collect();
        for at in old {
            self.control.remove(DATA_KEY, &place(tenant, &at.1.to_string()))?;
            state.data_keys.remove(&at);
        }
        Ok(own.len())
    }

    /// A text with the values in place of its placeholders.
    pub(crate) fn fill(&self, tenant: &TenantId, text: &str) -> Result<Zeroizing<String>, SecretError> {
        let state = self.state();
        let mut out = Zeroizing::new(String::new());
        let mut parts = text.split("${secret:");
        out.push_str(parts.next().unwrap_or_default());
        for part in parts {
            let (name, rest) = part.split_once('}').unwrap_or((part, ""));
            let record = state
                .secrets
                .get(&(tenant.to_string(), name.to_string()))
                .ok_or_else(|| SecretError::Unknown(name.chars().take(NAME_MAX_BYTES).collect()))?;
            let value = self.unseal_record(&state, tenant.as_str(), name, record)?;
            out.push_str(str::from_utf8(&value).map_err(|_| SecretError::Damaged(name.into()))?);
            out.push_str(rest);
        }
        Ok(out)
    }

    /// Checks that every secret that the headers of webhooks name is there.
    pub fn check(&self, tenant: &TenantId, actions: &[ActionSpec]) -> Result<(), String> {
        #[derive(Deserialize)]
        struct WithHeaders {
            #[serde(default)]
            headers: BTreeMap<String, String>,
        }
        for action in actions.iter().filter(|a| a.kind == "webhook" && has_secret(&a.parameters_json)) {
            // Parameters that do not parse were refused before.
            let Ok(given) = serde_json::from_str::<WithHeaders>(&action.parameters_json) else { continue };
            for (header, value) in &given.headers {
                for name in placeholders(value) {
                    let name =
                        name.map_err(|e| format!("header {header:?} of action {:?}: {e}", action.id))?;
                    if !self.state().secrets.contains_key(&(tenant.to_string(), name.to_string())) {
                        return Err(format!(
                            "header {header:?} of action {:?} names the secret {name:?}, which is not there: set it \
                             first with PUT /v1/secrets/{name}",
                            action.id
                        ));
                    }
                }
            }
        }
        Ok(())
    }
}

/// Whether a text may have a placeholder.
pub(crate) fn has_secret(text: &str) -> bool {
    text.contains("{secret:") || text.contains("\\u")
}

fn newest_key(state: &State, tenant: &str) -> Option<u64> {
    state.data_keys.keys().filter(|(of, _)| of == tenant).map(|(_, number)| *number).max()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryControl;

    fn tenant(name: &str) -> TenantId {
        TenantId::new(name)
    }

    #[test]
    fn values_survive_the_rotation_of_both_keys_and_stay_with_their_tenant() {
        let control = Arc::new(MemoryControl::default());
        let open = |key: &[u8; 32], before: Option<&[u8]>| {
            let master = Arc::new(Master::local(key, before).unwrap());
            Secrets::open(control.clone(), Some(master))
        };
        let secrets = open(&[1; 32], None).unwrap();
        secrets.set(&tenant("a"), "slack", "value-one", 1).unwrap();
        assert_eq!(secrets.set(&tenant("a"), "slack", "value-two", 2).unwrap().version, 2);
        assert_eq!(secrets.rotate(&tenant("a")).unwrap(), 1);
        let filled =
            |s: &Secrets, of: &str| s.fill(&tenant(of), "Bearer ${secret:slack}!").map(|t| t.to_string());
        assert_eq!(filled(&secrets, "a").unwrap(), "Bearer value-two!");
        assert!(matches!(filled(&secrets, "b"), Err(SecretError::Unknown(_))));
        assert!(open(&[2; 32], None).is_err(), "another master key opened the store");
        let secrets = open(&[2; 32], Some(&[1; 32])).unwrap();
        assert_eq!(filled(&secrets, "a").unwrap(), "Bearer value-two!");
        // What the rotation wrapped needs the old key no longer.
        assert_eq!(filled(&open(&[2; 32], None).unwrap(), "a").unwrap(), "Bearer value-two!");
        for kind in [SECRET, DATA_KEY] {
            for (_, value) in control.all(kind).unwrap() {
                assert!(!String::from_utf8_lossy(&value).contains("value-"));
            }
        }
    }

    #[test]
    fn a_record_moved_to_another_place_cannot_be_unsealed() {
        let control = Arc::new(MemoryControl::default());
        let master = Arc::new(Master::local(&[1; 32], None).unwrap());
        let secrets = Secrets::open(control.clone(), Some(master.clone())).unwrap();
        secrets.set(&tenant("a"), "one", "v", 1).unwrap();
        let (_, sealed) = control.all(SECRET).unwrap().remove(0);
        let (_, wrapped) = control.all(DATA_KEY).unwrap().remove(0);
        control.put(SECRET, "a/two", &sealed).unwrap();
        control.put(SECRET, "b/one", &sealed).unwrap();
        control.put(DATA_KEY, "b/1", &wrapped).unwrap();
        let moved = Secrets::open(control, Some(master)).unwrap();
        assert!(moved.fill(&tenant("a"), "${secret:one}").is_ok());
        assert!(moved.fill(&tenant("a"), "${secret:two}").is_err());
        assert!(moved.fill(&tenant("b"), "${secret:one}").is_err());
    }

    #[test]
    fn a_program_can_be_the_key_management_service() {
        // A toy: the second line as it came.
        let script = "read c; read k; echo $k".to_string();
        let master = Master::program(vec!["sh".into(), "-c".into(), script, "kms".into()]);
        let wrapped = master.wrap(b"key", b"context").unwrap();
        assert_eq!(&**master.unwrap(&wrapped, b"context").unwrap(), b"key");
        let failing = Master::program(vec!["false".into()]);
        assert!(failing.wrap(b"key", b"").unwrap_err().to_string().contains("master_key_command"));
        assert!(Master::from_text("c2hvcnQ=", None).is_err());
    }

    #[test]
    fn without_a_master_key_nothing_is_set() {
        let secrets = Secrets::open(Arc::new(MemoryControl::default()), None).unwrap();
        let refused = secrets.set(&tenant("a"), "one", "v", 1).unwrap_err().to_string();
        assert!(refused.contains("MINOOTS_MASTER_KEY"), "{refused}");
    }
}
