/** What the tests share: pages of both formats, and where the repository's data is. */

import { mkdtempSync, readFileSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";

const REPOSITORY = fileURLToPath(new URL("../../", import.meta.url));
export const PACKAGE = join(REPOSITORY, "bindings-node");
export const OLD_PAGES = join(REPOSITORY, "../shared/data/clock-pages");

export const VALID = 1;
export const WARMUP_COMPLETE = 8;
export const DISRUPTED = 32;
export const SECOND_NS = 1_000_000_000n;

export function conformanceCases() {
  return JSON.parse(readFileSync(join(REPOSITORY, "tests/conformance/pages.json"), "utf8")).cases;
}

/** The system clock and CLOCK_BOOTTIME at the same moment, ns. Node has no function for the latter. */
function realtimeBoottimePair() {
  for (;;) {
    const realMs = Date.now();
    // /proc/uptime counts CLOCK_BOOTTIME in hundredths of a second.
    const uptimeS = Number(readFileSync("/proc/uptime", "utf8").split(" ")[0]);
    // Another process may have run in between: then the pair is taken again.
    if (Date.now() - realMs <= 2) return [BigInt(realMs) * 1_000_000n, BigInt(Math.round(uptimeS * 100)) * 10_000_000n];
  }
}

/** How far the two clock readings of a pair can be apart: a hundredth of a second, and the milliseconds of Date. */
export const PAIRING_NS = 13_000_000n;

/** A page as a daemon would have published it a moment ago, at the offsets that docs/formats/clock-page.md gives. */
export function livePage({ offsetS = 0, flags = VALID | WARMUP_COMPLETE, sequence = 2, validForS = 60 } = {}) {
  const page = Buffer.alloc(128);
  const [realNs, bootNs] = realtimeBoottimePair();
  const second = Number(realNs / SECOND_NS);
  const nowS = Number(realNs) / 1e9;
  [nowS + offsetS, nowS, offsetS, 0, 1e-5, 1e-9, second, second + validForS].forEach((value, i) =>
    page.writeDoubleLE(value, i * 8),
  );
  page.writeFloatLE(0.95, 64);
  [sequence, flags, 1, 100].forEach((value, i) => page.writeUInt32LE(value, 68 + i * 4));
  page.set([0x43, 0x54, 2, 1], 84);
  page.writeDoubleLE(nowS, 88);
  page.writeDoubleLE(12.5, 96);
  page.writeUInt32LE(1000, 104);
  page.writeFloatLE(0.1, 108);
  page.writeFloatLE(0.5, 112);
  page.writeBigInt64LE(bootNs - (realNs % SECOND_NS), 120);
  return page;
}

/** A page as the old Python daemon packs it, with struct format "ddddddddfIIIIddIIf12s" in native alignment. */
export function oldPage(predictionTime, { offsetS = 0.25, sequence = 43 } = {}) {
  const page = Buffer.alloc(128);
  const t = predictionTime;
  [t + offsetS, t, offsetS, 2e-6, 1e-5, 1e-9, t, t + 60].forEach((value, i) => page.writeDoubleLE(value, i * 8));
  page.writeFloatLE(0.95, 64);
  [sequence, 15, 4, 100].forEach((value, i) => page.writeUInt32LE(value, 68 + i * 4));
  page.writeDoubleLE(t - 5, 88);
  page.writeDoubleLE(123.45, 96);
  page.writeUInt32LE(1000, 104);
  page.writeFloatLE(0.5, 112);
  return page;
}

/** The fields at the offsets where the old Python client finds them. */
export function oldReading(page) {
  const at = Buffer.from(page.buffer, page.byteOffset, page.byteLength);
  return {
    corrected_timestamp: at.readDoubleLE(0),
    system_timestamp: at.readDoubleLE(8),
    offset_correction: at.readDoubleLE(16),
    drift_rate: at.readDoubleLE(24),
    offset_uncertainty: at.readDoubleLE(32),
    drift_uncertainty: at.readDoubleLE(40),
    prediction_time: at.readDoubleLE(48),
    valid_until: at.readDoubleLE(56),
    confidence: at.readFloatLE(64),
    sequence_number: at.readUInt32LE(68),
    flags: at.readUInt32LE(72),
    source: at.readUInt32LE(76),
    measurement_count: at.readUInt32LE(80),
    last_ntp_sync: at.readDoubleLE(88),
    daemon_uptime: at.readDoubleLE(96),
    total_corrections: at.readUInt32LE(104),
    reserved: at.readUInt32LE(108),
    average_latency_ms: at.readFloatLE(112),
  };
}

/** A directory with a page in a file; `write` puts another page in its place and returns its path. */
export function pageFile(t, page = livePage()) {
  const directory = mkdtempSync(join(tmpdir(), "minoots-"));
  t.after(() => rmSync(directory, { recursive: true }));
  const path = join(directory, "page");
  const write = (bytes) => {
    writeFileSync(join(directory, "staged"), bytes);
    renameSync(join(directory, "staged"), path);
    return path;
  };
  write(page);
  return { directory, path, write };
}
