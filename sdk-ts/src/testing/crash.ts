/**
 * Makes an engine die at an event.
 *
 * Owns: the watch for the event. Never: restarts the engine.
 */
import { create } from "@bufbuild/protobuf";
import { SessionService, SubscribeSessionRequestSchema } from "../gen/cellaflow/v1/session_pb.js";
import { connectionOf } from "../internal/connection.js";
import type { TestEngine } from "./engine.js";
import { sleep } from "./http.js";

/** How long to wait before looking again for a session that is not there yet, in ms. */
const AGAIN_MS = 15;

/** Which session is watched. */
export type Watched = string | { workflow: string; key: string };

/**
 * Kills an engine (-9) as soon as it shows this event of a session, which may not have begun yet. What the event
 * answers may have reached its worker, or not. Settles when the engine is dead; start it again with `engine.restart()`.
 */
export async function crashEngineAfter(engine: TestEngine, session: Watched, seq: number): Promise<void> {
  const by =
    typeof session === "string"
      ? ({ case: "sessionId", value: session } as const)
      : ({ case: "key", value: session } as const);
  const request = create(SubscribeSessionRequestSchema, { session: { by }, fromSeq: BigInt(seq), headersOnly: true });
  const { client } = connectionOf(engine.connection);
  const method = SessionService.method.subscribeSession;
  for (;;) {
    try {
      for await (const { body } of client.serverStream(method, request)) {
        if (body.case === "event" && Number(body.value.seq) >= seq) return await engine.kill();
        if (body.case === "end") throw new Error(`the session ended at event ${body.value.seq}, before event ${seq}`);
      }
    } catch (error) {
      if ((error as { code?: string }).code !== "session_not_found") throw error;
    }
    await sleep(AGAIN_MS);
  }
}
