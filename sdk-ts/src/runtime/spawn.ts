/**
 * `ctx.spawn`: a child session, as the parent's run sees it.
 *
 * Owns: the two requests of a child, its start and its end, and what workflow code gets of them. Never: starts the child
 * itself (the engine does), cancels children at the parent's end (`children.ts`).
 *
 * Invariants:
 * - W1 start and end of a child are delivered in ledger order like every outcome, so that races of children replay as
 *   they ran.
 * - W2 a child takes one of the session's open places from its spawn until it has ended.
 * - W3 a child's failure is a StepError that names the child's session.
 */
import { create } from "@bufbuild/protobuf";
import { MisuseError } from "../errors.js";
import { StepError } from "../failure.js";
import type { Payload, Refusal } from "../gen/cellaflow/v1/common_pb.js";
import { SessionStatus } from "../gen/cellaflow/v1/common_pb.js";
import { type ChildEnded, ChildSpawnedSchema, type Event, StepFailedSchema } from "../gen/cellaflow/v1/event_pb.js";
import { tooLarge } from "./limits.js";
import { failurePayload, payloadFailure, payloadValue, stepErrorOf, valuePayload } from "./payloads.js";
import { Request, type RequestSpec } from "./request.js";
import type { Run } from "./run.js";

/** What names the workflow of a child: a defined one, or its name and version. */
export interface WorkflowRef<I = unknown, O = unknown> {
  readonly name: string;
  readonly version: string;
  /** Carries the types; never set. @internal */
  readonly types?: { input: I; output: O };
}

/** Options of `ctx.spawn`. */
export interface SpawnOptions {
  /** Names the child in its scope. Default: the workflow's name. */
  name?: string;
  /** Names the child in its scope in place of its occurrence. */
  key?: string;
  /**
   * What happens to the child when its parent ends or is cancelled first: "cancel" asks it to cancel, and the parent ends
   * after it; "abandon" lets it go on by itself. Default: "cancel".
   */
  onParentEnd?: "cancel" | "abandon";
}

/** A child session. */
export interface ChildHandle<O = unknown> {
  /** Its id, once it is durable that it will be started. */
  readonly sessionId: Promise<string>;
  /**
   * Waits for its end. The same promise at every call.
   *
   * @throws StepError `child_failed` or `child_cancelled`, with `data.sessionId`; its `cause` is the child's own failure
   */
  result(): Promise<O>;
  /** Asks it to cancel. `result()` rejects with `child_cancelled` once it has; a child that has ended stays as it is. */
  cancel(reason?: string): void;
}

/** What a child is started with. */
export interface SpawnWork {
  workflow: string;
  version: string;
  input: Payload;
  abandoned: boolean;
}

/** The place that a child takes among what is open in its parent. */
class Slot {
  private state: "none" | "waiting" | "taken" | "freed" = "none";

  constructor(private readonly run: Run) {}

  take(then: () => void): void {
    if (this.state !== "none") return;
    this.state = "waiting";
    this.run.activity.whenSlot(() => {
      if (this.state === "freed") return this.run.activity.freeSlot();
      this.state = "taken";
      then();
    });
  }

  free(): void {
    const { state } = this;
    this.state = "freed";
    if (state === "taken") this.run.activity.freeSlot();
  }
}

/** The start of a child. */
export class SpawnRequest extends Request<string> {
  readonly slot: Slot;

  constructor(
    private readonly run: Run,
    spec: RequestSpec,
    private readonly work: SpawnWork,
  ) {
    super(spec);
    this.slot = new Slot(run);
  }

  override begin(): void {
    this.slot.take(() => this.run.whenStartable(() => this.send(), this as Request));
  }

  override replay(): void {
    this.tellChildren();
  }

  override abort(): void {
    // A spawn that was sent stays open: the run's children know it.
    if (!this.sent) this.slot.free();
  }
  private sent = false;

  override deliverEvent(event: Event): readonly string[] {
    const { body } = event;
    if (body.case === "childSpawned") this.resolve(body.value.childId);
    if (body.case === "stepFailed") this.reject(stepErrorOf(body.value.failure));
    return [];
  }

  override deliverOwn(): readonly string[] {
    if (this.failure !== undefined) this.reject(stepErrorOf(this.failure));
    return [];
  }
  private failure: Payload | undefined;

  private send(): void {
    this.sent = true;
    const { key: stepKey, name, digest: inputDigest } = this.spec;
    this.tellChildren();
    const value = create(ChildSpawnedSchema, { stepKey, name, inputDigest, ...this.work });
    this.run.append(this.spec.after, {
      op: { case: "childSpawned", value },
      bytes: Number(this.work.input.sizeBytes),
      refused: (refusal) => this.refused(refusal),
    });
  }

  private tellChildren(): void {
    const { key, cleanup } = this.spec;
    const { abandoned } = this.work;
    this.run.children.spawning(key, { abandoned, byCode: cleanup !== true, ended: () => this.slot.free() });
  }

  private refused(refusal: Refusal): void {
    const { code, message } = refusal;
    const { key: stepKey, name, digest: inputDigest } = this.spec;
    this.run.children.refused(stepKey);
    if (code === "session_paused") return;
    this.slot.free();
    this.failure = failurePayload({ name: "CellaflowError", code, message, retryable: false });
    const value = create(StepFailedSchema, {
      stepKey,
      name,
      attempt: 1,
      inputDigest,
      failure: this.failure,
      final: true,
    });
    const bytes = Number(this.failure.sizeBytes);
    this.run.append(this.spec.after, { op: { case: "stepFailed", value }, bytes, outcomeOf: this as Request });
  }
}

/** The end of a child. */
export class ChildEnd<O> extends Request<O> {
  constructor(
    private readonly run: Run,
    spec: RequestSpec,
    private readonly spawned: SpawnRequest,
  ) {
    super(spec);
  }

  override get parked(): boolean {
    return true;
  }

  override begin(): void {
    // Of a child that the ledger has already, the spawn is not begun again (W2).
    this.spawned.slot.take(() => {});
  }

  override deliverEvent(event: Event): readonly string[] {
    if (event.body.case !== "childEnded") return [];
    const { status, output, childId, failure } = event.body.value;
    if (status !== SessionStatus.COMPLETED) {
      this.reject(childError(this.spec.name, event.body.value, childId, failure));
      return [];
    }
    this.resolve(payloadValue(output, this.run.settings.codec) as O);
    return [];
  }

  override deliverOwn(): readonly string[] {
    return [];
  }

  /** The child was never started: its spawn has failed. */
  never(reason: unknown): void {
    this.spawned.slot.free();
    this.run.drop(this as Request);
    this.reject(reason);
  }
}

/** Makes what workflow code gets of a child. */
export function childHandle<O>(run: Run, spawn: SpawnRequest, end: ChildEnd<O>): ChildHandle<O> {
  // Looked at from the start: an end of the workflow asks open children to cancel instead of complaining about them.
  spawn.promise.then(undefined, (reason: unknown) => end.never(reason));
  end.promise.then(undefined, () => {});
  return {
    sessionId: spawn.promise,
    result: () => end.promise,
    cancel: (reason = "") => {
      run.check("child.cancel");
      run.children.cancel(spawn.spec.key, reason);
    },
  };
}

/** Refuses what the engine would refuse. */
export function checkSpawn(workflow: WorkflowRef, bytes: number, run: Run): void {
  for (const [what, text, max] of [
    ["name", workflow?.name, 256],
    ["version", workflow?.version, 64],
  ] as const) {
    const found = typeof text === "string" ? Buffer.byteLength(text) : 0;
    if (found >= 1 && found <= max) continue;
    const problem = `the ${what} of the workflow to spawn has ${found} bytes`;
    throw new MisuseError("invalid_workflow", problem, `pass a workflow, or { name, version }, with 1 to ${max} bytes`);
  }
  const refused = tooLarge(bytes, run.settings.limits.payloadBytesMax, workflow.name);
  if (refused !== undefined) throw refused;
}

/** Makes the payload of a child's input. @throws ValueError if it cannot be stored */
export function childInput(run: Run, name: string, input: unknown): Payload {
  return valuePayload(run.settings.codec.encode(input, { kind: "input", name }));
}

/** W3 */
function childError(name: string, ended: ChildEnded, sessionId: string, failure: Payload | undefined): StepError {
  const cancelled = ended.status === SessionStatus.CANCELLED;
  const cause = failure === undefined ? undefined : payloadFailure(failure);
  const why = cancelled ? "was cancelled" : "failed";
  return new StepError({
    name: cancelled ? "ChildCancelled" : "ChildFailed",
    code: cancelled ? "child_cancelled" : "child_failed",
    message: `the child "${name}" (session ${sessionId}) ${why}${cause === undefined ? "" : `: ${cause.message}`}`,
    retryable: false,
    data: { sessionId },
    ...(cause === undefined ? {} : { cause }),
  });
}
