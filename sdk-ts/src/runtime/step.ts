/**
 * An unguarded step: runs its function, at least once, and journals one event per outcome.
 *
 * Owns: the attempts of one unguarded step and its commit. Never: decides when its outcome is delivered.
 *
 * Invariants:
 * - T1 a completed step is one event; each failed attempt that is retried is one more.
 * - T2 the number of the attempt and the earliest time of the next one survive a crash.
 * - T3 what workflow code sees was read back from the bytes that were committed.
 * - T4 when the time for all attempts is over the step fails, whatever it is doing.
 */
import { create } from "@bufbuild/protobuf";
import { toFailure } from "../failure.js";
import { type Payload, ResourceMode, ResourceSchema, type Usage } from "../gen/cellaflow/v1/common_pb.js";
import {
  type Event,
  type LlmCall,
  type StepCompleted,
  StepCompletedSchema,
  StepFailedSchema,
} from "../gen/cellaflow/v1/event_pb.js";
import { Attempt, type Tried } from "./attempt.js";
import type { WorstCase } from "./budget.js";
import { pauseExhausted } from "./exhausted.js";
import { asStep } from "./fork.js";
import type { KeyRecord } from "./history.js";
import { tooLarge } from "./limits.js";
import type { Resource, RetryPolicy, StepHandle, StepLog } from "./options.js";
import { failurePayload, payloadValue, stepErrorOf, valuePayload } from "./payloads.js";
import { Progress } from "./progress.js";
import { Request, type RequestSpec } from "./request.js";
import { backoffMs, mayRetry, pausesExhausted } from "./retry.js";
import type { Run } from "./run.js";
import { TotalTime } from "./total-time.js";

/** Inputs up to this size are kept beside their digest, so that both sides of a nondeterminism can be shown. Bytes. */
const INPUT_KEPT_BYTES_MAX = 512;

/** What an output is stored as. */
export interface StoredOutput {
  output: Payload;
  llm?: LlmCall;
  /** Size in bytes of everything that is stored. */
  bytes: number;
}

/** How a journaled request works. */
export interface StepWork {
  retry: RetryPolicy | undefined;
  timeoutMs: number | undefined;
  totalTimeoutMs?: number | undefined;
  resources: readonly Resource[] | undefined;
}

/** A request that is journaled as step events. */
export abstract class JournaledStep<T, R> extends Request<T> {
  protected own: { output: Payload } | { failure: Payload } | undefined;
  private failures = 0;
  private attempt: Attempt | undefined;
  private timer: NodeJS.Timeout | undefined;
  private readonly total: TotalTime;
  private readonly progress: Progress;

  constructor(
    protected readonly run: Run,
    spec: RequestSpec,
    protected readonly work: StepWork,
  ) {
    super(spec);
    this.total = new TotalTime(run.nowMs, work.totalTimeoutMs);
    this.progress = new Progress(run, spec);
  }

  protected abstract perform(step: Attempt): R | PromiseLike<R>;
  protected abstract store(result: R): StoredOutput;
  /** Reads a stored output back; settles with it; returns its texts. */
  protected abstract settle(
    output: Payload | undefined,
    completed: StepCompleted | undefined,
    seq: number,
  ): readonly (string | undefined)[];

  /** The most that an attempt may use, if it is a model call. */
  protected get worst(): (() => WorstCase) | undefined {
    return undefined;
  }

  protected usageOf(_thrown: unknown): Usage | undefined {
    return undefined;
  }

  override begin(record: KeyRecord | undefined): void {
    this.failures = record?.failures ?? 0;
    this.progress.recorded(record?.progress);
    this.total.start(() => this.timeIsUp());
    const wait = (record?.retryAtMs ?? 0) - Date.now();
    if (wait > 0) this.later(wait, (record?.attempt ?? 0) + 1);
    else this.run.whenStartable(() => this.try((record?.attempt ?? 0) + 1), this as Request);
  }

  override abort(reason: unknown): void {
    clearTimeout(this.timer);
    this.total.stop();
    const { attempt } = this;
    if (attempt === undefined) return;
    // Whatever it still does is not this run's any more: nothing is journaled for it.
    this.attempt = undefined;
    attempt.abort(reason);
    this.run.activity.finished(attempt);
  }

  override deliverEvent(event: Event): readonly (string | undefined)[] {
    const body = asStep(event);
    if (body.case === "stepCompleted") return this.settle(body.value.output, body.value, Number(event.seq));
    if (body.case === "stepFailed") this.reject(stepErrorOf(body.value.failure));
    return [];
  }

  override deliverOwn(seq: number): readonly (string | undefined)[] {
    if (this.own === undefined) return [];
    if ("output" in this.own) return this.settle(this.own.output, undefined, seq);
    this.reject(stepErrorOf(this.own.failure));
    return [];
  }

  private later(waitMs: number, attempt: number): void {
    this.next = attempt;
    this.timer = setTimeout(() => this.run.whenStartable(() => this.try(attempt), this as Request), waitMs);
  }
  private next = 1;

  /** T4 */
  private timeIsUp(): void {
    const { attempt } = this;
    const thrown = this.total.error(`step "${this.spec.name}"`);
    if (attempt === undefined) {
      clearTimeout(this.timer);
      return this.commitFailure({ attempt: this.next, elapsedMs: 0 }, thrown);
    }
    attempt.abort(thrown);
    this.tried(attempt, { ok: false, thrown });
  }

  private try(number: number): void {
    const { key } = this.spec;
    this.next = number;
    if (this.total.isUp) return this.timeIsUp();
    const { after } = this.spec;
    this.run.budgets.reserve(
      { key, attempt: number, after, step: true, worst: this.worst },
      () => this.beginAttempt(number),
      (error) => this.commitFailure({ attempt: number, elapsedMs: 0 }, error),
    );
  }

  private beginAttempt(number: number): void {
    const { key, name } = this.spec;
    if (this.total.isUp) return this.timeIsUp();
    const attempt = new Attempt({
      attempt: number,
      idempotencyKey: () => `${this.run.given.effects.root}/${key}`,
      log: stepLog(this.run, key),
      timeoutMs: this.work.timeoutMs,
      extendable: true,
      progress: this.progress,
      label: `step "${name}"`,
    });
    this.attempt = attempt;
    this.run.activity.began(attempt);
    attempt.start(
      { run: this.run, kind: "step", name },
      () => this.perform(attempt),
      (tried) => this.tried(attempt, tried),
      (thrown) => this.tried(attempt, { ok: false, thrown }),
    );
  }

  private tried(attempt: Attempt, tried: Tried<R>): void {
    // After a time-out or an abort the function may still end: that attempt is over.
    if (this.attempt !== attempt) return;
    this.attempt = undefined;
    this.ownMs += attempt.elapsedMs;
    this.progress.stop();
    if (tried.ok) this.complete(attempt, tried.value);
    else this.fail(attempt, tried.thrown);
    this.run.activity.finished(attempt);
  }

  private complete(attempt: Attempt, result: R): void {
    let stored: StoredOutput;
    let input: Payload | undefined;
    try {
      stored = this.store(result);
      input = keptInput(this.run, this.spec);
      const refused = tooLarge(stored.bytes, this.run.settings.limits.payloadBytesMax, this.spec.name);
      if (refused !== undefined) throw refused;
    } catch (error) {
      return this.fail(attempt, error);
    }
    const { key: stepKey, name, digest: inputDigest } = this.spec;
    const value = create(StepCompletedSchema, {
      stepKey,
      name,
      attempt: attempt.attempt,
      inputDigest,
      output: stored.output,
      costNanos: attempt.costNanos,
      durationUs: BigInt(Math.round(attempt.elapsedMs * 1_000)),
    });
    if (stored.llm !== undefined) value.llm = stored.llm;
    if (input !== undefined) value.input = input;
    if (this.work.resources !== undefined) value.resources = this.work.resources.map(storedResource);
    this.total.stop();
    this.own = { output: stored.output };
    this.run.append(this.spec.after, {
      op: { case: "stepCompleted", value },
      bytes: stored.bytes,
      outcomeOf: this as Request,
      acked: (answer) => this.committed(answer.seq),
    });
  }

  override noted(event: Event): void {
    // After a lost connection the own commit may come back as an event, before its acknowledgement.
    if (event.body.case === "stepCompleted" && this.own !== undefined) this.committed(Number(event.seq));
  }

  /** The engine holds the outcome; it is not delivered yet. May be called twice. */
  protected committed(_seq: number): void {}

  private fail(attempt: Attempt, thrown: unknown): void {
    this.failures += 1;
    const { retry: defaults } = this.run.settings.limits;
    const { retry } = this.work;
    if (mayRetry(retry, this.failures, thrown, defaults.attemptsMax)) {
      const waitMs = backoffMs(retry, defaults, this.failures, thrown);
      this.journalFailure(attempt, thrown, waitMs);
      this.later(waitMs, attempt.attempt + 1);
    } else if (pausesExhausted(retry, defaults, thrown)) {
      const failure = this.journalFailure(attempt, thrown, 0);
      pauseExhausted(this.run, this.spec.key, failure);
    } else this.commitFailure(attempt, thrown);
  }

  private commitFailure(attempt: Pick<Attempt, "attempt" | "elapsedMs">, thrown: unknown): void {
    this.total.stop();
    this.own = { failure: this.journalFailure(attempt, thrown, undefined) };
  }

  /** Journals a failed attempt; without a wait it is the step's outcome. */
  private journalFailure(
    attempt: Pick<Attempt, "attempt" | "elapsedMs">,
    thrown: unknown,
    waitMs: number | undefined,
  ): Payload {
    const { key: stepKey, name, digest: inputDigest } = this.spec;
    const failure = failurePayload(toFailure(thrown));
    const final = waitMs === undefined;
    const value = create(StepFailedSchema, {
      stepKey,
      name,
      attempt: attempt.attempt,
      inputDigest,
      failure,
      final,
      retryAtMs: final ? 0n : BigInt(Math.ceil(Date.now() + waitMs)),
      durationUs: BigInt(Math.round(attempt.elapsedMs * 1_000)),
    });
    const usage = this.usageOf(thrown);
    if (usage !== undefined) value.usage = usage;
    const op = { case: "stepFailed", value } as const;
    const bytes = Number(failure.sizeBytes);
    this.run.append(this.spec.after, { op, bytes, outcomeOf: final ? (this as Request) : undefined });
    return failure;
  }
}

/** A step with a function of the user's. */
export class StepRequest<T> extends JournaledStep<T, T> {
  constructor(
    run: Run,
    spec: RequestSpec,
    work: StepWork,
    private readonly fn: (step: StepHandle) => T | PromiseLike<T>,
  ) {
    super(run, spec, { ...work, timeoutMs: work.timeoutMs ?? run.settings.limits.stepAttemptMs });
  }

  protected override perform(step: Attempt): T | PromiseLike<T> {
    this.run.settings.mayBlock?.();
    return this.fn(step);
  }

  protected override store(result: T): StoredOutput {
    const bytes = this.run.settings.codec.encode(result, { kind: "output", name: this.spec.name });
    return { output: valuePayload(bytes), bytes: bytes.length };
  }

  protected override settle(output: Payload | undefined): readonly (string | undefined)[] {
    const value = payloadValue(output, this.run.settings.codec) as T;
    this.resolve(value);
    return typeof value === "string" ? [value] : [];
  }
}

/** Returns the log of a step. */
export function stepLog(run: Run, stepKey: string): StepLog {
  const { log, session } = run.settings;
  return (message, fields) => log("info", message, { sessionId: session.sessionId, stepKey, ...fields });
}

/** Returns the input as it is kept beside its digest, if it is small. */
function keptInput(run: Run, spec: RequestSpec): Payload | undefined {
  if (spec.digest.length === 0) return undefined;
  const bytes = run.settings.codec.encode(spec.input, { kind: "input", name: spec.name });
  return bytes.length <= INPUT_KEPT_BYTES_MAX ? valuePayload(bytes) : undefined;
}

const MODES = {
  read: ResourceMode.READ,
  write: ResourceMode.WRITE,
  delete: ResourceMode.DELETE,
  run: ResourceMode.RUN,
} as const;

function storedResource(resource: Resource) {
  const { kind, id, mode, range = "" } = resource;
  return create(ResourceSchema, { kind, id, mode: MODES[mode], range });
}
