/**
 * When a failed attempt is tried again.
 *
 * Owns: the defaults and the arithmetic. Never: waits.
 */
import { isRetryable } from "../failure.js";
import type { RetryPolicy } from "./options.js";

const FACTOR_DEFAULT = 2;
/** Longest wait that a failure may ask for with `data.retryAfterMs`, in ms. */
const ASKED_MS_MAX = 600_000;

/** What a step that says nothing does; the engine's settings. */
export interface RetryDefaults {
  /** Attempts in all. */
  attemptsMax: number;
  backoffInitialMs: number;
  backoffMaxMs: number;
  /** What happens when the attempts are used up. */
  onExhausted: "fail" | "pause";
}

/** Returns how many attempts a policy allows, the first included. */
export function attemptsOf(policy: RetryPolicy | undefined, standard: number): number {
  return Math.max(1, policy?.maxAttempts ?? standard);
}

/** Says whether a step that used up its attempts with `thrown` pauses its session. */
export function pausesExhausted(policy: RetryPolicy | undefined, defaults: RetryDefaults, thrown: unknown): boolean {
  return (policy?.onExhausted ?? defaults.onExhausted) === "pause" && isRetryable(thrown);
}

/**
 * Returns the wait in ms before the attempt after `attempt`: exponential, with full jitter, on top of what the failure
 * asked for (`data.retryAfterMs`, a provider's retry-after).
 */
export function backoffMs(
  policy: RetryPolicy | undefined,
  defaults: RetryDefaults,
  attempt: number,
  thrown?: unknown,
): number {
  const { initialMs = defaults.backoffInitialMs, factor = FACTOR_DEFAULT } = policy?.backoff ?? {};
  const maxMs = policy?.backoff?.maxMs ?? Math.max(initialMs, defaults.backoffMaxMs);
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
  standard: number,
): boolean {
  return failures < attemptsOf(policy, standard) && isRetryable(thrown);
}
