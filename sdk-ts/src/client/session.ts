/**
 * What a session is, as users see it.
 *
 * Owns: the public shape. Never: calls the engine.
 */
import { CellaflowError } from "../errors.js";
import {
  PauseReason,
  type Session,
  type Wait,
  WaitKind,
  SessionStatus as Wire,
} from "../gen/cellaflow/v1/common_pb.js";

/** States of a session. */
export type SessionStatus = "pending" | "running" | "waiting" | "paused" | "completed" | "failed" | "cancelled";

/** Why a session is paused. */
export type PauseKind = "requested" | "effect_unknown" | "nondeterminism" | "retries_exhausted" | "budget";

/** Something that a session waits for. */
export interface WaitInfo {
  stepKey: string;
  kind: "timer" | "signal" | "approval" | "child";
  name: string;
  /** Event that opened it. */
  seq: number;
  /** When it fires, runs out or expires; undefined: never. */
  due: Date | undefined;
}

/** Where a fork was cut, and what it had then. */
export interface ForkInfo {
  sessionId: string;
  /** Last event that both have. */
  seq: number;
  /** What becomes of its guarded effects. */
  effects: "stubbed" | "live";
  /** Of the session's steps and totals, those of the common part. */
  inherited: { steps: number; costNanos: number; tokens: number };
}

/** What a session is. */
export interface SessionInfo {
  sessionId: string;
  namespace: string;
  workflow: string;
  version: string;
  /** The caller's key; undefined: none, or erased. */
  key: string | undefined;
  status: SessionStatus;
  /** Why it is paused; undefined: it is not. */
  pauseReason: PauseKind | undefined;
  /** Why it does not go on, in words; empty while it does. */
  reason: string;
  /** Last event. */
  seq: number;
  /** Epoch of the last lease; 0: none yet. */
  epoch: number;
  rootId: string;
  /** Where a fork was cut; undefined: it is none. */
  forkedFrom: ForkInfo | undefined;
  /** Session that spawned it; undefined: none. */
  parentId: string | undefined;
  /** Top of the tree of sessions it belongs to; itself if nobody spawned it. */
  topId: string;
  /** Somebody asked to cancel it. */
  cancelRequested: boolean;
  /** Session that continues it; undefined: none. */
  continuedTo: string | undefined;
  /** Session that it continues; undefined: none. */
  continuedFrom: string | undefined;
  startedAt: Date;
  updatedAt: Date;
  /** Undefined: it has not ended. */
  endedAt: Date | undefined;
  /** What it is found by. */
  labels: Readonly<Record<string, string>>;
  /** True: the ledger was restored from a backup, and it waits for `release`. */
  held: boolean;
  /** When it is cancelled if it has not ended; undefined: never. */
  deadline: Date | undefined;
  /** Completed steps. */
  steps: number;
  /** What it waits for, oldest first; some of it may be the losers of races. */
  waits: WaitInfo[];
  /** Sums over completed model calls. */
  totals: {
    llmCalls: number;
    inputTokens: number;
    cachedReadTokens: number;
    cacheWriteTokens: number;
    outputTokens: number;
    /** Known cost in nano-dollars (1e-9 USD). */
    costNanos: number;
    /** Tokens of attempts that were rolled back or failed (estimated). */
    wastedTokens: number;
    wastedCostNanos: number;
    /** Model calls whose price was unknown: the cost lacks them. */
    unpricedCalls: number;
    /** Times the session was taken over from a worker that was gone. */
    takeovers: number;
  };
}

const STATUSES: Readonly<Record<Wire, SessionStatus | undefined>> = {
  [Wire.UNSPECIFIED]: undefined,
  [Wire.PENDING]: "pending",
  [Wire.RUNNING]: "running",
  [Wire.WAITING]: "waiting",
  [Wire.PAUSED]: "paused",
  [Wire.COMPLETED]: "completed",
  [Wire.FAILED]: "failed",
  [Wire.CANCELLED]: "cancelled",
};

const PAUSES: Readonly<Record<PauseReason, PauseKind | undefined>> = {
  [PauseReason.UNSPECIFIED]: undefined,
  [PauseReason.REQUESTED]: "requested",
  [PauseReason.EFFECT_UNKNOWN]: "effect_unknown",
  [PauseReason.NONDETERMINISM]: "nondeterminism",
  [PauseReason.RETRIES_EXHAUSTED]: "retries_exhausted",
  [PauseReason.BUDGET]: "budget",
};

/** Converts a state. */
export function statusOf(wire: Wire): SessionStatus {
  const status = STATUSES[wire];
  if (status !== undefined) return status;
  throw new CellaflowError("engine_error", "the engine sent a state of an unknown kind", "update @cellaflow/sdk");
}

function forkInfo(session: Session): ForkInfo {
  const { inheritedTotals: had } = session;
  const tokens = [had?.inputTokens, had?.cachedReadTokens, had?.cacheWriteTokens, had?.outputTokens];
  return {
    sessionId: session.forkedFromSession,
    seq: Number(session.forkedFromSeq),
    effects: session.effectsLive ? "live" : "stubbed",
    inherited: {
      steps: Number(session.inheritedSteps),
      costNanos: Number(had?.costNanos ?? 0n),
      tokens: Number(tokens.reduce<bigint>((sum, count) => sum + (count ?? 0n), 0n)),
    },
  };
}

/** Converts a session. */
export function sessionInfo(session: Session | undefined): SessionInfo {
  const status = session === undefined ? undefined : STATUSES[session.status];
  if (session === undefined || status === undefined) {
    throw new CellaflowError("engine_error", "the engine sent a session of an unknown kind", "update @cellaflow/sdk");
  }
  const { totals } = session;
  const pause = PAUSES[session.pauseReason];
  return {
    sessionId: session.sessionId,
    namespace: session.namespace,
    workflow: session.workflow,
    version: session.version,
    key: session.key === "" ? undefined : session.key,
    status,
    pauseReason: pause,
    reason: session.waitingFor === "" ? (pause ?? "") : session.waitingFor,
    seq: Number(session.seq),
    epoch: Number(session.epoch),
    rootId: session.rootId,
    forkedFrom: session.forkedFromSession === "" ? undefined : forkInfo(session),
    parentId: session.parentId || undefined,
    topId: session.topId,
    cancelRequested: session.cancelRequested,
    continuedTo: session.continuedTo || undefined,
    continuedFrom: session.continuedFrom || undefined,
    startedAt: new Date(Number(session.startedMs)),
    updatedAt: new Date(Number(session.updatedMs)),
    endedAt: session.endedMs === 0n ? undefined : new Date(Number(session.endedMs)),
    labels: { ...session.labels },
    held: session.held,
    deadline: session.deadlineMs === 0n ? undefined : new Date(Number(session.deadlineMs)),
    steps: Number(session.steps),
    waits: session.waits.map(waitInfo),
    totals: {
      llmCalls: Number(totals?.llmCalls ?? 0),
      inputTokens: Number(totals?.inputTokens ?? 0),
      cachedReadTokens: Number(totals?.cachedReadTokens ?? 0),
      cacheWriteTokens: Number(totals?.cacheWriteTokens ?? 0),
      outputTokens: Number(totals?.outputTokens ?? 0),
      costNanos: Number(totals?.costNanos ?? 0),
      wastedTokens: Number(totals?.wastedTokens ?? 0),
      wastedCostNanos: Number(totals?.wastedCostNanos ?? 0),
      unpricedCalls: Number(totals?.unpricedCalls ?? 0),
      takeovers: Number(totals?.takeovers ?? 0),
    },
  };
}

const WAITS: Readonly<Record<WaitKind, WaitInfo["kind"] | undefined>> = {
  [WaitKind.UNSPECIFIED]: undefined,
  [WaitKind.TIMER]: "timer",
  [WaitKind.SIGNAL]: "signal",
  [WaitKind.APPROVAL]: "approval",
  [WaitKind.CHILD]: "child",
};

function waitInfo({ stepKey, kind, name, seq, dueMs }: Wait): WaitInfo {
  const known = WAITS[kind];
  if (known === undefined) {
    throw new CellaflowError(
      "engine_error",
      "a session waits for something of an unknown kind",
      "update @cellaflow/sdk",
    );
  }
  return {
    stepKey,
    kind: known,
    name,
    seq: Number(seq),
    due: dueMs === 0n ? undefined : new Date(Number(dueMs)),
  };
}

/** Converts a filter. */
export function statusFilter(statuses: readonly SessionStatus[]): Wire[] {
  const all = [Wire.PENDING, Wire.RUNNING, Wire.WAITING, Wire.PAUSED, Wire.COMPLETED, Wire.FAILED, Wire.CANCELLED];
  return all.filter((wire) => statuses.some((status) => status === STATUSES[wire]));
}
