/**
 * Messages as the AI SDK (`ai`, version 5 to 7) takes and gives them. Its types are described here, not imported: the package
 * is the user's own.
 *
 * Owns: the conversion in both directions. Never: calls a model.
 *
 * Invariant A1: provider metadata goes back as it came, as `providerOptions`.
 */
import type { Message, MessagePart } from "../runtime/messages.js";
import type { PromptContext } from "./types.js";

type Json = null | string | number | boolean | Json[] | { [key: string]: Json };

interface WithOptions {
  providerOptions?: Record<string, Record<string, Json>>;
}

type TextPart = WithOptions & { type: "text"; text: string };
type ReasoningPart = WithOptions & { type: "reasoning"; text: string };
type FilePart = WithOptions & { type: "file"; data: URL | Uint8Array; mediaType: string; filename?: string };
type CallPart = WithOptions & { type: "tool-call"; toolCallId: string; toolName: string; input: unknown };
type ResultPart = WithOptions & {
  type: "tool-result";
  toolCallId: string;
  toolName: string;
  output: { type: "text" | "error-text"; value: string };
};

type ModelPart = TextPart | ReasoningPart | FilePart | CallPart | ResultPart;

/** A message for the AI SDK; assignable to its `ModelMessage`. */
export type ModelMessage = WithOptions &
  (
    | { role: "system"; content: string }
    | { role: "user"; content: (TextPart | FilePart)[] }
    | { role: "assistant"; content: (TextPart | ReasoningPart | FilePart | CallPart)[] }
    | { role: "tool"; content: ResultPart[] }
  );

/** A message of the AI SDK, as `result.response.messages` has them. */
export interface GivenMessage {
  role: string;
  content: string | readonly object[];
}

const EPHEMERAL: Record<string, Json> = { cacheControl: { type: "ephemeral" } };

/**
 * Returns a prompt as messages for the AI SDK, with Anthropic's cache control at its breakpoints (other providers ignore it).
 *
 * @example
 * const prompt = await ctx.context({ budget: 32_000 });
 * const { value } = await ctx.llm.call({ provider: "anthropic", model, request: { messages: prompt.messages } }, async ({ signal }) => {
 *   const result = await generateText({ model: anthropic(model), messages: toModelMessages(prompt), tools, maxRetries: 0, abortSignal: signal });
 *   return { value: result.response.messages, usage: result.usage };
 * });
 * ctx.messages.push(...fromModelMessages(value));
 */
export function toModelMessages({
  messages,
  breakpoints = [],
}: Pick<PromptContext, "messages"> & Partial<Pick<PromptContext, "breakpoints">>): ModelMessage[] {
  const names = toolNames(messages);
  return messages.map((message, index) => {
    const marked = breakpoints.flatMap((point) => (point.message === index ? [point.part] : []));
    const parts = message.parts.map((part, at) => mark(modelPart(part, names), marked.includes(at)));
    if (message.role !== "system") return { role: message.role, content: parts } as ModelMessage;
    const text = message.parts.map((part) => (part.type === "text" ? part.text : "")).join("");
    return mark<ModelMessage>({ role: "system", content: text }, marked.length > 0);
  });
}

/** Returns messages of the AI SDK in this SDK's form, for `ctx.messages.push`. */
export function fromModelMessages(messages: readonly GivenMessage[]): Message[] {
  return messages.map(({ role, content }) => ({
    role: role as Message["role"],
    parts:
      typeof content === "string"
        ? [{ type: "text", text: content }]
        : content.map((part) => partOf(part as Given, role)),
  }));
}

/** Results name their tool in the AI SDK; here only calls do. */
function toolNames(messages: readonly Message[]): Map<string, string> {
  const calls = messages.flatMap(({ parts }) => parts.filter((part) => part.type === "toolCall"));
  return new Map(calls.map(({ id, name }) => [id, name]));
}

function mark<T extends WithOptions>(holder: T, isMarked: boolean): T {
  if (!isMarked) return holder;
  const { providerOptions } = holder;
  return {
    ...holder,
    providerOptions: { ...providerOptions, anthropic: { ...providerOptions?.anthropic, ...EPHEMERAL } },
  };
}

function modelPart(part: MessagePart, names: ReadonlyMap<string, string>): ModelPart {
  const options = optionsOf(part);
  switch (part.type) {
    case "text":
    case "reasoning":
      return { type: part.type, text: part.text, ...options };
    case "toolCall": {
      const { id: toolCallId, name: toolName } = part;
      return { type: "tool-call", toolCallId, toolName, input: argumentsOf(part.arguments), ...options };
    }
    case "toolResult": {
      const type = part.failed === true ? "error-text" : "text";
      const named = { toolCallId: part.id, toolName: names.get(part.id) ?? "unknown" };
      return { type: "tool-result", ...named, output: { type, value: part.text }, ...options };
    }
    case "file": {
      const filename = part.name === undefined ? {} : { filename: part.name };
      const data = "url" in part ? new URL(part.url) : part.data;
      return { type: "file", data, mediaType: part.mediaType, ...filename, ...options };
    }
    case "custom":
      // Came from the AI SDK, or from a client that knows what it is.
      return JSON.parse(part.json) as ModelPart;
  }
}

function optionsOf({ providerMetadata }: MessagePart): WithOptions {
  if (providerMetadata === undefined) return {};
  return { providerOptions: JSON.parse(providerMetadata) as NonNullable<WithOptions["providerOptions"]> };
}

/** The AI SDK has arguments read; what is no JSON goes back as the text it was. */
function argumentsOf(text: string): unknown {
  try {
    return text.trim() === "" ? {} : (JSON.parse(text) as unknown);
  } catch {
    return text;
  }
}

interface Given extends WithOptions {
  type: string;
  text?: string;
  toolCallId?: string;
  toolName?: string;
  input?: unknown;
  output?: { type: string; value?: unknown; reason?: string };
  data?: unknown;
  mediaType?: string;
  filename?: string;
}

function partOf(part: Given, role: string): MessagePart {
  const extras = part.providerOptions === undefined ? {} : { providerMetadata: JSON.stringify(part.providerOptions) };
  const id = part.toolCallId ?? "";
  if (part.type === "text" || part.type === "reasoning") return { type: part.type, text: part.text ?? "", ...extras };
  if (part.type === "tool-call") {
    return { type: "toolCall", id, name: part.toolName ?? "", arguments: JSON.stringify(part.input ?? {}), ...extras };
  }
  // A provider that runs tools itself puts results into its own message.
  if (part.type === "tool-result" && role === "tool") return { type: "toolResult", id, ...resultOf(part), ...extras };
  const file = part.type === "file" ? fileOf(part) : undefined;
  return file === undefined ? { type: "custom", json: JSON.stringify(part) } : { ...file, ...extras };
}

function resultOf({ output }: Given): { text: string; failed?: true } {
  const { type = "", value, reason } = output ?? {};
  const said = value ?? reason ?? "";
  const text = typeof said === "string" ? said : JSON.stringify(said);
  return type.startsWith("error") || type === "execution-denied" ? { text, failed: true } : { text };
}

function fileOf({ data, mediaType = "application/octet-stream", filename }: Given): MessagePart | undefined {
  const named = filename === undefined ? { mediaType } : { mediaType, name: filename };
  if (data instanceof Uint8Array) return { type: "file", ...named, data };
  if (data instanceof URL) return { type: "file", ...named, url: data.href };
  if (typeof data !== "string") return undefined;
  if (URL.canParse(data)) return { type: "file", ...named, url: data };
  return { type: "file", ...named, data: Uint8Array.from(Buffer.from(data, "base64")) };
}
