/**
 * What users pass to model calls and get back from them.
 *
 * Owns: the public types of `ctx.llm` and their documentation. Never: behaviour.
 */
import type { StandardSchemaV1 } from "@standard-schema/spec";
import type { Message } from "../runtime/messages.js";
import type { Resource, RetryPolicy, StepLog } from "../runtime/options.js";
import type { Tools } from "./tools.js";

/** A plain JSON object. */
export type JsonObject = Readonly<Record<string, unknown>>;

/** A message whose whole content is one text. */
export interface TextMessage {
  role: "system" | "user" | "assistant";
  content: string;
}

/** A message as it can be written: in full, or as a role and a text. */
export type MessageInput = Message | TextMessage;

/** A tool the model asked for. */
export interface ToolCall {
  /** Id the provider gave it. */
  id: string;
  name: string;
  /** Arguments as the provider sent them: JSON text, byte-equal. */
  arguments: string;
}

/** Tokens and cost of one call. */
export interface LlmUsage {
  provider: string;
  /** Model as it was asked for. */
  model: string;
  /** Input tokens that were neither read from nor written to the provider's cache. */
  inputTokens: number;
  cachedReadTokens: number;
  cacheWriteTokens: number;
  /** Output tokens, reasoning included. */
  outputTokens: number;
  /** True if they were counted here because the provider did not say. */
  estimated: boolean;
  /** Cost in nano-dollars (1e-9 USD); absent: the model's price is unknown. */
  costNanos?: number;
  /** Date of the price list the cost comes from; absent without a cost. */
  priceDate?: string;
}

/** A whole answer. */
export interface FinalAnswer {
  message: Message;
  toolCalls: readonly ToolCall[];
  /** "stop", "length", "tool_calls", "content_filter" or the provider's own word. */
  finishReason: string;
  usage: LlmUsage;
}

/** A whole answer of `generate`. */
export interface GeneratedAnswer<O = undefined> extends FinalAnswer {
  /** The answer's text; empty: it only asked for tools. */
  text: string;
  /** The text read with the schema of `output`; undefined without one. */
  output: O;
}

/** A schema library's schema, or JSON Schema. */
export type OutputSchema<O> = StandardSchemaV1<unknown, O> | JsonObject;

/** Where a provider listens. None of it is journaled: a restarted process may use another address or key. */
export interface Endpoint {
  /** Default: `OPENAI_BASE_URL`, else OpenAI's. */
  baseUrl?: string;
  /** Default: `OPENAI_API_KEY`. Servers at a base URL of their own need none. */
  apiKey?: string;
  /** Sent with every request. */
  headers?: Readonly<Record<string, string>>;
}

/** What every model call can say about itself. */
export interface CallOptions {
  /** Name in the step key. Default: "llm". */
  name?: string;
  /** Names the call in its scope in place of its occurrence. */
  key?: string;
  /** How failed attempts are tried again. Each attempt is one HTTP request. Default: as for steps; in a zone: not. */
  retry?: RetryPolicy;
  /** Time for one attempt in ms. Default: none. */
  timeoutMs?: number;
  /** What the call touches outside. */
  resources?: readonly Resource[];
}

/** What a model is asked. */
export interface RequestOptions extends CallOptions {
  /** Default: the session's conversation, `ctx.messages`. One text is one user message. */
  messages?: string | Iterable<MessageInput>;
  /** Sent as the first message. It is stored once, with the settings, not with the conversation. */
  system?: string;
  /** Tools the model may ask for; `ctx.runTools` runs them. */
  tools?: Tools;
  toolChoice?: "auto" | "none" | "required" | { tool: string };
  /** Most output tokens. Default: the provider's. */
  maxTokens?: number;
  temperature?: number;
  topP?: number;
  seed?: number;
  /** Texts that end the answer. */
  stop?: string | readonly string[];
  /** Fields of the request body as the provider documents them; they win over the ones made from these options. */
  extraBody?: JsonObject;
  /** What usage and prices call the provider. Default: "openai". */
  provider?: string;
  endpoint?: Endpoint;
  /** Headers of this request; not journaled. */
  headers?: Readonly<Record<string, string>>;
}

/** What `generate` is asked. */
export interface GenerateOptions<O = undefined> extends RequestOptions {
  /** Asks for JSON of this schema. An answer that does not match is a failed attempt (`invalid_output`). */
  output?: OutputSchema<O>;
  /** Name of the schema for the provider. Default: "output". */
  outputName?: string;
}

/** What happens while an answer is streamed. */
export type StreamEvent =
  | { type: "text"; text: string }
  | { type: "reasoning"; text: string }
  /** A piece of a tool call: `arguments` continues what came before under this index. */
  | { type: "toolCall"; index: number; id: string; name: string; arguments: string }
  /** The attempt failed after it had streamed something; another one starts from the beginning. */
  | { type: "reset" }
  | { type: "finish"; finishReason: string; usage: LlmUsage };

/** A request to a client of the user's own. */
export interface ForeignRequest extends CallOptions {
  /** What usage and prices call the provider, e.g. "anthropic". */
  provider: string;
  model: string;
  /**
   * What is asked, as plain data: its digest is compared on replay. Of an object's `messages` only those are stored
   * that earlier requests and the conversation lack.
   */
  request: unknown;
}

/** What a client of the user's own gets. */
export interface ForeignAttempt {
  /** Fires when the attempt has to stop. */
  readonly signal: AbortSignal;
  /** From 1. */
  readonly attempt: number;
  /** Headers that name session and call to the provider; the same for every attempt. */
  readonly headers: Readonly<Record<string, string>>;
  readonly log: StepLog;
  /** Takes text as it is streamed; inside a zone it is kept as evidence until the zone commits. */
  emit(text: string): void;
}

/** Tokens as a client of the user's own counts them. */
export interface TokenCounts {
  /** Neither read from nor written to a cache. */
  inputTokens: number;
  cachedReadTokens?: number;
  cacheWriteTokens?: number;
  outputTokens: number;
}

/** What a client of the user's own returns. */
export interface ForeignAnswer<T> {
  /** What the call resolves to. */
  value: T;
  /** The answer as a message, so that later requests and `ctx.messages` can refer to it. */
  message?: Message;
  finishReason?: string;
  /** Absent: counted from the texts and marked as estimated. */
  usage?: TokenCounts;
}

/** The outcome of a client of the user's own. */
export interface ForeignResult<T> {
  value: T;
  message: Message | undefined;
  usage: LlmUsage;
}
