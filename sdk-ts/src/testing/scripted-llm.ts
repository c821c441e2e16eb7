/**
 * A language model that says what a script tells it to, over the OpenAI wire format, and keeps its own account of
 * every request: the witness that says whether anybody paid twice.
 *
 * Owns: `POST /v1/chat/completions`, `GET /v1/models`, the account, the faults. Never: knows the engine.
 *
 * Control, for tests in other processes: `GET /control/record`, `POST /control/faults {fault, match?, times?}`,
 * `POST /control/release`, `POST /control/clear`.
 *
 * Invariants:
 * - L1 the same request gets the same bytes, unless a fault was asked for.
 * - L2 every request leaves exactly one entry, made when its connection is done with it, whole or not.
 * - L3 an entry is complete exactly when the last byte of the whole answer was handed to the network.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { AwkwardWriter, type Delivery } from "./awkward-writer.js";
import { Faults, type Match } from "./faults.js";
import { header, type Listening, listen, readJson, resetConnection, sendJson } from "./http.js";
import {
  type CompleteAnswer,
  completeAnswer,
  completion,
  frames,
  type ScriptedAnswer,
  type ScriptedRequest,
} from "./openai-wire.js";
import { Jsonl } from "./record.js";

/** What goes wrong with an answer. */
export interface LlmFault extends Delivery {
  /** Answer with this status and an error body instead, e.g. 429 or 500; nothing is charged. */
  status?: number;
  /** With `status`: the `retry-after` header, in seconds. */
  retryAfterS?: number;
  /** Charge for the answer, then reset the connection without a byte of it. */
  resetAfterCharge?: boolean;
  /** Break the JSON of the frame with this number (from 0). */
  malformedFrame?: number;
  /** End the stream in good order after this many frames, without finish reason and `[DONE]`, as some proxies do. */
  endAfterFrames?: number;
}

/** An answer and what goes wrong with it. */
export interface ScriptedReply extends ScriptedAnswer {
  fault?: LlmFault;
}

/**
 * What the model says: a function of the request, or a list of answers of which the one is given whose place is the
 * number of assistant messages in the request (the last one for all further turns).
 */
export type Script = ((request: ScriptedRequest) => ScriptedReply) | readonly ScriptedReply[];

/** One request, as the server saw it. Times are milliseconds since the epoch. */
export interface LlmRequestRecord {
  /** Counts from 1 in the order of arrival. */
  n: number;
  session: string;
  call: string;
  model: string;
  status: number;
  received_ms: number;
  /** Null: not a byte was written. */
  first_byte_ms: number | null;
  /** When the last byte of the whole answer was written; null: it was not. */
  last_byte_ms: number | null;
  /** When the connection broke before the last byte; null: it did not. */
  interrupted_ms: number | null;
  complete: boolean;
  /** Whether a real provider would have billed it. */
  charged: boolean;
  bytes: number;
  prompt_tokens: number;
  completion_tokens: number;
}

/** Settings of a scripted model. */
export interface ScriptedLlmOptions {
  /** Default: answers with a sentence about the last message. */
  script?: Script;
  /** Port on 127.0.0.1. Default: 0, a free one. */
  port?: number;
  /** Where the account is appended as JSONL. Default: memory only. */
  recordFile?: string;
  /** How every answer is delivered; a fault's own fields win. */
  delivery?: Delivery;
  /** Names for `GET /v1/models`. */
  models?: readonly string[];
}

/** A running scripted model. */
export interface ScriptedLlm {
  /** What goes into `OPENAI_BASE_URL`: it ends with `/v1`. */
  readonly baseUrl: string;
  /** The server's root, for `/control/…`. */
  readonly url: string;
  /** Every finished request, in the order they finished. */
  readonly records: readonly LlmRequestRecord[];
  /** How many requests arrived, unfinished ones included. */
  readonly received: number;
  /** Lets the next requests that match run into a fault. */
  inject(fault: LlmFault, match?: Match, times?: number): void;
  /** Lets stalled answers go on. */
  release(): void;
  close(): Promise<void>;
}

/** Starts a scripted model. */
export async function startScriptedLlm(options: ScriptedLlmOptions = {}): Promise<ScriptedLlm> {
  const server = new Server(options);
  const listening = await listen((request, response, url) => server.handle(request, response, url), options.port ?? 0);
  return server.started(listening);
}

const echo: Script = (request) => {
  const last = request.messages.at(-1);
  return { content: `This is the scripted answer to ${JSON.stringify(last?.content ?? "nothing").slice(0, 200)}.` };
};

class Server {
  private readonly account: Jsonl<LlmRequestRecord>;
  private readonly faults = new Faults<LlmFault>();
  private readonly stalled = new Set<AwkwardWriter>();
  private readonly repeats = new Map<string, number>();
  private received = 0;

  constructor(private readonly options: ScriptedLlmOptions) {
    this.account = new Jsonl(options.recordFile);
  }

  started(listening: Listening): ScriptedLlm {
    const server = this;
    return {
      url: listening.url,
      baseUrl: `${listening.url}/v1`,
      get records() {
        return server.account.entries;
      },
      get received() {
        return server.received;
      },
      inject: (fault, match, times) => this.faults.add(fault, match, times),
      release: () => this.release(),
      close: async () => {
        await listening.close();
        this.account.close();
      },
    };
  }

  async handle(request: IncomingMessage, response: ServerResponse, url: URL): Promise<void> {
    switch (`${request.method} ${url.pathname}`) {
      case "POST /v1/chat/completions":
        return this.chat(request, response);
      case "GET /v1/models":
        return sendJson(response, 200, { object: "list", data: (this.options.models ?? ["scripted"]).map(model) });
      case "GET /control/record":
        return sendJson(response, 200, { received: this.received, finished: this.account.entries });
      case "POST /control/faults":
        return this.addFault(await readJson(request), response);
      case "POST /control/release":
        this.release();
        return sendJson(response, 200, {});
      case "POST /control/clear":
        this.faults.clear();
        return sendJson(response, 200, {});
      default:
        return sendJson(response, 404, wireError("not_found", `nothing at ${url.pathname}`));
    }
  }

  private addFault(body: Record<string, unknown>, response: ServerResponse): void {
    this.faults.add(body.fault as LlmFault, (body.match ?? {}) as Match, Number(body.times ?? 1));
    sendJson(response, 200, {});
  }

  private release(): void {
    for (const writer of this.stalled) writer.release();
  }

  private async chat(request: IncomingMessage, response: ServerResponse): Promise<void> {
    const receivedMs = Date.now();
    const asked = this.asked(request, await readJson(request));
    const entry = this.open(asked, response, receivedMs);
    const reply = this.reply(asked);
    const fault = this.faults.take({ ...asked }) ?? reply.fault ?? {};
    if (fault.status !== undefined) return refuse(response, entry, fault.status, fault.retryAfterS);

    const answer = completeAnswer(asked, reply);
    entry.charged = true;
    entry.prompt_tokens = answer.usage?.promptTokens ?? 0;
    entry.completion_tokens = answer.usage?.completionTokens ?? 0;
    if (fault.resetAfterCharge === true) return resetConnection(response);
    await this.send(asked, answer, response, entry, { ...this.options.delivery, ...fault });
  }

  private asked(request: IncomingMessage, body: Record<string, unknown>): ScriptedRequest {
    const session = header(request, "x-cellaflow-session");
    const call = header(request, "x-cellaflow-call");
    const key = `${session}\n${call}`;
    const repeat = this.repeats.get(key) ?? 0;
    this.repeats.set(key, repeat + 1);
    return {
      session,
      call,
      repeat,
      model: String(body.model ?? ""),
      messages: Array.isArray(body.messages) ? (body.messages as ScriptedRequest["messages"]) : [],
      stream: body.stream === true,
      body,
    };
  }

  /** Opens the request's entry; it is appended when the connection is done with the request (L2). */
  private open(asked: ScriptedRequest, response: ServerResponse, receivedMs: number): LlmRequestRecord {
    const entry: LlmRequestRecord = {
      n: ++this.received,
      session: asked.session,
      call: asked.call,
      model: asked.model,
      status: 200,
      received_ms: receivedMs,
      first_byte_ms: null,
      last_byte_ms: null,
      interrupted_ms: null,
      complete: false,
      charged: false,
      bytes: 0,
      prompt_tokens: 0,
      completion_tokens: 0,
    };
    response.once("finish", () => {
      entry.last_byte_ms = Date.now();
    });
    response.once("close", () => {
      entry.complete = entry.complete && response.writableFinished;
      if (!entry.complete) {
        entry.last_byte_ms = null;
        entry.interrupted_ms = Date.now();
      }
      this.account.append(entry);
    });
    return entry;
  }

  private reply(asked: ScriptedRequest): ScriptedReply {
    const script = this.options.script ?? echo;
    if (typeof script === "function") return script(asked);
    const turn = asked.messages.filter((message) => message.role === "assistant").length;
    return script[Math.min(turn, script.length - 1)] ?? {};
  }

  private async send(
    asked: ScriptedRequest,
    answer: CompleteAnswer,
    response: ServerResponse,
    entry: LlmRequestRecord,
    how: LlmFault,
  ): Promise<void> {
    response.writeHead(200, { "content-type": asked.stream ? "text/event-stream; charset=utf-8" : "application/json" });
    const writer = new AwkwardWriter(response, how, Date.now);
    this.stalled.add(writer);
    try {
      const whole = await writeAll(writer, parts(asked, answer), how);
      // Set before the end: the entry is completed by the response's own events.
      entry.complete = whole;
      if (!response.destroyed) response.end();
    } finally {
      this.stalled.delete(writer);
      entry.first_byte_ms = writer.firstByteMs ?? null;
      entry.bytes = writer.bytes;
    }
  }
}

function parts(asked: ScriptedRequest, answer: CompleteAnswer): Iterable<string> {
  if (!asked.stream) return [JSON.stringify(completion(answer))];
  const options = asked.body.stream_options as { include_usage?: unknown } | undefined;
  return frames(answer, options?.include_usage === true);
}

/** Writes the frames; returns whether the whole answer was written. */
async function writeAll(writer: AwkwardWriter, all: Iterable<string>, how: LlmFault): Promise<boolean> {
  let n = 0;
  for (const frame of all) {
    if (n === how.endAfterFrames) return false;
    const broken = n === how.malformedFrame;
    if (!(await writer.write(broken ? frame.replace("{", "{,") : frame))) return false;
    n += 1;
  }
  return true;
}

function refuse(response: ServerResponse, entry: LlmRequestRecord, status: number, retryAfterS?: number): void {
  entry.status = status;
  entry.complete = true;
  const code = status === 429 ? "rate_limit_exceeded" : "server_error";
  sendJson(
    response,
    status,
    wireError(code, `the script answers ${status}`),
    retryAfterS === undefined ? {} : { "retry-after": String(retryAfterS) },
  );
}

function wireError(code: string, message: string): object {
  return { error: { message, type: code, param: null, code } };
}

function model(id: string): object {
  return { id, object: "model", created: 1_700_000_000, owned_by: "scripted" };
}
