/** Checks what the timer service signed: events, fire receipts, audit checkpoints and webhooks. Needs no network. */

import { createPublicKey, verify, type KeyObject } from "node:crypto";

/** What is signed; it is part of the signed bytes. */
export type SignedKind = "event" | "receipt" | "checkpoint";

/** This is not signed by the service, or not in this form. */
export class SignatureError extends Error {
  override name = "SignatureError";
}

function keysOf(jwks: string): Map<string, KeyObject> {
  const keys = new Map<string, KeyObject>();
  try {
    for (const { kty, crv, kid, x } of JSON.parse(jwks).keys) {
      if (kty === "OKP" && crv === "Ed25519") {
        keys.set(kid, createPublicKey({ key: { kty, crv, x }, format: "jwk" }));
      }
    }
  } catch (error) {
    throw new SignatureError(`the key set is not a JWK set: ${String(error)}`);
  }
  return keys;
}

/** The payload of a signed envelope. `jwks` is the text of `/.well-known/minoots-keys.json`; `envelope` is the JSON text as
 * it was received. */
export function verifyEnvelope(jwks: string, kind: SignedKind, envelope: string): string {
  const keys = keysOf(jwks);
  let parsed: { payload: unknown; key_id: unknown; signature: unknown };
  try {
    parsed = JSON.parse(envelope);
  } catch {
    throw new SignatureError("this is not a signed envelope");
  }
  const { payload, key_id: keyId, signature } = parsed ?? {};
  if (typeof payload !== "string" || typeof keyId !== "string" || typeof signature !== "string") {
    throw new SignatureError("this is not a signed envelope");
  }
  const key = keys.get(keyId);
  if (key === undefined) {
    throw new SignatureError(`no key ${keyId} in the key set: fetch /.well-known/minoots-keys.json again`);
  }
  const message = Buffer.from(`minoots.${kind}.v1\n${keyId}\n${payload}`);
  if (!verify(null, message, key, Buffer.from(signature, "base64"))) {
    throw new SignatureError("the signature does not fit: the text was changed, or another key signed it");
  }
  return payload;
}

/** Checks a webhook by its headers and its body's bytes. Its age is yours to judge. */
export function verifyWebhook(
  jwks: string,
  headers: Readonly<Record<string, string | string[] | undefined>>,
  body: string | Uint8Array,
): void {
  const keys = keysOf(jwks);
  const header = (wanted: string): string => {
    const found = Object.entries(headers).find(([name]) => name.toLowerCase() === wanted)?.[1];
    if (typeof found !== "string") throw new SignatureError(`the header ${wanted} is missing`);
    return found;
  };
  const start = `${header("webhook-id")}.${header("webhook-timestamp")}.`;
  const message = Buffer.concat([Buffer.from(start), Buffer.from(body as string)]);
  for (const part of header("webhook-signature").split(" ")) {
    if (!part.startsWith("v1a,")) continue;
    const signature = Buffer.from(part.slice(4), "base64");
    for (const key of keys.values()) {
      if (verify(null, message, key, signature)) return;
    }
  }
  throw new SignatureError("the signature does not fit: the text was changed, or another key signed it");
}
