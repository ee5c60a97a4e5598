/** The client on a live page: readings, waits, errors. */

import assert from "node:assert/strict";
import { execFileSync } from "node:child_process";
import { readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { createRequire } from "node:module";
import { join } from "node:path";
import { test } from "node:test";
import { ChronotickError, ClockClient, compareReadings, ERROR_CODES } from "minoots";
import { DISRUPTED, livePage, oldPage, PACKAGE, pageFile, PAIRING_NS, SECOND_NS, VALID, WARMUP_COMPLETE } from "./support.mjs";

const require = createRequire(import.meta.url);
const failsWith = (code) => (error) => error instanceof ChronotickError && error.code === code;

test("now is the system clock plus the offset", (t) => {
  const clock = ClockClient.attach(pageFile(t, livePage({ offsetS: 1.5 })).path);
  const before = BigInt(Date.now()) * 1_000_000n;
  const reading = clock.now();
  const after = BigInt(Date.now() + 1) * 1_000_000n;
  const shift = 1_500_000_000n;
  assert.ok(before + shift - PAIRING_NS <= reading.correctedNs && reading.correctedNs <= after + shift + PAIRING_NS);
  assert.equal(reading.correctedNs - reading.systemNs, shift);
  assert.ok(reading.earliestNs < reading.correctedNs && reading.correctedNs < reading.latestNs);
  assert.equal(reading.latestNs - reading.correctedNs, reading.maxErrorNs);
  assert.deepEqual([reading.status, reading.source, clock.status()], ["synchronized", "ntp", "synchronized"]);
});

test("the three forms of now agree", (t) => {
  const clock = ClockClient.attach(pageFile(t).path);
  const first = clock.now().correctedNs;
  const second = clock.nowNs();
  const third = clock.nowMs();
  const fourth = clock.nowNs();
  assert.ok(first <= second && second <= fourth);
  // A double of Unix milliseconds has a step of 244 ns.
  assert.ok(Number(second) / 1e6 - 0.001 <= third && third <= Number(fourth) / 1e6 + 0.001);
});

test("a reading does not change when the next is made", (t) => {
  const clock = ClockClient.attach(pageFile(t).path);
  const reading = clock.now();
  const copy = { ...reading };
  while (clock.nowNs() === copy.correctedNs);
  assert.deepEqual(reading, copy);
});

test("an old live page", (t) => {
  const clock = ClockClient.attach(pageFile(t, oldPage(Math.floor(Date.now() / 1000))).path);
  assert.deepEqual([clock.status(), clock.now().maxErrorNs], ["legacy", null]);
});

test("waits end at or after their target", async (t) => {
  const clock = ClockClient.attach(pageFile(t, livePage({ offsetS: 3600 })).path);
  // The longest is left to the event loop at first.
  for (const [aheadNs, toleranceMs] of [[2_000_000n, 0], [20_000_000n, 5], [100_000_000n, 1]]) {
    const targetNs = clock.nowNs() + aheadNs;
    const { reading, lateNs } = await clock.waitUntil(targetNs, { toleranceMs });
    assert.ok(lateNs >= 0n);
    assert.equal(reading.correctedNs - targetNs, lateNs);
    assert.ok(clock.nowNs() >= reading.correctedNs);
  }
});

test("a wait leaves the main thread alone", async (t) => {
  const clock = ClockClient.attach(pageFile(t).path);
  // Within the last stretch, so that the native thread does all of the waiting.
  const waiting = clock.waitUntil(clock.nowNs() + 25_000_000n).then(() => "waited");
  const turned = new Promise((resolve) => setImmediate(() => resolve("turned")));
  assert.equal(await Promise.race([waiting, turned]), "turned");
  assert.equal(await waiting, "waited");
});

test("many waits at once", async (t) => {
  const clock = ClockClient.attach(pageFile(t).path);
  const targetNs = clock.nowNs() + 40_000_000n;
  const all = await Promise.all(Array.from({ length: 50 }, () => clock.waitUntil(targetNs)));
  assert.ok(all.every(({ lateNs }) => lateNs >= 0n));
});

test("a signal ends a wait, early and in its last stretch", async (t) => {
  const clock = ClockClient.attach(pageFile(t).path);
  const hourNs = 3600n * SECOND_NS;
  const reason = new Error("enough");
  await assert.rejects(clock.waitUntil(clock.nowNs() + hourNs, { signal: AbortSignal.abort(reason) }), reason);
  for (const aheadNs of [hourNs, 29_000_000n]) {
    const controller = new AbortController();
    const waiting = clock.waitUntil(clock.nowNs() + aheadNs, { signal: controller.signal });
    controller.abort(reason);
    await assert.rejects(waiting, reason);
  }
});

test("past targets and bad arguments", async (t) => {
  const clock = ClockClient.attach(pageFile(t).path);
  const check = (code, target, options) => assert.rejects(clock.waitUntil(target, options), failsWith(code));
  await check("already_past", clock.nowNs() - 5n * SECOND_NS);
  await check("already_past", 0n);
  await check("invalid_argument", 1n << 63n);
  await check("invalid_argument", 1.5);
  await check("invalid_argument", 1n << 62n, { toleranceMs: -1 });
  await check("invalid_argument", 1n << 62n, { toleranceMs: Number.NaN });
  assert.throws(() => ClockClient.attach("a/b"), failsWith("bad_name"));
  assert.throws(() => ClockClient.attach(7), failsWith("invalid_argument"));
});

test("an untrusted clock is not waited on, nor one that becomes so", async (t) => {
  const { path } = pageFile(t, livePage({ flags: VALID | WARMUP_COMPLETE | DISRUPTED }));
  const disrupted = ClockClient.attach(path);
  assert.deepEqual([disrupted.status(), disrupted.now().maxErrorNs], ["disrupted", null]);
  await assert.rejects(disrupted.waitUntil(1n << 62n), failsWith("untrusted"));

  const file = pageFile(t);
  const clock = ClockClient.attach(file.path);
  const waiting = clock.waitUntil(clock.nowNs() + 3600n * SECOND_NS);
  // In place, as the daemon writes: the flags, and a new sequence as everything that is published has.
  const page = readFileSync(file.path);
  page.writeUInt32LE(4, 68);
  page.writeUInt32LE(VALID | WARMUP_COMPLETE | DISRUPTED, 72);
  writeFileSync(file.path, page, { flag: "r+" });
  await assert.rejects(waiting, failsWith("untrusted"));
});

test("the time in other ways", (t) => {
  const clock = ClockClient.attach(pageFile(t, livePage({ offsetS: 1.5 })).path);
  const reading = clock.now();
  const later = clock.at(10n * SECOND_NS);
  assert.ok(later.correctedNs >= reading.correctedNs + 10n * SECOND_NS);
  assert.ok(later.maxErrorNs > reading.maxErrorNs && later.ageNs > reading.ageNs);
  assert.equal(compareReadings(reading, later), "before");
  assert.equal(compareReadings(later, reading), "after");
  assert.equal(compareReadings(reading, reading), "unknown");
  assert.equal(clock.atSystemTime(reading.systemNs).correctedNs, reading.correctedNs);
  assert.ok(clock.nowWithin(SECOND_NS).correctedNs >= reading.correctedNs);
  assert.throws(() => clock.nowWithin(1n), failsWith("untrusted"));
  assert.throws(() => clock.nowWithin(-1n), failsWith("invalid_argument"));
  assert.throws(() => clock.at(1n << 63n), failsWith("invalid_argument"));
});

test("a number is not given for a clock that is not usable", (t) => {
  const clock = ClockClient.attach(pageFile(t, livePage({ flags: VALID | WARMUP_COMPLETE | DISRUPTED })).path);
  assert.throws(() => clock.nowNs(), failsWith("untrusted"));
  assert.throws(() => clock.nowMs(), failsWith("untrusted"));
});

test("waiting for a clock that can be trusted", async (t) => {
  const trusted = ClockClient.attach(pageFile(t).path);
  assert.equal((await trusted.waitSynchronized(0)).status, "synchronized");
  const file = pageFile(t, livePage({ flags: VALID }));
  const clock = ClockClient.attach(file.path);
  await assert.rejects(clock.waitSynchronized(30), failsWith("untrusted"));
  await assert.rejects(clock.waitSynchronized(-1), failsWith("invalid_argument"));
  const signal = AbortSignal.abort();
  await assert.rejects(clock.waitSynchronized(1e6, { signal }), { name: "AbortError" });
  const waiting = clock.waitSynchronized(1e6);
  writeFileSync(file.path, livePage({ sequence: 4 }), { flag: "r+" });
  assert.equal((await waiting).status, "synchronized");
});

test("a frame outlives the client that it was made for", (t) => {
  // Functions, frames and pages are let go of while others are in use; a wrong lifetime shows as a crash.
  const { path } = pageFile(t);
  let last = 0;
  for (let i = 0; i < 2_000; i++) {
    const now = ClockClient.attach(path).nowMs();
    assert.ok(now >= last);
    last = now;
    if (i % 500 === 0) globalThis.gc?.();
  }
});

test("no daemon, and what is no page", (t) => {
  const { directory, path, write } = pageFile(t);
  const check = (code, name) => assert.throws(() => ClockClient.attach(name).now(), failsWith(code), code);
  assert.throws(() => ClockClient.attach(join(directory, "absent")), {
    name: "ChronotickError",
    code: "not_running",
    message: /^ChronoTick daemon not running\. Start it with: chronotick-daemon run/,
  });
  check("not_a_file", directory);
  symlinkSync(path, join(directory, "link"));
  check("not_a_file", join(directory, "link"));
  check("wrong_size", write(Buffer.alloc(100)));
  check("page_corrupt", write(Buffer.alloc(128, 0xff)));
  const halfWritten = ClockClient.attach(write(livePage({ sequence: 3 })));
  for (const read of ["now", "nowNs", "nowMs", "status"]) {
    assert.throws(() => halfWritten[read](), failsWith("writer_died"), read);
  }
});

test("the code words are those of every language", () => {
  assert.deepEqual([...ERROR_CODES], require("../native/index.js").errorCodes());
});

test("require and import give the same classes", () => {
  assert.equal(require("minoots").ClockClient, ClockClient);
  assert.equal(require("minoots").ChronotickError, ChronotickError);
});

test("the sample of the README runs", (t) => {
  const samples = [...readFileSync(join(PACKAGE, "README.md"), "utf8").matchAll(/```js\n(.*?)```/gs)];
  assert.ok(samples.length >= 1);
  for (const [, sample] of samples) {
    const output = execFileSync(process.execPath, ["--input-type=module", "--eval", sample], {
      cwd: PACKAGE,
      env: { ...process.env, CHRONOTICK_SHM: pageFile(t).path },
      encoding: "utf8",
    });
    assert.match(output, /ns off, synchronized/);
  }
});
