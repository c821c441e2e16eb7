/**
 * How a session stands, from what the engine says of it.
 *
 * Owns: asking, and reading the answer. Never: runs anything.
 */
import { create } from "@bufbuild/protobuf";
import { AwaitSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import type { Assigned } from "../gen/cellaflow/v1/worker_pb.js";
import { payloadValue, stepErrorOf } from "../runtime/payloads.js";
import type { PayloadCodec } from "../values/hooks.js";
import type { SessionResult } from "./api.js";
import { CALL_MS_MAX, type ClientCore, refOf } from "./core.js";
import { sessionInfo } from "./session.js";

/** Longest wait of one call, in ms (the engine's limit). */
const AWAIT_MS_MAX = 60_000;

/** What is waited for. */
export interface AwaitOptions {
  /** How long, in ms; at most a minute is waited at once. */
  waitMs: number;
  /** Return also when nobody holds the session. */
  untilUnleased?: boolean;
  signal?: AbortSignal | undefined;
}

/** Returns how a session stands, once it has ended, is paused or waits, or the time is up. */
export async function awaitResult<O>(
  core: ClientCore,
  sessionId: string,
  { waitMs, untilUnleased = false, signal }: AwaitOptions,
): Promise<SessionResult<O>> {
  const wait = Math.max(0, Math.min(AWAIT_MS_MAX, Math.ceil(waitMs)));
  const request = create(AwaitSessionRequestSchema, {
    session: refOf(sessionId),
    waitMs: BigInt(wait),
    untilUnleased,
  });
  const timeoutMs = CALL_MS_MAX + wait;
  const response = await core.call(SessionService.method.awaitSession, request, { timeoutMs, signal });
  const result = settledResult<O>(core.open(response), core.codec);
  const reason = response.leased ? "another worker runs it" : "no worker runs it";
  return result ?? { status: "runningElsewhere", sessionId, reason };
}

/** What is known of a session that does not run; undefined: it runs, or could. */
export function settledResult<O>(
  from: Pick<Assigned, "session" | "output" | "failure">,
  codec: PayloadCodec,
): SessionResult<O> | undefined {
  const { sessionId, status, reason, continuedTo } = sessionInfo(from.session);
  // Its result is its successor's, which does not exist yet: the engine would have answered for that one.
  if (continuedTo !== undefined) return undefined;
  switch (status) {
    case "completed":
      return { status, sessionId, output: payloadValue(from.output, codec) as O };
    case "failed":
      return { status, sessionId, failure: stepErrorOf(from.failure) };
    case "cancelled":
      return { status, sessionId };
    case "waiting":
    case "paused":
      return { status, sessionId, reason };
    case "pending":
    case "running":
      return undefined;
  }
}
