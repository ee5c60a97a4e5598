package chronotick

import (
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// SignedKind is what is signed; it is part of the signed bytes.
type SignedKind string

// What the timer service signs beside webhooks.
const (
	SignedEvent      SignedKind = "event"
	SignedReceipt    SignedKind = "receipt"
	SignedCheckpoint SignedKind = "checkpoint"
)

// ErrBadSignature says that the text was changed, or that another key signed it.
var ErrBadSignature = errors.New("the signature does not fit: the text was changed, or another key signed it")

// VerifyKeys are the public keys of a timer service, by their ids.
type VerifyKeys map[string]ed25519.PublicKey

// ParseKeys reads the text of /.well-known/minoots-keys.json; keys of other kinds are passed over.
func ParseKeys(jwks []byte) (VerifyKeys, error) {
	var set struct {
		Keys []struct{ Kty, Crv, Kid, X string } `json:"keys"`
	}
	if err := json.Unmarshal(jwks, &set); err != nil {
		return nil, fmt.Errorf("the key set is not a JWK set: %w", err)
	}
	keys := VerifyKeys{}
	for _, jwk := range set.Keys {
		if jwk.Kty != "OKP" || jwk.Crv != "Ed25519" {
			continue
		}
		key, err := base64.RawURLEncoding.DecodeString(jwk.X)
		if err != nil || len(key) != ed25519.PublicKeySize {
			return nil, fmt.Errorf("the key %q is not 32 bytes of base64url", jwk.Kid)
		}
		keys[jwk.Kid] = key
	}
	return keys, nil
}

// VerifyEnvelope checks a signed envelope, which is the JSON text as it was received, and gives its payload.
func (keys VerifyKeys) VerifyEnvelope(kind SignedKind, envelope []byte) (string, error) {
	var signed struct {
		Payload   *string `json:"payload"`
		KeyID     string  `json:"key_id"`
		Signature string  `json:"signature"`
	}
	if err := json.Unmarshal(envelope, &signed); err != nil {
		return "", fmt.Errorf("this is not a signed envelope: %w", err)
	}
	if signed.Payload == nil {
		return "", errors.New("this is not a signed envelope: it has no payload")
	}
	key, known := keys[signed.KeyID]
	if !known {
		return "", fmt.Errorf("no key %q in the key set: fetch /.well-known/minoots-keys.json again", signed.KeyID)
	}
	signature, err := base64.StdEncoding.DecodeString(signed.Signature)
	if err != nil {
		return "", fmt.Errorf("the signature is not base64: %w", err)
	}
	message := "minoots." + string(kind) + ".v1\n" + signed.KeyID + "\n" + *signed.Payload
	if !ed25519.Verify(key, []byte(message), signature) {
		return "", ErrBadSignature
	}
	return *signed.Payload, nil
}

// VerifyWebhook checks a webhook by its headers and its body. Its age is the caller's to judge.
func (keys VerifyKeys) VerifyWebhook(headers http.Header, body []byte) error {
	start := headers.Get("webhook-id") + "." + headers.Get("webhook-timestamp") + "."
	message := append([]byte(start), body...)
	for _, part := range strings.Split(headers.Get("webhook-signature"), " ") {
		text, ours := strings.CutPrefix(part, "v1a,")
		signature, err := base64.StdEncoding.DecodeString(text)
		if !ours || err != nil {
			continue
		}
		for _, key := range keys {
			if ed25519.Verify(key, message, signature) {
				return nil
			}
		}
	}
	return ErrBadSignature
}
