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
/** How often a wait for a clock that can be trusted looks at it. */
const POLL_STATUS_MS = 10;
const TRUSTED_ENOUGH: readonly Status[] = ["synchronized", "warming_up", "holdover", "legacy"];
/** The same, by the number of the status. */
const USABLE: readonly boolean[] = STATUSES.map((status) => TRUSTED_ENOUGH.includes(status));

/** How a wait is ended early. */
export interface AbortOptions {
  /** Ends the wait early; the promise is rejected with the signal's reason. */
  readonly signal?: AbortSignal;
}

/** What {@link ClockClient.waitUntil} takes besides its target. */
export interface WaitOptions extends AbortOptions {
  /** Below 1 (the default), the last 200 µs are spun on a thread instead of slept. */
  readonly toleranceMs?: number;
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
  /** Writes a reading into the frame. */
  private readonly quickRead: () => void;

  private constructor(private readonly page: binding.ClockPage) {
    this.quickRead = page.reader(this.frame.words);
  }

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

  /**
   * The corrected time now, Unix ns. A bare number carries no status: where the clock is disrupted, expired or without
   * data this throws with the code `untrusted`.
   */
  nowNs(): bigint {
    this.readUsable();
    return this.frame.correctedNs();
  }

  /**
   * The corrected time now, Unix ms with a fraction, as `Date.now` has it without one; throws as {@link nowNs} does. A
   * double here has a step of 0.24 µs. Allocates nothing.
   */
  nowMs(): number {
    this.readUsable();
    return this.frame.correctedMs();
  }

  /** The time now, if it is known to within this many nanoseconds on each side; else throws with the code `untrusted`. */
  nowWithin(maxErrorNs: bigint): Reading {
    if (maxErrorNs < 0n) throw new ChronotickError("invalid_argument", `maxErrorNs is ${maxErrorNs}: give 0 or more`);
    return this.ask("maxErrorNs", maxErrorNs, (words) => this.page.readWithin(words));
  }

  /** The reading for the moment this far away, past (negative) or future: its bound grows with the distance. */
  at(fromNowNs: bigint): Reading {
    return this.ask("fromNowNs", fromNowNs, (words) => this.page.readAt(words));
  }

  /** The reading for the moment at which the system clock showed `systemNs`, if it was not stepped since. */
  atSystemTime(systemNs: bigint): Reading {
    return this.ask("systemNs", systemNs, (words) => this.page.readAtSystemTime(words));
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

  /**
   * Resolves with the first reading that is synchronized or in holdover; rejects with the code `untrusted` when there is
   * none within `timeoutMs`. A page that cannot be read yet is waited for as well.
   */
  async waitSynchronized(timeoutMs: number, options: AbortOptions = {}): Promise<Reading> {
    if (!(timeoutMs >= 0)) throw new ChronotickError("invalid_argument", `timeoutMs is ${timeoutMs}: give 0 or more`);
    const { signal } = options;
    const start = performance.now();
    for (;;) {
      signal?.throwIfAborted();
      const leftMs = timeoutMs - (performance.now() - start);
      try {
        const reading = this.now();
        if (reading.status === "synchronized" || reading.status === "holdover") return reading;
        if (leftMs <= 0) {
          throw new ChronotickError(
            "untrusted",
            `the clock is still ${reading.status} after ${timeoutMs} ms: \`chronotick-daemon status\` says why`,
          );
        }
      } catch (error) {
        if (leftMs <= 0) throw error;
      }
      await unlessAborted(delay(Math.min(leftMs, POLL_STATUS_MS), undefined, signal && { signal }), signal);
    }
  }

  private read(): void {
    this.quickRead();
    // Below 0 there is no reading. The slow way says why, or reads after all.
    if (this.frame.status() < 0) native(() => this.page.read(this.frame.words));
  }

  private readUsable(): void {
    this.quickRead();
    if (!USABLE[this.frame.status()]) {
      native(() => this.page.requireUsable());
      this.read();
    }
  }

  private ask(name: string, value: bigint, read: (words: BigInt64Array) => void): Reading {
    const frame = new Frame();
    frame.put([[name, value]]);
    native(() => read(frame.words));
    return frame.reading();
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
