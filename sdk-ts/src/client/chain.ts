/**
 * Sessions that continue as others (`ctx.continueAs`), as one.
 *
 * Owns: who continues whom. Never: reads events.
 */
import { create } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { GetSessionRequestSchema, SessionService } from "../gen/cellaflow/v1/session_pb.js";
import { type ClientCore, refOf } from "./core.js";
import { invalidOffset, type Position, positionOf } from "./offset.js";

/** Longest chain that an offset is looked for in. */
const CHAIN_MAX = 1_000;

/** The session that continues this one; undefined: none does. */
export async function successorOf(
  core: ClientCore,
  sessionId: string,
  signal?: AbortSignal,
): Promise<string | undefined> {
  const request = create(GetSessionRequestSchema, { session: refOf(sessionId) });
  const { session } = await core.call(SessionService.method.getSession, request, { signal });
  return session?.continuedTo === "" ? undefined : session?.continuedTo;
}

/**
 * Where an offset is, seen from a session that was named: in it, or in one of its chain.
 *
 * @throws CellaflowError `invalid_offset` when it belongs to another session
 */
export async function placeIn(
  core: ClientCore,
  named: string,
  offset: string,
  signal?: AbortSignal,
): Promise<{ sessionId: string; position: Position }> {
  const place = positionOf(offset);
  const { sessionId } = place;
  if (sessionId === named) return place;
  // Whoever may read a session may read what it continues and what continues it, and nothing else.
  if ((await leads(core, sessionId, named, signal)) || (await leads(core, named, sessionId, signal))) return place;
  throw invalidOffset("it belongs to another session");
}

async function leads(core: ClientCore, from: string, to: string, signal?: AbortSignal): Promise<boolean> {
  let at: string | undefined = from;
  for (let length = 0; at !== undefined && length < CHAIN_MAX; length++) {
    if (at === to) return true;
    try {
      at = await successorOf(core, at, signal);
    } catch (error) {
      if (error instanceof CellaflowError && error.code === "session_not_found") return false;
      throw error;
    }
  }
  return false;
}
