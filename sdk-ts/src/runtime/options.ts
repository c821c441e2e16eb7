/**
 * The options and handles of steps, as users see them.
 *
 * Owns: their types and defaults. Never: behaviour.
 */

/** How failed attempts are tried again: with exponential backoff and full jitter. */
export interface RetryPolicy {
  /** Attempts in all, the first included. Default: the engine's `step_attempts_max` (3). */
  maxAttempts?: number;
  /**
   * What happens when the attempts are used up. "fail": the step fails. "pause": the session pauses
   * (`retries_exhausted`), and after `cellaflow sessions retry` or `resume` the step has all its attempts again. A
   * failure that says it is not worth another attempt fails the step either way. Default: the engine's
   * `step_exhausted_pauses` ("fail").
   */
  onExhausted?: "fail" | "pause";
  /**
   * The wait before attempt n + 1 is random between 0 and min(maxMs, initialMs * factor^(n - 1)), on top of what the
   * failure asks for (`data.retryAfterMs`, a provider's retry-after).
   */
  backoff?: {
    /** Default: the engine's `step_backoff_initial_ms` (200 ms). */
    initialMs?: number;
    /** Default: the engine's `step_backoff_ms_max` (30,000 ms). */
    maxMs?: number;
    /** Default: 2. */
    factor?: number;
  };
}

/** Something outside that a step touches. Compaction reads these, never step or tool names. */
export interface Resource {
  /** Kind, for example "file", "url", "command". */
  kind: string;
  /** Identity within the kind, for example a path. */
  id: string;
  mode: "read" | "write" | "delete" | "run";
  /** A part of it, for example "10-40" (lines). Default: the whole. */
  range?: string;
}

/** Writes a line about a step to the worker's log. */
export type StepLog = (message: string, fields?: Readonly<Record<string, unknown>>) => void;

/** What the function of a step gets besides its input. */
export interface StepHandle {
  /** Fires when the attempt has to stop: its time is up, the session was taken over or ended, the worker shuts down. */
  readonly signal: AbortSignal;
  /** From 1; survives crashes. */
  readonly attempt: number;
  /** The idempotency key of a guarded step; else one derived from session and step key, the same for every attempt. */
  readonly idempotencyKey: string;
  /**
   * Says that the step is alive: starts the clock of `timeoutMs` again. `details` says how far it is, at most 64 KiB; the
   * next attempt finds the last ones in `progress`, after a crash those of up to 5 s before. Does nothing for a guarded
   * step, whose time is fixed beforehand; details are not kept inside a zone.
   */
  heartbeat(details?: unknown): void;
  /** The details that the last heartbeat of an earlier attempt gave; undefined: none. */
  readonly progress: unknown;
  readonly log: StepLog;
  /** Adds to the step's own cost, in nano-dollars (1e-9 USD, an integer). */
  cost(nanoDollars: number | bigint): void;
}

/** What `reconcile` found out about a guarded attempt whose outcome is unknown. */
export type Finding<O> = { applied: O } | "notApplied" | "unknown";

/** Options of a step. */
export interface StepOptions<I = unknown, O = unknown> {
  /** What the step depends on; passed to its function. Its digest is compared on replay. */
  input?: I;
  /** Names the step in its scope in place of its occurrence. */
  key?: string;
  /**
   * Makes the step guarded, under this key: never started twice while its outcome is unknown. Another step of this name
   * with this key and input, in any session of the namespace, gets the output that is recorded. 1 to 512 bytes.
   */
  idempotencyKey?: string;
  /**
   * What happens while another step or session carries out the effect of this key. "wait": the step waits for its
   * output, for `totalTimeoutMs` or else the time of one attempt and its grace, then fails with code `in_progress`.
   * "fail": it fails with `in_progress` at once. Default: "wait".
   */
  onInFlight?: "wait" | "fail";
  /** Makes the step guarded, under a key derived from `ctx.rootId` and the step key. */
  effect?: "guarded";
  /** What happens when a guarded outcome stays unknown. Default: "reconcile" if that is given, else "pause". */
  onUnknown?: "pause" | "fail" | "retry" | "reconcile";
  /** Asks the outside whether the effect of an unknown attempt happened. */
  reconcile?: (input: I, step: StepHandle) => Finding<O> | Promise<Finding<O>>;
  retry?: RetryPolicy;
  /**
   * Time for one attempt in ms. Default: the engine's `step_attempt_ms` (none) for an unguarded step, `guard_attempt_ms`
   * (30 s) for a guarded one.
   */
  timeoutMs?: number;
  /**
   * Time for all attempts and the waits between them in ms, counted in ledger time from the last outcome delivered before
   * the step was asked for: crashes do not start it again. When it is over the step fails with code `step_timeout`; a
   * guarded attempt under way is not cut short by it. Default: none.
   */
  totalTimeoutMs?: number;
  resources?: readonly Resource[];
}
