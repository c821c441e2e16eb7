/**
 * Resolving a guarded step whose outcome is unknown.
 *
 * Owns: the public form of a resolution. Never: decides when one is due (the engine does).
 */
import { create } from "@bufbuild/protobuf";
import { toFailure } from "../failure.js";
import { OperatorService, ResolveStepRequestSchema } from "../gen/cellaflow/v1/operator_pb.js";
import { failurePayload, valuePayload } from "../runtime/payloads.js";
import type { CallOptions, ClientCore } from "./core.js";

/** What became of the effect. */
export type StepResolution =
  /** It happened; this is the step's output. */
  | { output: unknown }
  /** The step fails with this error. */
  | { failure: unknown }
  /** It did not happen: the step is attempted again. */
  | { notApplied: true };

/** Resolves a step. */
export async function resolveStep(
  core: ClientCore,
  sessionId: string,
  stepKey: string,
  resolution: StepResolution,
  { signal }: CallOptions = {},
): Promise<void> {
  const request = create(ResolveStepRequestSchema, {
    sessionId,
    stepKey,
    resume: true,
    dedupeId: crypto.getRandomValues(new Uint8Array(16)),
  });
  if ("output" in resolution) {
    const value = valuePayload(core.codec.encode(resolution.output, { kind: "output", name: stepKey }));
    request.resolution = { case: "output", value };
  } else if ("failure" in resolution) {
    request.resolution = { case: "failure", value: failurePayload(toFailure(resolution.failure)) };
  } else request.resolution = { case: "notApplied", value: true };
  await core.call(OperatorService.method.resolveStep, core.seal(request), { signal });
}
