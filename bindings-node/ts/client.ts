/** The client of the clock page. */

import { setTimeout as delay } from "node:timers/promises";
import binding = require("../native/index.js");
import { ChronotickError, native, translated } from "./errors.js";
import { Frame, named } from "./frame.js";
import { STATUSES, type Reading, type Status } from "./reading.js";

const NS_PER_MS = 1_000_000n;
/** The last stretch of a wait has a thread of its own; what is before it is left to the event loop. */
const LAST_STRETCH_NS = 30n * NS_PER_MS;
/** The clock is looked at again at least this often, since its page may change while we wait. */
const LOOK_AGAIN_NS = 250n * NS_PER_MS;
const TRUSTED_ENOUGH: readonly Status[] = ["synchronized", "warming_up", "holdover", "legacy"];

/** What {@link ClockClient.waitUntil} takes besides its target. */
export interface WaitOptions {
  /** Below 1 (the default), the last 200 µs are spun on a thread instead of slept. */
  readonly toleranceMs?: number;
  /** Ends the wait early; the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** How a wait ended. */
export interface Waited {
  /** The reading that found the target reached. */
  readonly reading: Reading;
  /** Corrected time at the wake-up minus the target, ns: never negative. */
  readonly lateNs: bigint;
}

/** Reads the clock page that `chronotick-daemon` publishes. */
export class ClockClient {
  private readonly frame = new Frame();

  private constructor(private readonly page: binding.ClockPage) {}

  /** Attaches the page with this name or absolute path; without one, `$CHRONOTICK_SHM` or the default name. */
  static attach(name?: string): ClockClient {
    if (name !== undefined && typeof name !== "string") {
      throw new ChronotickError("invalid_argument", "the name of a clock page is a string");
    }
    return new ClockClient(native(() => binding.ClockPage.attach(name)));
  }

  /** Where the page is. */
  get path(): string {
    return this.page.path;
  }

  /** The time now, with its bound and status. */
  now(): Reading {
    this.read();
    return this.frame.reading();
  }

  /** The corrected time now, Unix ns, without the status that says what it is worth. */
  nowNs(): bigint {
    this.read();
    return this.frame.correctedNs();
  }

  /** The corrected time now, Unix ms with a fraction, as `Date.now` has it without one. A double here has a step of 0.24 µs. */
  nowMs(): number {
    try {
      return this.page.nowMs();
    } catch (error) {
      throw translated(error);
    }
  }

  /** How far the clock can be trusted now. */
  status(): Status {
    return named(
      STATUSES,
      native(() => this.page.status()),
    );
  }

  /**
   * Resolves when corrected time has reached `targetNs`. Rejects with the code `already_past` when it had before the
   * call, and with `untrusted` when the clock is not to be trusted, before the wait or during it.
   */
  async waitUntil(targetNs: bigint, options: WaitOptions = {}): Promise<Waited> {
    const { toleranceMs = 1, signal } = options;
    if (!(Number.isFinite(toleranceMs) && toleranceMs >= 0)) {
      throw new ChronotickError("invalid_argument", `toleranceMs is ${toleranceMs}: give 0 or more`);
    }
    const request = new Frame();
    request.put([
      ["targetNs", targetNs],
      ["toleranceMs", BigInt(Math.round(toleranceMs * 1e6))],
    ]);
    let wasAhead = false;
    for (;;) {
      signal?.throwIfAborted();
      const { correctedNs, status } = this.now();
      const leftNs = targetNs - correctedNs;
      wasAhead ||= leftNs >= 0n;
      // A clock that is not to be trusted goes to the native module too, which says why.
      if (leftNs > LAST_STRETCH_NS && TRUSTED_ENOUGH.includes(status)) {
        const restNs = leftNs - LAST_STRETCH_NS;
        const napNs = restNs < LOOK_AGAIN_NS ? restNs : LOOK_AGAIN_NS;
        await unlessAborted(delay(Number(napNs / NS_PER_MS), undefined, signal && { signal }), signal);
        continue;
      }
      const ended = await unlessAborted(this.page.wait(request.words), signal);
      if (!("code" in ended)) {
        const frame = new Frame(ended);
        return { reading: frame.reading(), lateNs: frame.lateNs() };
      }
      if (ended.code !== "already_past" || !wasAhead) {
        throw translated(Object.assign(new Error(ended.message), { code: ended.code }));
      }
      // The event loop was late, but the target was ahead when the wait began.
      const reading = this.now();
      if (reading.correctedNs >= targetNs) return { reading, lateNs: reading.correctedNs - targetNs };
    }
  }

  private read(): void {
    try {
      this.page.read(this.frame.words);
    } catch (error) {
      throw translated(error);
    }
  }
}

/** The promise, or the signal's reason as soon as it is aborted. */
async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (signal === undefined) return promise;
  let abort = (): void => {};
  const aborted = new Promise<never>((_, reject) => {
    abort = () => reject(signal.reason);
    signal.addEventListener("abort", abort, { once: true });
  });
  try {
    return await Promise.race([promise, aborted]);
  } catch (error) {
    // The timer reports an abort in its own words.
    throw signal.aborted ? signal.reason : error;
  } finally {
    signal.removeEventListener("abort", abort);
  }
}
