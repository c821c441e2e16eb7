/**
 * A timer (`ctx.sleep`): the engine waits, no worker does.
 *
 * Owns: what is stored of it, the check of its time. Never: looks at a clock to decide that it is over.
 *
 * Invariant I1: a relative delay counts from the ledger time of the event that started the timer; a crash after it
 * changes nothing.
 */
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import { TimerStartedSchema } from "../gen/cellaflow/v1/event_pb.js";
import type { RequestSpec } from "./request.js";
import type { Run } from "./run.js";
import { type Opening, WaitRequest } from "./wait.js";

/** How long a timer may run, in ms: ten years of 365.25 days. */
export const SLEEP_MS_MAX = 315_576_000_000;

/** How long to sleep: ms from now on, or until a moment (ms since the Unix epoch, or a Date). */
export type SleepTime = number | { until: Date | number };

/** What a sleep is made of. */
export type TimerSpec = { delayMs: number } | { dueMs: number };

/** A timer of one run. */
export class TimerRequest extends WaitRequest<void> {
  constructor(
    run: Run,
    spec: RequestSpec,
    private readonly timer: TimerSpec,
    signal: AbortSignal | undefined,
  ) {
    super(run, spec, signal);
  }

  protected override opening(): Opening {
    const { key: stepKey, name } = this.spec;
    const value = create(TimerStartedSchema, { stepKey, name });
    if ("delayMs" in this.timer) value.delayMs = BigInt(this.timer.delayMs);
    else value.dueMs = BigInt(this.timer.dueMs);
    const dueMs = "delayMs" in this.timer ? Date.now() + this.timer.delayMs : this.timer.dueMs;
    return { op: { case: "timerStarted", value }, bytes: 0, dueMs };
  }

  protected override outcome(): void {
    this.resolve();
  }
}

/** Checks a sleep's time. @throws MisuseError `invalid_wait_time` */
export function timerSpec(name: string, time: SleepTime): TimerSpec {
  if (typeof time === "number") return { delayMs: checkedMs(`the sleep "${name}"`, time) };
  const until = time.until instanceof Date ? time.until.getTime() : time.until;
  // What is past fires at once; 0 would mean a relative delay.
  if (Number.isFinite(until)) return { dueMs: Math.max(1, Math.ceil(until)) };
  throw invalid(`the sleep "${name}" ends at ${until}`, "pass { until } a valid Date, or ms since the Unix epoch");
}

/** Checks a duration in ms and rounds it up. @throws MisuseError `invalid_wait_time` */
export function checkedMs(what: string, ms: number): number {
  if (typeof ms === "number" && ms >= 0 && ms <= SLEEP_MS_MAX) return Math.ceil(ms);
  throw invalid(`${what} has a time of ${String(ms)} ms`, `use 0 to ${SLEEP_MS_MAX} ms (ten years)`);
}

function invalid(problem: string, action: string): MisuseError {
  return new MisuseError("invalid_wait_time", problem, action);
}
