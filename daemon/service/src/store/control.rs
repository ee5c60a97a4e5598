//! What the control plane keeps: keys, tenants, secrets, schemas. Small, read at the start, written seldom.

use super::StoreError;
use fjall::{Database, Keyspace, KeyspaceCreateOptions, PersistMode};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Records by kind and key.
pub trait ControlStore: Send + Sync {
    /// Every record of a kind, in order of the keys.
    fn all(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError>;

    /// Sets a record; durable when it returns.
    fn put(&self, kind: &str, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Removes a record; durable when it returns.
    fn remove(&self, kind: &str, key: &str) -> Result<(), StoreError>;
}

/// In memory, for tests.
#[derive(Debug, Default)]
pub struct MemoryControl(Mutex<BTreeMap<(String, String), Vec<u8>>>);

impl ControlStore for MemoryControl {
    fn all(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of_kind = map.iter().filter(|((k, _), _)| k == kind);
        Ok(of_kind.map(|((_, key), value)| (key.clone(), value.clone())).collect())
    }

    fn put(&self, kind: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.insert((kind.into(), key.into()), value.into());
        Ok(())
    }

    fn remove(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        let mut map = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        map.remove(&(kind.into(), key.into()));
        Ok(())
    }
}

/// In a directory of its own.
pub struct DiskControl {
    directory: PathBuf,
    database: Database,
    records: Keyspace,
}

/// A kind and a key as one key of the store. A kind has no zero byte.
fn place(kind: &str, key: &str) -> Vec<u8> {
    [kind.as_bytes(), key.as_bytes()].join(&0)
}

impl DiskControl {
    /// Opens the directory, or makes it.
    pub fn open(directory: &Path) -> Result<Self, StoreError> {
        let open = || -> fjall::Result<Self> {
            let database = Database::builder(directory)
                .cache_size(1 << 20)
                .worker_threads(1)
                .max_journaling_size(64 << 20)
                .open()?;
            let records = database.keyspace("records", KeyspaceCreateOptions::default)?;
            Ok(Self { directory: directory.into(), database, records })
        };
        open().map_err(|e| failed("open", directory, e))
    }
}

fn failed(verb: &'static str, directory: &Path, error: fjall::Error) -> StoreError {
    let reason = match error {
        fjall::Error::Io(e) => e,
        other => std::io::Error::other(other.to_string()),
    };
    StoreError::io(verb, directory)(reason)
}

impl ControlStore for DiskControl {
    fn all(&self, kind: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        let prefix = place(kind, "");
        self.records
            .prefix(&prefix)
            .map(|guard| {
                let (key, value) = guard.into_inner().map_err(|e| failed("read", &self.directory, e))?;
                let key = String::from_utf8_lossy(&key[prefix.len()..]).into_owned();
                Ok((key, value.to_vec()))
            })
            .collect()
    }

    fn put(&self, kind: &str, key: &str, value: &[u8]) -> Result<(), StoreError> {
        self.records
            .insert(place(kind, key), value)
            .and_then(|()| self.database.persist(PersistMode::SyncAll))
            .map_err(|e| failed("write", &self.directory, e))
    }

    fn remove(&self, kind: &str, key: &str) -> Result<(), StoreError> {
        self.records
            .remove(place(kind, key))
            .and_then(|()| self.database.persist(PersistMode::SyncAll))
            .map_err(|e| failed("write", &self.directory, e))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(store: &dyn ControlStore) {
        assert_eq!(store.all("key").unwrap(), []);
        store.put("key", "b", b"2").unwrap();
        store.put("key", "a", b"1").unwrap();
        store.put("keys", "c", b"3").unwrap();
        store.put("key", "b", b"4").unwrap();
        assert_eq!(store.all("key").unwrap(), [("a".into(), b"1".to_vec()), ("b".into(), b"4".to_vec())]);
        store.remove("key", "a").unwrap();
        store.remove("key", "none").unwrap();
        assert_eq!(store.all("key").unwrap(), [("b".into(), b"4".to_vec())]);
    }

    #[test]
    fn both_stores_keep_records_apart() {
        check(&MemoryControl::default());
        let dir = tempfile::tempdir().unwrap();
        check(&DiskControl::open(dir.path()).unwrap());
        let again = DiskControl::open(dir.path()).unwrap();
        assert_eq!(again.all("key").unwrap(), [("b".into(), b"4".to_vec())]);
        assert_eq!(again.all("keys").unwrap(), [("c".into(), b"3".to_vec())]);
    }
}
