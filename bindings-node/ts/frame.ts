/** The words in which the native module hands over a reading; `src/frame.rs` is their other side. */

import { ChronotickError } from "./errors.js";
import { SOURCES, STATUSES, type Reading } from "./reading.js";

const CORRECTED = 0;
const EARLIEST = 1;
const LATEST = 2;
const SIGMA = 3;
const MAX_ERROR = 4;
const SYSTEM = 5;
const STATUS = 6;
const SOURCE = 7;
const CONFIDENCE = 8;
const DRIFT_RATE = 9;
const LATE = 10;
const AGE = 11;
const CORRECTED_MS = 12;
const LENGTH = 13;

/** The largest i64: the max error of a reading without a bound. */
const UNBOUNDED = (1n << 63n) - 1n;

/** One buffer, seen as integers and as floats. Never shared with a worker. */
export class Frame {
  private readonly floats: Float64Array;

  constructor(readonly words: BigInt64Array = new BigInt64Array(LENGTH)) {
    this.floats = new Float64Array(words.buffer, words.byteOffset, LENGTH);
  }

  /** Hands integers to the native module; names the one that does not fit in 64 bits. */
  put(values: readonly (readonly [name: string, value: bigint])[]): void {
    values.forEach(([name, value], at) => {
      if (typeof value !== "bigint") {
        throw new ChronotickError("invalid_argument", `${name} is a ${typeof value}: give a bigint of nanoseconds`);
      }
      if (BigInt.asIntN(64, value) !== value) {
        throw new ChronotickError("invalid_argument", `${name} does not fit in 64 bits: give nanoseconds`);
      }
      this.words[at] = value;
    });
  }

  /** The corrected time. */
  correctedNs(): bigint {
    return this.word(CORRECTED);
  }

  /** The corrected time, Unix ms with a fraction. */
  correctedMs(): number {
    return this.floats[CORRECTED_MS] as number;
  }

  /** The number of the status; below 0 there is no reading. */
  status(): number {
    return this.floats[STATUS] as number;
  }

  /** How late a wait ended. */
  lateNs(): bigint {
    return this.word(LATE);
  }

  /** The reading. */
  reading(): Reading {
    const { words, floats } = this;
    const maxErrorNs = words[MAX_ERROR] as bigint;
    const bounded = maxErrorNs !== UNBOUNDED;
    return {
      correctedNs: words[CORRECTED] as bigint,
      earliestNs: bounded ? (words[EARLIEST] as bigint) : null,
      latestNs: bounded ? (words[LATEST] as bigint) : null,
      maxErrorNs: bounded ? maxErrorNs : null,
      sigmaNs: words[SIGMA] as bigint,
      status: named(STATUSES, floats[STATUS] as number),
      source: named(SOURCES, floats[SOURCE] as number),
      confidence: floats[CONFIDENCE] as number,
      systemNs: words[SYSTEM] as bigint,
      driftRate: floats[DRIFT_RATE] as number,
      ageNs: words[AGE] as bigint,
    };
  }

  private word(at: number): bigint {
    return this.words[at] as bigint;
  }
}

/** The word with this number. */
export function named<T>(words: readonly T[], at: number): T {
  const word = words[at];
  if (word === undefined) throw new ChronotickError("internal", "the native module and its caller differ: reinstall minoots");
  return word;
}
