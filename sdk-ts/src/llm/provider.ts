/**
 * One request to an OpenAI-compatible server.
 *
 * Owns: the `openai` client, which is loaded when the first request is made (a replay makes none); headers that name session and call; one HTTP
 * request per attempt. Never: retries (the client's own retries are off), journals.
 *
 * Invariants:
 * - P1 every request says its session and call, the same for each attempt, so that a server's record can be joined.
 * - P2 usage is always asked for; where it is missing it is estimated and marked.
 * - P3 an answer counts once its finish reason is here; before that it failed, whatever was received.
 */
import type * as OpenAi from "openai";
import { MisuseError } from "../errors.js";
import type { Usage } from "../gen/cellaflow/v1/common_pb.js";
import type { CallAnswer, CallAttempt } from "../runtime/internals.js";
import type { Message } from "../runtime/messages.js";
import { AnswerAssembler, type Wire } from "./answer.js";
import { bodyOf, type RequestParams } from "./body.js";
import { certainFetch } from "./certain-fetch.js";
import { aborted, providerFailure, toProviderFailure, withUsage } from "./failures.js";
import type { Endpoint, StreamEvent } from "./types.js";
import { estimateTokens, toUsage } from "./usage.js";

const OPENAI_URL = "https://api.openai.com/v1";
/** How long a provider may take for its first byte, in ms: Node's fetch waits no longer. A call's own is `timeoutMs`. */
export const FIRST_BYTE_MS_MAX = 300_000;
// One client per address and key, so that connections are kept; a process has few of them.
const CLIENTS_MAX = 32;
const clients = new Map<string, OpenAi.OpenAI>();
let loading: Promise<typeof OpenAi> | undefined;

/** What is asked, and where. */
export interface ProviderRequest {
  params: RequestParams;
  /** Called once per attempt. */
  messages: () => readonly Message[];
  endpoint: Endpoint | undefined;
  headers: Readonly<Record<string, string>> | undefined;
}

/** The headers that name an attempt's call; the same for every attempt of it. */
export function callHeaders(attempt: Pick<CallAttempt, "sessionId" | "callKey">): Record<string, string> {
  return { "x-cellaflow-session": attempt.sessionId, "x-cellaflow-call": headerText(attempt.callKey) };
}

/** Asks for a whole answer. */
export function ask(request: ProviderRequest, attempt: CallAttempt): Promise<CallAnswer> {
  return perform(request, attempt, new AnswerAssembler(), false);
}

/** Asks for a streamed answer. */
export function askStreaming(
  request: ProviderRequest,
  attempt: CallAttempt,
  emit: (event: StreamEvent) => void,
): Promise<CallAnswer> {
  const assembler = new AnswerAssembler((event) => {
    if (event.type === "text") attempt.emit(event.text);
    emit(event);
  });
  return perform(request, attempt, assembler, true);
}

async function perform(
  request: ProviderRequest,
  attempt: CallAttempt,
  assembler: AnswerAssembler,
  stream: boolean,
): Promise<CallAnswer> {
  const baseUrl = request.endpoint?.baseUrl ?? (process.env.OPENAI_BASE_URL || OPENAI_URL);
  const openai = await load();
  const client = clientFor(openai, baseUrl, request.endpoint?.apiKey ?? process.env.OPENAI_API_KEY);
  const body = bodyOf(request.params, request.messages(), baseUrl, stream);
  const headers = { ...request.endpoint?.headers, ...request.headers, ...callHeaders(attempt) };
  try {
    const certain = client.withOptions({ fetch: certainFetch(() => attempt.sure()) });
    await exchange(certain, body, { headers, signal: attempt.signal }, assembler);
  } catch (thrown) {
    // P3: what broke after the finish reason (usage, the closing line) is not worth paying twice.
    if (!assembler.isWhole) throw failed(openai, thrown, attempt, assembler, request, body);
  }
  return { response: assembler.finish(), usage: usageFor(request.params, assembler, body) };
}

async function exchange(
  client: OpenAi.OpenAI,
  body: ReturnType<typeof bodyOf>,
  options: { headers: Record<string, string>; signal: AbortSignal },
  assembler: AnswerAssembler,
): Promise<void> {
  // The body is made of what users and providers may extend: the client's own types would say less than it carries.
  const answer: unknown = await client.chat.completions.create(
    body as unknown as OpenAi.OpenAI.ChatCompletionCreateParams,
    options,
  );
  if (!isStream(answer)) {
    if (!assembler.addWhole(answer as Wire)) throw notTheFormat();
    return;
  }
  for await (const chunk of answer) assembler.addChunk(chunk);
  // The client ends an aborted stream as if it were complete.
  if (options.signal.aborted && !assembler.isWhole) throw aborted(options.signal);
  if (!assembler.isWhole) {
    throw providerFailure("incomplete_answer", "the answer ended without a finish reason", { retryable: true });
  }
}

function load(): Promise<typeof OpenAi> {
  loading ??= import("openai");
  return loading;
}

function isStream(answer: unknown): answer is AsyncIterable<Wire> {
  return typeof answer === "object" && answer !== null && Symbol.asyncIterator in answer;
}

function notTheFormat(): Error {
  return providerFailure("malformed_answer", "the provider's answer has no message", { retryable: true });
}

function failed(
  openai: typeof OpenAi,
  thrown: unknown,
  attempt: CallAttempt,
  assembler: AnswerAssembler,
  request: ProviderRequest,
  body: Wire,
): Error {
  const answering = assembler.written !== "";
  const failure = toProviderFailure(openai, thrown, answering, attempt.signal);
  return answering ? withUsage(failure, usageFor(request.params, assembler, body)) : failure;
}

function usageFor(params: RequestParams, assembler: AnswerAssembler, body: Wire): Usage {
  const { provider, model } = params;
  if (assembler.usage !== undefined) return toUsage(provider, model, assembler.usage, false);
  const asked = estimateTokens(
    JSON.stringify(body.messages),
    body.tools === undefined ? "" : JSON.stringify(body.tools),
  );
  return toUsage(provider, model, { inputTokens: asked, outputTokens: estimateTokens(assembler.written) }, true);
}

function clientFor(openai: typeof OpenAi, baseUrl: string, key: string | undefined): OpenAi.OpenAI {
  if (!key && baseUrl === OPENAI_URL) {
    throw new MisuseError(
      "no_api_key",
      "there is no key for the model's provider",
      "set OPENAI_API_KEY, or OPENAI_BASE_URL for a server of your own",
    );
  }
  const name = `${baseUrl}\n${key}`;
  const known = clients.get(name);
  if (known !== undefined) return known;
  if (clients.size >= CLIENTS_MAX) clients.clear();
  const client = new openai.OpenAI({
    baseURL: baseUrl,
    // A server of one's own rarely wants a key, the client always does.
    apiKey: key || "none",
    maxRetries: 0,
    timeout: FIRST_BYTE_MS_MAX,
    logLevel: "off",
  });
  clients.set(name, client);
  return client;
}

// Header values are visible ASCII; keys may be anything.
function headerText(text: string): string {
  return text.replace(/[^\x21-\x7e]/gu, (char) => encodeURIComponent(char.toWellFormed()));
}
