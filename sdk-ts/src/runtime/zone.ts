/**
 * A Non-Persistable Zone: a scope that commits as a whole or leaves nothing.
 *
 * Owns: entry, attempts, commit and replay of one zone. Never: runs inner steps (`zone-attempt.ts`, `zone-inner.ts`).
 *
 * Invariants:
 * - Z4 no inner work starts before the entry is acknowledged.
 * - Z5 output, state, usage and all inner outcomes are committed in one event.
 * - Z6 an exception that leaves the body is a failed attempt; `zone.state` of a failed attempt is forgotten.
 * - Z7 on replay of a committed zone the body runs again over the recorded outcomes; of a failed one it does not.
 * - Z8 an acknowledgement of the entry that is older than a lease starts nothing: another worker may have the session, and
 *   may have committed the zone.
 */
import { hash } from "node:crypto";
import { create, fromBinary } from "@bufbuild/protobuf";
import { type CancelledError, CellaflowError } from "../errors.js";
import { toFailure } from "../failure.js";
import {
  LlmRequestSchema,
  type ZoneOutcome,
  type ZoneRecord,
  ZoneRecordSchema,
} from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat, type Refusal, type Usage } from "../gen/cellaflow/v1/common_pb.js";
import {
  type Event,
  type LlmCall,
  RollbackReason,
  ZoneCommittedSchema,
  ZoneEnteredSchema,
  ZoneFailedSchema,
  ZoneRolledBackSchema,
} from "../gen/cellaflow/v1/event_pb.js";
import { misuse } from "../misuse.js";
import { AttemptClock } from "./attempt-clock.js";
import { pauseExhausted } from "./exhausted.js";
import type { KeyRecord } from "./history.js";
import { runInside } from "./inside.js";
import { tooLarge } from "./limits.js";
import type { RetryPolicy } from "./options.js";
import {
  documentPayload,
  failurePayload,
  payloadBytes,
  payloadDocument,
  payloadValue,
  stepErrorOf,
  valuePayload,
} from "./payloads.js";
import { Request, type RequestSpec } from "./request.js";
import { backoffMs, mayRetry, pausesExhausted } from "./retry.js";
import type { Run } from "./run.js";
import { textOfAnswer } from "./streamed.js";
import { textsOfMessage } from "./texts.js";
import { ZoneAttempt } from "./zone-attempt.js";
import type { ZoneInner } from "./zone-inner.js";

/** Texts of answers shorter than this are stored again as the zone's value: a reference would save nothing. UTF-16 units. */
const TEXT_OF_CHARS_MIN = 64;

/** What runs in a zone. */
export interface ZoneWork<T> {
  body(attempt: ZoneAttempt): T | PromiseLike<T>;
  retry: RetryPolicy | undefined;
  /** False: the body is code around a handle (`openZone`); it cannot run again, and calls are not told apart by place. */
  callback: boolean;
}

type Own = { bytes: Uint8Array; stored: boolean; record: ZoneRecord } | { failure: Payload };

/** A zone of one run. */
export class ZoneRequest<T> extends Request<T> {
  private attempt: ZoneAttempt | undefined;
  private own: Own | undefined;
  private failures = 0;
  private hasSlot = false;
  /** The entry was sent and is not acknowledged. */
  private isEntering = false;
  private logged = false;
  private isReady = true;
  /** What the replayed body returned, encoded. */
  private replayed: Uint8Array | undefined;
  private timer: NodeJS.Timeout | undefined;
  private llmCalls: readonly LlmCall[] = [];

  constructor(
    private readonly run: Run,
    spec: RequestSpec,
    private readonly work: ZoneWork<T>,
  ) {
    super(spec);
  }

  override get ready(): boolean {
    return this.isReady;
  }

  override get usage(): readonly Usage[] {
    return this.llmCalls.flatMap((call) => call.usage ?? []);
  }

  override begin(record: KeyRecord | undefined): void {
    this.failures = record?.failures ?? 0;
    const number = (record?.attempt ?? 0) + 1;
    const wait = (record?.retryAtMs ?? 0) - Date.now();
    this.run.activity.whenSlot(() => {
      if (this.isCancelled) return this.run.activity.freeSlot();
      this.hasSlot = true;
      if (wait > 0) this.timer = setTimeout(() => this.enter(number), wait);
      else this.enter(number);
    });
  }

  /** Z7 */
  override replay(event: Event): void {
    if (event.body.case !== "zoneCommitted") return;
    const { attempt, record, llmCalls } = event.body.value;
    const recorded = fromBinary(ZoneRecordSchema, payloadBytes(record));
    this.isReady = false;
    this.attempt = new ZoneAttempt(this.run, this.base, attempt, recorded, { outcomes: recorded.outcomes, llmCalls });
    this.runBody(
      this.attempt,
      (value) => this.bodyReplayed(value),
      (thrown) => {
        const { key, name } = this.spec;
        this.run.nondeterministic(`zone "${name}" committed`, `its body threw: ${toFailure(thrown).message}`, key);
      },
    );
  }

  override noted(event: Event): void {
    if (event.body.case === "zoneCommitted" && this.own !== undefined) this.committed(Number(event.seq));
  }

  override abort(reason: unknown): void {
    clearTimeout(this.timer);
    const { attempt } = this;
    if (attempt === undefined) return;
    this.attempt = undefined;
    attempt.stop(reason);
    this.run.activity.finished(attempt);
  }

  override cancel(error: CancelledError): void {
    const { attempt } = this;
    attempt?.inner.cancel(error);
    super.cancel(error);
    if (attempt !== undefined) this.rollBack(attempt.number);
    else if (!this.isEntering) this.freeSlot();
  }

  override deliverEvent(event: Event): readonly (string | undefined)[] {
    const body = event.body;
    if (body.case === "forkEdited") {
      const { edit } = body.value;
      if (edit.case === "output") this.resolve(payloadValue(edit.value, this.run.settings.codec) as T);
      else this.reject(stepErrorOf(edit.value));
      return [];
    }
    if (body.case === "zoneFailed") this.reject(stepErrorOf(body.value.failure));
    if (body.case !== "zoneCommitted") return [];
    const record = fromBinary(ZoneRecordSchema, payloadBytes(body.value.record));
    const { codec } = this.run.settings;
    this.llmCalls = body.value.llmCalls;
    const stored = body.value.output;
    const value = stored === undefined ? codec.decode(this.replayed ?? this.ownBytes()) : payloadValue(stored, codec);
    return this.settle(value as T, stored !== undefined, record, Number(event.seq));
  }

  override deliverOwn(seq: number): readonly (string | undefined)[] {
    if (this.own === undefined) return [];
    if ("failure" in this.own) {
      this.reject(stepErrorOf(this.own.failure));
      return [];
    }
    const value = this.run.settings.codec.decode(this.own.bytes) as T;
    return this.settle(value, this.own.stored, this.own.record, seq);
  }

  // ---- live ----

  private get base(): ZoneRequest<unknown> {
    return this as ZoneRequest<unknown>;
  }

  private enter(number: number): void {
    const { key, after } = this.spec;
    this.run.whenStartable(() => {
      this.run.budgets.reserve(
        { key, attempt: number, after, step: true },
        () => this.sendEntry(number),
        (error) => this.finishFailed(number, failurePayload(toFailure(error)), [], undefined),
      );
    }, this as Request);
  }

  private sendEntry(number: number): void {
    const { key: zoneKey, name, digest: inputDigest } = this.spec;
    this.isEntering = true;
    const value = create(ZoneEnteredSchema, { zoneKey, name, attempt: number, inputDigest });
    const lease = new AttemptClock(this.run.settings.limits.leaseTtlMs);
    this.run.append(this.spec.after, {
      op: { case: "zoneEntered", value },
      bytes: 0,
      acked: () => this.entered(number, lease),
      refused: (refusal) => this.entryRefused(number, refusal),
    });
  }

  /** The session goes on with its cleanup: the engine need not hold the zone's place until it ends. */
  private rollBack(attempt: number): void {
    if (this.own !== undefined) return;
    const value = create(ZoneRolledBackSchema, { zoneKey: this.spec.key, attempt, reason: RollbackReason.ABORT });
    const over = (): void => this.freeSlot();
    this.run.append(this.run.after, { op: { case: "zoneRolledBack", value }, bytes: 0, acked: over, refused: over });
  }

  private entered(number: number, lease: AttemptClock): void {
    this.isEntering = false;
    if (this.isCancelled) return this.rollBack(number);
    if (!this.run.isRunning) return;
    // Z8: the process stood still. The same entry again is answered by what is so now.
    if (lease.leftMs() <= 0) return this.sendEntry(number);
    const attempt = new ZoneAttempt(this.run, this.base, number, undefined, undefined);
    this.attempt = attempt;
    this.run.activity.began(attempt);
    this.runBody(
      attempt,
      (value) => this.commit(attempt, value),
      (thrown) => this.fail(attempt, thrown),
    );
  }

  private entryRefused(number: number, refusal: Refusal): void {
    this.isEntering = false;
    if (this.isCancelled) return this.freeSlot();
    if (refusal.code === "session_paused") return;
    if (refusal.code === "too_many_open") {
      this.timer = setTimeout(() => this.enter(number), Math.max(50, Number(refusal.retryAfterMs)));
      return;
    }
    const { code, message, retryable } = refusal;
    this.finishFailed(number, failurePayload({ name: "CellaflowError", code, message, retryable }), [], undefined);
  }

  private runBody(attempt: ZoneAttempt, returned: (value: T) => void, threw: (thrown: unknown) => void): void {
    const { name } = this.spec;
    const call = async (): Promise<T> => {
      const value = await this.work.body(attempt);
      const { unobserved } = attempt.inner;
      if (unobserved.size > 0) throw misuse.unawaitedSteps([...unobserved.values()]);
      return value;
    };
    const made = this.work.callback ? runInside({ run: this.run, kind: "zone", name, zone: attempt }, call) : call();
    const current = (): boolean => this.attempt === attempt;
    made.then(
      (value) => current() && returned(value),
      (thrown: unknown) => current() && threw(thrown),
    );
  }

  private commit(attempt: ZoneAttempt, value: T): void {
    const { codec, limits } = this.run.settings;
    const { inner } = attempt;
    const { key: zoneKey, name } = this.spec;
    let bytes: Uint8Array;
    let record: Payload;
    const doc = create(ZoneRecordSchema, { outcomes: inner.outcomes, valueFrom: valueFromOf(value, attempt) });
    try {
      bytes = codec.encode(value, { kind: "output", name });
      doc.valueHash = hash("sha256", bytes, "buffer");
      doc.streamed = attempt.streamed.record(inner.outcomes);
      const state = attempt.state.takeDelta();
      if (state !== undefined) doc.state = state;
      record = documentPayload(PayloadFormat.ZONE_RECORD, ZoneRecordSchema, doc);
      const refused = tooLarge(Math.max(bytes.length, Number(record.sizeBytes)), limits.payloadBytesMax, name);
      if (refused !== undefined) throw refused;
    } catch (error) {
      return this.fail(attempt, error);
    }
    const stored = doc.valueFrom.case === undefined;
    const committed = create(ZoneCommittedSchema, {
      zoneKey,
      attempt: attempt.number,
      record,
      llmCalls: inner.llmCalls,
      durationUs: BigInt(Math.round((performance.now() - attempt.startedMs) * 1_000)),
      costNanos: inner.costNanos,
    });
    if (stored) committed.output = valuePayload(bytes);
    this.llmCalls = inner.llmCalls;
    this.own = { bytes, stored, record: doc };
    this.leave(attempt);
    this.run.append(this.spec.after, {
      op: { case: "zoneCommitted", value: committed },
      bytes: bytes.length + Number(record.sizeBytes),
      outcomeOf: this as Request,
      acked: (answer) => this.committed(answer.seq),
    });
    this.run.activity.finished(attempt);
  }

  private fail(attempt: ZoneAttempt, thrown: unknown): void {
    this.failures += 1;
    const { retry } = this.work;
    const { retry: defaults } = this.run.settings.limits;
    // The code around a handle cannot run again.
    const again = this.work.callback && mayRetry(retry, this.failures, thrown, defaults.attemptsMax);
    const pauses = this.work.callback && !again && pausesExhausted(retry, defaults, thrown);
    const usage = [...attempt.inner.llmCalls.flatMap((call) => call.usage ?? []), ...attempt.inner.failedUsage];
    this.leave(attempt);
    const failure = failurePayload(toFailure(thrown));
    const waitMs = again ? backoffMs(retry, defaults, this.failures, thrown) : undefined;
    this.finishFailed(attempt.number, failure, usage, pauses ? 0 : waitMs);
    if (again) this.timer = setTimeout(() => this.enter(attempt.number + 1), waitMs);
    else if (pauses) pauseExhausted(this.run, this.spec.key, failure);
    this.run.activity.finished(attempt);
  }

  private finishFailed(number: number, failure: Payload, usage: Usage[], waitMs: number | undefined): void {
    const final = waitMs === undefined;
    const value = create(ZoneFailedSchema, {
      zoneKey: this.spec.key,
      attempt: number,
      failure,
      final,
      usage,
      retryAtMs: final ? 0n : BigInt(Math.ceil(Date.now() + waitMs)),
    });
    if (final) this.own = { failure };
    this.run.append(this.spec.after, {
      op: { case: "zoneFailed", value },
      bytes: Number(failure.sizeBytes),
      outcomeOf: final ? (this as Request) : undefined,
      acked: () => (final ? this.freeSlot() : undefined),
    });
  }

  private leave(attempt: ZoneAttempt): void {
    this.attempt = undefined;
    this.ownMs += performance.now() - attempt.startedMs;
    attempt.stop(new CellaflowError("zone_left", "the zone's body has returned", "stop: nobody waits for this step"));
    // The places of its requests are known once the commit is.
    this.leftPlaces = attempt.inner.places;
    this.leftCalls = attempt.inner.outcomes.filter((outcome) => outcome.outcome.case === "llm");
  }
  private leftPlaces: ZoneInner["places"] = [];
  private leftCalls: ZoneOutcome[] = [];

  private committed(seq: number): void {
    this.freeSlot();
    if (this.logged) return;
    this.logged = true;
    const { key } = this.spec;
    if (this.leftCalls.length === 0) this.run.telling.call(key, key, seq);
    for (const call of this.leftCalls) this.run.telling.call(call.stepKey, key, seq);
  }

  private freeSlot(): void {
    if (!this.hasSlot) return;
    this.hasSlot = false;
    this.run.activity.freeSlot();
  }

  // ---- replay and delivery ----

  private bodyReplayed(value: T): void {
    const { attempt } = this;
    if (attempt === undefined) return;
    const { codec } = this.run.settings;
    this.replayed = codec.encode(value, { kind: "output", name: this.spec.name });
    this.leftPlaces = attempt.inner.places;
    this.isReady = true;
    this.run.poke();
  }

  private ownBytes(): Uint8Array {
    return this.own !== undefined && "bytes" in this.own ? this.own.bytes : new Uint8Array(0);
  }

  private settle(value: T, stored: boolean, record: ZoneRecord, seq: number): readonly (string | undefined)[] {
    if (this.replayed !== undefined && !stored) {
      const replayedHash = hash("sha256", this.replayed, "buffer");
      if (Buffer.compare(replayedHash, record.valueHash) !== 0) {
        const { key, name } = this.spec;
        this.run.nondeterministic(`a value of zone "${name}"`, "its body to return another one", key);
        return [];
      }
    }
    for (const place of this.leftPlaces) place.seq = seq;
    if (record.state !== undefined) this.run.state.apply(record.state);
    this.resolve(value);
    const { codec } = this.run.settings;
    const output = stored && typeof value === "string" ? [value] : [];
    const inside = record.outcomes.flatMap((outcome) => textsOfOutcome(outcome, codec.decode));
    return [...output, ...inside, ...this.llmCalls.flatMap(textsOfRequest)];
  }
}

function textsOfRequest(call: LlmCall): (string | undefined)[] {
  return payloadDocument(call.request, LlmRequestSchema).appended.flatMap(textsOfMessage);
}

/** The value is not stored again if it is what a model answered. */
function valueFromOf(value: unknown, attempt: ZoneAttempt): ZoneRecord["valueFrom"] {
  const { outcomes } = attempt.inner;
  const final = attempt.inner.finalOf(value);
  if (final !== undefined) return { case: "finalOf", value: final };
  if (typeof value !== "string" || value.length < TEXT_OF_CHARS_MIN) return { case: undefined };
  const index = outcomes.findIndex((outcome) => outcome.outcome.case === "llm" && textOfAnswer(outcome) === value);
  return index < 0 ? { case: undefined } : { case: "textOf", value: index };
}

function textsOfOutcome(outcome: ZoneOutcome, decode: (bytes: Uint8Array) => unknown): (string | undefined)[] {
  if (outcome.outcome.case === "llm") return textsOfMessage(outcome.outcome.value.message);
  if (outcome.outcome.case !== "output") return [];
  const value = decode(outcome.outcome.value);
  return typeof value === "string" ? [value] : [];
}
