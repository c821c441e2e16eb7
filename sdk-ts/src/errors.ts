/**
 * The errors this package throws at its users, and those its users throw at it.
 *
 * Owns: the error classes and their stable codes. Never: decides whether to retry, logs.
 *
 * Invariant E1: the message of a {@link CellaflowError} starts with its code and ends with what the caller must do.
 */

/** Options common to the errors of this package. */
export interface CellaflowErrorOptions {
  /** Whether the same call may succeed when it is made again. Default: false. */
  retryable?: boolean;
  /** What led to this error. */
  cause?: unknown;
  /** Facts for programs. */
  data?: Readonly<Record<string, unknown>>;
}

/** An error of the runtime itself: a refusal by the engine, a misuse of the SDK, a broken connection. */
export class CellaflowError extends Error {
  /** A stable reason, e.g. `key_conflict`. Programs compare this, never the message. */
  readonly code: string;
  /** Whether the same call may succeed when it is made again. */
  readonly retryable: boolean;
  /** Facts for programs. */
  readonly data: Readonly<Record<string, unknown>>;

  /**
   * @param code the stable reason
   * @param problem what happened, in a lowercase clause
   * @param action what the caller must do, in a lowercase clause
   */
  constructor(code: string, problem: string, action: string, options: CellaflowErrorOptions = {}) {
    super(`${code}: ${problem}; ${action}`, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = new.target.name;
    this.code = code;
    this.retryable = options.retryable ?? false;
    this.data = options.data ?? {};
  }
}

/** A mistake in the calling code. Never retried: the code has to change. */
export class MisuseError extends CellaflowError {}

/** A value that cannot be stored or read back; `data.path` says where it sits, e.g. `$.items[3].callback`. */
export class ValueError extends CellaflowError {}

/** The workflow code asked for something else than the ledger holds. The session pauses and shows both sides. */
export class NonDeterminismError extends CellaflowError {
  /** What the ledger holds at this place. */
  readonly recorded: string;
  /** What the code asked for; empty when the run ended instead. */
  readonly requested: string;

  constructor(recorded: string, requested: string, options: CellaflowErrorOptions = {}) {
    const asked = requested === "" ? "the run ended without asking for it" : `the code asked for ${requested}`;
    super(
      "nondeterminism",
      `the ledger holds ${recorded}, but ${asked}`,
      "run the version it started on, accept it with `cellaflow sessions accept`, or fork the session before this step",
      options,
    );
    this.recorded = recorded;
    this.requested = requested;
  }
}

/**
 * The session is being cancelled: every pending `ctx` call rejects with this, and so does every later one outside
 * `ctx.onCancel`. Let it pass, or clean up what is local to the process; what has to survive a crash belongs in
 * `ctx.onCancel`.
 */
export class CancelledError extends CellaflowError {
  /** Why, as whoever asked for it said. */
  readonly reason: string;

  constructor(reason: string) {
    super(
      "cancelled",
      reason === "" ? "the session is being cancelled" : reason,
      "let it pass; clean up in ctx.onCancel",
    );
    this.reason = reason;
  }
}

/** Says that an effect certainly did not happen. Only after this is a guarded step tried again. */
export class NotApplied extends Error {
  constructor(message = "the effect was not applied", options: { cause?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "NotApplied";
  }
}

/** Says that trying again is pointless: the step fails at once. */
export class NonRetryableError extends Error {
  /** A stable reason for programs, kept in the {@link StepError}. */
  readonly code: string;
  /** Facts for programs, kept in the {@link StepError} when they can be stored. */
  readonly data: unknown;

  constructor(message: string, options: { cause?: unknown; code?: string; data?: unknown } = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.name = "NonRetryableError";
    this.code = options.code ?? "non_retryable";
    this.data = options.data;
  }
}
