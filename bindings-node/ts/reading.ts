/** What a reading of the clock is. */

/** How far a reading can be trusted, by number: the order is that of the native module. */
export const STATUSES = [
  "synchronized",
  "warming_up",
  "holdover",
  "disrupted",
  "expired",
  "legacy",
  "no_data",
] as const;

/** How far a reading can be trusted. */
export type Status = (typeof STATUSES)[number];

/** What a correction is computed from, by number: the order is that of the clock page. */
export const SOURCES = ["no_data", "ntp", "cpu_model", "gpu_model", "fusion"] as const;

/** What a correction is computed from. */
export type Source = (typeof SOURCES)[number];

/** The time: a value, its bound, and how far to trust it. Look at the status as well as the value. */
export interface Reading {
  /** The best estimate of the true time, Unix ns. */
  readonly correctedNs: bigint;
  /** The true time is not before this, Unix ns; null without a bound. */
  readonly earliestNs: bigint | null;
  /** The true time is not after this, Unix ns; null without a bound. */
  readonly latestNs: bigint | null;
  /** Half the width of the bound, ns; null without a bound. */
  readonly maxErrorNs: bigint | null;
  /** One standard deviation of the estimate, ns. */
  readonly sigmaNs: bigint;
  /** How far to trust it. */
  readonly status: Status;
  /** What the correction was computed from. */
  readonly source: Source;
  /** The daemon's confidence, 0 to 1. */
  readonly confidence: number;
  /** The system clock at the reading, Unix ns. */
  readonly systemNs: bigint;
  /** The rate of the correction, s/s. */
  readonly driftRate: number;
  /** How old the correction is, ns. */
  readonly ageNs: bigint;
}

/**
 * Which of two readings was certainly taken first: "before" when the first was, "after" when the second was, "unknown" when
 * their bounds touch, so that nobody can tell.
 */
export function compareReadings(first: Reading, second: Reading): "before" | "after" | "unknown" {
  if (certainlyBefore(first, second)) return "before";
  return certainlyBefore(second, first) ? "after" : "unknown";
}

function certainlyBefore(first: Reading, second: Reading): boolean {
  return first.latestNs !== null && second.earliestNs !== null && first.latestNs < second.earliestNs;
}
