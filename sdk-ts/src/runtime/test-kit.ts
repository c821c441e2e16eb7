/**
 * An engine in memory for tests of the runtime: it keeps one session's events and acknowledges appends.
 *
 * Owns: just enough of the ledger's rules to replay, cut and resolve. Never: is part of the package's API.
 */
import { create } from "@bufbuild/protobuf";
import type { ContextSource } from "../context/source.js";
import type { Failure } from "../failure.js";
import { RefusalSchema, SessionStatus } from "../gen/cellaflow/v1/common_pb.js";
import {
  CancelRequestedSchema,
  ChildEndedSchema,
  type Event,
  EventSchema,
  type GuardIntent,
  GuardResolvedSchema,
  GuardUnknownSchema,
  LeaseGrantedSchema,
  LeaseReleasedSchema,
  Resolution,
  RollbackReason,
  type SessionContinued,
  SessionStartedSchema,
  StepCompletedSchema,
  UnknownReason,
  ZoneRolledBackSchema,
} from "../gen/cellaflow/v1/event_pb.js";
import type { GuardReconciliation } from "../gen/cellaflow/v1/worker_pb.js";
import { encodeValue } from "../values/codec.js";
import { payloadCodec } from "../values/hooks.js";
import { bodyOf } from "./body.js";
import type { EngineLimits, Entry, Journal, ReleaseWhy } from "./journal.js";
import { failurePayload, valuePayload } from "./payloads.js";
import { Run } from "./run.js";
import type { AckLine, RunEnd } from "./run-types.js";
import { MemoryWaits } from "./test-kit-waits.js";
import type { Workflow } from "./workflow.js";

export const TEST_LIMITS: EngineLimits = {
  leaseTtlMs: 15_000,
  guardAttemptMs: 1_000,
  guardGraceMs: 100,
  payloadBytesMax: 1_048_576,
  openMax: 64,
  replayStallMsMax: 300,
  evidenceBytesMax: 65_536,
  stepAttemptMs: undefined,
  retry: { attemptsMax: 3, backoffInitialMs: 200, backoffMaxMs: 30_000, onExhausted: "fail" },
};

const ENDS: readonly unknown[] = ["sessionCompleted", "sessionFailed", "sessionContinued", "sessionCancelled"];
const SALT = new Uint8Array(32).fill(7);
const ROOT = "0190a000-0000-7000-8000-000000000001";

/** A run against the engine in memory. */
export class MemorySession implements Journal {
  readonly lines: AckLine[] = [];
  readonly logged: string[] = [];
  readonly released: ReleaseWhy[] = [];
  readonly evidence: string[] = [];
  readonly waits = new MemoryWaits((body) => this.push(body));
  full = false;
  doubtful = false;
  /** Payloads are encoded by a hook of the user's. */
  sealed = false;
  /** What the engine has of compacted contexts. */
  contexts: ContextSource | undefined;
  /** How long a run that only waits is kept, in ms. */
  lingerMs = 60_000;
  /** True: nothing is taken or acknowledged any more. */
  dead = false;
  run: Run | undefined;
  private readonly waiting: (() => void)[] = [];
  private readonly sure: (() => void)[] = [];
  private timeMs: number;

  constructor(
    readonly events: Event[] = [],
    /** Everything dies right after the event with this seq was stored. */
    readonly killAfterSeq = Number.MAX_SAFE_INTEGER,
    private readonly limits: Partial<EngineLimits> = {},
    /** Ledger time of the first event, in ms since the Unix epoch. */
    startMs = 1_700_000_000_000,
  ) {
    for (const event of events) this.waits.noted(event, false);
    this.timeMs = Math.max(startMs, Number(events.at(-1)?.timeMs ?? 0));
  }

  /** Runs a workflow until its end for this process, or until the engine died. */
  async execute(definition: Workflow, input: unknown = undefined): Promise<RunEnd | "killed"> {
    const { run, died } = this.begin(definition, input);
    return Promise.race([run.ended, died]);
  }

  begin(definition: Workflow, input: unknown = undefined): { run: Run; died: Promise<"killed"> } {
    if (this.events.length === 0) {
      const started = create(SessionStartedSchema, { workflow: "test", input: valuePayload(encodeValue(input)) });
      this.store({ case: "sessionStarted", value: started });
    }
    this.rollBackOpenZones();
    this.store({ case: "leaseGranted", value: create(LeaseGrantedSchema, { epoch: 1n, takeover: true }) });
    const run = new Run({
      session: { sessionId: ROOT, rootId: ROOT, workflow: "test", version: "1" },
      digestSalt: SALT,
      body: bodyOf(definition),
      journal: this,
      limits: { ...TEST_LIMITS, ...this.limits },
      codec: payloadCodec(),
      ...(this.contexts === undefined ? {} : { contexts: this.contexts }),
      sealed: this.sealed,
      log: (level, message) => this.logged.push(`${level} ${message}`),
      observer: {},
      ackLog: (line) => this.lines.push(line),
      suspendLingerMs: this.lingerMs,
      grantedMs: performance.now(),
    });
    this.run = run;
    run.noteEvents(this.events);
    run.start(this.events.length);
    this.waits.resume();
    void run.ended.then(() => this.waits.stop());
    const died = new Promise<"killed">((resolve) => {
      this.onDeath = () => resolve("killed");
    });
    return { run, died };
  }
  private onDeath: () => void = () => {};

  /** Begins as the successor of another session. */
  startFrom(left: Pick<SessionContinued, "input" | "state" | "conversation">): void {
    const value = create(SessionStartedSchema, { workflow: "test" });
    if (left.input !== undefined) value.input = left.input;
    const event = this.store({ case: "sessionStarted", value });
    if (left.state !== undefined) event.stateDelta = left.state;
    if (left.conversation !== undefined) event.conversationDelta = left.conversation;
  }

  append(entry: Entry): void {
    setImmediate(() => this.take(entry));
  }

  whenRoom(proceed: () => void): void {
    this.waiting.push(proceed);
  }

  makeRoom(): void {
    this.full = false;
    for (const proceed of this.waiting.splice(0)) proceed();
  }

  whenSure(proceed: () => void): void {
    this.sure.push(proceed);
  }

  /** The session is certainly held here again. */
  makeSure(): void {
    this.doubtful = false;
    for (const proceed of this.sure.splice(0)) proceed();
  }

  async release(why: ReleaseWhy, seenSeq = 0): Promise<boolean> {
    await new Promise(setImmediate);
    const waits = why === "waiting";
    if (waits && (this.events.length > seenSeq || this.waits.isEmpty)) return false;
    this.released.push(why);
    if (waits) this.store({ case: "leaseReleased", value: create(LeaseReleasedSchema, { epoch: 1n }) });
    return true;
  }

  close(): void {}

  /** What the engine's driver does when attempt time and grace are over. */
  due(stepKey: string, attempt: number): void {
    const value = create(GuardUnknownSchema, { stepKey, attempt, reason: UnknownReason.GRACE_OVER });
    this.push({ case: "guardUnknown", value });
  }

  /** What a person or the policy does. */
  resolve(stepKey: string, attempt: number, resolution: Resolution, output?: unknown, by = "policy"): void {
    const value = create(GuardResolvedSchema, { stepKey, attempt, resolution, by });
    if (resolution === Resolution.OUTPUT) value.output = valuePayload(encodeValue(output));
    this.push({ case: "guardResolved", value });
  }

  /** Somebody asks to cancel the session. */
  cancel(reason = ""): void {
    this.push({ case: "cancelRequested", value: create(CancelRequestedSchema, { reason }) });
  }

  /** A child has ended. */
  endChild(stepKey: string, end: { output: unknown } | { status: SessionStatus; failure?: Failure }): void {
    const value = create(ChildEndedSchema, { stepKey, childId: `child of ${stepKey}` });
    if ("output" in end) {
      value.status = SessionStatus.COMPLETED;
      value.output = valuePayload(encodeValue(end.output));
    } else {
      value.status = end.status;
      if (end.failure !== undefined) value.failure = failurePayload(end.failure);
    }
    this.push({ case: "childEnded", value });
  }

  /** What happened, as step keys and event names, in order. */
  get told(): string[] {
    return this.events.map(({ body }) => {
      const { stepKey = "", zoneKey = "" } = (body.value ?? {}) as { stepKey?: string; zoneKey?: string };
      return `${body.case} ${stepKey}${zoneKey}`.trim();
    });
  }

  private get hasEnded(): boolean {
    return this.events.some(({ body }) => ENDS.includes(body.case));
  }

  private push(body: Event["body"]): number {
    if (this.dead || this.hasEnded) return 0;
    const event = this.store(body);
    this.run?.noteEvents([event]);
    this.waits.noted(event);
    return Number(event.seq);
  }

  private take(entry: Entry): void {
    if (this.dead) return;
    const { op } = entry;
    if (op.case === "zoneEvidence") {
      this.evidence.push(Buffer.from(op.value.data).toString());
      return entry.acked({ seq: 0, timeMs: 0, duplicate: false, before: [] });
    }
    if (op.case === "guardIntent") {
      const elsewhere = this.elsewhere(op.value);
      if (typeof elsewhere === "string") {
        const refusal = create(RefusalSchema, { code: elsewhere, message: elsewhere, retryAfterMs: 10n });
        // Like the wire: what is pushed meanwhile comes before.
        setTimeout(() => entry.refused(refusal), 2);
        return;
      }
      if (elsewhere !== undefined) return this.takeOver(op.value, elsewhere.output, entry);
    }
    const refused = this.refusal(op.case);
    if (refused !== undefined) {
      return entry.refused(create(RefusalSchema, { code: refused, message: `${refused}: by the engine of tests` }));
    }
    const body = op.case === "guardReconciliation" ? resolved(op.value) : (op as Event["body"]);
    if (this.waits.refuses(body)) {
      return entry.refused(create(RefusalSchema, { code: "step_conflict", message: "step_conflict: no such wait" }));
    }
    const event = this.store(body, entry);
    setImmediate(() => {
      if (!this.dead) this.waits.noted(event);
    });
    // Like the engine, which mints the id: the answer is another event than the one sent.
    if (body.case === "childSpawned") body.value.childId = `child of ${body.value.stepKey}`;
    const recorded = body.case === "childSpawned" ? event : undefined;
    this.onStored(event);
    if (Number(event.seq) >= this.killAfterSeq) {
      this.dead = true;
      this.waits.stop();
      this.run?.parking.stop();
      return this.onDeath();
    }
    // Like the wire: what is acknowledged arrives in a later macrotask.
    setImmediate(() => {
      if (!this.dead) {
        entry.acked({ seq: Number(event.seq), timeMs: Number(event.timeMs), duplicate: false, recorded, before: [] });
      }
    });
  }

  /** What another session has under the key of an intent: a refusal's code, or its output; undefined: nothing. */
  elsewhere: (intent: GuardIntent) => string | { output: unknown } | undefined = () => undefined;

  private takeOver(intent: GuardIntent, output: unknown, entry: Entry): void {
    const { stepKey, name, attempt, inputDigest } = intent;
    const value = create(StepCompletedSchema, { stepKey, name, attempt, inputDigest, guarded: true });
    value.output = valuePayload(encodeValue(output));
    value.deduplicatedFrom = `${ROOT.replace(/1$/, "2")}:4`;
    const recorded = this.store({ case: "stepCompleted", value }, entry);
    setImmediate(() => {
      entry.acked({
        seq: Number(recorded.seq),
        timeMs: Number(recorded.timeMs),
        duplicate: false,
        recorded,
        before: [],
      });
    });
  }

  /** Called with every event that the run appended. */
  onStored: (event: Event) => void = () => {};

  private refusal(op: Entry["op"]["case"]): string | undefined {
    if (this.hasEnded) return "session_ended";
    const cancelled = this.events.some(({ body }) => body.case === "cancelRequested");
    return cancelled && op !== "sessionCancelled" && ENDS.includes(op) ? "cancel_requested" : undefined;
  }

  private store(body: Event["body"], entry?: Entry): Event {
    this.timeMs += 1;
    const event = create(EventSchema, { seq: BigInt(this.events.length + 1), timeMs: BigInt(this.timeMs), body });
    if (entry !== undefined) {
      const { after, stateDelta, conversationDelta } = entry;
      event.after = { $typeName: "cellaflow.v1.After", seq: BigInt(after.seq), requests: after.requests };
      if (stateDelta !== undefined) event.stateDelta = stateDelta;
      if (conversationDelta !== undefined) event.conversationDelta = conversationDelta;
    }
    this.events.push(event);
    return event;
  }

  private rollBackOpenZones(): void {
    const open = new Map<string, number>();
    for (const { body } of this.events) {
      if (body.case === "zoneEntered") open.set(body.value.zoneKey, body.value.attempt);
      else if (body.case === "zoneCommitted" || body.case === "zoneFailed" || body.case === "zoneRolledBack") {
        open.delete(body.value.zoneKey);
      }
    }
    for (const [zoneKey, attempt] of open) {
      const value = create(ZoneRolledBackSchema, { zoneKey, attempt, reason: RollbackReason.TAKEOVER });
      this.store({ case: "zoneRolledBack", value });
    }
  }
}

function resolved(found: GuardReconciliation): Event["body"] {
  const { stepKey, attempt, finding, reconciled } = found;
  const value = create(GuardResolvedSchema, { stepKey, attempt, by: reconciled ? "reconcile" : "tool" });
  if (finding.case === "applied") {
    value.resolution = Resolution.OUTPUT;
    value.output = finding.value;
  } else {
    value.resolution = Resolution.NOT_APPLIED;
    if (finding.case === "notApplied") value.failure = finding.value;
  }
  return { case: "guardResolved", value };
}

/** The first `count` events of a run, as another worker finds them. */
export function cut(events: readonly Event[], count: number): Event[] {
  return events.slice(0, count);
}
