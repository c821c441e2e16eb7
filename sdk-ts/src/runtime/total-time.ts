/**
 * The time that a step has for all its attempts together.
 *
 * Owns: its clock, in ledger time, so that a crash does not start it again. Never: ends an attempt.
 */
import { CellaflowError } from "../errors.js";

/** Longest time that a timer of Node can be set to, in ms. */
const TIMER_MS_MAX = 2_147_483_647;

export class TotalTime {
  private timer: NodeJS.Timeout | undefined;
  private readonly endMs: number;

  /**
   * @param fromMs ledger time when the step was asked for, in ms since the Unix epoch
   * @param totalMs time in ms; undefined: as long as it takes
   */
  constructor(
    fromMs: number,
    private readonly totalMs: number | undefined,
  ) {
    this.endMs = totalMs === undefined ? Number.POSITIVE_INFINITY : fromMs + totalMs;
  }

  /** True once it is over. */
  get isUp(): boolean {
    return Date.now() >= this.endMs;
  }

  /** True if it will be over after a wait of so many ms. */
  isUpIn(waitMs: number): boolean {
    return Date.now() + waitMs >= this.endMs;
  }

  /** Calls back when it is over. */
  start(over: () => void): void {
    const leftMs = this.endMs - Date.now();
    if (leftMs <= TIMER_MS_MAX) this.timer = setTimeout(over, Math.max(0, leftMs));
  }

  stop(): void {
    clearTimeout(this.timer);
  }

  /** What the step fails with. */
  error(label: string): CellaflowError {
    const text = `${label} has not succeeded within ${this.totalMs} ms, all its attempts together`;
    return new CellaflowError("step_timeout", text, "raise its totalTimeoutMs or make it faster", { retryable: false });
  }
}
