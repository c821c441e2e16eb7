/**
 * A session's stream over HTTP, as server-sent events that browsers read with `EventSource`.
 *
 * Owns: the wire form, heartbeats, the end of a connection. Never: lets anybody read a session that `authorize` did not
 * name for this very request.
 *
 * Invariants:
 * - W1 every frame has the offset of its item as `id`: whoever reconnects with it (`Last-Event-ID`) misses and repeats
 *   nothing, whichever server answers.
 * - W2 a reader that does not read holds back its own stream; a few kilobytes wait for it.
 * - W3 a connection that is closed ends its subscription; a session that has ended ends its connection, and answers 204
 *   to whoever comes back for more, which makes an `EventSource` stop.
 */
import { CellaflowError } from "../errors.js";
import { type Logger, stderrLogger } from "../runtime/observer.js";
import type { Client } from "./api.js";
import type { SessionName } from "./core.js";
import { isEndOffset } from "./offset.js";
import type { StreamItem } from "./subscribe.js";

/** What a handler of streams is made of. */
export interface SseOptions {
  client: Pick<Client, "subscribe">;
  /**
   * Says which session this request may read, after looking at its cookie, token or signature: asked for every
   * connection, reconnections included. Undefined: 403. A response is sent as it is (401, a redirect).
   */
  authorize(request: Request): SessionName | Response | undefined | Promise<SessionName | Response | undefined>;
  /** The session's events, too. Default: true. */
  events?: boolean;
  /** The values that events carry, too: think of what the reader may see. Default: false. */
  values?: boolean;
  /** What zones stream, too, while they do. Default: true. */
  tokens?: boolean;
  /** A comment is sent when nothing else was for so long, so that proxies keep the connection, in ms. Default: 15,000. */
  heartbeatMs?: number;
  /** How long browsers wait before they reconnect, in ms. Default: 1,000. */
  retryMs?: number;
  /** Most connections at a time; further ones get 503. Default: 1,000. */
  connectionsMax?: number;
  /** Takes log lines. Default: stderr. */
  log?: Logger;
}

/** A handler of web-standard requests. */
export type WebHandler = (request: Request) => Promise<Response>;

const HEARTBEAT_MS = 15_000;
const RECONNECT_MS = 1_000;
const CONNECTIONS_MAX = 1_000;
/** What waits for a reader, in bytes; one item more may be added. */
const BUFFER_BYTES = 16 * 1_024;
/** How long the answer's status waits for the first item: what is wrong with the request shows by then. */
const STATUS_MS_MAX = 250;

const HEADERS = {
  "content-type": "text/event-stream; charset=utf-8",
  "cache-control": "no-store, no-transform",
  // nginx would collect what is meant to arrive at once.
  "x-accel-buffering": "no",
};

/**
 * Makes a handler that streams sessions: `GET`, `text/event-stream`. The events are named after {@link StreamItem.type}
 * and their data is the item as JSON. A page that is reloaded passes the last offset it kept as `?lastEventId=`.
 */
export function sseHandler(options: SseOptions): WebHandler {
  let open = 0;
  return async (request) => {
    if (request.method !== "GET") return plain(405, "use GET", { allow: "GET" });
    const session = await options.authorize(request);
    if (session instanceof Response) return session;
    if (session === undefined) return plain(403, "forbidden");
    const from = offsetIn(request);
    if (isEndOffset(from)) return new Response(null, { status: 204 }); // W3
    if (open >= (options.connectionsMax ?? CONNECTIONS_MAX)) {
      return plain(503, "too many connections", { "retry-after": "1" });
    }
    open += 1;
    const connection = new Connection(options, session, from, request.signal, () => {
      open -= 1;
    });
    return connection.response();
  };
}

function offsetIn(request: Request): string {
  const header = request.headers.get("last-event-id");
  return header ?? new URL(request.url).searchParams.get("lastEventId") ?? "";
}

type Next = IteratorResult<StreamItem, void>;

/** One answer. */
class Connection {
  private readonly closing = new AbortController();
  private readonly items: AsyncIterator<StreamItem, void>;
  private readonly encoder = new TextEncoder();
  private pending: Promise<Next> | undefined;
  private closed = false;

  constructor(
    private readonly options: SseOptions,
    session: SessionName,
    from: string,
    private readonly gone: AbortSignal,
    private readonly freed: () => void,
  ) {
    const { tokens = true, values = false } = options;
    const { signal } = this.closing;
    this.items = options.client.subscribe(session, { from, tokens, values, signal })[Symbol.asyncIterator]();
    gone.addEventListener("abort", this.close, { once: true });
    if (gone.aborted) this.close();
  }

  async response(): Promise<Response> {
    try {
      await this.within(STATUS_MS_MAX);
    } catch (error) {
      this.close();
      return refused(error, this.log);
    }
    const source = {
      start: (controller: ReadableStreamDefaultController<Uint8Array>) =>
        controller.enqueue(this.encoder.encode(`retry: ${this.options.retryMs ?? RECONNECT_MS}\n\n`)),
      pull: (controller: ReadableStreamDefaultController<Uint8Array>) => this.pull(controller),
      cancel: () => this.close(),
    };
    const body = new ReadableStream(source, new ByteLengthQueuingStrategy({ highWaterMark: BUFFER_BYTES }));
    return new Response(body, { headers: HEADERS });
  }

  private readonly close = (): void => {
    if (this.closed) return;
    this.closed = true;
    this.gone.removeEventListener("abort", this.close);
    this.pending?.catch(() => {});
    this.closing.abort(new CellaflowError("cancelled", "the reader has gone", "nothing"));
    this.freed();
  };

  private get log(): Logger {
    return this.options.log ?? stderrLogger;
  }

  /** Called when the reader has room (W2). */
  private async pull(controller: ReadableStreamDefaultController<Uint8Array>): Promise<void> {
    try {
      const next = await this.within(this.options.heartbeatMs ?? HEARTBEAT_MS);
      if (next === undefined) return controller.enqueue(this.encoder.encode(": \n\n"));
      this.pending = undefined;
      if (next.done === true) {
        this.close();
        return controller.close();
      }
      const frame = this.frame(next.value);
      if (frame !== "") return controller.enqueue(this.encoder.encode(frame));
      await this.pull(controller);
    } catch (error) {
      // The reader reconnects with what it has; what keeps failing is in the log.
      if (!this.closed) this.log("warn", "a stream to a reader broke off", { error: String(error) });
      this.close();
      controller.error(error);
    }
  }

  private frame(item: StreamItem): string {
    if (item.type === "event" && this.options.events === false) return "";
    const { type, offset, ...data } = item;
    return `id: ${offset}\nevent: ${type}\ndata: ${JSON.stringify({ type, ...data })}\n\n`; // W1
  }

  /** The next item; undefined: it takes longer. */
  private async within(ms: number): Promise<Next | undefined> {
    this.pending ??= this.items.next();
    let timer: NodeJS.Timeout | undefined;
    const late = new Promise<undefined>((resolve) => {
      timer = setTimeout(() => resolve(undefined), ms);
    });
    try {
      return await Promise.race([this.pending, late]);
    } finally {
      clearTimeout(timer);
    }
  }
}

function refused(error: unknown, log: Logger): Response {
  const code = error instanceof CellaflowError ? error.code : "";
  if (code === "session_not_found") return plain(404, "no such session");
  if (code === "invalid_offset") return plain(400, "the last event id cannot be used: connect without it");
  log("error", "a session cannot be streamed", { error: String(error) });
  return plain(502, "the session cannot be streamed now");
}

function plain(status: number, text: string, headers: Record<string, string> = {}): Response {
  return new Response(`${text}\n`, { status, headers: { "content-type": "text/plain; charset=utf-8", ...headers } });
}
