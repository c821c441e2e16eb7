/**
 * The end of a run whose code has returned or thrown.
 *
 * Owns: what is committed as the end, and when. Never: abandons a run (suspension and fencing are the run's).
 *
 * Invariants:
 * - E1 a run ends only after it has asked for all that the ledger has; one that does not within a second is not the
 *   run that was recorded.
 * - E2 the end waits for open guarded effects; other open work is aborted.
 * - E3 a workflow that leaves requests behind which nobody looked at fails, each time it runs.
 * - E4 a request to cancel that the ledger has before the end takes the end's place.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { StepError, toFailure } from "../failure.js";
import type { Refusal } from "../gen/cellaflow/v1/common_pb.js";
import {
  type Event,
  SessionCompletedSchema,
  type SessionContinued,
  SessionFailedSchema,
} from "../gen/cellaflow/v1/event_pb.js";
import { misuse } from "../misuse.js";
import type { History } from "./history.js";
import type { AppendOp } from "./journal.js";
import { DROPPED_MAX, type Repair } from "./mismatch.js";
import { failurePayload, valuePayload } from "./payloads.js";
import type { AppendAsk, RunEnd, RunSettings } from "./run-types.js";
import type { Unobserved } from "./step-promise.js";

/** How long a run that ended waits for recorded requests that it has not made again, in ms. */
const END_WAIT_MS = 1_000;

/** What an ending asks of its run. */
export interface EndingRun {
  readonly settings: RunSettings;
  readonly history: History;
  readonly unobserved: Unobserved;
  readonly isRunning: boolean;
  /** True while a guarded effect is open. */
  readonly isHeld: boolean;
  /** The session is to be cancelled instead (E4). */
  endWithdrawn(): void;
  /** The engine refused the end for good. */
  endRefused(refusal: Refusal): void;
  /** Nothing new may be requested any more; open work but guarded effects is aborted. */
  close(reason: CellaflowError): void;
  appendEnd(ask: AppendAsk): void;
  over(end: RunEnd): void;
  nondeterministic(recorded: string, requested: string, stepKey: string, repair?: Repair): void;
}

interface End {
  op: AppendOp;
  bytes: number;
  outcome: () => RunEnd;
}

export class Ending {
  private end: End | undefined;
  private sent = false;
  /** Empty: the engine has not said it here. */
  private successorId = "";
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly run: EndingRun) {}

  /** True once the workflow's code is over. */
  get hasBegun(): boolean {
    return this.end !== undefined;
  }

  /** True once the workflow's code is over and nothing more may be requested. */
  get isClosed(): boolean {
    return this.end !== undefined && this.timer === undefined;
  }

  returned(output: unknown): void {
    const { settings, unobserved } = this.run;
    if (!this.run.isRunning || this.end !== undefined) return;
    if (unobserved.size > 0) return this.threw(misuse.unawaitedSteps([...unobserved.values()]));
    let bytes: Uint8Array;
    try {
      bytes = settings.codec.encode(output, { kind: "output", name: settings.session.workflow });
    } catch (error) {
      return this.threw(error);
    }
    const value = create(SessionCompletedSchema, { output: valuePayload(bytes) });
    const outcome = (): RunEnd => ({ kind: "completed", output: settings.codec.decode(bytes) });
    this.begin({ op: { case: "sessionCompleted", value }, bytes: bytes.length, outcome });
  }

  threw(thrown: unknown): void {
    if (!this.run.isRunning || this.end !== undefined) return;
    const failure = toFailure(thrown);
    const stored = failurePayload(failure);
    const value = create(SessionFailedSchema, { failure: stored });
    const outcome = (): RunEnd => ({ kind: "failed", failure: new StepError(failure) });
    this.begin({ op: { case: "sessionFailed", value }, bytes: Number(stored.sizeBytes), outcome });
  }

  /** The workflow's code asked for a successor; nothing after that counts. */
  continued(value: SessionContinued, bytes: number): void {
    if (!this.run.isRunning || this.end !== undefined) return;
    const outcome = (): RunEnd => ({ kind: "continued", successorId: this.successorId });
    this.begin({ op: { case: "sessionContinued", value }, bytes, outcome });
  }

  /** A cancelled session has cleaned up. */
  cancelled(op: AppendOp): void {
    this.begin({ op, bytes: 0, outcome: () => ({ kind: "cancelled" }) });
  }

  /** E4. An end that was sent already may have come first: the engine says. */
  cancelRequested(): void {
    if (this.end === undefined || this.sent) return;
    this.withdraw();
  }

  /** Looks whether the end may be committed now. */
  offer(): void {
    if (this.end === undefined || this.sent) return;
    if (this.timer !== undefined) return this.offerAsked();
    if (this.run.isHeld) return; // E2
    const { op, bytes } = this.end;
    this.sent = true;
    this.run.appendEnd({ op, bytes, acked: () => this.reached(), refused: (refusal) => this.refused(refusal) });
  }

  /** The ledger has the end. */
  reached(event?: Event): void {
    if (event?.body.case === "sessionContinued") this.successorId = event.body.value.successorId;
    if (this.sent && this.end !== undefined) this.run.over(this.end.outcome());
  }

  /** The run is over otherwise. */
  stop(): void {
    clearTimeout(this.timer);
  }

  private refused(refusal: Refusal): void {
    if (refusal.code === "cancel_requested") this.withdraw();
    else this.run.endRefused(refusal);
  }

  private withdraw(): void {
    this.end = undefined;
    this.sent = false;
    this.stop();
    this.timer = undefined;
    this.run.endWithdrawn();
  }

  private begin(end: End): void {
    if (this.end !== undefined) return;
    this.end = end;
    // E1: the loser of a race may be in I/O of its own before a request that it made sooner the first time.
    if (!this.run.history.allRequested) this.timer = setTimeout(() => this.early(), END_WAIT_MS);
    else this.close();
  }

  private offerAsked(): void {
    if (!this.run.history.allRequested) return;
    clearTimeout(this.timer);
    this.timer = undefined;
    this.close();
  }

  private close(): void {
    if (!this.run.isRunning) return;
    this.run.close(new CellaflowError("session_ended", "the workflow has ended", "stop: nobody waits for this step"));
    this.offer();
  }

  private early(): void {
    if (!this.run.isRunning) return;
    const missing = this.run.history.unrequested();
    const shown = missing.slice(0, 5).map((key) => `"${key}"`);
    const recorded = `${shown.join(", ")}${missing.length > 5 ? " and more" : ""}`;
    this.run.nondeterministic(recorded, "", missing[0] ?? "", { drop: missing.slice(0, DROPPED_MAX) });
  }
}
