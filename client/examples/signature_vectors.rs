//! Writes tests/vectors/signatures.json to standard output: what every language's verification is tested with.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chronotick::verify::{Envelope, Kind, message, verify_signature};
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

struct Key {
    id: &'static str,
    pair: Ed25519KeyPair,
}

/// Keys of fixed seeds: public, so good for nothing but this.
fn key(id: &'static str, seed: u8) -> Result<Key, String> {
    let pair = Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).map_err(|e| e.to_string())?;
    Ok(Key { id, pair })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn raw(signer: &Key, bytes: &[u8], signature: &[u8]) -> Value {
    let public: Option<[u8; 32]> = signer.pair.public_key().as_ref().try_into().ok();
    let fits = public.is_some_and(|key| verify_signature(&key, bytes, signature));
    json!({
        "public_key": hex(signer.pair.public_key().as_ref()),
        "message": hex(bytes),
        "signature": hex(signature),
        "fits": fits,
    })
}

fn envelope(name: &str, key: &Key, signed: (Kind, &str), shown: (Kind, &str), key_id: &str) -> Value {
    let signature = key.pair.sign(&message(signed.0, key.id, signed.1));
    let envelope = Envelope {
        payload: shown.1.into(),
        key_id: key_id.into(),
        signature: STANDARD.encode(signature.as_ref()),
    };
    json!({
        "name": name,
        "call": "envelope",
        "kind": shown.0.as_str(),
        "envelope": serde_json::to_string(&envelope).unwrap_or_default(),
        "raw": raw(key, &message(shown.0, key_id, shown.1), signature.as_ref()),
        "valid": signed == shown && key.id == key_id && key.id != "unpublished",
    })
}

fn webhook(name: &str, key: &Key, before: &str, body: (&str, &str)) -> Value {
    let (id, timestamp) = ("0190-1/call", "1795000000");
    let signed = format!("{id}.{timestamp}.{}", body.0);
    let signature = key.pair.sign(signed.as_bytes());
    json!({
        "name": name,
        "call": "webhook",
        "id": id,
        "timestamp": timestamp,
        "signature": format!("{before}v1a,{}", STANDARD.encode(signature.as_ref())),
        "body": body.1,
        "raw": raw(key, format!("{id}.{timestamp}.{}", body.1).as_bytes(), signature.as_ref()),
        "valid": body.0 == body.1 && key.id != "unpublished",
    })
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (old, new, foreign) = (key("old", 1)?, key("new", 2)?, key("unpublished", 3)?);
    let jwk = |k: &Key| {
        let x = URL_SAFE_NO_PAD.encode(k.pair.public_key().as_ref());
        json!({"kty": "OKP", "crv": "Ed25519", "alg": "EdDSA", "use": "sig", "kid": k.id, "x": x})
    };
    let (event, receipt) = (r#"{"type":"timer.fired","name":"caf\u00e9 — ü"}"#, r#"{"fired_at_ns":"1"}"#);
    let (e, r, c) = ((Kind::Event, event), (Kind::Receipt, receipt), (Kind::Checkpoint, "{}"));
    let cases = [
        envelope("an event", &new, e, e, "new"),
        envelope("an event of a retired key", &old, e, e, "old"),
        envelope("a receipt", &new, r, r, "new"),
        envelope("a checkpoint", &new, c, c, "new"),
        envelope("an empty payload", &new, (Kind::Event, ""), (Kind::Event, ""), "new"),
        envelope("an altered payload", &new, e, (Kind::Event, r#"{"type":"timer.fired"}"#), "new"),
        envelope("an event passed off as a receipt", &new, e, (Kind::Receipt, event), "new"),
        envelope("another key's id", &new, e, e, "old"),
        envelope("a key that is not published", &foreign, e, e, "unpublished"),
        webhook("a webhook", &new, "", ("{\"a\":1}", "{\"a\":1}")),
        webhook("a webhook with two signatures", &new, "v1,bm90IG91cnM= ", ("{}", "{}")),
        webhook("a webhook with another body", &new, "", ("{}", "[]")),
        webhook("a webhook of a key that is not published", &foreign, "", ("{}", "{}")),
        webhook("a webhook without a body", &old, "", ("", "")),
    ];
    let vectors = json!({
        "about": "Written by `cargo run -p chronotick --features verify --example signature_vectors`.",
        "jwks": {"keys": [{"kty": "EC", "crv": "P-256", "kid": "other"}, jwk(&old), jwk(&new)]},
        "cases": cases,
    });
    println!("{}", serde_json::to_string_pretty(&vectors)?);
    Ok(())
}
