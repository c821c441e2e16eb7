/**
 * Notices that a run is not what the ledger recorded: it asks for something else, or stands still on its replay.
 *
 * Owns: the comparison of requests with records, the watch over a replay. Never: decides what is accepted (an operator does,
 * `mismatch.ts` says what can be).
 */
import { create } from "@bufbuild/protobuf";
import { NonDeterminismError } from "../errors.js";
import { toFailure } from "../failure.js";
import { PauseReason } from "../gen/cellaflow/v1/common_pb.js";
import { type Event, type SessionPaused, SessionPausedSchema } from "../gen/cellaflow/v1/event_pb.js";
import type { History, KeyRecord } from "./history.js";
import { DROPPED_MAX, mismatchOf, type Repair } from "./mismatch.js";
import type { Delivery } from "./order.js";
import { failurePayload } from "./payloads.js";
import type { RequestSpec } from "./request.js";
import type { Resources } from "./resources.js";
import type { RunSettings } from "./run-types.js";
import { Stall } from "./stall.js";

/** What it asks of its run. */
export interface DivergingRun {
  readonly settings: RunSettings;
  readonly history: History;
  readonly resources: Resources;
  /** The recorded outcome that is to be delivered next; undefined: none, or the run does not go on. */
  readonly awaited: Delivery<Event> | undefined;
  isAsked(key: string): boolean;
  /** Pauses the session, unless the run is given back or over already. */
  pauseDiverged(pause: SessionPaused, error: NonDeterminismError): void;
}

export class Divergence {
  private readonly stall: Stall<Delivery<Event>>;

  constructor(private readonly run: DivergingRun) {
    this.stall = new Stall(
      run.settings.limits.replayStallMsMax,
      () => this.awaited(),
      (delivery) => this.stalled(delivery),
    );
  }

  /** The run moves. */
  progress(): void {
    this.stall.progress();
  }

  /** A delivery has to wait for the run. */
  watch(): void {
    this.stall.watch();
  }

  stop(): void {
    this.stall.stop();
  }

  /** Whether a request is the one that was recorded; if not, the session pauses. */
  matches(record: KeyRecord, spec: RequestSpec): boolean {
    const mismatch = mismatchOf(record, spec, this.run.settings.codec);
    if (mismatch !== undefined) {
      const { recorded, requested, repair } = mismatch;
      this.found(recorded, requested, record.key, repair);
    }
    return mismatch === undefined;
  }

  /** Pauses the session and shows both sides. */
  found(recorded: string, requested: string, stepKey: string, repair?: Repair): void {
    const error = new NonDeterminismError(recorded, requested, {
      data: { stepKey, recorded, requested, ...repair },
    });
    const details = failurePayload(toFailure(error));
    const reason = PauseReason.NONDETERMINISM;
    this.run.pauseDiverged(create(SessionPausedSchema, { reason, stepKey, details }), error);
  }

  /** What the replay waits for; undefined: nothing recorded. */
  private awaited(): Delivery<Event> | undefined {
    // Cloning a repository again may take long: that is not standing still.
    if (this.run.resources.pending > 0) this.stall.progress();
    return this.run.awaited;
  }

  private stalled({ key, seq }: Delivery<Event>): void {
    const isAsked = this.run.isAsked(key);
    const asked = isAsked ? "too few requests before it" : "nothing of the kind";
    const drop = isAsked ? this.run.history.unrequested().slice(0, DROPPED_MAX) : [key];
    const recorded = `the outcome of "${key}" (seq ${seq}) next`;
    this.found(recorded, `${asked}, and stands still`, drop[0] ?? key, { drop });
  }
}
