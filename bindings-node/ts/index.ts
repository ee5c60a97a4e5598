/** Corrected time with a hard bound, read from the clock page that `chronotick-daemon` publishes. */

export { ClockClient, type AbortOptions, type WaitOptions, type Waited } from "./client.js";
export { ChronotickError, ERROR_CODES, type ErrorCode } from "./errors.js";
export { evaluate, type Clocks } from "./evaluate.js";
export { SignatureError, verifyEnvelope, verifyWebhook, type SignedKind } from "./verify.js";
export { SOURCES, STATUSES, compareReadings, type Reading, type Source, type Status } from "./reading.js";
