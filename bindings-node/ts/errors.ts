/** The one error of the package: a message for people, a code for programs. */

/** Why something failed: the same words in every language. */
export const ERROR_CODES = [
  "invalid_argument",
  "not_running",
  "bad_name",
  "not_a_file",
  "wrong_size",
  "wrong_owner",
  "io",
  "page_corrupt",
  "page_version",
  "anchor_unavailable",
  "writer_died",
  "already_past",
  "untrusted",
  "internal",
] as const;

/** One of {@link ERROR_CODES}. */
export type ErrorCode = (typeof ERROR_CODES)[number];

/** What the functions of this package throw; `message` says what to do next. */
export class ChronotickError extends Error {
  override readonly name = "ChronotickError";

  constructor(
    readonly code: ErrorCode,
    message: string,
  ) {
    super(message);
  }
}

/** Calls the native module, whose errors are plain ones with a code. */
export function native<T>(call: () => T): T {
  try {
    return call();
  } catch (error) {
    throw translated(error);
  }
}

/** An error of the native module as one of ours; any other error unchanged. */
export function translated(error: unknown): unknown {
  if (!(error instanceof Error)) return error;
  const code = ERROR_CODES.find((known) => known === (error as { code?: unknown }).code);
  return code === undefined ? error : new ChronotickError(code, error.message);
}
