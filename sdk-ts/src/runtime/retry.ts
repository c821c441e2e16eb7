/**
 * When a failed attempt is tried again.
 *
 * Owns: the defaults and the arithmetic. Never: waits.
 */
import { isRetryable } from "../failure.js";
import type { RetryPolicy } from "./options.js";

const ATTEMPTS_DEFAULT = 3;
const INITIAL_MS_DEFAULT = 200;
const MAX_MS_DEFAULT = 30_000;
const FACTOR_DEFAULT = 2;
/** Longest wait that a failure may ask for with `data.retryAfterMs`, in ms. */
const ASKED_MS_MAX = 600_000;

/** Returns how many attempts a policy allows, the first included. */
export function attemptsOf(policy: RetryPolicy | undefined, standard = ATTEMPTS_DEFAULT): number {
  return Math.max(1, policy?.maxAttempts ?? standard);
}

/**
 * Returns the wait in ms before the attempt after `attempt`: exponential, with full jitter, on top of what the failure
 * asked for (`data.retryAfterMs`, a provider's retry-after).
 */
export function backoffMs(policy: RetryPolicy | undefined, attempt: number, thrown?: unknown): number {
  const { initialMs = INITIAL_MS_DEFAULT, maxMs = MAX_MS_DEFAULT, factor = FACTOR_DEFAULT } = policy?.backoff ?? {};
  return askedMs(thrown) + Math.random() * Math.min(maxMs, initialMs * factor ** (attempt - 1));
}

function askedMs(thrown: unknown): number {
  const asked = (thrown as { data?: { retryAfterMs?: unknown } | null } | null | undefined)?.data?.retryAfterMs;
  return typeof asked === "number" && asked > 0 ? Math.min(asked, ASKED_MS_MAX) : 0;
}

/** Says whether a step whose `failures` attempts have failed, the last with `thrown`, is tried again. */
export function mayRetry(
  policy: RetryPolicy | undefined,
  failures: number,
  thrown: unknown,
  standard?: number,
): boolean {
  return failures < attemptsOf(policy, standard) && isRetryable(thrown);
}
