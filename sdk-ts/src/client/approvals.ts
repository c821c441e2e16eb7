/**
 * Looking at approvals and deciding them.
 *
 * Owns: `client.approvals`, `client.approval`, `client.approve`, `client.reject`. Never: decides whether somebody may.
 *
 * Invariants:
 * - A1 a decision names the digest of the call that was read here, so that what was shown is what is decided.
 * - A2 one decision is made once, however often the call is repeated; another one after it is refused.
 */
import { randomBytes } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { ApprovalDecision, WaitKind } from "../gen/cellaflow/v1/common_pb.js";
import type { ApprovalRequested, Event } from "../gen/cellaflow/v1/event_pb.js";
import {
  DecideApprovalRequestSchema,
  GetSessionRequestSchema,
  SessionService,
} from "../gen/cellaflow/v1/session_pb.js";
import { type ApprovalCall, type ApprovalOutcome, approvalOutcome } from "../runtime/approval.js";
import { payloadValue, valuePayload } from "../runtime/payloads.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { readEvents } from "./read.js";

/** What names an approval, and what exactly is decided. */
export interface ApprovalRef {
  sessionId: string;
  /** Step key of the request, e.g. `refund#1`. */
  stepKey: string;
  /** Digest of the call that the approver was shown, in hex. */
  argsDigest: string;
}

/** An approval that a session asked for. */
export interface ApprovalInfo extends ApprovalRef {
  name: string;
  /** What would be called. */
  toolCall: string;
  /** What it would be called with. */
  args: unknown;
  requestedAt: Date;
  /** When it expires; undefined: never. */
  expiresAt: Date | undefined;
  /** How it ended; undefined: it is open. */
  outcome: (ApprovalOutcome & { at: Date }) | undefined;
}

/** How a decision is made. */
export interface DecideOptions extends CallOptions {
  /** What the workflow is told. */
  comment?: string;
  /** Person or program that decides, if the caller only passes it on: at most 128 bytes. */
  onBehalfOf?: string;
  /** Makes the decision idempotent: 32 hex digits. Default: random, for this call. */
  id?: string;
}

/** Lists the open approvals of a session, oldest first. @throws CellaflowError `session_not_found` */
export async function openApprovals(
  core: ClientCore,
  session: SessionName,
  { signal }: CallOptions = {},
): Promise<ApprovalInfo[]> {
  const { sessionId, waits } = await sessionOf(core, session, signal);
  const approvals: ApprovalInfo[] = [];
  for (const { kind, seq } of waits) {
    if (kind !== WaitKind.APPROVAL) continue;
    const at = Number(seq);
    for await (const event of readEvents(core, sessionId, { fromSeq: at, toSeq: at, signal })) {
      if (event.body.case === "approvalRequested") approvals.push(infoOf(core, sessionId, event, event.body.value));
    }
  }
  return approvals;
}

/** Returns an approval, open or decided. @throws CellaflowError `session_not_found`, `approval_not_found` */
export async function approvalAt(
  core: ClientCore,
  session: SessionName,
  stepKey: string,
  { signal }: CallOptions = {},
): Promise<ApprovalInfo> {
  const { sessionId, waits } = await sessionOf(core, session, signal);
  const open = waits.find((wait) => wait.stepKey === stepKey);
  let found: ApprovalInfo | undefined;
  for await (const event of readEvents(core, sessionId, { fromSeq: Number(open?.seq ?? 1), signal })) {
    const { body } = event;
    if (body.case === "approvalRequested" && body.value.stepKey === stepKey) {
      found = infoOf(core, sessionId, event, body.value);
    } else if (body.case === "approvalDecided" && body.value.stepKey === stepKey && found !== undefined) {
      found.outcome = { ...approvalOutcome(body.value, core.codec), at: new Date(Number(event.timeMs)) };
    }
  }
  if (found !== undefined) return found;
  const problem = `session ${sessionId} asked for no approval "${stepKey}"`;
  throw new CellaflowError("approval_not_found", problem, "look at client.approvals(session)");
}

/** Decides. @throws CellaflowError `approval_mismatch`, `approval_decided`, `approval_expired` */
export async function decideApproval(
  core: ClientCore,
  { sessionId, stepKey, argsDigest }: ApprovalRef,
  decision: "approved" | "rejected",
  options: DecideOptions = {},
): Promise<void> {
  const { comment, onBehalfOf = "", id, signal } = options;
  const request = create(DecideApprovalRequestSchema, {
    session: refOf(sessionId),
    stepKey,
    decision: decision === "approved" ? ApprovalDecision.APPROVED : ApprovalDecision.REJECTED,
    argsDigest: bytesOf("argsDigest", argsDigest, 32),
    dedupeId: id === undefined ? randomBytes(16) : bytesOf("id", id, 16),
    onBehalfOf,
  });
  if (comment !== undefined) {
    request.comment = valuePayload(core.codec.encode(comment, { kind: "message", name: stepKey }));
  }
  await core.call(SessionService.method.decideApproval, core.seal(request), { signal });
}

async function sessionOf(core: ClientCore, session: SessionName, signal: AbortSignal | undefined) {
  const request = create(GetSessionRequestSchema, { session: refOf(session) });
  const found = await core.call(SessionService.method.getSession, request, { signal });
  return { sessionId: found.session?.sessionId ?? "", waits: found.session?.waits ?? [] };
}

function infoOf(core: ClientCore, sessionId: string, event: Event, requested: ApprovalRequested): ApprovalInfo {
  const { stepKey, name, call, argsDigest, dueMs } = requested;
  const { toolCall, args } = payloadValue(call, core.codec) as ApprovalCall;
  return {
    sessionId,
    stepKey,
    argsDigest: Buffer.from(argsDigest).toString("hex"),
    name,
    toolCall,
    args,
    requestedAt: new Date(Number(event.timeMs)),
    expiresAt: dueMs === 0n ? undefined : new Date(Number(dueMs)),
    outcome: undefined,
  };
}

function bytesOf(what: string, hex: string, count: number): Uint8Array {
  const bytes = Buffer.from(hex, "hex");
  if (bytes.length === count && hex.length === count * 2) return bytes;
  const problem = `${what} is not ${count * 2} hex digits`;
  throw new CellaflowError("invalid_argument", problem, "pass an approval as client.approvals returns it");
}
