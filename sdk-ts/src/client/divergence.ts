/**
 * Accepting a nondeterminism: what the code asked for stands in place of what was recorded.
 *
 * Owns: `client.acceptDivergence`. Never: decides whether that is right; a person or program read both sides.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import type { SessionPaused } from "../gen/cellaflow/v1/event_pb.js";
import { AcceptDivergenceRequestSchema, OperatorService } from "../gen/cellaflow/v1/operator_pb.js";
import { GetSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { payloadFailure } from "../runtime/payloads.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { readEvents } from "./read.js";
import { sessionInfo } from "./session.js";

/** Accepts what a session is paused for. @throws CellaflowError `session_not_paused`, `not_repairable` */
export async function acceptDivergence(
  core: ClientCore,
  session: SessionName,
  { signal }: CallOptions = {},
): Promise<void> {
  const found = await core.call(
    SessionService.method.getSession,
    create(GetSessionRequestSchema, { session: refOf(session) }),
    { signal },
  );
  const { sessionId, pauseReason } = sessionInfo(found.session);
  if (pauseReason !== "nondeterminism") throw notPaused(sessionId);
  const request = create(AcceptDivergenceRequestSchema, {
    sessionId,
    ...repairOf(await lastPause(core, sessionId, signal)),
    dedupeId: crypto.getRandomValues(new Uint8Array(16)),
  });
  await core.call(OperatorService.method.acceptDivergence, request, { signal });
}

async function lastPause(core: ClientCore, sessionId: string, signal: AbortSignal | undefined): Promise<SessionPaused> {
  let last: SessionPaused | undefined;
  for await (const { body } of readEvents(core, sessionId, { signal })) {
    if (body.case === "sessionPaused") last = body.value;
  }
  if (last === undefined) throw notPaused(sessionId);
  return last;
}

/** What the run said can be accepted (`runtime/mismatch.ts`). */
function repairOf(pause: SessionPaused): {
  stepKey: string;
  inputDigest?: Uint8Array;
  drop?: boolean;
  alsoDrop?: string[];
} {
  const said = pause.details === undefined ? undefined : payloadFailure(pause.details);
  const data = (said?.data ?? {}) as { stepKey?: string; inputDigest?: unknown; drop?: unknown };
  const stepKey = pause.stepKey === "" ? (data.stepKey ?? "") : pause.stepKey;
  if (typeof data.inputDigest === "string") return { stepKey, inputDigest: Buffer.from(data.inputDigest, "hex") };
  if (Array.isArray(data.drop)) {
    const keys = data.drop.filter((key): key is string => typeof key === "string");
    return { stepKey, drop: true, alsoDrop: keys.filter((key) => key !== stepKey) };
  }
  throw new CellaflowError(
    "not_repairable",
    `what the code asked for cannot stand for step "${stepKey}": ${said?.message ?? "nothing is known of it"}`,
    "fork the session before this step",
  );
}

function notPaused(sessionId: string): CellaflowError {
  const problem = `session ${sessionId} is not paused for a nondeterminism`;
  return new CellaflowError("session_not_paused", problem, "look at it with `cellaflow sessions show`");
}
