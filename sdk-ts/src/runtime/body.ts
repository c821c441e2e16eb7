/**
 * Runs a workflow's code for a run: the recorded input in, `ctx` beside it.
 *
 * Owns: that. Never: more.
 */
import type { Payload } from "../gen/cellaflow/v1/common_pb.js";
import { contextOf } from "./context.js";
import { payloadValue } from "./payloads.js";
import type { RunBody } from "./run-types.js";

/** Code to run, as `workflow()` defines it. */
interface Executable {
  execute(ctx: ReturnType<typeof contextOf>, input: unknown): Promise<unknown>;
}

/** Makes the body of a run. */
export function bodyOf(definition: Executable): RunBody {
  return {
    run: async (run, input) => definition.execute(contextOf(run), payloadValue(input as Payload, run.settings.codec)),
  };
}
