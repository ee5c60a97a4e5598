//! API keys: made, found by their secret, changed, rotated, revoked. Durable in the control store, and all in memory.

use super::grant::{Grant, is_name, scopes_of};
use super::now::Moment;
use super::secret::{Hash, KeyText, RandomSource, random_hex, system_random};
use super::{Caller, Principal, Role, Verb};
use crate::store::{ControlStore, StoreError};
use minoots_kernel::TenantId;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError, RwLock};

/// The kind of their records in the control store.
const KIND: &str = "key";
/// The most keys of a tenant, revoked ones included.
pub const KEYS_MAX: usize = 1_000;
/// The longest time for which the secret before a rotation stays good.
pub const OVERLAP_MAX_S: i64 = 30 * 86_400;
const NAME_MAX_CHARS: usize = 100;
const NS_PER_S: i64 = 1_000_000_000;

/// Why a key could not be made or changed. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// There is none of this id, for this caller.
    #[error("there is no key {0:?}: GET /v1/keys lists the ones there are")]
    NotFound(String),
    /// A field cannot be used.
    #[error("{field}: {what}")]
    Invalid {
        /// Which.
        field: &'static str,
        /// What is wrong with it.
        what: String,
    },
    /// The caller would hand on what it does not have.
    #[error("the caller may not do this to the key: {0}")]
    Beyond(&'static str),
    /// The key has been revoked.
    #[error("the key {0:?} has been revoked, for good: make a new one")]
    Revoked(String),
    /// The tenant has its most.
    #[error("the tenant has {KEYS_MAX} keys that are not revoked: revoke some that are no longer used")]
    TooMany,
    /// The operating system gave no random bytes.
    #[error("{0}")]
    Random(String),
    /// The control store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why a secret lets nobody in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum KeyRefusal {
    /// No key has it.
    Unknown,
    /// Its key has been revoked.
    Revoked,
    /// Its key's time is over.
    Expired,
    /// Its key was rotated, and the overlap is over.
    Replaced,
}

/// What a new key is to be, or what a key is to become.
#[derive(Clone, Debug)]
pub struct KeyDraft {
    /// For people.
    pub name: String,
    /// What it gives.
    pub grant: Grant,
    /// When it ends, in Unix nanoseconds on corrected time.
    pub expires_at_ns: Option<i64>,
}

/// One key, without its secret.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Key {
    /// Names it for ever.
    pub id: Arc<str>,
    /// For people.
    pub name: String,
    /// What it gives.
    pub grant: Grant,
    /// When it was made.
    pub created_at_ns: i64,
    /// Who made it.
    pub created_by: String,
    /// When it ends.
    pub expires_at_ns: Option<i64>,
    /// When it was revoked.
    pub revoked_at_ns: Option<i64>,
    /// The one of now, and before it the one that a rotation replaced.
    secrets: Vec<StoredSecret>,
}

/// What is kept of a secret.
#[derive(Clone, PartialEq, Eq, Debug)]
struct StoredSecret {
    hash: Hash,
    last4: String,
    created_at_ns: i64,
    /// When it stops being good, after a rotation.
    until_ns: Option<i64>,
}

impl Key {
    /// The last four digits of the secret.
    pub fn last4(&self) -> &str {
        self.secrets.last().map_or("", |s| &s.last4)
    }

    /// When its secret was made.
    pub fn rotated_at_ns(&self) -> i64 {
        self.secrets.last().map_or(self.created_at_ns, |s| s.created_at_ns)
    }

    /// Until when the secret before the last rotation is good.
    pub fn previous_until_ns(&self) -> Option<i64> {
        self.secrets.iter().find_map(|s| s.until_ns)
    }

    /// Whether it lets anybody in at a moment.
    fn judge(&self, hash: &Hash, moment: Moment) -> Result<(), KeyRefusal> {
        let secret = self.secrets.iter().find(|s| s.hash.is_same(hash)).ok_or(KeyRefusal::Unknown)?;
        if self.revoked_at_ns.is_some() {
            Err(KeyRefusal::Revoked)
        } else if self.expires_at_ns.is_some_and(|end| !moment.may_be_before(end)) {
            Err(KeyRefusal::Expired)
        } else if secret.until_ns.is_some_and(|end| !moment.may_be_before(end)) {
            Err(KeyRefusal::Replaced)
        } else {
            Ok(())
        }
    }
}

/// A key as the control store has it.
#[derive(Serialize, Deserialize)]
struct Record {
    name: String,
    tenant: String,
    role: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    scopes: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    agent: Option<String>,
    #[serde(default)]
    every_tenant: bool,
    created_at_ns: i64,
    created_by: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    expires_at_ns: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    revoked_at_ns: Option<i64>,
    secrets: Vec<SecretRecord>,
}

#[derive(Serialize, Deserialize)]
struct SecretRecord {
    sha256: String,
    last4: String,
    created_at_ns: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    until_ns: Option<i64>,
}

impl From<&Key> for Record {
    fn from(key: &Key) -> Self {
        let Grant { tenant, role, scopes, agent, every_tenant } = &key.grant;
        Self {
            name: key.name.clone(),
            tenant: tenant.to_string(),
            role: role.as_str().into(),
            scopes: scopes.as_ref().map(|s| s.iter().map(|v| v.as_str().to_string()).collect()),
            agent: agent.as_deref().map(str::to_string),
            every_tenant: *every_tenant,
            created_at_ns: key.created_at_ns,
            created_by: key.created_by.clone(),
            expires_at_ns: key.expires_at_ns,
            revoked_at_ns: key.revoked_at_ns,
            secrets: key
                .secrets
                .iter()
                .map(|s| SecretRecord {
                    sha256: s.hash.to_hex(),
                    last4: s.last4.clone(),
                    created_at_ns: s.created_at_ns,
                    until_ns: s.until_ns,
                })
                .collect(),
        }
    }
}

impl Record {
    fn into_key(self, id: &str) -> Result<Key, String> {
        let secret = |s: SecretRecord| {
            Some(StoredSecret {
                hash: Hash::parse(&s.sha256)?,
                last4: s.last4,
                created_at_ns: s.created_at_ns,
                until_ns: s.until_ns,
            })
        };
        Ok(Key {
            id: id.into(),
            name: self.name,
            grant: Grant {
                tenant: TenantId::new(&self.tenant),
                role: Role::parse(&self.role)
                    .ok_or_else(|| format!("the role {:?} is not known", self.role))?,
                scopes: self
                    .scopes
                    .map(|s| scopes_of(&s).map_err(|word| format!("the scope {word:?} is not known")))
                    .transpose()?,
                agent: self.agent.map(Into::into),
                every_tenant: self.every_tenant,
            },
            created_at_ns: self.created_at_ns,
            created_by: self.created_by,
            expires_at_ns: self.expires_at_ns,
            revoked_at_ns: self.revoked_at_ns,
            secrets: self
                .secrets
                .into_iter()
                .map(secret)
                .collect::<Option<_>>()
                .ok_or("a hash of a secret is not one")?,
        })
    }
}

#[derive(Default)]
struct Table {
    by_id: BTreeMap<Arc<str>, Arc<Key>>,
    by_hash: HashMap<Hash, Arc<Key>>,
}

impl Table {
    fn set(&mut self, key: Arc<Key>) {
        self.forget(&key.id);
        for secret in &key.secrets {
            self.by_hash.insert(secret.hash, key.clone());
        }
        self.by_id.insert(key.id.clone(), key);
    }

    fn forget(&mut self, id: &str) {
        if let Some(old) = self.by_id.remove(id) {
            for secret in &old.secrets {
                self.by_hash.remove(&secret.hash);
            }
        }
    }
}

/// Every key of the service.
pub struct Keys {
    store: Arc<dyn ControlStore>,
    random: RandomSource,
    /// Held over a change: the table is behind the store only within it.
    change: Mutex<()>,
    table: RwLock<Table>,
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keys")
    }
}

impl Keys {
    /// Reads the keys that a store has. One that cannot be read lets nobody in, and the log says so.
    pub fn open(store: Arc<dyn ControlStore>, random: RandomSource) -> Result<Self, StoreError> {
        let mut table = Table::default();
        for (id, bytes) in store.all(KIND)? {
            let key = serde_json::from_slice::<Record>(&bytes)
                .map_err(|e| e.to_string())
                .and_then(|record| record.into_key(&id));
            match key {
                Ok(key) => table.set(Arc::new(key)),
                Err(why) => tracing::error!(id, "an API key cannot be read, and lets nobody in: {why}"),
            }
        }
        Ok(Self { store, random, change: Mutex::default(), table: RwLock::new(table) })
    }

    /// Whether there is no key at all.
    pub fn is_empty(&self) -> bool {
        self.read(|table| table.by_id.is_empty())
    }

    fn read<T>(&self, look: impl FnOnce(&Table) -> T) -> T {
        look(&self.table.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Who presents a secret, if it is good at a moment. Neither the disk nor a wait comes into it.
    pub fn caller(&self, text: &str, moment: Moment, from: Option<SocketAddr>) -> Result<Caller, KeyRefusal> {
        // A map of hashes: how long a look into it takes says nothing of the secrets that were hashed.
        let hash = Hash::of(text);
        let key = self.read(|table| table.by_hash.get(&hash).cloned()).ok_or(KeyRefusal::Unknown)?;
        key.judge(&hash, moment)?;
        Ok(key.grant.caller(Principal::Key(key.id.clone()), from))
    }

    /// The keys that a caller sees, in order of their ids, after one of them.
    pub fn list(&self, caller: &Caller, after: Option<&str>, limit: usize) -> Vec<Arc<Key>> {
        let after = after.unwrap_or_default();
        self.read(|table| {
            let later = table.by_id.iter().skip_while(|(id, _)| &***id <= after).map(|(_, key)| key);
            later.filter(|key| is_seen(key, caller)).take(limit).cloned().collect()
        })
    }

    /// One key that a caller sees.
    pub fn get(&self, caller: &Caller, id: &str) -> Result<Arc<Key>, KeyError> {
        self.read(|table| table.by_id.get(id).filter(|key| is_seen(key, caller)).cloned())
            .ok_or_else(|| KeyError::NotFound(id.chars().take(64).collect()))
    }

    /// Makes a key; durable when it returns. The text is given here and never again.
    pub fn create(
        &self,
        caller: &Caller,
        draft: KeyDraft,
        moment: Moment,
    ) -> Result<(Arc<Key>, KeyText), KeyError> {
        let text = KeyText::random(&self.random).map_err(KeyError::Random)?;
        let key = self.create_as(caller, draft, moment, &text)?;
        Ok((key, text))
    }

    fn create_as(
        &self,
        caller: &Caller,
        draft: KeyDraft,
        moment: Moment,
        text: &KeyText,
    ) -> Result<Arc<Key>, KeyError> {
        check(&draft, moment)?;
        may_hand_on(caller, &draft.grant)?;
        let digits = random_hex::<8>(&self.random).map_err(KeyError::Random)?;
        let key = Key {
            id: format!("key_{}", *digits).into(),
            name: draft.name,
            grant: draft.grant,
            created_at_ns: moment.now_ns,
            created_by: caller.principal.to_string(),
            expires_at_ns: draft.expires_at_ns,
            revoked_at_ns: None,
            secrets: vec![StoredSecret {
                hash: text.hash(),
                last4: text.last4(),
                created_at_ns: moment.now_ns,
                until_ns: None,
            }],
        };
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        self.make_room(&key.grant.tenant)?;
        self.keep(key)
    }

    /// Sets what a key gives and when it ends.
    pub fn update(
        &self,
        caller: &Caller,
        id: &str,
        draft: KeyDraft,
        moment: Moment,
    ) -> Result<Arc<Key>, KeyError> {
        check(&draft, moment)?;
        self.change(caller, id, |key| {
            may_hand_on(caller, &draft.grant)?;
            Ok(Key { name: draft.name, grant: draft.grant, expires_at_ns: draft.expires_at_ns, ..key })
        })
    }

    /// Gives a key a new secret. The one of before is good for `overlap_s` more; an older one ends now.
    pub fn rotate(
        &self,
        caller: &Caller,
        id: &str,
        overlap_s: i64,
        moment: Moment,
    ) -> Result<(Arc<Key>, KeyText), KeyError> {
        if !(0..=OVERLAP_MAX_S).contains(&overlap_s) {
            let what = "give a time from 0s to 720h (30 days)".to_string();
            return Err(KeyError::Invalid { field: "overlap", what });
        }
        let text = KeyText::random(&self.random).map_err(KeyError::Random)?;
        let key = self.change(caller, id, |mut key| {
            let mut secrets: Vec<_> = key.secrets.pop().into_iter().filter(|_| overlap_s > 0).collect();
            for secret in &mut secrets {
                secret.until_ns = Some(moment.now_ns.saturating_add(overlap_s * NS_PER_S));
            }
            secrets.push(StoredSecret {
                hash: text.hash(),
                last4: text.last4(),
                created_at_ns: moment.now_ns,
                until_ns: None,
            });
            Ok(Key { secrets, ..key })
        })?;
        Ok((key, text))
    }

    /// Ends a key for good. One that has ended stays as it was.
    pub fn revoke(&self, caller: &Caller, id: &str, moment: Moment) -> Result<Arc<Key>, KeyError> {
        match self.change(caller, id, |key| Ok(Key { revoked_at_ns: Some(moment.now_ns), ..key })) {
            Err(KeyError::Revoked(_)) => self.get(caller, id),
            other => other,
        }
    }

    fn change(
        &self,
        caller: &Caller,
        id: &str,
        make: impl FnOnce(Key) -> Result<Key, KeyError>,
    ) -> Result<Arc<Key>, KeyError> {
        let _change = self.change.lock().unwrap_or_else(PoisonError::into_inner);
        let key = self.get(caller, id)?;
        // Who holds a smaller key must not get the secret of a greater one by rotating it.
        may_hand_on(caller, &key.grant)?;
        if key.revoked_at_ns.is_some() {
            return Err(KeyError::Revoked(id.to_string()));
        }
        self.keep(make(Key::clone(&key))?)
    }

    /// Writes a key to the store, then into the table. The change lock is held.
    fn keep(&self, key: Key) -> Result<Arc<Key>, KeyError> {
        let record = serde_json::to_vec(&Record::from(&key)).map_err(|e| KeyError::Random(e.to_string()))?;
        self.store.put(KIND, &key.id, &record)?;
        let key = Arc::new(key);
        self.table.write().unwrap_or_else(PoisonError::into_inner).set(key.clone());
        Ok(key)
    }

    /// Forgets the tenant's key that was revoked first, where the tenant has its most.
    fn make_room(&self, tenant: &TenantId) -> Result<(), KeyError> {
        let oldest = self.read(|table| {
            let of_tenant = table.by_id.values().filter(|key| key.grant.tenant == *tenant);
            if of_tenant.clone().count() < KEYS_MAX {
                return Ok(None);
            }
            let revoked = of_tenant.filter_map(|key| Some((key.revoked_at_ns?, key.id.clone())));
            revoked.min().map(Some).ok_or(KeyError::TooMany)
        })?;
        if let Some((_, id)) = oldest {
            self.store.remove(KIND, &id)?;
            self.table.write().unwrap_or_else(PoisonError::into_inner).forget(&id);
        }
        Ok(())
    }
}

/// A key of another tenant is not there, nor is one of the service's operator for anybody else.
fn is_seen(key: &Key, caller: &Caller) -> bool {
    key.grant.tenant == caller.tenant && (caller.every_tenant || !key.grant.every_tenant)
}

fn may_hand_on(caller: &Caller, grant: &Grant) -> Result<(), KeyError> {
    Grant::of(caller).lacks(grant).map_or(Ok(()), |why| Err(KeyError::Beyond(why)))
}

fn check(draft: &KeyDraft, moment: Moment) -> Result<(), KeyError> {
    let invalid = |field, what: &str| Err(KeyError::Invalid { field, what: what.to_string() });
    let name = &draft.name;
    if name.trim().is_empty() || name.chars().count() > NAME_MAX_CHARS || name.chars().any(char::is_control) {
        return invalid("name", "give it 1 to 100 characters, none of them a control character");
    }
    if draft.grant.agent.as_deref().is_some_and(|agent| !is_name(agent)) {
        return invalid("agent", "give it 1 to 128 visible ASCII characters");
    }
    if draft.grant.role == Role::Agent && draft.grant.agent.is_none() {
        return invalid("agent", "a key with the role agent needs the name of its agent");
    }
    if draft.grant.scopes.as_ref().is_some_and(|scopes| scopes.is_empty()) {
        return invalid("scopes", "a key with no scope can do nothing: leave scopes out for all of its role");
    }
    if draft.expires_at_ns.is_some_and(|end| end <= moment.now_ns) {
        return invalid("expires_at", "that time has passed: give one ahead, or revoke the key");
    }
    Ok(())
}

/// The key that a fresh service is managed with: of the service's operator, for every tenant, without an end.
fn operator_draft() -> KeyDraft {
    KeyDraft { name: "bootstrap".into(), grant: Grant::of(&Caller::local(None)), expires_at_ns: None }
}

/// Makes an operator's key in a control store of which no service runs; gives its text. For `minoots keys bootstrap`.
pub fn bootstrap(store: Arc<dyn ControlStore>, moment: Moment) -> Result<(Arc<Key>, KeyText), KeyError> {
    Keys::open(store, system_random())?.create(&Caller::local(None), operator_draft(), moment)
}

impl Keys {
    /// Takes a text that the operator chose as the first key, where there is no key yet. True if it was taken.
    pub fn accept_bootstrap(&self, text: &KeyText, moment: Moment) -> Result<bool, KeyError> {
        if !self.is_empty() {
            return Ok(false);
        }
        self.create_as(&Caller::local(None), operator_draft(), moment, text).map(|_| true)
    }
}

/// The scopes of a key as words, in order.
pub fn scope_words(grant: &Grant) -> Option<Vec<&'static str>> {
    grant.scopes.as_ref().map(|scopes| scopes.iter().copied().map(Verb::as_str).collect())
}

#[cfg(test)]
mod tests;
