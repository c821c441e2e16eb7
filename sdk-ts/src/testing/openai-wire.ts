/**
 * The OpenAI chat completions format, the server's side: requests as far as scripts look at them, answers as bytes.
 *
 * Everything is a function of the request and the answer: ids come from a digest and the date is fixed, so the same
 * request gets the same bytes each time.
 */
import { createHash } from "node:crypto";

/** A tool call of an answer. */
export interface ScriptedToolCall {
  /** Default: made from the request's digest and the call's place. */
  id?: string;
  name: string;
  /** The arguments, as an object or as the JSON text the model would send. */
  arguments: string | Readonly<Record<string, unknown>>;
}

/** Tokens of one answer. */
export interface ScriptedUsage {
  promptTokens: number;
  completionTokens: number;
  /** How many of the prompt's tokens came from the provider's cache. Default: 0. */
  cachedTokens?: number;
}

/** What the model answers. */
export interface ScriptedAnswer {
  content?: string;
  /** The content as the chunks it is streamed in; default: the content's words. */
  chunks?: readonly string[];
  toolCalls?: readonly ScriptedToolCall[];
  /** Default: `tool_calls` when there are any, else `stop`. */
  finishReason?: "stop" | "length" | "tool_calls" | "content_filter";
  /** Default: estimated from the texts, 4 characters a token. `null`: the server leaves usage out, as some do. */
  usage?: ScriptedUsage | null;
}

/** A request as a script sees it. */
export interface ScriptedRequest {
  /** From the header `x-cellaflow-session`; empty: none. */
  session: string;
  /** From the header `x-cellaflow-call`; empty: none. */
  call: string;
  /** How many requests for the same session and call came before this one. */
  repeat: number;
  model: string;
  messages: readonly ScriptedMessage[];
  stream: boolean;
  /** The whole body. */
  body: Readonly<Record<string, unknown>>;
}

/** A message of a request. */
export interface ScriptedMessage {
  role: string;
  content?: unknown;
  [field: string]: unknown;
}

// Fixed: a date would make two equal requests differ.
const CREATED_S = 1_700_000_000;

/** A digest of the request's body, as hex. */
export function requestDigest(body: Readonly<Record<string, unknown>>): string {
  return createHash("sha256").update(JSON.stringify(body)).digest("hex");
}

/** The text of a message, whatever form its content has. */
export function messageText(message: ScriptedMessage): string {
  if (typeof message.content === "string") return message.content;
  if (!Array.isArray(message.content)) return "";
  return message.content.map((part: { text?: unknown }) => (typeof part.text === "string" ? part.text : "")).join("");
}

/** An answer with its defaults filled in. */
export interface CompleteAnswer {
  id: string;
  model: string;
  content: string;
  chunks: readonly string[];
  toolCalls: readonly { id: string; name: string; arguments: string }[];
  finishReason: string;
  usage: Required<ScriptedUsage> | null;
}

/** Fills in an answer's defaults. */
export function completeAnswer(request: ScriptedRequest, answer: ScriptedAnswer): CompleteAnswer {
  const digest = requestDigest(request.body).slice(0, 24);
  const content = answer.content ?? answer.chunks?.join("") ?? "";
  const toolCalls = (answer.toolCalls ?? []).map((call, index) => ({
    id: call.id ?? `call_${digest.slice(0, 12)}_${index}`,
    name: call.name,
    arguments: typeof call.arguments === "string" ? call.arguments : JSON.stringify(call.arguments),
  }));
  return {
    id: `chatcmpl-${digest}`,
    model: request.model,
    content,
    chunks: answer.chunks ?? content.match(/\s*\S+\s*$|\s*\S+|\s+/g) ?? [],
    toolCalls,
    finishReason: answer.finishReason ?? (toolCalls.length > 0 ? "tool_calls" : "stop"),
    usage:
      answer.usage === null ? null : { cachedTokens: 0, ...(answer.usage ?? estimate(request, content, toolCalls)) },
  };
}

function estimate(
  request: ScriptedRequest,
  content: string,
  toolCalls: readonly { arguments: string }[],
): ScriptedUsage {
  const asked = request.messages.reduce((sum, message) => sum + messageText(message).length, 0);
  const said = toolCalls.reduce((sum, call) => sum + call.arguments.length, content.length);
  return { promptTokens: Math.ceil(asked / 4), completionTokens: Math.max(1, Math.ceil(said / 4)) };
}

/** The answer as one JSON object. */
export function completion(answer: CompleteAnswer): object {
  const message = {
    role: "assistant",
    content: answer.content === "" && answer.toolCalls.length > 0 ? null : answer.content,
    refusal: null,
    ...(answer.toolCalls.length === 0 ? {} : { tool_calls: answer.toolCalls.map(toolCall) }),
  };
  return {
    id: answer.id,
    object: "chat.completion",
    created: CREATED_S,
    model: answer.model,
    choices: [{ index: 0, message, logprobs: null, finish_reason: answer.finishReason }],
    ...(answer.usage === null ? {} : { usage: usage(answer.usage) }),
  };
}

/** The answer as server-sent events, one string a frame. */
export function* frames(answer: CompleteAnswer, includeUsage: boolean): Generator<string> {
  const chunk = (choices: object[], extra: object = {}): string =>
    `data: ${JSON.stringify({
      id: answer.id,
      object: "chat.completion.chunk",
      created: CREATED_S,
      model: answer.model,
      choices,
      ...(includeUsage ? { usage: null } : {}),
      ...extra,
    })}\n\n`;
  const delta = (fields: object, finishReason: string | null = null): string =>
    chunk([{ index: 0, delta: fields, logprobs: null, finish_reason: finishReason }]);

  yield delta({ role: "assistant", content: "" });
  for (const content of answer.chunks) yield delta({ content });
  for (const [index, call] of answer.toolCalls.entries()) {
    yield delta({ tool_calls: [{ index, ...toolCall({ ...call, arguments: "" }) }] });
    // In two pieces, as providers send them: a client has to put them together.
    const half = Math.ceil(call.arguments.length / 2);
    for (const part of [call.arguments.slice(0, half), call.arguments.slice(half)]) {
      if (part !== "") yield delta({ tool_calls: [{ index, function: { arguments: part } }] });
    }
  }
  yield delta({}, answer.finishReason);
  if (includeUsage && answer.usage !== null) yield chunk([], { usage: usage(answer.usage) });
  yield "data: [DONE]\n\n";
}

function toolCall(call: { id: string; name: string; arguments: string }): object {
  return { id: call.id, type: "function", function: { name: call.name, arguments: call.arguments } };
}

function usage(tokens: Required<ScriptedUsage>): object {
  return {
    prompt_tokens: tokens.promptTokens,
    completion_tokens: tokens.completionTokens,
    total_tokens: tokens.promptTokens + tokens.completionTokens,
    prompt_tokens_details: { cached_tokens: tokens.cachedTokens },
  };
}
