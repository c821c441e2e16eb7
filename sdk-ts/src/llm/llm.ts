/**
 * `ctx.llm` and `zone.llm`: model calls as journaled requests.
 *
 * Owns: how options become a call and an answer what users see. Never: journals, retries or orders by itself; that is
 * the host's (`runtime/internals.ts`).
 *
 * Invariants:
 * - G1 a call is requested synchronously, so that the order of requests is the order of the code.
 * - G2 address, key and headers are never journaled and never part of the input digest.
 */
import { create } from "@bufbuild/protobuf";
import { type LlmResponse, LlmResponseSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import type { WorstCase } from "../runtime/budget.js";
import type { CallAnswer, CallAttempt, CallHost, CallOutcome, CallSpec, SessionHost } from "../runtime/internals.js";
import { fromStored, type Message, toStored } from "../runtime/messages.js";
import { decodeValue, encodeValue } from "../values/codec.js";
import { paramsOf } from "./body.js";
import { providerFailure, usageOf, withUsage } from "./failures.js";
import { LazyPromise, tap } from "./lazy.js";
import { textOf, toMessage, toolCallsOf } from "./messages.js";
import { ask, askStreaming, callHeaders, type ProviderRequest } from "./provider.js";
import { type PreparedRequest, RequestBook } from "./requests.js";
import { check } from "./schema.js";
import { type LlmStream, StreamLog } from "./stream.js";
import type {
  CallOptions,
  FinalAnswer,
  ForeignAnswer,
  ForeignAttempt,
  ForeignRequest,
  ForeignResult,
  GeneratedAnswer,
  GenerateOptions,
  LlmUsage,
  OutputSchema,
  RequestOptions,
} from "./types.js";
import { estimateTokens, fromUsage, toUsage } from "./usage.js";
import { maxTokensOf, worstCaseOf } from "./worst.js";

/** Model calls of a session or zone. */
export interface Llm {
  /** Asks a model and waits for the whole answer. */
  generate<O = undefined>(model: string, options?: GenerateOptions<O>): Promise<GeneratedAnswer<O>>;
  /** Asks a model and reads the answer as it arrives. Outside a zone it opens one of its own. */
  stream(model: string, options?: RequestOptions): LlmStream;
  /** Journals a call of any client: `fn` makes one request and returns its answer. */
  call<T>(
    request: ForeignRequest,
    fn: (attempt: ForeignAttempt) => ForeignAnswer<T> | Promise<ForeignAnswer<T>>,
  ): Promise<ForeignResult<T>>;
}

/** Makes `ctx.llm`. */
export function sessionLlm(host: SessionHost): Llm {
  return {
    ...common(host),
    stream(model, options = {}) {
      const log = new StreamLog();
      const { name = "llm", retry } = options;
      const prepared = prepare(host, model, options);
      const zone = { input: prepared.input, ...(retry === undefined ? {} : { retry }) };
      const final = host.zone(name, zone, (inner) => {
        log.restart();
        return streamIn(inner, prepared, options, log);
      });
      return log.follow(final);
    },
  };
}

/** Makes `zone.llm`. */
export function zoneLlm(host: CallHost): Llm {
  return {
    ...common(host),
    stream(model, options = {}) {
      const log = new StreamLog();
      return log.follow(streamIn(host, prepare(host, model, options), options, log));
    },
  };
}

/** Returns what users see of a recorded answer; also the value of a zone that is stored as `final_of`. */
export function finalAnswer(answer: CallAnswer): FinalAnswer {
  const message = answer.response.message === undefined ? NO_MESSAGE : fromStored(answer.response.message);
  return {
    message,
    toolCalls: toolCallsOf(message),
    finishReason: answer.response.finishReason,
    usage: answer.usage === undefined ? UNKNOWN_USAGE : fromUsage(answer.usage),
  };
}

const NO_MESSAGE: Message = { role: "assistant", parts: [] };
const UNKNOWN_USAGE: LlmUsage = {
  provider: "",
  model: "",
  inputTokens: 0,
  cachedReadTokens: 0,
  cacheWriteTokens: 0,
  outputTokens: 0,
  estimated: true,
};

function common(host: CallHost): Pick<Llm, "generate" | "call"> {
  return {
    generate: <O>(model: string, options: GenerateOptions<O> = {}) => generate(host, model, options),
    call: (request, fn) => foreignCall(host, request, fn),
  };
}

function generate<O>(host: CallHost, model: string, options: GenerateOptions<O>): Promise<GeneratedAnswer<O>> {
  const prepared = prepare(host, model, options);
  const outcome = requested(host, prepared, {
    ...callOptions(options),
    perform: async (attempt) => {
      const answer = await ask(prepared.provider, attempt);
      // Here as well: an answer that does not fit is a failed attempt, tried again like any other.
      if (options.output !== undefined) await readOutput(options.output, answer);
      return answer;
    },
  });
  return LazyPromise.of(async () => {
    const answer = await outcome;
    const final = finalAnswer(answer);
    const output = options.output === undefined ? (undefined as O) : await readOutput(options.output, answer);
    return { ...final, text: textOf(final.message), output };
  });
}

function streamIn(host: CallHost, prepared: Prepared, options: CallOptions, log: StreamLog): Promise<FinalAnswer> {
  const { retry: _, ...rest } = callOptions(options);
  const outcome = requested(host, prepared, {
    ...rest,
    // What was streamed cannot be taken back by one call alone: the zone around it is what is tried again.
    retry: { maxAttempts: 1 },
    perform: (attempt) => askStreaming(prepared.provider, attempt, (event) => log.push(event)),
    recorded: (answer) => log.replay(answer.response),
  });
  return LazyPromise.of(async () => {
    const answer = await outcome;
    const final = finalAnswer(answer);
    if (host.where === "zone") host.noteFinal(final, answer.place);
    return final;
  });
}

interface Prepared {
  request: PreparedRequest;
  provider: ProviderRequest;
  input: unknown;
  worst: () => WorstCase;
}

function prepare<O>(host: CallHost, model: string, options: GenerateOptions<O>): Prepared {
  const params = paramsOf(model, options);
  const request = RequestBook.of(host).prepare(messagesOf(host, options.messages), JSON.stringify(params));
  return {
    request,
    provider: {
      params,
      messages: () => request.messages.map(fromStored),
      endpoint: options.endpoint,
      headers: options.headers,
    },
    input: { provider: params.provider, model, ...request.summary },
    worst: () => worstCaseOf(params.provider, model, [params, request.messages], params.maxTokens),
  };
}

function messagesOf(host: CallHost, given: RequestOptions["messages"]): readonly Message[] {
  if (given === undefined) return host.conversation.messages;
  if (typeof given === "string") return [toMessage({ role: "user", content: given })];
  return Array.from(given, toMessage);
}

type CallParts = Omit<CallSpec, "input" | "request" | "usageOf" | "worst">;

// G1: no await before the host is asked.
function requested(
  host: CallHost,
  prepared: Pick<Prepared, "request" | "input" | "worst">,
  parts: CallParts,
): Promise<CallOutcome> {
  const outcome = host.call({
    ...parts,
    input: prepared.input,
    request: () => prepared.request.stored(host),
    worst: prepared.worst,
    usageOf,
  });
  tap(outcome, (answer) => prepared.request.recorded(host, answer.place));
  return outcome;
}

function callOptions(options: CallOptions): Omit<CallParts, "perform" | "recorded"> {
  return {
    name: options.name ?? "llm",
    ...(options.key === undefined ? {} : { key: options.key }),
    ...(options.retry === undefined ? {} : { retry: options.retry }),
    ...(options.timeoutMs === undefined ? {} : { timeoutMs: options.timeoutMs }),
    ...(options.resources === undefined ? {} : { resources: options.resources }),
  };
}

async function readOutput<O>(schema: OutputSchema<O>, answer: CallAnswer): Promise<O> {
  const { message, finishReason } = finalAnswer(answer);
  const text = textOf(message);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw finishReason === "length"
      ? unfit(answer, "output_truncated", "the output was cut off at the token limit; raise maxTokens", false, cause)
      : unfit(answer, "invalid_output", `the output is not JSON: ${text.slice(0, 200)}`, true, cause);
  }
  const checked = await check<O>(schema, value);
  if (checked.ok) return checked.value;
  throw unfit(answer, "invalid_output", `the output does not match its schema: ${checked.issues.join("; ")}`, true);
}

function unfit(answer: CallAnswer, code: string, message: string, retryable: boolean, cause?: unknown): Error {
  const failure = providerFailure(code, message, { retryable, ...(cause === undefined ? {} : { cause }) });
  return answer.usage === undefined ? failure : withUsage(failure, answer.usage);
}

function foreignCall<T>(
  host: CallHost,
  spec: ForeignRequest,
  fn: (attempt: ForeignAttempt) => ForeignAnswer<T> | Promise<ForeignAnswer<T>>,
): Promise<ForeignResult<T>> {
  const { provider, model } = spec;
  const { messages, rest } = splitRequest(spec.request);
  const params = { provider, model, request: rest };
  const request = RequestBook.of(host).prepare(messages, JSON.stringify(params));
  const outcome = requested(
    host,
    {
      request,
      input: { provider, model, ...request.summary },
      worst: () => worstCaseOf(provider, model, spec.request, maxTokensOf(spec.request)),
    },
    { ...callOptions(spec), perform: (attempt) => performForeign(spec, attempt, fn) },
  );
  return LazyPromise.of(async () => {
    const { response, usage } = await outcome;
    return {
      value: decodeValue(response.value) as T,
      message: response.message === undefined ? undefined : fromStored(response.message),
      usage: usage === undefined ? UNKNOWN_USAGE : fromUsage(usage),
    };
  });
}

async function performForeign<T>(
  spec: ForeignRequest,
  attempt: CallAttempt,
  fn: (attempt: ForeignAttempt) => ForeignAnswer<T> | Promise<ForeignAnswer<T>>,
): Promise<CallAnswer> {
  const answer = await fn({
    signal: attempt.signal,
    attempt: attempt.attempt,
    headers: callHeaders(attempt),
    log: attempt.log,
    emit: (text) => attempt.emit(text),
  });
  const value = encodeValue(answer.value);
  const response: LlmResponse = create(LlmResponseSchema, {
    ...(answer.message === undefined ? {} : { message: toStored(answer.message) }),
    finishReason: answer.finishReason ?? "",
    model: spec.model,
    value,
  });
  const counts = answer.usage ?? {
    inputTokens: estimateTokens(JSON.stringify(spec.request) ?? ""),
    outputTokens:
      answer.message === undefined ? estimateTokens(Buffer.from(value).toString("utf8")) : writtenBy(answer.message),
  };
  return { response, usage: toUsage(spec.provider, spec.model, counts, answer.usage === undefined) };
}

function writtenBy(message: Message): number {
  const texts = message.parts.map((part) => {
    if (part.type === "text" || part.type === "reasoning") return part.text;
    return part.type === "toolCall" ? part.name + part.arguments : "";
  });
  return estimateTokens(...texts);
}

// The list that grows from turn to turn is kept apart, so that each turn stores only its own part of it.
function splitRequest(request: unknown): { messages: Message[]; rest: unknown } {
  if (typeof request !== "object" || request === null || !("messages" in request))
    return { messages: [], rest: request };
  const { messages, ...rest } = request;
  if (!Array.isArray(messages)) return { messages: [], rest: request };
  return { messages: messages.map(foreignMessage), rest };
}

function foreignMessage(message: unknown): Message {
  if (isMessage(message)) return message;
  const role: unknown = (message as { role?: unknown } | null)?.role;
  return {
    role: String(role ?? "user") as Message["role"],
    parts: [{ type: "custom", json: JSON.stringify(message) }],
  };
}

function isMessage(message: unknown): message is Message {
  return (
    typeof message === "object" &&
    message !== null &&
    Array.isArray((message as { parts?: unknown }).parts) &&
    "role" in message
  );
}
