/**
 * `ccs_fetch` and `ccs_search`: the tools with which a model reads back what a compacted context left out.
 *
 * Owns: their definitions. Never: runs them by itself: `ctx.runTools` does, as ordinary steps.
 *
 * Invariants:
 * - K1 their definitions are the same bytes in every prompt: a tool list that changes breaks the provider's cache.
 * - K2 each call declares a resource of kind {@link CONTEXT_KIND}: that is what is charged as a page fault.
 */
import { MisuseError } from "../errors.js";
import { type Tools, tool } from "../llm/index.js";
import { placeNow } from "../runtime/inside.js";
import type { Message } from "../runtime/messages.js";
import { fetchHandle, searchLines } from "./reading.js";

/** Kind of the resources that both tools read. */
export const CONTEXT_KIND = "context";

/** What is kept of a query that names a resource. */
const ID_CHARS_MAX = 200;

/** What the two tools are to a model; the compactor counts exactly these lines. */
export const TOOL_LINES = {
  fetch: "ccs_fetch(handle: string, range?: [first_byte, end_byte]): the stored content behind a handle such as §12.",
  search:
    "ccs_search(query: string): lines of this session's whole history that contain the words, with their handles.",
} as const;

/**
 * The two tools that read back what a compacted context left out. Put them beside your own in every model call of an agent
 * that uses `ctx.context`, and run them with `ctx.runTools` like your own.
 *
 * @example
 * const tools = { ...contextTools, read, write };
 */
export const contextTools: Tools = Object.freeze({
  ccs_fetch: tool({
    description: TOOL_LINES.fetch,
    parameters: {
      type: "object",
      properties: {
        handle: { type: "string" },
        range: { type: "array", items: { type: "integer" }, minItems: 2, maxItems: 2 },
      },
      required: ["handle"],
      additionalProperties: false,
    },
    resources: ({ handle }) => [{ kind: CONTEXT_KIND, id: idOf(handle), mode: "read" }],
    execute: ({ handle, range }) => {
      const fetched = fetchHandle(conversationNow("ccs_fetch"), textOf(handle), rangeOf(range));
      // A failure is for the model to read, and costs a call like any other: the step completes, with its resource.
      return "text" in fetched ? fetched.text : fetched.failure;
    },
  }),
  ccs_search: tool({
    description: TOOL_LINES.search,
    parameters: {
      type: "object",
      properties: { query: { type: "string" } },
      required: ["query"],
      additionalProperties: false,
    },
    resources: ({ query }) => [{ kind: CONTEXT_KIND, id: idOf(query), mode: "read" }],
    execute: ({ query }) => {
      const lines = searchLines(conversationNow("ccs_search"), textOf(query));
      return lines.length === 0 ? "no line of this session's history contains these words" : lines.join("\n");
    },
  }),
});

/** A resource needs a name, whatever the model wrote. */
function idOf(value: unknown): string {
  return textOf(value).slice(0, ID_CHARS_MAX) || "?";
}

function textOf(value: unknown): string {
  return typeof value === "string" ? value : String(value ?? "");
}

function rangeOf(value: unknown): [number, number] | undefined {
  if (!Array.isArray(value)) return undefined;
  const [first, end] = value as unknown[];
  return [Math.floor(Number(first)), Math.floor(Number(end))];
}

/** The conversation of the run whose step this is. */
function conversationNow(name: string): readonly Message[] {
  const { conversation } = (placeNow()?.run ?? {}) as { conversation?: { messages: readonly Message[] } };
  if (conversation !== undefined) return conversation.messages;
  throw new MisuseError("outside_run", `${name} was called outside of a step`, "run it with ctx.runTools");
}
