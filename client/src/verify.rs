//! Checks what the timer service signed: events, fire receipts, audit checkpoints and webhooks. Needs no network.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use ring::signature::{ED25519, UnparsedPublicKey};
use serde::{Deserialize, Serialize};

/// What is signed. It is part of the signed bytes, so that nothing of one kind passes as another.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// An event of the feed.
    Event,
    /// The receipt of a fire.
    Receipt,
    /// A checkpoint of the audit.
    Checkpoint,
}

impl Kind {
    /// Its word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Event => "event",
            Self::Receipt => "receipt",
            Self::Checkpoint => "checkpoint",
        }
    }
}

/// A payload with its signature. The payload is JSON, kept exactly as it was signed.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Envelope {
    /// The signed text.
    pub payload: String,
    /// The key that signed it.
    pub key_id: String,
    /// The signature in standard base64.
    pub signature: String,
}

/// Why something is not taken as signed by the service.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum VerifyError {
    /// The text is not what it should be.
    #[error("{0}")]
    Malformed(String),
    /// The key set lacks the key.
    #[error("no key {0:?} in the key set: fetch /.well-known/minoots-keys.json again")]
    UnknownKey(String),
    /// The signature is of other bytes, or of another key.
    #[error("the signature does not fit: the text was changed, or another key signed it")]
    BadSignature,
}

#[derive(Deserialize)]
struct Jwks {
    keys: Vec<Jwk>,
}

#[derive(Deserialize)]
struct Jwk {
    kty: String,
    crv: Option<String>,
    kid: String,
    x: Option<String>,
}

/// The public keys of a service.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Keys(Vec<(String, [u8; 32])>);

/// The bytes that a signature is over.
pub fn message(kind: Kind, key_id: &str, payload: &str) -> Vec<u8> {
    format!("minoots.{}.v1\n{key_id}\n{payload}", kind.as_str()).into_bytes()
}

/// Whether a key made this signature over these bytes.
pub fn verify_signature(public_key: &[u8; 32], message: &[u8], signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ED25519, public_key).verify(message, signature).is_ok()
}

impl Keys {
    /// From the text of `/.well-known/minoots-keys.json`; keys of other kinds are passed over.
    pub fn from_jwks(text: &str) -> Result<Self, VerifyError> {
        let set: Jwks = serde_json::from_str(text)
            .map_err(|e| VerifyError::Malformed(format!("the key set is not a JWK set: {e}")))?;
        let mut keys = Vec::new();
        for jwk in set.keys {
            if jwk.kty != "OKP" || jwk.crv.as_deref() != Some("Ed25519") {
                continue;
            }
            let bytes = jwk.x.as_deref().and_then(|x| URL_SAFE_NO_PAD.decode(x).ok());
            let key = bytes.and_then(|b| <[u8; 32]>::try_from(b).ok()).ok_or_else(|| {
                VerifyError::Malformed(format!("the key {:?} is not 32 bytes of base64url", jwk.kid))
            })?;
            keys.push((jwk.kid, key));
        }
        Ok(Self(keys))
    }

    fn get(&self, key_id: &str) -> Result<&[u8; 32], VerifyError> {
        self.0
            .iter()
            .find(|(id, _)| id == key_id)
            .map(|(_, key)| key)
            .ok_or_else(|| VerifyError::UnknownKey(key_id.chars().take(64).collect()))
    }

    /// Checks an envelope and gives its payload.
    pub fn check(&self, kind: Kind, envelope: &Envelope) -> Result<(), VerifyError> {
        let key = self.get(&envelope.key_id)?;
        let signature = STANDARD
            .decode(&envelope.signature)
            .map_err(|_| VerifyError::Malformed("the signature is not base64".into()))?;
        let bytes = message(kind, &envelope.key_id, &envelope.payload);
        if verify_signature(key, &bytes, &signature) { Ok(()) } else { Err(VerifyError::BadSignature) }
    }

    /// Checks an envelope's JSON text and gives the payload's text.
    pub fn open(&self, kind: Kind, text: &str) -> Result<String, VerifyError> {
        let envelope: Envelope = serde_json::from_str(text)
            .map_err(|e| VerifyError::Malformed(format!("this is not a signed envelope: {e}")))?;
        self.check(kind, &envelope)?;
        Ok(envelope.payload)
    }

    /// Checks a webhook in the Standard Webhooks form: the headers `webhook-id`, `webhook-timestamp`,
    /// `webhook-signature`, and the body's bytes. Its age is the caller's to judge.
    pub fn check_webhook(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
    ) -> Result<(), VerifyError> {
        let mut bytes = format!("{id}.{timestamp}.").into_bytes();
        bytes.extend_from_slice(body);
        let given = signatures.split(' ').filter_map(|s| s.strip_prefix("v1a,"));
        let fits = given
            .filter_map(|s| STANDARD.decode(s).ok())
            .any(|signature| self.0.iter().any(|(_, key)| verify_signature(key, &bytes, &signature)));
        if fits { Ok(()) } else { Err(VerifyError::BadSignature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Deserialize)]
    struct Case {
        name: String,
        call: String,
        #[serde(default)]
        kind: String,
        #[serde(default)]
        envelope: String,
        #[serde(default)]
        id: String,
        #[serde(default)]
        timestamp: String,
        #[serde(default)]
        signature: String,
        #[serde(default)]
        body: String,
        valid: bool,
    }

    #[test]
    fn the_shared_vectors_pass() {
        let text = include_str!("../../tests/vectors/signatures.json");
        let vectors: serde_json::Value = serde_json::from_str(text).unwrap();
        let keys = Keys::from_jwks(&vectors["jwks"].to_string()).unwrap();
        let cases: Vec<Case> = serde_json::from_value(vectors["cases"].clone()).unwrap();
        assert!(cases.len() >= 10);
        for case in cases {
            let result = match case.call.as_str() {
                "webhook" => {
                    keys.check_webhook(&case.id, &case.timestamp, &case.signature, case.body.as_bytes())
                }
                _ => {
                    let kind = match case.kind.as_str() {
                        "event" => Kind::Event,
                        "receipt" => Kind::Receipt,
                        _ => Kind::Checkpoint,
                    };
                    keys.open(kind, &case.envelope).map(|_| ())
                }
            };
            assert_eq!(result.is_ok(), case.valid, "{}: {result:?}", case.name);
        }
    }
}
