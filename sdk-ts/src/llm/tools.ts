/**
 * Running the tools a model asks for, as steps.
 *
 * Owns: what a tool is, and how its call becomes a step and its outcome a message. Never: adds to the conversation.
 *
 * Invariants:
 * - K1 a tool call is a step named like the tool, under the call's own id: it never runs again once it has completed.
 * - K2 what a model got wrong (unknown tool, arguments that do not fit) and what a step failed with becomes a failed
 *   tool result for the model to read. Everything else (cancellation, misuse) is thrown.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import { StepError } from "../failure.js";
import type { Message } from "../runtime/messages.js";
import type { Finding, Resource, RetryPolicy, StepHandle, StepOptions } from "../runtime/options.js";
import { type AnySchema, check } from "./schema.js";
import type { JsonObject, ToolCall } from "./types.js";

/** At most 3 bytes each: the engine takes 4,096 bytes. */
const RESOURCE_ID_CHARS_MAX = 1_365;

/** A tool a model may ask for. */
export interface Tool {
  /** For the model: what the tool does and when to use it. */
  description: string;
  /** A schema library's schema of the arguments (they are checked), or JSON Schema (the provider's business). */
  parameters: AnySchema;
  /** Does it. A text is the result as it stands, anything else becomes JSON. */
  execute(args: unknown, step: StepHandle): unknown;
  /** What a call touches outside; compaction reads this. */
  resources?(args: unknown): readonly Resource[];
  /** Makes calls guarded, under a key derived from session and call. */
  effect?: "guarded";
  /** Makes calls guarded, under this key. */
  idempotencyKey?(args: unknown, call: ToolCall): string;
  /** What happens when a guarded call's outcome stays unknown. */
  onUnknown?: "pause" | "fail" | "retry" | "reconcile";
  reconcile?(args: unknown, step: StepHandle): Finding<unknown> | Promise<Finding<unknown>>;
  retry?: RetryPolicy;
  /** Time for one attempt in ms. */
  timeoutMs?: number;
}

/** Tools by name. */
export type Tools = Readonly<Record<string, Tool>>;

type Args<S> =
  S extends StandardSchemaV1<unknown, infer O> ? O : S extends JsonObject ? Record<string, unknown> : never;

/** A tool with the types of its arguments. */
export interface ToolDefinition<S extends AnySchema>
  extends Omit<Tool, "parameters" | "execute" | "resources" | "idempotencyKey" | "reconcile"> {
  parameters: S;
  execute(args: Args<S>, step: StepHandle): unknown;
  resources?(args: Args<S>): readonly Resource[];
  idempotencyKey?(args: Args<S>, call: ToolCall): string;
  reconcile?(args: Args<S>, step: StepHandle): Finding<unknown> | Promise<Finding<unknown>>;
}

/** Defines a tool; the arguments of its functions get their types from `parameters`. */
export function tool<S extends AnySchema>(definition: ToolDefinition<S>): Tool {
  return definition as unknown as Tool;
}

/** What runs the steps: `ctx` or a scope of it. */
export interface ToolHost {
  step<I, O>(name: string, fn: (input: I, step: StepHandle) => O | Promise<O>, options: StepOptions<I, O>): Promise<O>;
}

// Ids are the provider's: some count from zero in every answer.
const seen = new WeakMap<object, Map<string, number>>();

/**
 * Runs tool calls as parallel steps.
 *
 * @returns one message of role "tool" per call, in the calls' order, to push to the conversation
 */
export function runTools(host: ToolHost, calls: readonly ToolCall[], tools: Tools): Promise<Message[]> {
  const results = runAll(host, calls, tools);
  // Whoever does not await it must not end the process; the runtime reports unawaited steps.
  results.catch(() => undefined);
  return results;
}

async function runAll(host: ToolHost, calls: readonly ToolCall[], tools: Tools): Promise<Message[]> {
  const keys = calls.map((call) => keyOf(host, call));
  // All arguments first: how long a schema takes must not decide which step is requested before which.
  const checked = await Promise.all(calls.map((call) => readArguments(call, tools)));
  return Promise.all(calls.map((call, index) => runTool(host, call, keys[index] ?? call.id, checked[index])));
}

type Ready = { ok: true; tool: Tool; args: unknown } | { ok: false; problem: string };

async function readArguments(call: ToolCall, tools: Tools): Promise<Ready> {
  const found = Object.hasOwn(tools, call.name) ? tools[call.name] : undefined;
  if (found === undefined) {
    return { ok: false, problem: `there is no tool "${call.name}"; there are: ${Object.keys(tools).join(", ")}` };
  }
  try {
    const args: unknown = call.arguments.trim() === "" ? {} : JSON.parse(call.arguments);
    const checked = await check<unknown>(found.parameters, args);
    return checked.ok ? { ok: true, tool: found, args: checked.value } : unfit(checked.issues.join("; "));
  } catch (thrown) {
    return unfit(thrown instanceof Error ? thrown.message : String(thrown));
  }
}

function unfit(why: string): Ready {
  return { ok: false, problem: `the arguments do not fit: ${why}` };
}

async function runTool(host: ToolHost, call: ToolCall, key: string, ready: Ready | undefined): Promise<Message> {
  if (ready === undefined || !ready.ok) return toolResult(call, ready?.problem ?? "it was not read", true);
  const { tool: found, args } = ready;
  try {
    const output = await host.step(call.name, (input, step) => execute(found, input, step), {
      ...optionsOf(found, call, args),
      key,
    });
    return toolResult(call, typeof output === "string" ? output : (JSON.stringify(output) ?? ""), false);
  } catch (thrown) {
    if (!(thrown instanceof StepError) || thrown.code === "cancelled") throw thrown;
    return toolResult(call, `${thrown.code}: ${thrown.message}`, true);
  }
}

async function execute(found: Tool, args: unknown, step: StepHandle): Promise<unknown> {
  return await found.execute(args, step);
}

function optionsOf(found: Tool, call: ToolCall, args: unknown): StepOptions<unknown, unknown> {
  const options: StepOptions<unknown, unknown> = { input: args };
  if (found.resources !== undefined) options.resources = found.resources(args).flatMap(named);
  if (found.effect !== undefined) options.effect = found.effect;
  if (found.idempotencyKey !== undefined) options.idempotencyKey = found.idempotencyKey(args, call);
  if (found.onUnknown !== undefined) options.onUnknown = found.onUnknown;
  if (found.reconcile !== undefined) options.reconcile = (input, step) => found.reconcile?.(input, step) ?? "unknown";
  if (found.retry !== undefined) options.retry = found.retry;
  if (found.timeoutMs !== undefined) options.timeoutMs = found.timeoutMs;
  return options;
}

/** Resources of tools are made of what a model wrote: one without a name is none, and one that is too long is cut. */
function named(resource: Resource): Resource[] {
  const id = resource.id.slice(0, RESOURCE_ID_CHARS_MAX);
  return id === "" ? [] : [{ ...resource, id }];
}

function keyOf(host: object, call: ToolCall): string {
  const counts = seen.get(host) ?? new Map<string, number>();
  seen.set(host, counts);
  const name = `${call.name}\n${call.id}`;
  const count = (counts.get(name) ?? 0) + 1;
  counts.set(name, count);
  const id = call.id === "" ? "call" : call.id.slice(0, 200);
  return count === 1 ? id : `${id} ${count}`;
}

function toolResult(call: ToolCall, text: string, failed: boolean): Message {
  return { role: "tool", parts: [{ type: "toolResult", id: call.id, text, ...(failed ? { failed } : {}) }] };
}
