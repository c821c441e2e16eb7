/**
 * A guarded step: its effect is never started twice while the outcome of an attempt is unknown.
 *
 * Owns: intents, calls and findings of one guarded step. Never: decides a policy (the engine does), asks the tool
 * (`reconciling.ts`).
 *
 * Invariants:
 * - G1 the function is called only after the intent is acknowledged, and only if time is left on two clocks that were
 *   read before the intent was sent: the monotonic one, and the wall clock, which also runs while the machine sleeps.
 * - G2 an intent that an earlier run left open is never called again: this run waits for its resolution.
 * - G3 only `NotApplied` says that nothing happened; whatever else a tool throws, its outcome is unknown.
 * - G4 another attempt has another intent, and follows only a resolution that allows it.
 * - G5 an output is committed however late it comes; the engine refuses it if the attempt was resolved otherwise.
 * - G6 an effect that another step or session has under the same idempotency key is never called here while that one may
 *   have happened: its output is this step's, in an event of its own (`in-flight.ts` waits for it).
 */
import { create } from "@bufbuild/protobuf";
import { type CancelledError, NotApplied } from "../errors.js";
import { type Failure, StepError, toFailure } from "../failure.js";
import { GuardPolicy, type Payload, PayloadFormat, type Refusal } from "../gen/cellaflow/v1/common_pb.js";
import {
  type Event,
  GuardIntentSchema,
  GuardUnknownSchema,
  Resolution,
  StepCompletedSchema,
  StepFailedSchema,
  UnknownReason,
} from "../gen/cellaflow/v1/event_pb.js";
import { type GuardReconciliation, GuardReconciliationSchema } from "../gen/cellaflow/v1/worker_pb.js";
import { canonicalDigest } from "../values/canonical.js";
import { Attempt, type Tried } from "./attempt.js";
import { AttemptClock } from "./attempt-clock.js";
import { pauseExhausted } from "./exhausted.js";
import { asStep } from "./fork.js";
import type { GuardWork } from "./guard-work.js";
import { type KeyRecord, type WhyAgain, whyAgain } from "./history.js";
import { InFlight } from "./in-flight.js";
import { tooLarge } from "./limits.js";
import type { Finding } from "./options.js";
import { EFFECT_UNKNOWN, failurePayload, payload, payloadValue, stepErrorOf, valuePayload } from "./payloads.js";
import { type ReconciledStep, Reconciling } from "./reconciling.js";
import { Request, type RequestSpec } from "./request.js";
import { attemptsOf, backoffMs, pausesExhausted } from "./retry.js";
import type { Run } from "./run.js";
import type { AppendAsk } from "./run-types.js";
import { stepLog } from "./step.js";
import { TotalTime } from "./total-time.js";

const POLICIES = {
  pause: GuardPolicy.PAUSE,
  fail: GuardPolicy.FAIL,
  retry: GuardPolicy.RETRY,
  reconcile: GuardPolicy.RECONCILE,
} as const;

/** A guarded step of one run. */
export class GuardedStep<T> extends Request<T> implements ReconciledStep<T> {
  private own: { output: Payload } | { failure: Payload } | undefined;
  /** Attempt after which the next one was scheduled already. */
  private retriedAfter = 0;
  /** Last attempt of which reconcile could not say what happened. */
  private reconciled = 0;
  private open = false;
  /** Attempt whose outcome only a person or program could say any more; 0: none. */
  private dueAttempt = 0;
  /** An attempt may have been applied; the next one finds out. */
  private unsure = false;
  private hasSlot = false;
  private readonly running = new Set<Attempt>();
  private timer: NodeJS.Timeout | undefined;
  /** Attempts made before the session was resumed that they had paused. */
  private forgiven = 0;
  private readonly total: TotalTime;
  private readonly elsewhere: InFlight;
  private readonly reconciling: Reconciling<T>;

  constructor(
    private readonly run: Run,
    spec: RequestSpec,
    private readonly work: GuardWork<T>,
  ) {
    super(spec);
    this.reconciling = new Reconciling(run, this, work);
    this.total = new TotalTime(run.nowMs, work.totalTimeoutMs);
    const { guardAttemptMs, guardGraceMs } = run.settings.limits;
    this.elsewhere = new InFlight(spec.name, work.totalTimeoutMs ?? (work.timeoutMs ?? guardAttemptMs) + guardGraceMs);
  }

  override get holdsEnd(): boolean {
    return this.open;
  }

  override get survivesCancel(): boolean {
    if (this.open || this.unsure || this.own !== undefined) return true;
    return this.run.history.get(this.spec.key)?.outcome !== undefined;
  }

  override begin(record: KeyRecord | undefined): void {
    const guard = record?.guard;
    this.forgiven = record?.forgiven ?? 0;
    this.run.activity.whenSlot(() => {
      if (this.isCancelled) return this.run.activity.freeSlot();
      this.hasSlot = true;
      if (guard === undefined) return this.intend(1);
      if (guard.state === "retry") return this.retry(guard.attempt, guard);
      this.open = true; // G2
      if (guard.state === "due") this.isDue(guard.attempt);
    });
  }

  override get isLost(): boolean {
    return this.dueAttempt > 0 && this.open && (this.work.policy === "pause" || this.reconciled >= this.dueAttempt);
  }

  /** A cancelled session does not pause for a person to say what happened (C2 of `cancel.ts`). */
  override lose(): void {
    this.open = false;
    this.closed();
    this.reject(new StepError(EFFECT_UNKNOWN));
  }

  override noted(event: Event): void {
    const body = event.body;
    if (body.case === "guardUnknown") {
      const { attempt, reason } = body.value;
      const due = reason === UnknownReason.NO_OUTCOME || reason === UnknownReason.GRACE_OVER;
      if (due) this.isDue(attempt);
    } else if (body.case === "guardResolved") {
      const { attempt, resolution } = body.value;
      const again = resolution === Resolution.NOT_APPLIED || resolution === Resolution.RETRY;
      if (again) this.retry(attempt, whyAgain(body.value));
      else this.closed();
    } else if (body.case === "stepCompleted" || body.case === "stepFailed") this.closed();
  }

  override abort(reason: unknown): void {
    clearTimeout(this.timer);
    this.reconciling.stop();
    for (const attempt of this.running) {
      // What was said to be unknown already stays so; a late output may still come.
      if (attempt.isTimedOut) continue;
      attempt.abort(reason);
      this.say(attempt.attempt, UnknownReason.ABORTED, reason);
      this.run.activity.finished(attempt);
    }
    this.running.clear();
  }

  override cancel(error: CancelledError): void {
    super.cancel(error);
    this.closed();
  }

  override deliverEvent(event: Event): readonly (string | undefined)[] {
    const body = asStep(event);
    if (body.case === "stepCompleted") return this.settle(body.value.output);
    if (body.case === "stepFailed") this.reject(stepErrorOf(body.value.failure));
    if (body.case === "guardResolved") {
      if (body.value.resolution === Resolution.OUTPUT) return this.settle(body.value.output);
      this.reject(stepErrorOf(body.value.failure));
    }
    return [];
  }

  override deliverOwn(): readonly (string | undefined)[] {
    if (this.own === undefined) return [];
    if ("output" in this.own) return this.settle(this.own.output);
    this.reject(stepErrorOf(this.own.failure));
    return [];
  }

  // ---- attempts ----

  private intend(number: number): void {
    const { key, after } = this.spec;
    this.run.whenStartable(() => {
      this.run.budgets.reserve(
        { key, attempt: number, after, step: true },
        () => this.sendIntent(number),
        (error) => this.fail(number, failurePayload(toFailure(error)), false),
      );
    }, this as Request);
  }

  private sendIntent(number: number): void {
    const { guardAttemptMs, guardGraceMs } = this.run.settings.limits;
    const { key: stepKey, name, digest: inputDigest, input } = this.spec;
    const attemptMs = this.work.timeoutMs ?? guardAttemptMs;
    const clock = new AttemptClock(attemptMs); // G1: before the intent is sent
    this.open = true;
    const value = create(GuardIntentSchema, {
      stepKey,
      name,
      attempt: number,
      inputDigest,
      attemptMs: BigInt(Math.ceil(attemptMs)),
      graceMs: BigInt(guardGraceMs),
      policy: POLICIES[this.work.policy],
      idempotencyKey: payload(PayloadFormat.BYTES, new TextEncoder().encode(this.work.idempotencyKey)),
      inputHash: canonicalDigest(input),
      refuseInFlight: this.work.onInFlight === "fail",
    });
    this.append({
      op: { case: "guardIntent", value },
      acked: (answer) => {
        // In a fork that performs nothing, somebody else answers.
        if (answer.recorded === undefined && !this.run.given.effects.stubbed) this.call(number, clock, answer.seq);
      },
      refused: (refusal) => this.intentRefused(number, refusal),
    });
  }

  private call(number: number, clock: AttemptClock, intentSeq: number): void {
    const leftMs = clock.leftMs();
    const cancelled = this.spec.cleanup !== true && !this.unsure && this.run.cancellation.isBefore(intentSeq);
    if (leftMs <= 0 || !this.run.isRunning || cancelled) {
      const over = cancelled ? "the session was cancelled before" : "the run was given up";
      const why = leftMs <= 0 ? "its time was over when the intent was durable" : over;
      return this.notApplied(number, new NotApplied(`attempt ${number} was not started: ${why}`));
    }
    const attempt = this.attemptOf(number, leftMs);
    this.running.add(attempt);
    this.run.activity.began(attempt);
    attempt.start(
      { run: this.run, kind: "step", name: this.spec.name },
      () => {
        this.run.settings.mayBlock?.();
        return this.work.fn(attempt);
      },
      (tried) => this.tried(attempt, tried),
      (thrown) => {
        this.run.activity.finished(attempt);
        this.say(number, UnknownReason.TIMED_OUT, thrown);
      },
    );
  }

  private tried(attempt: Attempt, tried: Tried<T>): void {
    const wasRunning = this.running.delete(attempt);
    this.ownMs += attempt.elapsedMs;
    if (tried.ok) this.complete(attempt, tried.value);
    else if (tried.thrown instanceof NotApplied) this.notApplied(attempt.attempt, tried.thrown);
    else if (wasRunning && !attempt.isTimedOut) this.say(attempt.attempt, UnknownReason.THREW, tried.thrown); // G3
    this.run.activity.finished(attempt);
  }

  private complete(attempt: Attempt, value: T): void {
    const { key: stepKey, name, digest: inputDigest } = this.spec;
    let output: Payload;
    try {
      const bytes = this.run.settings.codec.encode(value, { kind: "output", name });
      const refused = tooLarge(bytes.length, this.run.settings.limits.payloadBytesMax, name);
      if (refused !== undefined) throw refused;
      output = valuePayload(bytes);
    } catch (error) {
      // The effect happened; only its output cannot be kept. Nobody may conclude that it did not happen.
      return this.say(attempt.attempt, UnknownReason.THREW, error);
    }
    const completed = create(StepCompletedSchema, {
      stepKey,
      name,
      attempt: attempt.attempt,
      inputDigest,
      output,
      guarded: true,
      costNanos: attempt.costNanos,
      durationUs: BigInt(Math.round(attempt.elapsedMs * 1_000)),
    });
    this.own = { output };
    const ask: Omit<AppendAsk, "bytes"> = {
      op: { case: "stepCompleted", value: completed },
      outcomeOf: this as Request,
      acked: () => this.closed(),
      refused: (refusal) => this.tooLate(refusal), // G5
    };
    this.append(ask, Number(output.sizeBytes));
  }

  private notApplied(number: number, thrown: unknown): void {
    const failure = failurePayload(toFailure(thrown));
    this.find(number, { case: "notApplied", value: failure }, false, () => this.retry(number, { failure }));
  }

  private say(number: number, reason: UnknownReason, thrown: unknown): void {
    const failure = failurePayload(toFailure(thrown));
    const value = create(GuardUnknownSchema, { stepKey: this.spec.key, attempt: number, reason, failure });
    const ask = { op: { case: "guardUnknown", value }, refused: (refusal: Refusal) => this.tooLate(refusal) } as const;
    this.append(ask, Number(failure.sizeBytes));
  }

  /** G4. Attempts are counted, except when a person or program asked for another one. */
  private retry(number: number, why: WhyAgain): void {
    if (this.retriedAfter >= number) return;
    this.retriedAfter = number;
    this.open = false;
    this.unsure = why.unsure === true;
    this.run.poke();
    if (!this.run.isRunning || this.isCancelled) return;
    if (this.isRejectedLate()) return;
    const { retry } = this.work;
    const { retry: defaults } = this.run.settings.limits;
    const made = number - this.forgiven;
    if (!why.asked && made >= attemptsOf(retry, defaults.attemptsMax)) {
      const failure = why.failure ?? failurePayload(EFFECT_UNKNOWN);
      if (pausesExhausted(retry, defaults, undefined)) return pauseExhausted(this.run, this.spec.key, failure);
      return this.fail(number, failure, true);
    }
    const waitMs = why.asked || made <= 0 ? 0 : backoffMs(retry, defaults, made);
    if (this.total.isUpIn(waitMs)) {
      const thrown = this.total.error(`guarded step "${this.spec.name}"`);
      return this.fail(number, failurePayload(toFailure(thrown)), true);
    }
    this.timer = setTimeout(() => this.intend(number + 1), waitMs);
  }

  /** Rejects it if the session was cancelled while it could not be: it has nothing in flight any more. */
  private isRejectedLate(): boolean {
    const { cancellation } = this.run;
    if (!cancellation.isDelivered || !cancellation.holds(this as Request)) return false;
    this.closed();
    cancellation.rejectLate(this as Request);
    return true;
  }

  private fail(number: number, failure: Payload, guarded: boolean): void {
    const { key: stepKey, name, digest: inputDigest } = this.spec;
    const value = create(StepFailedSchema, {
      stepKey,
      name,
      attempt: number,
      inputDigest,
      failure,
      final: true,
      guarded,
    });
    this.own = { failure };
    const op = { case: "stepFailed", value } as const;
    this.append({ op, outcomeOf: this as Request, acked: () => this.closed() }, Number(failure.sizeBytes));
  }

  private intentRefused(number: number, refusal: Refusal): void {
    this.open = false;
    if (refusal.code === "session_paused") return;
    if (refusal.code === "too_many_open") {
      this.timer = setTimeout(() => this.intend(number), Math.max(50, Number(refusal.retryAfterMs)));
      return;
    }
    if (refusal.code === "guard_in_flight") {
      if (this.isRejectedLate()) return;
      const waitMs = this.elsewhere.againInMs(Number(refusal.retryAfterMs)); // G6
      if (waitMs === undefined) return this.neverCalled(number, this.elsewhere.failure());
      this.timer = setTimeout(() => this.sendAgain(number), waitMs);
      return;
    }
    const { code, message } = refusal;
    this.neverCalled(number, { name: "CellaflowError", code, message, retryable: code === "in_progress" });
  }

  private sendAgain(number: number): void {
    this.run.whenStartable(() => this.sendIntent(number), this as Request);
  }

  /** The attempt has no intent: without an earlier one the step fails like an unguarded one. */
  private neverCalled(number: number, failure: Failure): void {
    this.fail(Math.max(1, number - 1), failurePayload(failure), number > 1);
  }

  /** The attempt was resolved before this report: the resolution is the outcome. */
  private tooLate(refusal: Refusal): void {
    this.own = undefined;
    const { session, log } = this.run.settings;
    const fields = { sessionId: session.sessionId, stepKey: this.spec.key, code: refusal.code };
    log("warn", "a late report about a guarded attempt was refused", fields);
  }

  // ---- reconciliation ----

  private isDue(number: number): void {
    this.dueAttempt = number;
    this.reconciling.due(number);
    this.run.cancellation.poke();
  }

  found(number: number, finding: Finding<T>): void {
    if (finding === "notApplied") {
      const value = failurePayload(toFailure(new NotApplied("reconcile found that the effect did not happen")));
      return this.find(number, { case: "notApplied", value }, true, () => this.retry(number, { failure: value }));
    }
    if (finding === "unknown" || typeof finding !== "object" || !("applied" in finding)) {
      return this.find(number, { case: "unknown", value: true }, true, () => this.notFound(number));
    }
    const bytes = this.run.settings.codec.encode(finding.applied, { kind: "output", name: this.spec.name });
    const output = valuePayload(bytes);
    this.own = { output };
    this.find(number, { case: "applied", value: output }, true, () => this.closed());
  }

  private notFound(number: number): void {
    this.reconciled = number;
    this.run.cancellation.poke();
  }

  private find(number: number, finding: GuardReconciliation["finding"], reconciled: boolean, acked: () => void): void {
    const value = create(GuardReconciliationSchema, { stepKey: this.spec.key, attempt: number, finding, reconciled });
    const ask: Omit<AppendAsk, "bytes"> = {
      op: { case: "guardReconciliation", value },
      outcomeOf: finding.case === "applied" ? (this as Request) : undefined,
      acked,
      refused: (refusal) => this.tooLate(refusal),
    };
    this.append(ask, typeof finding.value === "object" ? Number(finding.value.sizeBytes) : 0);
  }

  // ---- small things ----

  private settle(output: Payload | undefined): readonly (string | undefined)[] {
    const value = payloadValue(output, this.run.settings.codec) as T;
    this.resolve(value);
    return typeof value === "string" ? [value] : [];
  }

  private closed(): void {
    this.open = false;
    clearTimeout(this.timer);
    this.reconciling.stop();
    if (this.hasSlot) {
      this.hasSlot = false;
      this.run.activity.freeSlot();
    }
    this.run.poke();
  }

  private append(ask: Omit<AppendAsk, "bytes">, bytes = 0): void {
    this.run.append(this.spec.after, { ...ask, bytes });
  }

  attemptOf(number: number, timeoutMs: number): Attempt {
    return new Attempt({
      attempt: number,
      idempotencyKey: () => this.work.idempotencyKey,
      log: stepLog(this.run, this.spec.key),
      timeoutMs,
      extendable: false,
      label: `step "${this.spec.name}"`,
    });
  }
}
