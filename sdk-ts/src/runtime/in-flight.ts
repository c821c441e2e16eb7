/**
 * Waiting for an idempotency key that another step or session has in flight.
 *
 * Owns: how long, and when to ask again. Never: asks; never is journaled: a run after a crash waits its full time anew.
 *
 * Invariants:
 * - I1 it is asked again when the engine said, never sooner than `AGAIN_MS_MIN`.
 * - I2 the wait ends with the time of the step: `totalTimeoutMs` if there is one, else that of an attempt and its grace,
 *   after which the owner's outcome is settled or waits for a person.
 */
import type { Failure } from "../failure.js";

/** Shortest time between two requests, in ms. */
const AGAIN_MS_MIN = 10;

/** The wait of one step. */
export class InFlight {
  private endMs: number | undefined;

  /** @param timeMs how long, in ms */
  constructor(
    private readonly step: string,
    private readonly timeMs: number,
  ) {}

  /** In how many ms to ask again; undefined: the time is over. */
  againInMs(retryAfterMs: number): number | undefined {
    const nowMs = performance.now();
    this.endMs ??= nowMs + this.timeMs;
    const waitMs = Math.max(AGAIN_MS_MIN, retryAfterMs);
    return nowMs + waitMs > this.endMs ? undefined : waitMs;
  }

  /** What the step fails with then. */
  failure(): Failure {
    const text =
      `in_progress: another step or session was still carrying out "${this.step}" with this idempotency key ` +
      `after ${this.timeMs} ms; ask again when it has ended, or raise totalTimeoutMs`;
    return { name: "CellaflowError", code: "in_progress", message: text, retryable: true };
  }
}
