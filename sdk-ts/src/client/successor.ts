/**
 * The session that continues another one (`ctx.continueAs`).
 *
 * Owns: finding it. Never: runs it.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { GetSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { type ClientCore, refOf } from "./core.js";
import { type SessionInfo, sessionInfo } from "./session.js";

/** The engine starts a successor at once; how often it is looked for, in ms, and for how long. */
const LOOK_MS = 10;
const LOOK_MS_MAX = 30_000;

/** Waits for the successor of a session that was continued. @param known its id; empty: not known */
export async function successorOf(
  core: ClientCore,
  sessionId: string,
  known: string,
  signal: AbortSignal | undefined,
): Promise<SessionInfo> {
  const until = performance.now() + LOOK_MS_MAX;
  let id = known;
  for (;;) {
    const found = await find(core, id === "" ? sessionId : id, signal);
    if (found !== undefined && id !== "") return found;
    id = found?.continuedTo ?? id;
    if (performance.now() >= until) break;
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
  const problem = `the session that continues ${sessionId} was not started in ${LOOK_MS_MAX / 1_000} s`;
  throw new CellaflowError("unavailable", problem, "call it again: it goes on there", { retryable: true });
}

/** Returns what a session is. @throws CellaflowError `session_not_found` */
export async function infoOf(
  core: ClientCore,
  sessionId: string,
  signal: AbortSignal | undefined,
): Promise<SessionInfo> {
  const request = create(GetSessionRequestSchema, { session: refOf(sessionId) });
  return sessionInfo((await core.call(SessionService.method.getSession, request, { signal })).session);
}

async function find(
  core: ClientCore,
  sessionId: string,
  signal: AbortSignal | undefined,
): Promise<SessionInfo | undefined> {
  try {
    return await infoOf(core, sessionId, signal);
  } catch (error) {
    if (error instanceof CellaflowError && error.code === "session_not_found") return undefined;
    throw error;
  }
}
