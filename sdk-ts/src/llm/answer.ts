/**
 * Answers as OpenAI-compatible servers send them, whole or in pieces, put together into their stored form.
 *
 * Owns: the way in of the wire format. Never: waits for anything.
 *
 * Invariants:
 * - A1 what the format does not name is kept: unknown fields become provider metadata of the message or tool call.
 * - A2 chunk lengths are UTF-8 bytes of the text and add up to it; no chunk ends inside a character.
 */
import { create } from "@bufbuild/protobuf";
import { type LlmResponse, LlmResponseSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type Message, type MessagePart, toStored } from "../runtime/messages.js";
import { REASONING_FIELDS } from "./body.js";
import type { StreamEvent, TokenCounts } from "./types.js";

/** A JSON object of the provider. */
export type Wire = Record<string, unknown>;

interface Call {
  id: string;
  name: string;
  arguments: string;
  extra: Wire;
  functionExtra: Wire;
}

// Repeated in every piece by some servers: these are said again, not continued.
const IDENTITIES = new Set(["id", "type", "role", "name", "format", "object", "index"]);

/** Puts one answer together. */
export class AnswerAssembler {
  finishReason = "";
  usage: TokenCounts | undefined;
  private id = "";
  private model = "";
  private text = "";
  private held = "";
  private readonly lengths: number[] = [];
  private reasoning = "";
  private reasoningField = "";
  private readonly calls: Call[] = [];
  private readonly customs: string[] = [];
  private extra: Wire = {};

  /** @param emit takes what is streamed */
  constructor(private readonly emit?: (event: StreamEvent) => void) {}

  /** True once the provider said why the answer ended: all of it is here. */
  get isWhole(): boolean {
    return this.finishReason !== "";
  }

  /** Everything the model wrote, for an estimate of its tokens. */
  get written(): string {
    return this.reasoning + this.text + this.held + this.calls.map((call) => call.name + call.arguments).join("");
  }

  /** Takes a whole answer. Returns false if it has none. */
  addWhole(completion: Wire): boolean {
    this.addHead(completion);
    const choice = firstChoice(completion);
    if (choice === undefined || !isObject(choice.message)) return false;
    this.addDelta(choice.message);
    this.finishReason = textField(choice, "finish_reason") || "stop";
    return true;
  }

  /** Takes a piece of a streamed answer. */
  addChunk(chunk: Wire): void {
    this.addHead(chunk);
    const choice = firstChoice(chunk);
    if (choice === undefined) return;
    if (isObject(choice.delta)) this.addDelta(choice.delta);
    this.finishReason = textField(choice, "finish_reason") || this.finishReason;
  }

  /** Returns the answer in its stored form. */
  finish(): LlmResponse {
    if (this.held !== "") this.addText("", true);
    return create(LlmResponseSchema, {
      message: toStored(this.message()),
      finishReason: this.finishReason,
      chunkLengths: this.emit === undefined ? [] : this.lengths,
      providerId: this.id,
      model: this.model,
    });
  }

  private message(): Message {
    const parts: MessagePart[] = [];
    if (this.reasoning !== "") {
      const providerMetadata = JSON.stringify({ field: this.reasoningField });
      parts.push({ type: "reasoning", text: this.reasoning, providerMetadata });
    }
    if (this.text !== "") parts.push({ type: "text", text: this.text });
    for (const json of this.customs) parts.push({ type: "custom", json });
    for (const { id, name, arguments: args, extra, functionExtra } of this.calls) {
      const more = isEmpty(functionExtra) ? extra : { ...extra, function: functionExtra };
      parts.push({ type: "toolCall", id, name, arguments: args, ...metadata(more) });
    }
    return { role: "assistant", parts, ...metadata(this.extra) };
  }

  private addHead(wire: Wire): void {
    this.id ||= textField(wire, "id");
    this.model ||= textField(wire, "model");
    if (isObject(wire.usage)) this.usage = tokensOf(wire.usage);
  }

  private addDelta(delta: Wire): void {
    for (const [field, value] of Object.entries(delta)) {
      if (value === null || value === undefined || field === "role") continue;
      if (field === "content") this.addContent(value);
      else if (field === "tool_calls" && Array.isArray(value)) this.addCalls(value as Wire[]);
      else if (isReasoningField(field) && typeof value === "string") this.addReasoning(field, value);
      else if (!(Array.isArray(value) && value.length === 0)) this.extra = merged(this.extra, { [field]: value });
    }
  }

  private addContent(content: unknown): void {
    if (typeof content === "string") return this.addText(content, false);
    if (!Array.isArray(content)) return;
    for (const part of content as Wire[]) {
      if (typeof part.text === "string") this.addText(part.text, false);
      else this.customs.push(JSON.stringify(part));
    }
  }

  // A2: half of a surrogate pair waits for its other half.
  private addText(piece: string, last: boolean): void {
    const whole = this.held + piece;
    const cut = !last && /[\uD800-\uDBFF]$/.test(whole) ? whole.length - 1 : whole.length;
    this.held = whole.slice(cut);
    const text = whole.slice(0, cut).toWellFormed();
    if (text === "") return;
    this.text += text;
    this.lengths.push(Buffer.byteLength(text, "utf8"));
    this.emit?.({ type: "text", text });
  }

  private addReasoning(field: string, text: string): void {
    // Some servers send the same reasoning under both names.
    this.reasoningField ||= field;
    if (field !== this.reasoningField || text === "") return;
    this.reasoning += text;
    this.emit?.({ type: "reasoning", text });
  }

  private addCalls(pieces: readonly Wire[]): void {
    for (const piece of pieces) this.addCall(piece);
  }

  private addCall(wire: Wire): void {
    const { index: at, id, type: _, function: fn, ...extra } = wire;
    const index = typeof at === "number" ? at : this.indexOfCall(id);
    const call = this.callAt(index);
    if (typeof id === "string" && id !== "") call.id = id;
    call.extra = merged(call.extra, extra);
    if (!isObject(fn)) return;
    const { name, arguments: args, ...functionExtra } = fn;
    if (typeof name === "string" && name !== "") call.name = name;
    const piece = typeof args === "string" ? args : args === undefined || args === null ? "" : JSON.stringify(args);
    call.arguments += piece;
    call.functionExtra = merged(call.functionExtra, functionExtra);
    this.emit?.({ type: "toolCall", index, id: call.id, name: call.name, arguments: piece });
  }

  // Servers that leave the index out send each call whole, under an id of its own.
  private indexOfCall(id: unknown): number {
    const known = this.calls.findIndex((call) => call.id === id);
    return known >= 0 ? known : this.calls.length;
  }

  private callAt(index: number): Call {
    while (this.calls.length <= index) {
      const id = `call_${this.calls.length}`;
      this.calls.push({ id, name: "", arguments: "", extra: {}, functionExtra: {} });
    }
    return this.calls[index] as Call;
  }
}

/** Reads what the provider says about tokens. */
export function tokensOf(usage: Wire): TokenCounts {
  const details = isObject(usage.prompt_tokens_details) ? usage.prompt_tokens_details : {};
  const cached = numberOf(details.cached_tokens) ?? numberOf(usage.prompt_cache_hit_tokens) ?? 0;
  const written = numberOf(details.cache_write_tokens) ?? numberOf(usage.cache_creation_input_tokens) ?? 0;
  return {
    inputTokens: Math.max(0, (numberOf(usage.prompt_tokens) ?? 0) - cached - written),
    cachedReadTokens: cached,
    cacheWriteTokens: written,
    outputTokens: numberOf(usage.completion_tokens) ?? 0,
  };
}

/** Joins two pieces of fields the format does not name: texts and lists go on, objects field by field. */
function merged(before: Wire, piece: Wire): Wire {
  const joined: Wire = { ...before };
  for (const [field, value] of Object.entries(piece)) {
    if (value !== null && value !== undefined) joined[field] = joinedField(field, joined[field], value);
  }
  return joined;
}

function joinedField(field: string, before: unknown, value: unknown): unknown {
  if (IDENTITIES.has(field)) return value;
  if (typeof before === "string" && typeof value === "string") return before + value;
  if (Array.isArray(before) && Array.isArray(value)) return [...before, ...value];
  return isObject(before) && isObject(value) ? merged(before, value) : value;
}

function isReasoningField(field: string): boolean {
  return (REASONING_FIELDS as readonly string[]).includes(field);
}

function firstChoice(wire: Wire): Wire | undefined {
  const first: unknown = Array.isArray(wire.choices) ? wire.choices[0] : undefined;
  return isObject(first) ? first : undefined;
}

function metadata(extra: Wire): { providerMetadata?: string } {
  return isEmpty(extra) ? {} : { providerMetadata: JSON.stringify(extra) };
}

function isEmpty(wire: Wire): boolean {
  return Object.keys(wire).length === 0;
}

function isObject(value: unknown): value is Wire {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}

function textField(wire: Wire, field: string): string {
  const value = wire[field];
  return typeof value === "string" ? value : "";
}

function numberOf(value: unknown): number | undefined {
  return typeof value === "number" && Number.isFinite(value) ? value : undefined;
}
