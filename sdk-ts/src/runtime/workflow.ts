/**
 * The definition of a workflow: name, version, schemas and code.
 *
 * Owns: the definition and the checks of input and output. Never: runs anything by itself.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { MisuseError } from "../errors.js";
import { misuse } from "../misuse.js";
import type { Context } from "./api.js";

/** Versions that one definition is compatible with. */
const COMPATIBLE_MAX = 64;

/** What a workflow is defined by. */
export interface WorkflowOptions<In extends StandardSchemaV1, Out extends StandardSchemaV1 | undefined> {
  /** 1 to 256 bytes. */
  name: string;
  /** A session runs to its end on the version it started on; change it with every change of the code. 1 to 64 bytes. */
  version: string;
  /**
   * Earlier versions whose sessions this code goes on with: it must ask for what they recorded, which `client.check`
   * tells beforehand. They stay pinned to their version; code of exactly that version is preferred where it is served,
   * too. At most 64. Default: none.
   */
  compatible?: readonly string[];
  /** Checks the input (any Standard Schema library: zod, valibot, arktype, …). */
  input: In;
  /** Checks the output. Default: not checked. */
  output?: Out;
}

/** A defined workflow, for `createWorker` and a client's `start` and `run`. */
export interface Workflow<I = unknown, O = unknown> {
  readonly name: string;
  readonly version: string;
  /** Earlier versions whose sessions this code goes on with. */
  readonly compatible: readonly string[];
  /** Checks an input as a start does, without starting anything. @throws MisuseError `invalid_input` */
  checkInput(input: unknown): Promise<unknown>;
  /** Runs the code on a checked input. For the runtime, not for users. @internal */
  readonly execute: (ctx: Context, input: unknown) => Promise<unknown>;
  /** Carries the types; never set. @internal */
  readonly types?: { input: I; output: O };
}

type OutputOf<Out extends StandardSchemaV1 | undefined, R> = Out extends StandardSchemaV1
  ? StandardSchemaV1.InferOutput<Out>
  : R;

/**
 * Defines a workflow.
 *
 * The code must be deterministic between its `ctx` calls: same outcomes, same requests. After a crash it runs again
 * from its start, with the recorded outcomes; locals are rebuilt that way.
 */
export function workflow<In extends StandardSchemaV1, R, Out extends StandardSchemaV1 | undefined = undefined>(
  options: WorkflowOptions<In, Out>,
  run: (ctx: Context, input: StandardSchemaV1.InferOutput<In>) => Promise<R>,
): Workflow<StandardSchemaV1.InferInput<In>, OutputOf<Out, R>> {
  const { name, version, compatible = [], input: inputSchema, output: outputSchema } = options;
  checkText("name", name, 256);
  checkText("version", version, 64);
  checkCompatible(version, compatible);
  return {
    name,
    version,
    compatible: [...compatible],
    checkInput: (input) => check(inputSchema, "input", name, input),
    execute: async (ctx, raw) => {
      const input = (await check(inputSchema, "input", name, raw)) as StandardSchemaV1.InferOutput<In>;
      const output = await run(ctx, input);
      return outputSchema === undefined ? output : check(outputSchema, "output", name, output);
    },
  };
}

async function check(
  schema: StandardSchemaV1,
  what: "input" | "output",
  name: string,
  value: unknown,
): Promise<unknown> {
  const result = await schema["~standard"].validate(value);
  if (result.issues === undefined) return result.value;
  throw misuse.invalidValue(what, name, result.issues.map(describeIssue));
}

/** Returns an issue of a schema in words. */
export function describeIssue(issue: StandardSchemaV1.Issue): string {
  const path = (issue.path ?? []).map((part) => String(typeof part === "object" ? part.key : part)).join(".");
  return path === "" ? issue.message : `${path}: ${issue.message}`;
}

function checkCompatible(version: string, compatible: readonly string[]): void {
  if (compatible.length > COMPATIBLE_MAX) {
    const problem = `the workflow is compatible with ${compatible.length} versions`;
    throw new MisuseError("invalid_workflow", problem, `name at most ${COMPATIBLE_MAX}`);
  }
  for (const other of compatible) checkText("compatible version", other, 64);
  const twice = [version, ...compatible].find((one, index, all) => all.indexOf(one) !== index);
  if (twice === undefined) return;
  const problem = `version "${twice}" is among version and compatible twice`;
  throw new MisuseError("invalid_workflow", problem, "name each version once");
}

function checkText(what: string, text: string, bytesMax: number): void {
  const bytes = typeof text === "string" ? Buffer.byteLength(text) : 0;
  if (bytes >= 1 && bytes <= bytesMax) return;
  throw new MisuseError(
    "invalid_workflow",
    `the ${what} of a workflow has ${bytes} bytes`,
    `use 1 to ${bytesMax} bytes`,
  );
}
