//! Signing: the service's ed25519 keys, their rotation, and what is signed with them.

pub mod receipt;

use crate::engine::FeedEvent;
use crate::render;
use crate::secrets::{Master, SealError};
use crate::store::{ControlStore, StoreError};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
pub use chronotick::verify::{Envelope, Kind};
use ring::digest::{SHA256, digest};
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::fmt::Write;
use std::sync::{Arc, PoisonError, RwLock};
use zeroize::Zeroizing;

const KIND: &str = "signing_key";

/// Why there is no key to sign with.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A private key cannot be unsealed or sealed.
    #[error("the signing key {key}: {reason}")]
    Seal {
        /// Its id.
        key: String,
        /// Why not.
        reason: SealError,
    },
    /// A record is damaged.
    #[error(
        "the record of the signing key {0} is damaged: restore the data directory's `control` from a backup"
    )]
    Damaged(String),
    /// The random numbers of the operating system are not to be had.
    #[error("the operating system gives no random numbers for a signing key")]
    Random,
}

/// A key as it is kept.
#[derive(Serialize, Deserialize)]
struct Record {
    public: String,
    private: String,
    /// Whether the private key is sealed with the master key.
    sealed: bool,
    created_ns: i64,
    retired_ns: Option<i64>,
}

struct Key {
    id: Arc<str>,
    public: [u8; 32],
    created_ns: i64,
    retired_ns: Option<i64>,
}

struct State {
    keys: Vec<Key>,
    active: Active,
}

#[derive(Clone)]
struct Active {
    id: Arc<str>,
    pair: Arc<Ed25519KeyPair>,
}

/// The service's signing keys.
pub struct Signing {
    control: Arc<dyn ControlStore>,
    master: Option<Arc<Master>>,
    state: RwLock<State>,
}

impl std::fmt::Debug for Signing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signing").field("active", &self.key_id()).finish_non_exhaustive()
    }
}

fn context(id: &str) -> Vec<u8> {
    format!("minoots signing key v1\n{id}").into_bytes()
}

fn make(now_ns: i64, master: Option<&Master>) -> Result<(Arc<str>, Record, Ed25519KeyPair), SigningError> {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).map_err(|_| SigningError::Random)?;
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).map_err(|_| SigningError::Random)?;
    let public = pair.public_key().as_ref();
    let id: Arc<str> = key_id(public).into();
    let private = match master {
        Some(master) => master
            .wrap(document.as_ref(), &context(&id))
            .map_err(|reason| SigningError::Seal { key: id.to_string(), reason })?,
        None => STANDARD.encode(document.as_ref()),
    };
    let record = Record {
        public: URL_SAFE_NO_PAD.encode(public),
        private,
        sealed: master.is_some(),
        created_ns: now_ns,
        retired_ns: None,
    };
    Ok((id, record, pair))
}

/// A key's id: the start of the hash of its public half.
fn key_id(public: &[u8]) -> String {
    hex(&digest(&SHA256, public).as_ref()[..8])
}

/// Bytes as hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn text_of(record: &Record) -> Vec<u8> {
    render::to_text(record).into_bytes()
}

impl Signing {
    /// Reads the keys; makes the first one where there is none.
    pub fn open(
        control: Arc<dyn ControlStore>,
        master: Option<Arc<Master>>,
        now_ns: i64,
    ) -> Result<Self, SigningError> {
        let mut keys = Vec::new();
        let mut active = None;
        for (id, value) in control.all(KIND)? {
            let damaged = || SigningError::Damaged(id.clone());
            let record: Record = serde_json::from_slice(&value).map_err(|_| damaged())?;
            let public = URL_SAFE_NO_PAD.decode(&record.public).map_err(|_| damaged())?;
            let public: [u8; 32] = public.try_into().map_err(|_| damaged())?;
            let key = Key {
                id: id.as_str().into(),
                public,
                created_ns: record.created_ns,
                retired_ns: record.retired_ns,
            };
            let created_ns = record.created_ns;
            if record.retired_ns.is_none() && active.as_ref().is_none_or(|(at, _)| *at < created_ns) {
                let document = match (record.sealed, &master) {
                    (false, _) => {
                        STANDARD.decode(&record.private).map(Zeroizing::new).map_err(|_| damaged())?
                    }
                    (true, Some(master)) => master
                        .unwrap(&record.private, &context(&id))
                        .map_err(|reason| SigningError::Seal { key: id.clone(), reason })?,
                    (true, None) => {
                        return Err(SigningError::Seal { key: id, reason: SealError::NoMaster });
                    }
                };
                let pair = Ed25519KeyPair::from_pkcs8(&document).map_err(|_| damaged())?;
                if let Some(master) = &master
                    && !(record.sealed && master.is_current(&record.private))
                {
                    // Plain until now, or under the master key before.
                    let private = master
                        .wrap(&document, &context(&id))
                        .map_err(|reason| SigningError::Seal { key: id.clone(), reason })?;
                    control.put(KIND, &id, &text_of(&Record { private, sealed: true, ..record }))?;
                }
                active = Some((created_ns, Active { id: key.id.clone(), pair: Arc::new(pair) }));
            }
            keys.push(key);
        }
        let active = match active {
            Some((_, active)) => active,
            None => {
                let (id, record, pair) = make(now_ns, master.as_deref())?;
                control.put(KIND, &id, &text_of(&record))?;
                keys.push(public_part(&id, &pair, now_ns));
                Active { id, pair: Arc::new(pair) }
            }
        };
        Ok(Self { control, master, state: RwLock::new(State { keys, active }) })
    }

    fn active(&self) -> Active {
        self.state.read().unwrap_or_else(PoisonError::into_inner).active.clone()
    }

    /// The id of the key that signs now.
    pub fn key_id(&self) -> Arc<str> {
        self.active().id
    }

    /// Makes a new key, and retires the one before: its public half stays in the key set.
    pub fn rotate(&self, now_ns: i64) -> Result<Arc<str>, SigningError> {
        let (id, record, pair) = make(now_ns, self.master.as_deref())?;
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        // The new one first: a crash between the two leaves both, of which the younger signs.
        self.control.put(KIND, &id, &text_of(&record))?;
        for key in state.keys.iter_mut().filter(|key| key.retired_ns.is_none()) {
            // What is kept of a retired key cannot sign.
            let retired = Record {
                public: URL_SAFE_NO_PAD.encode(key.public),
                private: String::new(),
                sealed: false,
                created_ns: key.created_ns,
                retired_ns: Some(now_ns),
            };
            self.control.put(KIND, &key.id, &text_of(&retired))?;
            key.retired_ns = Some(now_ns);
        }
        state.keys.push(public_part(&id, &pair, now_ns));
        state.active = Active { id: id.clone(), pair: Arc::new(pair) };
        Ok(id)
    }

    /// The public keys as a JWK set (RFC 7517, RFC 8037), the retired ones included.
    pub fn jwks(&self) -> String {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<_> = state
            .keys
            .iter()
            .map(|key| {
                json!({
                    "kty": "OKP",
                    "crv": "Ed25519",
                    "alg": "EdDSA",
                    "use": "sig",
                    "kid": &*key.id,
                    "x": URL_SAFE_NO_PAD.encode(key.public),
                    "valid_from": render::rfc3339(key.created_ns),
                    "retired_at": key.retired_ns.map(render::rfc3339),
                })
            })
            .collect();
        json!({ "keys": keys }).to_string()
    }

    /// Signs a text as one of a kind.
    pub fn sign(&self, kind: Kind, payload: String) -> Envelope {
        let Active { id, pair } = self.active();
        let signature = pair.sign(&chronotick::verify::message(kind, &id, &payload));
        Envelope { payload, key_id: id.to_string(), signature: STANDARD.encode(signature.as_ref()) }
    }

    /// An event of the feed, signed exactly as [`render::event`] tells it.
    pub fn sign_event(&self, event: &FeedEvent) -> Envelope {
        self.sign(Kind::Event, render::event(event))
    }

    /// The value of `webhook-signature` (Standard Webhooks, asymmetric form).
    pub fn sign_webhook(&self, id: &str, timestamp_s: i64, body: &[u8]) -> String {
        let mut bytes = format!("{id}.{timestamp_s}.").into_bytes();
        bytes.extend_from_slice(body);
        format!("v1a,{}", STANDARD.encode(self.active().pair.sign(&bytes).as_ref()))
    }
}

fn public_part(id: &Arc<str>, pair: &Ed25519KeyPair, created_ns: i64) -> Key {
    let mut public = [0; 32];
    // An ed25519 public key has 32 bytes.
    public.copy_from_slice(pair.public_key().as_ref());
    Key { id: id.clone(), public, created_ns, retired_ns: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::MemoryControl;
    use chronotick::verify::Keys;

    #[test]
    fn signatures_hold_over_a_rotation_and_a_restart() {
        let control = Arc::new(MemoryControl::default());
        let master = Arc::new(Master::local(&[7; 32], None).unwrap());
        let signing = Signing::open(control.clone(), Some(master.clone()), 1).unwrap();
        let old = signing.sign(Kind::Event, "{\"a\":1}".into());
        let new_id = signing.rotate(2).unwrap();
        drop(signing);
        let signing = Signing::open(control.clone(), Some(master), 3).unwrap();
        assert_eq!(signing.key_id(), new_id);
        let keys = Keys::from_jwks(&signing.jwks()).unwrap();
        let new = signing.sign(Kind::Event, "{\"a\":1}".into());
        assert_ne!(old.key_id, new.key_id);
        for envelope in [&old, &new] {
            assert_eq!(keys.check(Kind::Event, envelope), Ok(()));
            assert!(keys.check(Kind::Receipt, envelope).is_err(), "a kind passes as another");
        }
        let refused = Signing::open(control, None, 4).unwrap_err().to_string();
        assert!(refused.contains("master key"), "{refused}");
    }

    #[test]
    fn a_sealed_key_is_nowhere_in_the_store() {
        let control = Arc::new(MemoryControl::default());
        let master = Arc::new(Master::local(&[7; 32], None).unwrap());
        Signing::open(control.clone(), Some(master), 1).unwrap();
        let (_, value) = &control.all(KIND).unwrap()[0];
        let record: Record = serde_json::from_slice(value).unwrap();
        assert!(record.sealed);
        let wrapped = STANDARD.decode(record.private.split(':').next_back().unwrap()).unwrap();
        assert!(Ed25519KeyPair::from_pkcs8(&wrapped).is_err());
    }
}
