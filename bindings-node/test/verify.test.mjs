/** The vectors of signatures that every language passes. */

import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { SignatureError, verifyEnvelope, verifyWebhook } from "minoots";

const vectors = JSON.parse(readFileSync(new URL("../../tests/vectors/signatures.json", import.meta.url), "utf8"));
const jwks = JSON.stringify(vectors.jwks);

for (const c of vectors.cases) {
  test(`signature: ${c.name}`, () => {
    const check = () => {
      if (c.call !== "webhook") return verifyEnvelope(jwks, c.kind, c.envelope);
      const headers = { "Webhook-Id": c.id, "webhook-timestamp": c.timestamp, "webhook-signature": c.signature };
      return verifyWebhook(jwks, headers, c.body);
    };
    if (c.valid) check();
    else assert.throws(check, SignatureError);
  });
}

test("what is not an envelope is refused", () => {
  for (const text of ["", "{}", "[]", "null", '{"payload":1}']) {
    assert.throws(() => verifyEnvelope(jwks, "event", text), SignatureError);
  }
});
