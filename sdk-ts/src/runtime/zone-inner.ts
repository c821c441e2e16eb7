/**
 * What happens inside one attempt of a zone: its steps and model calls, buffered until it commits.
 *
 * Owns: the order of inner outcomes, their recording and their replay. Never: appends (but for evidence).
 *
 * Invariants:
 * - Z1 inner outcomes reach the zone's code one per macrotask, in the order in which they are recorded.
 * - Z2 on replay an inner outcome waits until inner code has made as many requests as are recorded with it.
 * - Z3 an inner request that the recorded attempt did not finish stays unsettled on replay, and nothing runs for it.
 */
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import type { CancelledError } from "../errors.js";
import { StepError, toFailure } from "../failure.js";
import {
  type LlmRequest,
  LlmRequestSchema,
  LlmResponseSchema,
  type ZoneOutcome,
  ZoneOutcomeSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { PayloadFormat, type Usage, UsageSchema } from "../gen/cellaflow/v1/common_pb.js";
import { type LlmCall, LlmCallSchema } from "../gen/cellaflow/v1/event_pb.js";
import { Attempt, type Tried } from "./attempt.js";
import type { WorstCase } from "./budget.js";
import type { CallAnswer, CallOutcome, CallSpec, RequestPlace } from "./internals.js";
import type { AfterMark } from "./journal.js";
import { KeyCounter } from "./keys.js";
import type { RetryPolicy, StepHandle } from "./options.js";
import { documentPayload, failureDocument, failureOf } from "./payloads.js";
import { backoffMs, mayRetry } from "./retry.js";
import type { Run } from "./run.js";
import { stepLog } from "./step.js";
import { type Deferred, deferred, type StepPromise, type Unobserved } from "./step-promise.js";

/** A committed attempt, to be replayed. */
export interface RecordedZone {
  outcomes: readonly ZoneOutcome[];
  llmCalls: readonly LlmCall[];
}

/** What is asked for inside. */
interface Inner {
  key: string;
  name: string;
  digest: Uint8Array;
  deferred: Deferred<unknown>;
  /** Reads the recorded outcome back. */
  read(outcome: ZoneOutcome, llmCall: LlmCall | undefined, place: RequestPlace | undefined): unknown;
}

/** What an inner attempt gave. */
interface InnerResult {
  outcome: ZoneOutcome["outcome"];
  attempt: number;
  llmCall?: LlmCall;
  costNanos: bigint;
}

const CALL_ATTEMPTS_DEFAULT = 1;
const EMPTY = new Uint8Array(0);

/** One attempt of a zone, live or replayed. */
export class ZoneInner {
  readonly outcomes: ZoneOutcome[] = [];
  readonly llmCalls: LlmCall[] = [];
  /** Usage of calls that failed; with those of `llmCalls`, what a failed attempt has spent. */
  readonly failedUsage: Usage[] = [];
  readonly unobserved: Unobserved = new Map();
  /** Where each model call's request is recorded; the seq is filled in when the zone has committed. */
  readonly places: RequestPlace[] = [];
  costNanos = 0n;
  private readonly outcomeOfPlace = new WeakMap<RequestPlace, number>();
  private readonly finals = new WeakMap<object, RequestPlace>();
  private readonly keys = new KeyCounter();
  private readonly asked = new Map<string, Inner>();
  private readonly finished: { inner: Inner; result: InnerResult }[] = [];
  private readonly running = new Set<Attempt>();
  private readonly recordedByKey: Map<string, ZoneOutcome>;
  private requests = 0;
  private next = 0;
  private scheduled = false;
  private over = false;
  private cancelled: CancelledError | undefined;

  constructor(
    private readonly run: Run,
    private readonly zone: { key: string; name: string; attempt: number; abort(reason: unknown): void },
    private readonly recorded: RecordedZone | undefined,
    private readonly emit: (callKey: string, text: string) => void,
    private readonly after: AfterMark,
  ) {
    this.recordedByKey = new Map(recorded?.outcomes.map((outcome) => [outcome.stepKey, outcome]));
  }

  /** True if every recorded outcome was delivered (replay). */
  get isReplayed(): boolean {
    return this.recorded === undefined || this.next >= this.recorded.outcomes.length;
  }

  /** Runs a step inside. */
  step<T>(name: string, options: InnerOptions, fn: (step: StepHandle) => T | PromiseLike<T>): StepPromise<T> {
    const { codec } = this.run.settings;
    const inner = this.ask(name, options.key, options.digest, (outcome) =>
      codec.decode(outcome.outcome.case === "output" ? outcome.outcome.value : EMPTY),
    );
    if (this.recorded === undefined) {
      this.run.settings.mayBlock?.();
      this.attempt(inner, options, 1, undefined, fn, (value, attempt) => ({
        outcome: { case: "output", value: codec.encode(value, { kind: "output", name }) },
        attempt: attempt.attempt,
        costNanos: attempt.costNanos,
      }));
    }
    return inner.deferred.promise as StepPromise<T>;
  }

  /** Makes a model call inside. */
  call(spec: CallSpec, digest: Uint8Array): StepPromise<CallOutcome> {
    const inner = this.ask(spec.name, spec.key, digest, (outcome, llmCall, place) => {
      const response = outcome.outcome.case === "llm" ? outcome.outcome.value : create(LlmResponseSchema);
      // Read back from bytes, live too: nobody shares an object with what is about to be committed.
      const copy = fromBinary(LlmResponseSchema, toBinary(LlmResponseSchema, response));
      return { response: copy, usage: llmCall?.usage, place: place ?? { seq: 0, call: 0 }, callKey: outcome.stepKey };
    });
    if (this.recorded === undefined) this.perform(inner, spec);
    else this.handOut(inner, spec);
    return inner.deferred.promise as StepPromise<CallOutcome>;
  }

  /** Remembers that an object is the whole final answer of a call. */
  noteFinal(value: object, place: RequestPlace): void {
    this.finals.set(value, place);
  }

  /** Index of the outcome whose final answer this object is; undefined: it is none. */
  finalOf(value: unknown): number | undefined {
    if (typeof value !== "object" || value === null) return undefined;
    const place = this.finals.get(value);
    return place === undefined ? undefined : this.outcomeOfPlace.get(place);
  }

  /** Stops everything that runs inside. */
  stop(reason: unknown): void {
    this.over = true;
    for (const attempt of this.running) attempt.abort(reason);
    this.running.clear();
  }

  /** The session is being cancelled: what is asked, and whatever will be, rejects. */
  cancel(error: CancelledError): void {
    this.cancelled = error;
    this.stop(error);
    for (const inner of this.asked.values()) inner.deferred.reject(error);
  }

  // ---- requests ----

  private ask(name: string, key: string | undefined, digest: Uint8Array, read: Inner["read"]): Inner {
    const stepKey = this.keys.next(`${this.zone.key}/`, name, key);
    const inner: Inner = { key: stepKey, name, digest, deferred: deferred<unknown>(), read };
    inner.deferred.promise.watch(this.unobserved, stepKey);
    this.requests += 1;
    this.asked.set(stepKey, inner);
    if (this.cancelled !== undefined) inner.deferred.reject(this.cancelled);
    this.run.divergence.progress();
    const recorded = this.recordedByKey.get(stepKey);
    if (recorded !== undefined && Buffer.compare(recorded.inputDigest, digest) !== 0) {
      this.run.nondeterministic(`"${stepKey}" with another input`, `it inside zone "${this.zone.name}"`, stepKey);
    } else this.schedule();
    return inner;
  }

  private handOut(inner: Inner, spec: CallSpec): void {
    const outcome = this.recordedByKey.get(inner.key);
    if (outcome?.outcome.case !== "llm") return;
    const usage = this.llmCallOf(outcome)?.usage;
    spec.recorded?.({ response: outcome.outcome.value, usage });
  }

  private perform(inner: Inner, spec: CallSpec): void {
    const request = spec.request();
    const options = { digest: inner.digest, retry: spec.retry, timeoutMs: spec.timeoutMs, worst: spec.worst };
    const { sessionId } = this.run.settings.session;
    const { key: callKey } = inner;
    const sure = (): Promise<void> => new Promise((resolve) => this.run.whenSure(resolve));
    const perform = ({ signal, attempt, log }: StepHandle) =>
      spec.perform({ signal, attempt, sessionId, callKey, log, sure, emit: (text) => this.emit(callKey, text) });
    const store = (answer: CallAnswer, attempt: Attempt): InnerResult => ({
      outcome: { case: "llm", value: answer.response },
      attempt: attempt.attempt,
      llmCall: llmCallOf(request, answer.usage),
      costNanos: attempt.costNanos,
    });
    this.attempt(inner, options, 1, CALL_ATTEMPTS_DEFAULT, perform, store, spec.usageOf);
  }

  private attempt<T>(
    inner: Inner,
    options: InnerOptions,
    number: number,
    attemptsDefault: number | undefined,
    fn: (step: StepHandle) => T | PromiseLike<T>,
    store: (value: T, attempt: Attempt) => InnerResult,
    usageOf?: (thrown: unknown) => Usage | undefined,
  ): void {
    if (this.over) return;
    const attempt = new Attempt({
      attempt: number,
      idempotencyKey: () => `${this.run.settings.session.rootId}/${inner.key}`,
      log: stepLog(this.run, inner.key),
      timeoutMs: options.timeoutMs,
      extendable: true,
      label: `step "${inner.name}"`,
    });
    this.running.add(attempt);
    const failed = (thrown: unknown): void => {
      const usage = usageOf?.(thrown);
      if (usage !== undefined) this.failedUsage.push(usage);
      const { retry: defaults } = this.run.settings.limits;
      if (mayRetry(options.retry, number, thrown, attemptsDefault ?? defaults.attemptsMax)) {
        const again = (): void => this.attempt(inner, options, number + 1, attemptsDefault, fn, store, usageOf);
        setTimeout(again, backoffMs(options.retry, defaults, number, thrown));
        return;
      }
      const outcome = { case: "failure", value: failureDocument(toFailure(thrown)) } as const;
      this.finish(inner, { outcome, attempt: number, costNanos: attempt.costNanos });
    };
    const tried = (result: Tried<T>): void => {
      if (!this.running.delete(attempt) || this.over) return;
      if (!result.ok) return failed(result.thrown);
      try {
        this.finish(inner, store(result.value, attempt));
      } catch (thrown) {
        failed(thrown);
      }
    };
    const place = { run: this.run, kind: "step", name: inner.name } as const;
    const { key, attempt: zoneAttempt } = this.zone;
    const giveUp = (reason: unknown): void => this.zone.abort(reason);
    this.run.budgets.reserve(
      { key, attempt: zoneAttempt, after: this.after, step: false, worst: options.worst, giveUp },
      () => {
        this.run.whenSure(() => {
          if (this.over || !this.running.has(attempt)) return;
          attempt.start(
            place,
            () => fn(attempt),
            tried,
            (thrown) => tried({ ok: false, thrown }),
          );
        });
      },
      (thrown) => tried({ ok: false, thrown }),
    );
  }

  // ---- order ----

  private finish(inner: Inner, result: InnerResult): void {
    this.finished.push({ inner, result });
    this.schedule();
  }

  private schedule(): void {
    if (this.scheduled || this.over) return;
    this.scheduled = true;
    setImmediate(() => this.pump());
  }

  private pump(): void {
    this.scheduled = false;
    if (this.over) return;
    if (this.recorded === undefined) this.deliverLive();
    else this.deliverRecorded(this.recorded);
  }

  private deliverLive(): void {
    const first = this.finished.shift();
    if (first === undefined) return;
    const { inner, result } = first;
    const outcome = create(ZoneOutcomeSchema, {
      stepKey: inner.key,
      name: inner.name,
      inputDigest: inner.digest,
      attempt: result.attempt,
      outcome: result.outcome,
      requests: this.requests,
    });
    this.costNanos += result.costNanos;
    let place: RequestPlace | undefined;
    if (result.llmCall !== undefined)
      place = this.notePlace(this.llmCalls.push(result.llmCall) - 1, this.outcomes.length);
    this.outcomes.push(outcome);
    if (this.finished.length > 0) this.schedule();
    this.settle(inner, outcome, result.llmCall, place);
  }

  /** Z2 */
  private deliverRecorded(recorded: RecordedZone): void {
    const outcome = recorded.outcomes[this.next];
    if (outcome === undefined) return;
    const inner = this.asked.get(outcome.stepKey);
    if (inner === undefined || this.requests < outcome.requests) return;
    const llmCall = this.llmCallOf(outcome);
    let place: RequestPlace | undefined;
    if (llmCall !== undefined) place = this.notePlace(recorded.llmCalls.indexOf(llmCall), this.next);
    this.next += 1;
    this.outcomes.push(outcome);
    this.run.divergence.progress();
    this.schedule();
    this.settle(inner, outcome, llmCall, place);
  }

  private settle(
    inner: Inner,
    outcome: ZoneOutcome,
    llmCall: LlmCall | undefined,
    place: RequestPlace | undefined,
  ): void {
    if (outcome.outcome.case === "failure") inner.deferred.reject(new StepError(failureOf(outcome.outcome.value)));
    else inner.deferred.resolve(inner.read(outcome, llmCall, place));
  }

  private notePlace(call: number, outcome: number): RequestPlace {
    const place: RequestPlace = { seq: 0, call };
    this.places.push(place);
    this.outcomeOfPlace.set(place, outcome);
    return place;
  }

  /** The model call of a recorded answer: they are in the same order. */
  private llmCallOf(outcome: ZoneOutcome): LlmCall | undefined {
    if (outcome.outcome.case !== "llm") return undefined;
    const answers = this.recorded?.outcomes.filter((other) => other.outcome.case === "llm") ?? [];
    return this.recorded?.llmCalls[answers.indexOf(outcome)];
  }
}

/** Options of a step inside a zone. */
export interface InnerOptions {
  key?: string | undefined;
  digest: Uint8Array;
  retry: RetryPolicy | undefined;
  timeoutMs: number | undefined;
  /** The most that an attempt may use, if it is a model call. */
  worst?: (() => WorstCase) | undefined;
}

function llmCallOf(request: LlmRequest, usage: Usage | undefined): LlmCall {
  return create(LlmCallSchema, {
    request: documentPayload(PayloadFormat.LLM_REQUEST, LlmRequestSchema, request),
    usage: usage ?? create(UsageSchema),
  });
}
