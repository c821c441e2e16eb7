/**
 * Waiting for a session that waits itself.
 *
 * Owns: noticing that a waiting session can go on. Never: runs it.
 *
 * Invariant F1: no polling: between two events of the session nothing is asked.
 */
import { create } from "@bufbuild/protobuf";
import { GetSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { type ClientCore, refOf } from "./core.js";
import { readEvents } from "./read.js";
import { sessionInfo } from "./session.js";

/** Longest time that a timer of the platform takes, in ms. */
const TIMER_MS_MAX = 2 ** 31 - 1;

/** How long is waited. */
export interface FollowOptions {
  signal?: AbortSignal | undefined;
  /** Default: as long as it takes. In ms. */
  waitMs?: number;
}

/** Resolves with true as soon as the session does not wait (any more), or with false when the time is up. */
export async function untilMovable(core: ClientCore, sessionId: string, options: FollowOptions = {}): Promise<boolean> {
  const { signal, waitMs = Number.POSITIVE_INFINITY } = options;
  if (waitMs <= 0) return false;
  const timeout = waitMs > TIMER_MS_MAX ? undefined : AbortSignal.timeout(waitMs);
  const either = timeout === undefined ? signal : AbortSignal.any(signal === undefined ? [timeout] : [timeout, signal]);
  try {
    await moves(core, sessionId, either);
    return true;
  } catch (error) {
    signal?.throwIfAborted();
    if (timeout?.aborted) return false;
    throw error;
  }
}

async function moves(core: ClientCore, sessionId: string, signal: AbortSignal | undefined): Promise<void> {
  const request = create(GetSessionRequestSchema, { session: refOf(sessionId) });
  for (;;) {
    const found = await core.call(SessionService.method.getSession, request, { signal });
    const { status, seq } = sessionInfo(found.session);
    if (status !== "waiting") return;
    const ahead = { fromSeq: seq + 1, live: true, headersOnly: true, signal };
    for await (const _event of readEvents(core, sessionId, ahead)) break;
  }
}
