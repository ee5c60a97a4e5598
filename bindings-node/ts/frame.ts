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
const LENGTH = 11;

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

  /** How late a wait ended. */
  lateNs(): bigint {
    return this.word(LATE);
  }

  /** The reading. */
  reading(): Reading {
    const maxErrorNs = this.word(MAX_ERROR);
    const bounded = maxErrorNs !== UNBOUNDED;
    return {
      correctedNs: this.word(CORRECTED),
      earliestNs: bounded ? this.word(EARLIEST) : null,
      latestNs: bounded ? this.word(LATEST) : null,
      maxErrorNs: bounded ? maxErrorNs : null,
      sigmaNs: this.word(SIGMA),
      status: named(STATUSES, Number(this.word(STATUS))),
      source: named(SOURCES, Number(this.word(SOURCE))),
      confidence: this.floats[CONFIDENCE] as number,
      systemNs: this.word(SYSTEM),
      driftRate: this.floats[DRIFT_RATE] as number,
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
