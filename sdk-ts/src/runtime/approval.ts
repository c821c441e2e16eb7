/**
 * An approval (`ctx.approval`): a person or program decides about one call before it is made.
 *
 * Owns: what is stored of the request, reading the decision. Never: decides, makes the call.
 *
 * Invariants:
 * - Y1 a decision is bound to the call: the digest of tool and arguments that the approver was shown is the request's.
 * - Y2 a request is decided once, by approval, rejection or expiry; the decision says by whom.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { ApprovalDecision } from "../gen/cellaflow/v1/common_pb.js";
import { type ApprovalDecided, ApprovalRequestedSchema, type Event } from "../gen/cellaflow/v1/event_pb.js";
import type { PayloadCodec } from "../values/hooks.js";
import { payloadValue, valuePayload } from "./payloads.js";
import type { RequestSpec } from "./request.js";
import type { Run } from "./run.js";
import { type Opening, WaitRequest } from "./wait.js";

/** What is asked for: `toolCall` names what would be called, `args` is what it would be called with. */
export interface ApprovalCall {
  toolCall: string;
  args: unknown;
}

/** How an approval ended. */
export interface ApprovalOutcome {
  decision: "approved" | "rejected" | "expired";
  /** Who decided: the token's name, or "name (on behalf of somebody)"; undefined: it expired. */
  by: string | undefined;
  /** What the approver said; undefined: nothing. */
  comment: string | undefined;
}

/** A request for an approval. The digest of its call is its input digest. */
export class ApprovalRequest extends WaitRequest<ApprovalOutcome> {
  constructor(
    run: Run,
    spec: RequestSpec,
    /** The encoded call. */
    private readonly call: Uint8Array,
    private readonly expiresInMs: number | undefined,
    signal: AbortSignal | undefined,
  ) {
    super(run, spec, signal);
  }

  protected override opening(): Opening {
    const { key: stepKey, name, digest: argsDigest } = this.spec;
    const { expiresInMs } = this;
    const limit = expiresInMs === undefined ? 0 : Math.max(1, expiresInMs);
    const call = valuePayload(this.call);
    const value = create(ApprovalRequestedSchema, { stepKey, name, call, argsDigest, expiresInMs: BigInt(limit) });
    const dueMs = expiresInMs === undefined ? undefined : Date.now() + limit;
    return { op: { case: "approvalRequested", value }, bytes: this.call.length, dueMs };
  }

  protected override outcome(event: Event): void {
    if (event.body.case !== "approvalDecided") return;
    this.resolve(approvalOutcome(event.body.value, this.run.settings.codec));
  }
}

/** Encodes a call as it is stored and shown. @throws ValueError, CellaflowError `payload_too_large` */
export function encodedCall(run: Run, name: string, call: ApprovalCall): Uint8Array {
  const { codec, limits } = run.settings;
  const bytes = codec.encode(call, { kind: "input", name });
  if (bytes.length <= limits.payloadBytesMax) return bytes;
  const problem = `the call that "${name}" asks about has ${bytes.length} bytes, more than ${limits.payloadBytesMax}`;
  throw new CellaflowError(
    "payload_too_large",
    `${problem} (payload_bytes_max)`,
    "name what is large instead of passing it",
  );
}

/** Reads a stored decision. */
export function approvalOutcome({ decision, by, comment }: ApprovalDecided, codec: PayloadCodec): ApprovalOutcome {
  const said = comment === undefined ? undefined : payloadValue(comment, codec);
  return {
    decision: decisionName(decision),
    by: by === "" ? undefined : by,
    comment: said === undefined ? undefined : textOf(said),
  };
}

function decisionName(decision: ApprovalDecision): ApprovalOutcome["decision"] {
  switch (decision) {
    case ApprovalDecision.APPROVED:
      return "approved";
    case ApprovalDecision.REJECTED:
      return "rejected";
    case ApprovalDecision.EXPIRED:
      return "expired";
    case ApprovalDecision.UNSPECIFIED:
      throw new CellaflowError("engine_error", "an approval was decided in no known way", "update @cellaflow/sdk");
  }
}

// Other programs may have said more than a text.
function textOf(comment: unknown): string {
  return typeof comment === "string" ? comment : (JSON.stringify(comment) ?? String(comment));
}
