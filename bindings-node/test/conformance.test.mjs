/** The conformance list that every language passes, and pages that cross between the old format and the new. */

import assert from "node:assert/strict";
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { ChronotickError, evaluate } from "minoots";
import { conformanceCases, OLD_PAGES, oldPage, oldReading, SECOND_NS } from "./support.mjs";

const whole = (text) => (text === null ? null : BigInt(text));
const distance = (a, b) => Math.abs(Number(a - b));

test("the list has readings and errors", () => {
  const cases = conformanceCases();
  assert.ok(cases.filter((c) => "expect" in c).length >= 20);
  assert.ok(cases.filter((c) => "error" in c).length >= 10);
});

for (const { name, page, clocks, expect, error } of conformanceCases()) {
  test(`conformance: ${name}`, () => {
    const read = () =>
      evaluate(Buffer.from(page, "hex"), {
        realtimeNs: BigInt(clocks.realtime_ns),
        boottimeNs: BigInt(clocks.boottime_ns),
        monotonicRawNs: BigInt(clocks.monotonic_raw_ns),
        counter: whole(clocks.counter),
      });
    if (error !== undefined) {
      assert.throws(read, (e) => e instanceof ChronotickError && e.code === error);
      return;
    }
    const { ageNs, driftRate, maxErrorNs, ...rest } = read();
    assert.deepEqual(rest, {
      correctedNs: whole(expect.corrected_ns),
      earliestNs: whole(expect.earliest_ns),
      latestNs: whole(expect.latest_ns),
      sigmaNs: whole(expect.sigma_ns),
      systemNs: whole(expect.system_ns),
      status: expect.status,
      source: expect.source,
      confidence: expect.confidence,
    });
    assert.equal(maxErrorNs, rest.latestNs === null ? null : rest.latestNs - rest.correctedNs);
    const bytes = Buffer.from(page, "hex");
    assert.equal(driftRate, bytes.readDoubleLE(24));
    const predictionS = bytes.readDoubleLE(48);
    if (Number.isInteger(predictionS)) assert.equal(ageNs, rest.systemNs - BigInt(predictionS) * SECOND_NS);
  });
}

test("pages that the old daemon wrote", (t) => {
  if (!existsSync(OLD_PAGES)) return t.skip(`no old pages at ${OLD_PAGES}`);
  const expected = Object.entries(JSON.parse(readFileSync(join(OLD_PAGES, "expected.json"), "utf8")));
  assert.ok(expected.length >= 5);
  for (const [name, old] of expected) {
    const page = readFileSync(join(OLD_PAGES, `${name}.bin`));
    const { fields } = old;
    assert.deepEqual(oldReading(page), fields, name);
    for (const [systemS, correctedS] of Object.entries(old.corrected_time_at_system_time)) {
      const realtimeNs = BigInt(Number(systemS)) * SECOND_NS;
      const reading = evaluate(page, { realtimeNs });
      // The old client computes in floats of Unix seconds, whose step is 238 ns.
      const want = BigInt(Math.floor(correctedS)) * SECOND_NS + BigInt(Math.round((correctedS % 1) * 1e9));
      assert.ok(distance(reading.correctedNs, want) < 500, `${name} at ${systemS}: ${reading.correctedNs}`);
      assert.equal(reading.systemNs, realtimeNs);
      assert.deepEqual([reading.earliestNs, reading.latestNs, reading.maxErrorNs], [null, null, null]);
      const expired = Number(systemS) > fields.valid_until;
      assert.equal(reading.status, fields.source === 0 ? "no_data" : expired ? "expired" : "legacy", name);
    }
    for (const [deltaS, sigmaS] of Object.entries(old.time_uncertainty_at_delta)) {
      const realtimeNs = BigInt(fields.prediction_time + Number(deltaS)) * SECOND_NS;
      assert.ok(Math.abs(Number(evaluate(page, { realtimeNs }).sigmaNs) - sigmaS * 1e9) <= 1, `${name} at ${deltaS}`);
    }
  }
});

test("a page in the old format", () => {
  const reading = evaluate(oldPage(1_760_272_795), { realtimeNs: 1_760_272_805n * SECOND_NS });
  assert.deepEqual([reading.status, reading.source, reading.maxErrorNs], ["legacy", "fusion", null]);
  assert.equal(reading.correctedNs - reading.systemNs, 250_020_000n);
});

test("an old reader on a new page", () => {
  const [{ page, expect }] = conformanceCases();
  const bytes = Buffer.from(page, "hex");
  assert.equal(bytes.toString("latin1", 84, 87), "CT\x02", "the list begins with a page of version 2");
  const fields = oldReading(bytes);
  const correctedS = fields.prediction_time + fields.offset_correction;
  assert.ok(Math.abs(correctedS * 1e9 - Number(expect.corrected_ns)) < 500);
  assert.equal(fields.offset_uncertainty, Number(expect.sigma_ns) / 1e9);
  assert.ok(fields.source <= 4, "the old client raises on any other");
  assert.ok((fields.flags & 1) === 1 && fields.valid_until > fields.prediction_time);
});

test("bad arguments of evaluate", () => {
  const check = (page, clocks, message) =>
    assert.throws(() => evaluate(page, clocks), { code: "invalid_argument", message });
  check("a page", { realtimeNs: 0n }, /not a Uint8Array/);
  check(new Uint8Array(128), { realtimeNs: 0 }, /realtimeNs is a number/);
  check(new Uint8Array(128), { realtimeNs: 1n << 63n }, /realtimeNs does not fit in 64 bits/);
});
