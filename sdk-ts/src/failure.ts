/**
 * The form a step's failure takes in the ledger and the error that workflow code sees of it.
 *
 * Owns: turning whatever was thrown into a {@link Failure} and that into a {@link StepError}. Never: retries.
 *
 * Invariants:
 * - F1 whatever was thrown becomes a failure: plain, bounded in size, without stack traces (they hold local paths).
 * - F2 a {@link StepError} made from a failure gives the same failure back.
 */
import { NonRetryableError, NotApplied } from "./errors.js";
import { tryEncodable } from "./values/encodable.js";

/** How many errors of a `cause` chain are kept. */
export const FAILURE_CAUSES_MAX = 8;
/** How many UTF-16 units of a failure's message are kept. */
export const FAILURE_MESSAGE_CHARS_MAX = 8_192;

/** A failure as it is stored: plain data, the same in every language. */
export interface Failure {
  /** The class of what was thrown, e.g. `TypeError`. */
  name: string;
  /** A stable reason; `error` when what was thrown had none. */
  code: string;
  message: string;
  /** Whether another attempt may succeed. */
  retryable: boolean;
  /** Facts for programs; absent when there were none or they could not be stored. */
  data?: unknown;
  /** What led to it; at most {@link FAILURE_CAUSES_MAX} links, this one included. */
  cause?: Failure;
}

/** The failure of a step as workflow code sees it, live and on replay alike. */
export class StepError extends Error {
  /** The class of what the step threw, e.g. `TypeError`. */
  override readonly name: string;
  /** A stable reason; `error` when what was thrown had none. */
  readonly code: string;
  /** Whether another attempt might have succeeded. */
  readonly retryable: boolean;
  /** Facts for programs, if there were any. */
  readonly data: unknown;

  constructor(failure: Failure) {
    super(failure.message, failure.cause === undefined ? undefined : { cause: new StepError(failure.cause) });
    this.name = failure.name;
    this.code = failure.code;
    this.retryable = failure.retryable;
    this.data = failure.data;
  }

  /** Makes the error that workflow code sees from whatever a step threw. */
  static from(thrown: unknown): StepError {
    return thrown instanceof StepError ? thrown : new StepError(toFailure(thrown));
  }

  /** Returns the form that is stored. */
  toFailure(): Failure {
    return toFailure(this);
  }
}

/** Turns whatever was thrown into its plain, bounded form. Never throws. */
export function toFailure(thrown: unknown): Failure {
  return failureOf(thrown, FAILURE_CAUSES_MAX);
}

function failureOf(thrown: unknown, linksLeft: number): Failure {
  if (!isObject(thrown)) {
    return { name: "Error", code: "error", message: clip(safeString(thrown)), retryable: true };
  }
  const failure: Failure = {
    name: stringField(thrown, "name") ?? "Error",
    code: codeOf(thrown),
    message: clip(stringField(thrown, "message") ?? safeString(thrown)),
    retryable: isRetryable(thrown),
  };
  const data = field(thrown, "data");
  if (data !== undefined && tryEncodable(data)) failure.data = data;
  const cause = field(thrown, "cause");
  if (cause !== undefined && cause !== null && linksLeft > 1) failure.cause = failureOf(cause, linksLeft - 1);
  return failure;
}

/**
 * Says whether another attempt may succeed: what the error itself says (`retryable`, `isRetryable`), else its HTTP
 * status, else yes.
 */
export function isRetryable(thrown: unknown): boolean {
  if (!isObject(thrown)) return true;
  if (thrown instanceof NonRetryableError) return false;
  for (const name of ["retryable", "isRetryable"]) {
    const said = field(thrown, name);
    if (typeof said === "boolean") return said;
  }
  const status = field(thrown, "status") ?? field(thrown, "statusCode");
  if (typeof status !== "number" || status < 400) return true;
  return status >= 500 || status === 408 || status === 409 || status === 429;
}

function codeOf(thrown: object): string {
  const code = field(thrown, "code");
  if (typeof code === "string" && code !== "") return code;
  return thrown instanceof NotApplied ? "not_applied" : "error";
}

function isObject(value: unknown): value is object {
  return (typeof value === "object" && value !== null) || typeof value === "function";
}

// What was thrown is foreign: a getter of it may throw in turn.
function field(thrown: object, name: string): unknown {
  try {
    return (thrown as Record<string, unknown>)[name];
  } catch {
    return undefined;
  }
}

function stringField(thrown: object, name: string): string | undefined {
  const value = field(thrown, name);
  return typeof value === "string" ? value : undefined;
}

function safeString(value: unknown): string {
  try {
    return String(value);
  } catch {
    return "a value that cannot be shown";
  }
}

function clip(message: string): string {
  return message.length <= FAILURE_MESSAGE_CHARS_MAX ? message : `${message.slice(0, FAILURE_MESSAGE_CHARS_MAX - 1)}…`;
}
