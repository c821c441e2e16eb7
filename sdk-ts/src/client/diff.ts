/**
 * Two branches of a lineage side by side: which outcomes differ, what each cost.
 *
 * Owns: `client.diff`. Never: says which branch is better.
 *
 * Invariants:
 * - D1 outcomes are compared by step key and by value, never by time or order.
 * - D2 the common part is the events that both sessions have; what each branch used after it is its own.
 */
import { isDeepStrictEqual } from "node:util";
import { create } from "@bufbuild/protobuf";
import { GetSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { Outcomes, type StepOutcome } from "./outcomes.js";
import { readEvents } from "./read.js";
import { type SessionInfo, type SessionStatus, sessionInfo } from "./session.js";

/** One branch of a comparison. */
export interface Branch {
  sessionId: string;
  status: SessionStatus;
  seq: number;
  /** What it used after the common part. */
  own: { steps: number; tokens: number; costNanos: number };
  /** How it ended; undefined: it has not, or with a failure. */
  result: unknown;
}

/** A step whose outcomes differ; undefined on a side: that branch has none. */
export interface StepDifference {
  stepKey: string;
  a: StepOutcome | undefined;
  b: StepOutcome | undefined;
}

/** Two branches side by side. */
export interface BranchDiff {
  /** Last event that both have; 0: none. */
  commonSeq: number;
  a: Branch;
  b: Branch;
  /** Steps and zones whose outcomes differ, in the ledger order of the side that has them. */
  steps: readonly StepDifference[];
  /** Steps with the same outcome on both sides, those of the common part included. */
  same: number;
}

/** Compares two sessions. @throws CellaflowError `session_not_found` */
export async function diffSessions(
  core: ClientCore,
  a: SessionName,
  b: SessionName,
  options: CallOptions = {},
): Promise<BranchDiff> {
  const [left, right] = await Promise.all([readBranch(core, a, options), readBranch(core, b, options)]);
  const commonSeq = commonOf(left.hashes, right.hashes);
  const keys = new Set([...left.outcomes.keys(), ...right.outcomes.keys()]);
  const steps: StepDifference[] = [];
  for (const stepKey of keys) {
    const pair = { stepKey, a: left.outcomes.get(stepKey), b: right.outcomes.get(stepKey) };
    if (!isSame(pair)) steps.push(pair);
  }
  steps.sort((x, y) => seqOf(x) - seqOf(y));
  return {
    commonSeq,
    a: branchOf(left, commonSeq),
    b: branchOf(right, commonSeq),
    steps,
    same: keys.size - steps.length,
  };
}

interface Read {
  info: SessionInfo;
  outcomes: Map<string, StepOutcome>;
  spentAfter: Outcomes["spentAfter"];
  /** Chain hash of each event, from seq 1; equal ones stand for equal events before. */
  hashes: string[];
  result: unknown;
}

async function readBranch(core: ClientCore, session: SessionName, { signal }: CallOptions): Promise<Read> {
  const request = create(GetSessionRequestSchema, { session: refOf(session) });
  const found = core.open(await core.call(SessionService.method.getSession, request, { signal }));
  const info = sessionInfo(found.session);
  const outcomes = new Outcomes(core.codec);
  const hashes: string[] = [];
  let result: unknown;
  for await (const event of readEvents(core, info.sessionId, { toSeq: info.seq, signal })) {
    outcomes.note(event);
    hashes.push(Buffer.from(event.hash).toString("hex"));
    if (event.body.case === "sessionCompleted") result = outcomes.valueOf(event.body.value.output);
  }
  const byKey = new Map(outcomes.list().map((one) => [one.stepKey, one]));
  return { info, outcomes: byKey, spentAfter: (seq) => outcomes.spentAfter(seq), hashes, result };
}

function commonOf(a: readonly string[], b: readonly string[]): number {
  let common = 0;
  while (common < Math.min(a.length, b.length) && a[common] === b[common]) common++;
  return common;
}

// D1. Only the outcome counts: what a step cost differs from run to run.
function isSame({ a, b }: StepDifference): boolean {
  if (a === undefined || b === undefined) return false;
  return isDeepStrictEqual(a.output, b.output) && isDeepStrictEqual(a.failure, b.failure);
}

function seqOf({ a, b }: StepDifference): number {
  return a?.seq ?? b?.seq ?? 0;
}

function branchOf({ info, outcomes, spentAfter, result }: Read, commonSeq: number): Branch {
  const steps = [...outcomes.values()].filter((one) => one.seq > commonSeq && !one.edited).length;
  return {
    sessionId: info.sessionId,
    status: info.status,
    seq: info.seq,
    own: { steps, ...spentAfter(commonSeq) },
    result,
  };
}
