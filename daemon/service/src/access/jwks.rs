//! The public keys of an identity provider: read, kept, and read again when a token names one that is not among them.

use crate::actions::http_client;
use crate::config::access::{IssuerConfig, JwksSource};
use chronotick::os_clock::boottime;
use chronotick_core::{MonoTime, Span};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::Deserialize;
use serde_json::Value;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// Keys older than this are read again behind the next token.
const STALE_AFTER: Span = Span::from_secs(600);
const FETCH_TIMEOUT: Duration = Duration::from_secs(10);
const SET_MAX_BYTES: usize = 256 * 1024;
/// A shorter RSA modulus is no protection any more.
const RSA_MIN_BITS: usize = 2_048;

/// One public key, and what it may verify.
#[derive(Clone)]
struct PublicKey {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// A set of public keys.
#[derive(Clone, Default)]
pub struct KeySet(Vec<PublicKey>);

impl KeySet {
    /// From a JWK set (RFC 7517). A key that is not for signatures, or of a kind that is not known, is passed over.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Document {
            keys: Vec<Value>,
        }
        let document: Document =
            serde_json::from_slice(bytes).map_err(|e| format!("it is no JWK set: {e}"))?;
        Ok(Self(document.keys.iter().filter_map(public_key).collect()))
    }

    /// The key for a token. Without an id in the token there must be only one that it can be.
    pub fn find(&self, id: Option<&str>, algorithm: Algorithm) -> Option<&DecodingKey> {
        let mut fitting = self
            .0
            .iter()
            .filter(|key| key.algorithms.contains(&algorithm) && (id.is_none() || key.id.as_deref() == id));
        let first = fitting.next()?;
        (id.is_some() || fitting.next().is_none()).then_some(&first.key)
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn public_key(value: &Value) -> Option<PublicKey> {
    let text = |name: &str| value.get(name).and_then(Value::as_str);
    if text("use").is_some_and(|u| u != "sig") {
        return None;
    }
    let fitting: &[Algorithm] = match (text("kty")?, text("crv")) {
        ("RSA", None) if text("n")?.len() * 6 >= RSA_MIN_BITS => &[
            Algorithm::RS256,
            Algorithm::RS384,
            Algorithm::RS512,
            Algorithm::PS256,
            Algorithm::PS384,
            Algorithm::PS512,
        ],
        ("EC", Some("P-256")) => &[Algorithm::ES256],
        ("EC", Some("P-384")) => &[Algorithm::ES384],
        ("OKP", Some("Ed25519")) => &[Algorithm::EdDSA],
        // `oct` among them: a shared secret has no place in a public document.
        _ => return None,
    };
    let named = text("alg").map(|word| word.parse::<Algorithm>().ok());
    let algorithms: Vec<_> =
        fitting.iter().copied().filter(|a| named.is_none_or(|named| named == Some(*a))).collect();
    let jwk: Jwk = serde_json::from_value(value.clone()).ok()?;
    let key = DecodingKey::from_jwk(&jwk).ok()?;
    (!algorithms.is_empty()).then(|| PublicKey { id: text("kid").map(str::to_string), algorithms, key })
}

#[derive(Clone, Default)]
struct Kept {
    set: Arc<KeySet>,
    /// Grows with each set that was read.
    generation: u64,
    read_at: Option<MonoTime>,
    tried_at: Option<MonoTime>,
}

/// The keys of one issuer. A read that fails leaves the ones of before.
pub struct Jwks {
    issuer: String,
    source: JwksSource,
    refetch: Span,
    client: reqwest::Client,
    kept: Mutex<Kept>,
    /// Held over a read: one at a time, and the others get what it got.
    reading: tokio::sync::Mutex<()>,
}

impl Jwks {
    /// Without any keys yet. An error when the HTTP client cannot be set up.
    pub fn new(config: &IssuerConfig) -> Result<Self, String> {
        Ok(Self {
            issuer: config.issuer.clone(),
            source: config.jwks.clone(),
            refetch: Span::from_ns(i64::try_from(config.refetch.as_nanos()).unwrap_or(i64::MAX)),
            client: http_client()?,
            kept: Mutex::default(),
            reading: tokio::sync::Mutex::default(),
        })
    }

    fn kept(&self) -> Kept {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The keys that there are, and which reading of them it is.
    pub fn current(&self) -> (Arc<KeySet>, u64) {
        let kept = self.kept();
        (kept.set, kept.generation)
    }

    /// Whether they have been kept for long, and may be asked for again.
    pub fn is_stale(&self) -> bool {
        let (kept, now) = (self.kept(), boottime());
        kept.read_at.is_none_or(|at| now - at > STALE_AFTER) && self.may_try(&kept, now)
    }

    fn may_try(&self, kept: &Kept, now: MonoTime) -> bool {
        kept.tried_at.is_none_or(|at| now - at >= self.refetch)
    }

    /// Reads them again, unless that was tried a moment ago.
    pub async fn refresh(&self) {
        let _reading = self.reading.lock().await;
        let now = boottime();
        if !self.may_try(&self.kept(), now) {
            return;
        }
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).tried_at = Some(now);
        let set = match self.load().await {
            Ok(set) => set,
            Err(why) => {
                tracing::warn!(
                    issuer = self.issuer,
                    "its public keys could not be read, and those of before are used: {why}"
                );
                return;
            }
        };
        tracing::info!(issuer = self.issuer, keys = set.len(), "public keys read");
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.set = Arc::new(set);
        kept.generation += 1;
        kept.read_at = Some(now);
    }

    async fn load(&self) -> Result<KeySet, String> {
        let bytes = match &self.source {
            JwksSource::Url(url) => self.fetch(url).await?,
            JwksSource::File(path) => {
                let path = path.clone();
                let read = move || std::fs::read(&path).map_err(|e| format!("{}: {e}", path.display()));
                tokio::task::spawn_blocking(read).await.map_err(|e| e.to_string())??
            }
        };
        KeySet::parse(&bytes)
    }

    async fn fetch(&self, url: &str) -> Result<Vec<u8>, String> {
        let failed = |e: reqwest::Error| format!("{url}: {}", e.without_url());
        let mut response = self.client.get(url).timeout(FETCH_TIMEOUT).send().await.map_err(failed)?;
        if !response.status().is_success() {
            return Err(format!("{url}: the answer is {}", response.status()));
        }
        let mut bytes = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(failed)? {
            if bytes.len() + chunk.len() > SET_MAX_BYTES {
                return Err(format!("{url}: the answer is over {SET_MAX_BYTES} bytes"));
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_keys_for_signatures_are_taken() {
        fn check(jwk: &str, want: &[Algorithm]) {
            let set = KeySet::parse(format!("{{\"keys\":[{jwk}]}}").as_bytes()).unwrap();
            let algorithms = set.0.first().map_or(&[][..], |key| &key.algorithms);
            assert_eq!(algorithms, want, "{jwk}");
        }
        let ed = r#""kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"a""#;
        check(&format!("{{{ed}}}"), &[Algorithm::EdDSA]);
        check(&format!("{{{ed},\"use\":\"sig\",\"alg\":\"EdDSA\"}}"), &[Algorithm::EdDSA]);
        check(&format!("{{{ed},\"use\":\"enc\"}}"), &[]);
        check(&format!("{{{ed},\"alg\":\"HS256\"}}"), &[]);
        check(&format!("{{{ed},\"alg\":\"RS256\"}}"), &[]);
        check(r#"{"kty":"oct","k":"c2VjcmV0","kid":"a"}"#, &[]);
        check(r#"{"kty":"RSA","n":"c2hvcnQ","e":"AQAB"}"#, &[]);
        check(r#"{"kty":"new kind"}"#, &[]);
        let long = "A".repeat(342);
        check(&format!(r#"{{"kty":"RSA","n":"{long}","e":"AQAB","alg":"PS256"}}"#), &[Algorithm::PS256]);
        assert!(KeySet::parse(b"[]").is_err_and(|e| e.contains("no JWK set")));
    }

    #[test]
    fn a_token_without_a_key_id_needs_a_single_key() {
        let jwk = |id: &str| {
            format!(
                r#"{{"kty":"OKP","crv":"Ed25519","x":"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo","kid":"{id}"}}"#
            )
        };
        let one = KeySet::parse(format!("{{\"keys\":[{}]}}", jwk("a")).as_bytes()).unwrap();
        assert!(
            one.find(None, Algorithm::EdDSA).is_some() && one.find(Some("a"), Algorithm::EdDSA).is_some()
        );
        assert!(
            one.find(Some("b"), Algorithm::EdDSA).is_none() && one.find(None, Algorithm::ES256).is_none()
        );
        let two = KeySet::parse(format!("{{\"keys\":[{},{}]}}", jwk("a"), jwk("b")).as_bytes()).unwrap();
        assert!(
            two.find(None, Algorithm::EdDSA).is_none() && two.find(Some("b"), Algorithm::EdDSA).is_some()
        );
    }
}
