/**
 * A session's ledger as it is now, to look at or to run code over. Whether somebody runs it meanwhile does not matter.
 *
 * Owns: reading it. Never: takes a lease or appends anything.
 */
import { CellaflowError } from "../errors.js";
import type { Session } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Shared } from "../internal/connection.js";
import type { Ledger } from "../runtime/dry-run.js";
import { payloadCodec } from "../values/hooks.js";
import { ClientCore } from "./core.js";
import { readEvents } from "./read.js";

/** A ledger, and what the engine says of its session. */
export interface ReadLedger {
  ledger: Ledger;
  session: Session;
}

/** Reads a session's ledger, payloads as they are stored. @throws CellaflowError `session_not_found` */
export async function ledgerOf(
  shared: Shared,
  sessionId: string,
  signal?: AbortSignal | undefined,
): Promise<ReadLedger> {
  const { session, digestSalt } = await shared.channel.look(sessionId, signal);
  if (session === undefined) {
    throw new CellaflowError("engine_error", "the engine answered without a session", "update the engine");
  }
  const events: Event[] = [];
  // Whoever runs code over it has the hooks.
  const sealed = new ClientCore(shared, payloadCodec(), undefined);
  for await (const event of readEvents(sealed, sessionId, { signal })) events.push(event);
  const { rootId, workflow, version } = session;
  const facts = { sessionId, rootId: rootId === "" ? sessionId : rootId, workflow, version };
  return { ledger: { session: facts, digestSalt, events }, session };
}
