/**
 * Queries: what a session's code has kept, without asking its worker.
 *
 * Owns: `client.query`. Never: wakes a session, takes its lease, waits for it.
 *
 * Invariant Q1: a query sees what the session's events carry, up to one seq that it names: a run that is at work may be
 * further, a waiting one is not.
 */

import { create } from "@bufbuild/protobuf";
import { GetSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import type { Message } from "../runtime/messages.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";
import { Projection } from "./projection.js";
import { readEvents } from "./read.js";
import { type SessionStatus, sessionInfo } from "./session.js";

/** What a session's code has kept. */
export interface SessionView {
  sessionId: string;
  /** Status before the events were read. */
  status: SessionStatus;
  /** Event up to which this is. */
  seq: number;
  /** `ctx.state`: values under their names. */
  state: Readonly<Record<string, unknown>>;
  /** `ctx.messages`, oldest first. */
  messages: readonly Message[];
}

/** Options of a query. */
export interface QueryOptions extends CallOptions {
  /** The last event that counts. Default: the last one there is. */
  toSeq?: number;
}

/** Reads what a session's code has kept. @throws CellaflowError `session_not_found`, `payload_absent` */
export async function querySession(
  core: ClientCore,
  session: SessionName,
  options: QueryOptions = {},
): Promise<SessionView> {
  const { signal, toSeq = Number.MAX_SAFE_INTEGER } = options;
  const request = create(GetSessionRequestSchema, { session: refOf(session) });
  const found = await core.call(SessionService.method.getSession, request, { signal });
  const { sessionId, status } = sessionInfo(found.session);
  const projection = new Projection(core.codec);
  for await (const event of readEvents(core, sessionId, { toSeq, signal })) projection.note(event);
  return { sessionId, status, seq: projection.seq, state: projection.state(), messages: projection.messages() };
}
