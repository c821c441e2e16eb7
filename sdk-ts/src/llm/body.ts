/**
 * Model requests as OpenAI-compatible servers read them.
 *
 * Owns: the way out of the wire format, and the settings that are journaled. Never: sends, journals.
 */
import { MisuseError } from "../errors.js";
import type { Message, MessagePart } from "../runtime/messages.js";
import { textOf } from "./messages.js";
import { isStrict, jsonSchemaOf, outputSchemaOf } from "./schema.js";
import type { GenerateOptions, JsonObject } from "./types.js";

/** Everything of a request but its messages: what is journaled and covered by the input digest. */
export interface RequestParams {
  provider: string;
  model: string;
  system?: string;
  tools?: readonly { name: string; description: string; parameters: JsonObject }[];
  toolChoice?: "auto" | "none" | "required" | { tool: string };
  output?: { name: string; schema: JsonObject };
  maxTokens?: number;
  temperature?: number;
  topP?: number;
  seed?: number;
  stop?: string | readonly string[];
  extraBody?: JsonObject;
}

const OPENAI_HOST = /(^|\.)(openai\.com|openai\.azure\.com)$/;
/** Answers carry their reasoning in one of these; a part remembers in which. */
export const REASONING_FIELDS = ["reasoning_content", "reasoning"] as const;

/** Collects what is journaled of a request's options. */
export function paramsOf<O>(model: string, options: GenerateOptions<O>): RequestParams {
  const params: RequestParams = { provider: options.provider ?? "openai", model };
  if (options.system !== undefined) params.system = options.system;
  const tools = Object.entries(options.tools ?? {});
  if (tools.length > 0) {
    params.tools = tools.map(([name, tool]) => ({
      name,
      description: tool.description,
      parameters: jsonSchemaOf(tool.parameters, `tool "${name}"`),
    }));
  }
  if (options.output !== undefined) {
    params.output = { name: options.outputName ?? "output", schema: outputSchemaOf(options.output) };
  }
  for (const field of ["toolChoice", "maxTokens", "temperature", "topP", "seed", "stop", "extraBody"] as const) {
    if (options[field] !== undefined) Object.assign(params, { [field]: options[field] });
  }
  return params;
}

/** Makes a request's body. @param baseUrl decides what the field for the most output tokens is called */
export function bodyOf(params: RequestParams, messages: readonly Message[], baseUrl: string, stream: boolean) {
  const system = params.system === undefined ? [] : [{ role: "system", content: params.system }];
  const limit = OPENAI_HOST.test(hostOf(baseUrl)) ? "max_completion_tokens" : "max_tokens";
  return {
    model: params.model,
    messages: [...system, ...messages.flatMap(wireMessages)],
    ...(params.tools === undefined
      ? {}
      : { tools: params.tools.map((tool) => ({ type: "function", function: tool })) }),
    ...(params.toolChoice === undefined ? {} : { tool_choice: wireToolChoice(params.toolChoice) }),
    ...(params.output === undefined ? {} : { response_format: responseFormat(params.output) }),
    ...(params.maxTokens === undefined ? {} : { [limit]: params.maxTokens }),
    ...(params.temperature === undefined ? {} : { temperature: params.temperature }),
    ...(params.topP === undefined ? {} : { top_p: params.topP }),
    ...(params.seed === undefined ? {} : { seed: params.seed }),
    ...(params.stop === undefined ? {} : { stop: params.stop }),
    ...(stream ? { stream: true, stream_options: { include_usage: true } } : {}),
    ...params.extraBody,
  };
}

function hostOf(baseUrl: string): string {
  return URL.canParse(baseUrl) ? new URL(baseUrl).hostname : "";
}

function wireToolChoice(choice: NonNullable<RequestParams["toolChoice"]>): unknown {
  return typeof choice === "string" ? choice : { type: "function", function: { name: choice.tool } };
}

function responseFormat(output: NonNullable<RequestParams["output"]>): object {
  return { type: "json_schema", json_schema: { ...output, strict: isStrict(output.schema) } };
}

/** Returns the wire form of a message; tool results become one message each. */
export function wireMessages(message: Message): object[] {
  switch (message.role) {
    case "tool":
      return message.parts.map(wireToolResult);
    case "assistant":
      return [wireAssistant(message)];
    case "system":
      return [{ role: "system", content: textOf(message) }];
    case "user":
      return [{ role: "user", content: wireContent(message) }];
  }
}

function wireToolResult(part: MessagePart): object {
  if (part.type !== "toolResult") throw misplaced(part, "tool");
  return { role: "tool", tool_call_id: part.id, content: part.text, ...metadataOf(part) };
}

function wireAssistant(message: Message): object {
  const calls = message.parts.flatMap((part) => (part.type === "toolCall" ? [wireToolCall(part)] : []));
  const text = textOf(message);
  return {
    role: "assistant",
    // Servers differ on an empty text beside tool calls; null is what all of them send themselves.
    content: text === "" && calls.length > 0 ? null : text,
    ...(calls.length > 0 ? { ...wireReasoning(message), tool_calls: calls } : {}),
    ...metadataOf(message),
  };
}

// Reasoning goes back only within a tool round: that is where providers demand it, elsewhere some refuse it.
function wireReasoning(message: Message): object {
  const part = message.parts.find((one) => one.type === "reasoning");
  if (part?.type !== "reasoning") return {};
  const { field } = metadataOf(part) as { field?: unknown };
  return { [typeof field === "string" ? field : REASONING_FIELDS[0]]: part.text };
}

function wireToolCall(part: MessagePart & { type: "toolCall" }): object {
  const { function: more, ...metadata } = metadataOf(part) as { function?: object };
  return {
    id: part.id,
    type: "function",
    function: { name: part.name, arguments: part.arguments, ...more },
    ...metadata,
  };
}

function wireContent(message: Message): string | object[] {
  const [first] = message.parts;
  if (message.parts.length === 1 && first?.type === "text") return first.text;
  return message.parts.map((part) => {
    switch (part.type) {
      case "text":
        return { type: "text", text: part.text, ...metadataOf(part) };
      case "file":
        return wireFile(part);
      case "custom":
        return JSON.parse(part.json) as object;
      default:
        throw misplaced(part, "user");
    }
  });
}

function wireFile(part: MessagePart & { type: "file" }): object {
  const url = "url" in part ? part.url : `data:${part.mediaType};base64,${Buffer.from(part.data).toString("base64")}`;
  if (part.mediaType.startsWith("image/")) return { type: "image_url", image_url: { url, ...metadataOf(part) } };
  if ("data" in part && part.mediaType.startsWith("audio/")) {
    const format = part.mediaType.slice("audio/".length);
    return { type: "input_audio", input_audio: { data: url.slice(url.indexOf(",") + 1), format } };
  }
  return { type: "file", file: { filename: part.name ?? "file", file_data: url, ...metadataOf(part) } };
}

function metadataOf(holder: { providerMetadata?: string }): object {
  return holder.providerMetadata === undefined ? {} : (JSON.parse(holder.providerMetadata) as object);
}

function misplaced(part: MessagePart, role: string): MisuseError {
  return new MisuseError(
    "misplaced_part",
    `a message of role "${role}" has a ${part.type} part`,
    "put tool results into messages of role tool, tool calls and reasoning into those of role assistant",
  );
}
