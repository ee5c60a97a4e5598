/** Evaluating the bytes of a page at given clock readings, without a daemon. */

import binding = require("../native/index.js");
import { ChronotickError, native } from "./errors.js";
import { Frame } from "./frame.js";
import type { Reading } from "./reading.js";

/** Clock readings to evaluate a page at. */
export interface Clocks {
  /** CLOCK_REALTIME, Unix ns. */
  readonly realtimeNs: bigint;
  /** CLOCK_BOOTTIME, ns; 0 when absent. */
  readonly boottimeNs?: bigint;
  /** CLOCK_MONOTONIC_RAW, ns; 0 when absent. */
  readonly monotonicRawNs?: bigint;
  /** The hardware counter, ticks; absent or null where it cannot be read. */
  readonly counter?: bigint | null;
}

/** The reading that a client would make of a page with these 128 bytes at these clock readings. */
export function evaluate(page: Uint8Array, clocks: Clocks): Reading {
  if (!(page instanceof Uint8Array)) {
    throw new ChronotickError("invalid_argument", "page is not a Uint8Array: give the 128 bytes of a clock page");
  }
  const frame = new Frame();
  const { realtimeNs, boottimeNs = 0n, monotonicRawNs = 0n, counter = null } = clocks;
  frame.put([
    ["realtimeNs", realtimeNs],
    ["boottimeNs", boottimeNs],
    ["monotonicRawNs", monotonicRawNs],
    ["counter", counter ?? 0n],
  ]);
  native(() => binding.evaluate(page, counter !== null, frame.words));
  return frame.reading();
}
