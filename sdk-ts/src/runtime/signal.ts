/**
 * A signal that the run awaits (`ctx.signal`): a value that a client sends to the session.
 *
 * Owns: what is stored of the wait, reading and checking the value. Never: buffers a signal (the engine does), picks one.
 *
 * Invariants:
 * - N1 each signal is delivered to one wait; signals of one name in the order in which they were received, to the waits
 *   for it in the order in which they were opened.
 * - N2 the value is checked on every delivery, a replayed one included, so the check must be deterministic.
 */
import { create } from "@bufbuild/protobuf";
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { CellaflowError } from "../errors.js";
import { StepError } from "../failure.js";
import { type Event, SignalAwaitedSchema } from "../gen/cellaflow/v1/event_pb.js";
import { payloadValue } from "./payloads.js";
import type { RequestSpec } from "./request.js";
import type { Run } from "./run.js";
import { type Opening, WaitRequest } from "./wait.js";
import { describeIssue } from "./workflow.js";

/** Code of the error that a signal rejects with whose value does not match its schema. */
export const INVALID_SIGNAL = "invalid_signal";

/** A wait for a signal. Resolves with undefined when its time runs out. */
export class SignalRequest<T> extends WaitRequest<T | undefined> {
  constructor(
    run: Run,
    spec: RequestSpec,
    private readonly schema: StandardSchemaV1<unknown, T>,
    private readonly timeoutMs: number | undefined,
    signal: AbortSignal | undefined,
  ) {
    super(run, spec, signal);
  }

  protected override opening(): Opening {
    const { key: stepKey, name } = this.spec;
    const { timeoutMs } = this;
    // 0 would mean for ever.
    const limit = timeoutMs === undefined ? 0 : Math.max(1, timeoutMs);
    const value = create(SignalAwaitedSchema, { stepKey, name, timeoutMs: BigInt(limit) });
    const dueMs = timeoutMs === undefined ? undefined : Date.now() + limit;
    return { op: { case: "signalAwaited", value }, bytes: 0, dueMs };
  }

  protected override outcome(event: Event): void {
    if (event.body.case !== "signalDelivered") return;
    const seq = Number(event.body.value.signalSeq);
    if (seq === 0) return this.resolve(undefined);
    const received = this.run.history.takeSignal(seq);
    if (received === undefined) throw missing(this.spec.key, seq);
    const checked = this.schema["~standard"].validate(payloadValue(received.value, this.run.settings.codec));
    if (!(checked instanceof Promise)) return this.checked(checked);
    checked.then(
      (result) => this.checked(result),
      (error: unknown) => this.reject(StepError.from(error)),
    );
  }

  private checked(result: StandardSchemaV1.Result<T>): void {
    if (result.issues === undefined) return this.resolve(result.value);
    const { name } = this.spec;
    const issues = result.issues.map(describeIssue);
    this.reject(
      new StepError({
        name: "InvalidSignal",
        code: INVALID_SIGNAL,
        message: `a signal "${name}" does not match its schema: ${issues.slice(0, 5).join("; ")}`,
        retryable: false,
        data: { signal: name, issues },
      }),
    );
  }
}

function missing(key: string, seq: number): CellaflowError {
  const problem = `the signal ${seq} that "${key}" was given is not among the session's events`;
  return new CellaflowError("engine_error", problem, "run `cellaflow sessions show` and report this");
}
