/**
 * What a step does whose attempts are used up and which asks for a person then.
 *
 * Owns: pausing the session for it. Never: decides that the attempts are used up (`retry.ts`), or counts them anew
 * (`history.ts` does, when the session was resumed).
 */
import { create } from "@bufbuild/protobuf";
import { PauseReason, type Payload } from "../gen/cellaflow/v1/common_pb.js";
import { SessionPausedSchema } from "../gen/cellaflow/v1/event_pb.js";
import type { Run } from "./run.js";

/** How long other begun work may go on, in ms. */
const GRACE_MS = 30_000;

/** Pauses the session because of a step; `failure` is that of its last attempt. */
export function pauseExhausted(run: Run, stepKey: string, failure: Payload): void {
  if (!run.isRunning) return;
  const value = create(SessionPausedSchema, { reason: PauseReason.RETRIES_EXHAUSTED, stepKey, details: failure });
  const bytes = Number(failure.sizeBytes);
  // Refused: it is paused already, for another step; this one is tried again after the resume all the same.
  run.append(run.after, { op: { case: "sessionPaused", value }, bytes, deltas: false, refused: () => {} });
  void run.suspend("paused", GRACE_MS);
}
