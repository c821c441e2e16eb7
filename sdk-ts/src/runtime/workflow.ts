/**
 * The definition of a workflow: name, version, schemas and code.
 *
 * Owns: the definition and the checks of input and output. Never: runs anything by itself.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { MisuseError } from "../errors.js";
import { misuse } from "../misuse.js";
import type { Context } from "./api.js";

/** What a workflow is defined by. */
export interface WorkflowOptions<In extends StandardSchemaV1, Out extends StandardSchemaV1 | undefined> {
  /** 1 to 256 bytes. */
  name: string;
  /** A session runs to its end on the version it started on; change it with every change of the code. 1 to 64 bytes. */
  version: string;
  /** Checks the input (any Standard Schema library: zod, valibot, arktype, …). */
  input: In;
  /** Checks the output. Default: not checked. */
  output?: Out;
}

/** A defined workflow, for `createWorker` and a client's `start` and `run`. */
export interface Workflow<I = unknown, O = unknown> {
  readonly name: string;
  readonly version: string;
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
  const { name, version, input: inputSchema, output: outputSchema } = options;
  checkText("name", name, 256);
  checkText("version", version, 64);
  return {
    name,
    version,
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

function checkText(what: string, text: string, bytesMax: number): void {
  const bytes = typeof text === "string" ? Buffer.byteLength(text) : 0;
  if (bytes >= 1 && bytes <= bytesMax) return;
  throw new MisuseError(
    "invalid_workflow",
    `the ${what} of a workflow has ${bytes} bytes`,
    `use 1 to ${bytesMax} bytes`,
  );
}
