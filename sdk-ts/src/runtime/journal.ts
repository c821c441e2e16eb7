/**
 * What a run needs of the engine: the seam between `runtime/` and `transport/` (and the in-memory engine of tests).
 *
 * Invariants:
 * - J1 entries of one run reach the ledger in the order of `append`, each once (the transport sends again, the engine
 *   recognises it).
 * - J2 losing the connection is not seen here: answers come later.
 */

import type { Payload, Refusal } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Append } from "../gen/cellaflow/v1/worker_pb.js";
import type { RetryDefaults } from "./retry.js";

/** What is appended. */
export type AppendOp = Append["op"];

/** What a request had seen when it was made. */
export interface AfterMark {
  seq: number;
  requests: number;
}

/** The engine's answer to an entry. */
export interface Appended {
  /** Seq of the event; 0: it became none (evidence). */
  seq: number;
  /** Ledger time in ms since the Unix epoch. */
  timeMs: number;
  duplicate: boolean;
  /** The recorded outcome, where the answer is another event than the one sent. */
  recorded?: Event | undefined;
  /** Earlier events that the run has not been sent. */
  before: readonly Event[];
}

/** One append. */
export interface Entry {
  after: AfterMark;
  stateDelta?: Payload | undefined;
  conversationDelta?: Payload | undefined;
  op: AppendOp;
  /** Size of what it carries in bytes, for the bound on what is buffered. */
  bytes: number;
  acked(answer: Appended): void;
  /** Refused for good; what may succeed later is tried again by the transport. */
  refused(refusal: Refusal): void;
}

/** Why a lease is given back. */
export type ReleaseWhy = "shutdown" | "suspended" | "unable" | "waiting";

/** One leased session's way to the ledger. */
export interface Journal {
  append(entry: Entry): void;
  /** True while the buffer of unacknowledged entries is full: nothing new is started. */
  readonly full: boolean;
  /** Calls back when there is room again. */
  whenRoom(proceed: () => void): void;
  /** True while another worker may hold the session, because this process stood still: nothing begins. */
  readonly doubtful: boolean;
  /** Calls back when the session is certainly held here again; never if it is not. */
  whenSure(proceed: () => void): void;
  /**
   * Gives the lease back; resolves when the engine has answered or cannot be reached in time, with false if it refused.
   * "waiting" names the last seq that the run has seen, is refused if the session has gone on since, and waits for its
   * answer as long as it takes.
   */
  release(why: ReleaseWhy, seenSeq?: number): Promise<boolean>;
  /** The run ended without a release (completed, fenced): forget it. */
  close(): void;
}

/** What the engine says about its limits (from its Welcome). */
export interface EngineLimits {
  leaseTtlMs: number;
  guardAttemptMs: number;
  guardGraceMs: number;
  payloadBytesMax: number;
  /** Most open intents and zones of one session. */
  openMax: number;
  replayStallMsMax: number;
  evidenceBytesMax: number;
  /** Time of one attempt of an unguarded step that names none; undefined: as long as it takes. */
  stepAttemptMs: number | undefined;
  retry: RetryDefaults;
}
