/**
 * What a run is made of, what it tells, how it ends.
 *
 * Owns: the types shared by a run and its requests. Never: behaviour.
 */
import type { ContextSource } from "../context/source.js";
import type { CellaflowError } from "../errors.js";
import type { StepError } from "../failure.js";
import type { Refusal } from "../gen/cellaflow/v1/common_pb.js";
import type { PayloadCodec } from "../values/hooks.js";
import type { Appended, AppendOp, EngineLimits, Journal } from "./journal.js";
import type { Logger, RunObserver } from "./observer.js";
import type { Request } from "./request.js";
import type { Run } from "./run.js";

/** Facts about the session that a run has from the start. */
export interface SessionFacts {
  sessionId: string;
  rootId: string;
  workflow: string;
  version: string;
}

/** What happens in a run: the workflow's code, behind its schemas. */
export interface RunBody {
  /** Runs the workflow code on the recorded input; returns its checked output. */
  run(run: Run, input: unknown): Promise<unknown>;
}

/** What a run is made of. */
export interface RunSettings {
  session: SessionFacts;
  digestSalt: Uint8Array;
  body: RunBody;
  journal: Journal;
  limits: EngineLimits;
  codec: PayloadCodec;
  /** Where compacted contexts come from; absent: nowhere. */
  contexts?: ContextSource;
  /** Payloads are encoded by the user's hook when they are sent; what is no payload (evidence) is not sent at all. */
  sealed: boolean;
  log: Logger;
  observer: RunObserver;
  /** Takes one line per acknowledged commit, before its outcome is delivered. */
  ackLog: ((line: AckLine) => void) | undefined;
  /** Code of the user's is about to run that may block this thread: leases must be renewed from elsewhere. */
  mayBlock?: () => void;
  /** Makes what `ctx.resource` returns, in place of what the code would acquire; undefined: it is acquired. */
  standIn?: (name: string) => unknown;
  /** How long a run whose code only waits is kept before it is given back, in ms. */
  suspendLingerMs: number;
  /** `performance.now()` when the lease was granted. */
  grantedMs: number;
}

/**
 * One acknowledged commit, as the acknowledgement log has it: a line for every event, and one more for every model call
 * in it.
 */
export interface AckLine {
  session: string;
  /** Step key of the model call (its `callKey`), or of the zone if it made none; empty: the line is about the event. */
  call: string;
  /** Step or zone key of the event; empty: it has none. */
  step: string;
  /** What was appended, e.g. "stepCompleted"; only on lines about the event. */
  kind?: string;
  seq: number;
  /** When the acknowledgement was held, in ms since the Unix epoch. */
  ms: number;
}

/** How a run ended for this process. */
export type RunEnd =
  | { kind: "completed"; output: unknown }
  | { kind: "failed"; failure: StepError }
  /** Asked for by somebody; its cleanup has run. */
  | { kind: "cancelled" }
  /** Another session continues it. */
  | { kind: "continued"; successorId: string }
  /** The lease was given back; the session goes on elsewhere or later. */
  | { kind: "suspended"; why: "paused" | "shutdown" | "unable" | "waiting"; error?: CellaflowError }
  /** Another worker holds the lease, or the session ended otherwise. */
  | { kind: "fenced" };

/** An append as a request asks for it. */
export interface AppendAsk {
  op: AppendOp;
  /** Size of its payloads in bytes. */
  bytes: number;
  /** The request whose outcome it is; undefined: no outcome. */
  outcomeOf?: Request | undefined;
  acked?: (answer: Appended) => void;
  /** Default: the run is given up as unable. */
  refused?: (refusal: Refusal) => void;
  /** False: deltas of state and conversation wait for the next append. */
  deltas?: boolean;
}

/** Something that is running and can be stopped. */
export interface Stoppable {
  abort(reason: unknown): void;
}
