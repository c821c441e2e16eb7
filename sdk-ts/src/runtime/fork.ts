/**
 * What a fork is to its run: which outcomes were edited, and what becomes of its effects.
 *
 * Owns: the reading of a fork's first events. Never: asks the engine for a fork (`client/fork.ts`).
 *
 * Invariants:
 * - F1 the input of a fork is the one its last start or edit names; steps it inherited match by key alone.
 * - F2 an edited outcome is delivered in its place of the ledger, as if the step had recorded it.
 * - F3 a fork that is not live calls no guarded effect: the intent is answered by what the lineage recorded, or stays
 *   open until somebody answers it.
 */
import { create } from "@bufbuild/protobuf";
import type { Event, SessionStarted } from "../gen/cellaflow/v1/event_pb.js";
import { StepCompletedSchema, StepFailedSchema } from "../gen/cellaflow/v1/event_pb.js";

/** What guarded effects and keys of a run depend on. */
export interface Effects {
  /** Guarded effects are not performed. */
  stubbed: boolean;
  /** What derived idempotency keys start with. */
  root: string;
}

/** Says what becomes of the effects of a session that a start begins. */
export function effectsOf(started: SessionStarted, sessionId: string): Effects {
  if (started.forkedFromSession === "") return { stubbed: false, root: started.rootId };
  // What a fork does, it does anew: a key of its parent's would name another effect.
  return { stubbed: !started.effectsLive, root: sessionId };
}

/** Reads an edited outcome as a step's; any other event as it is (F2). */
export function asStep(event: Event): Event["body"] {
  const { body } = event;
  if (body.case !== "forkEdited") return body;
  const { stepKey, edit } = body.value;
  if (edit.case === "output") {
    const value = create(StepCompletedSchema, { stepKey, attempt: 1, output: edit.value });
    return { case: "stepCompleted", value };
  }
  if (edit.case === "failure") {
    const value = create(StepFailedSchema, { stepKey, attempt: 1, failure: edit.value, final: true });
    return { case: "stepFailed", value };
  }
  return body;
}
