/**
 * One request of workflow code: what a step, a guarded step, a model call and a zone have in common.
 *
 * Owns: key, digest, promise and place in the order. Never: runs anything.
 *
 * Invariants:
 * - R1 a request is settled at most once, by its delivery, never by its own completion.
 * - R2 `begin` is called once if the ledger has no outcome for it, `replay` once if it has one.
 */
import type { CancelledError } from "../errors.js";
import type { Usage } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { KeyRecord } from "./history.js";
import type { AfterMark } from "./journal.js";
import { type Deferred, deferred, type StepPromise } from "./step-promise.js";

/** What names a request. */
export interface RequestSpec {
  key: string;
  name: string;
  kind: KeyRecord["kind"];
  /** Keyed digest of the input; empty: no input. */
  digest: Uint8Array;
  /** Canonical input, shown when it differs from the recorded one. */
  input: unknown;
  after: AfterMark;
  /** Made inside `ctx.onCancel`: a cancellation does not reject it. */
  cleanup?: boolean;
}

/** A request that was made. */
export abstract class Request<T = unknown> {
  readonly requestedMs = performance.now();
  /** Time spent in the step's own function, in ms. */
  ownMs = 0;
  /** Texts of the conversation delta that travelled with its outcome (see `texts.ts`). */
  deltaTexts: readonly (string | undefined)[] = [];
  /** A cancellation has rejected it: nothing of it starts any more. */
  isCancelled = false;
  private readonly deferred: Deferred<T> = deferred<T>();

  constructor(readonly spec: RequestSpec) {}

  get promise(): StepPromise<T> {
    return this.deferred.promise;
  }

  /** True while an end of the run has to wait for it (an intent without outcome or resolution). */
  get holdsEnd(): boolean {
    return false;
  }

  /** True while only an outcome that comes from outside the run can move it: the session need not be held for it. */
  get parked(): boolean {
    return false;
  }

  /** Tokens and cost of its model calls, once it was delivered. */
  get usage(): readonly Usage[] {
    return [];
  }

  /** Starts it: the ledger has no outcome. */
  abstract begin(record: KeyRecord | undefined): void;

  /** The ledger has an outcome, which is delivered in its turn. */
  replay(_event: Event): void {}

  /** False: a recorded outcome cannot be delivered yet (a zone's callback runs again before). */
  get ready(): boolean {
    return true;
  }

  /** Takes an event about it that is no outcome. */
  noted(_event: Event): void {}

  /** Stops what runs for it: the run is over, or its worker is. */
  abort(_reason: unknown): void {}

  /** True if a cancellation leaves it be: a guarded effect that was begun before (`cancel.ts`, C2). */
  get survivesCancel(): boolean {
    return false;
  }

  /** True once nobody will say any more what became of it, in a cancelled session. */
  get isLost(): boolean {
    return false;
  }

  /** Settles it as lost. */
  lose(): void {}

  /** The session is being cancelled: stops what runs for it and rejects it. */
  cancel(error: CancelledError): void {
    this.isCancelled = true;
    this.abort(error);
    this.reject(error);
  }

  /** Settles it with a recorded outcome; returns the texts the event's documents hold after the conversation delta. */
  abstract deliverEvent(event: Event): readonly (string | undefined)[];

  /** Settles it with the outcome this run committed; returns the texts like `deliverEvent`. */
  abstract deliverOwn(seq: number): readonly (string | undefined)[];

  protected resolve(value: T): void {
    this.deferred.resolve(value);
  }

  protected reject(reason: unknown): void {
    this.deferred.reject(reason);
  }
}
