/**
 * One attempt of a step, model call or reconciliation: calls the function once, with its time-out and AbortSignal.
 *
 * Owns: the handle that the function gets, its clock. Never: journals, retries.
 *
 * Invariants:
 * - A1 `settled` is called exactly once, however late; `timedOut` at most once and only before it.
 * - A3 the signal of an attempt whose time is up is aborted when it is read, even if its timer is late.
 * - A2 an attempt without a time-out costs no timer, one whose signal nobody reads no AbortController.
 */
import { CellaflowError, MisuseError } from "../errors.js";
import { type Inside, runInside } from "./inside.js";
import type { StepHandle, StepLog } from "./options.js";

/** How an attempt ended. */
export type Tried<T> = { ok: true; value: T } | { ok: false; thrown: unknown };

/** What an attempt is given. */
export interface AttemptOptions {
  attempt: number;
  idempotencyKey: () => string;
  log: StepLog;
  /** In ms; undefined: as long as it takes. */
  timeoutMs: number | undefined;
  /** Whether `heartbeat` starts the clock again. */
  extendable: boolean;
  /** Where the details of heartbeats go, and where earlier ones are found. Default: nowhere. */
  progress?: { readonly value: unknown; note(attempt: number, details: unknown): void };
  /** For messages: `step "send"`. */
  label: string;
}

/** One attempt. */
export class Attempt implements StepHandle {
  readonly attempt: number;
  readonly log: StepLog;
  readonly startedMs = performance.now();
  costNanos = 0n;
  private readonly wallMs = Date.now();
  private clockMs = this.startedMs;
  private controller: AbortController | undefined;
  private aborted: { reason: unknown } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private over = false;
  private onTimeout: (() => void) | undefined;

  constructor(private readonly options: AttemptOptions) {
    this.attempt = options.attempt;
    this.log = options.log;
  }

  get idempotencyKey(): string {
    return this.options.idempotencyKey();
  }

  get signal(): AbortSignal {
    this.noticeDeadline();
    if (this.controller === undefined) {
      this.controller = new AbortController();
      if (this.aborted !== undefined) this.controller.abort(this.aborted.reason);
    }
    return this.controller.signal;
  }

  /** Time since it started, in ms. */
  get elapsedMs(): number {
    return performance.now() - this.startedMs;
  }

  /** Its time is up; it may still be running. */
  get isTimedOut(): boolean {
    return this.onTimeout === undefined && this.aborted !== undefined;
  }

  get progress(): unknown {
    return this.options.progress?.value;
  }

  heartbeat(details?: unknown): void {
    if (!this.options.extendable || this.over) return;
    this.timer?.refresh();
    this.clockMs = performance.now();
    if (details !== undefined) this.options.progress?.note(this.attempt, details);
  }

  cost(nanoDollars: number | bigint): void {
    if (typeof nanoDollars === "number" && !Number.isSafeInteger(nanoDollars)) {
      throw new MisuseError("invalid_cost", `step.cost was given ${nanoDollars}`, "pass whole nano-dollars (1e-9 USD)");
    }
    this.costNanos += BigInt(nanoDollars);
  }

  /** Fires the signal. */
  abort(reason: unknown): void {
    if (this.aborted !== undefined || this.over) return;
    this.aborted = { reason };
    this.controller?.abort(reason);
  }

  /** Calls the function. */
  start<T>(
    place: Inside,
    fn: () => T | PromiseLike<T>,
    settled: (tried: Tried<T>) => void,
    timedOut: (thrown: CellaflowError) => void,
  ): void {
    const end = (tried: Tried<T>): void => {
      this.over = true;
      if (this.timer !== undefined) clearTimeout(this.timer);
      settled(tried);
    };
    this.startTimer(timedOut);
    let made: T | PromiseLike<T>;
    try {
      made = runInside(place, fn);
    } catch (thrown) {
      return end({ ok: false, thrown });
    }
    if (!isThenable(made)) return end({ ok: true, value: made });
    made.then(
      (value) => end({ ok: true, value }),
      (thrown: unknown) => end({ ok: false, thrown }),
    );
  }

  /**
   * A process that was stopped or a machine that slept wakes with timers that are late: whoever asks for the signal
   * then must not be told that there is time (A3).
   */
  private noticeDeadline(): void {
    const { timeoutMs, extendable } = this.options;
    if (timeoutMs === undefined || this.onTimeout === undefined) return;
    const wallMs = extendable ? 0 : Date.now() - this.wallMs;
    if (Math.max(performance.now() - this.clockMs, wallMs) >= timeoutMs) this.onTimeout();
  }

  private startTimer(timedOut: (thrown: CellaflowError) => void): void {
    const { timeoutMs } = this.options;
    if (timeoutMs === undefined) return;
    this.onTimeout = () => {
      this.onTimeout = undefined;
      if (this.over) return;
      const thrown = this.timeoutError(timeoutMs);
      this.abort(thrown);
      timedOut(thrown);
    };
    this.timer = setTimeout(() => this.onTimeout?.(), timeoutMs);
  }

  private timeoutError(timeoutMs: number): CellaflowError {
    return new CellaflowError(
      "timeout",
      `attempt ${this.attempt} of ${this.options.label} took longer than ${Math.round(timeoutMs)} ms`,
      "raise its timeoutMs or make it faster",
      { retryable: true },
    );
  }
}

function isThenable<T>(value: T | PromiseLike<T>): value is PromiseLike<T> {
  return typeof value === "object" && value !== null && typeof (value as { then?: unknown }).then === "function";
}
