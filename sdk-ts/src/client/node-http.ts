/**
 * Web-standard handlers on `node:http`.
 *
 * Owns: the translation of requests and answers. Never: routes.
 *
 * Invariants:
 * - H1 an answer is written as fast as its reader reads, and no faster.
 * - H2 a reader that goes away aborts `request.signal` and cancels the answer's body.
 */
import type { IncomingMessage, ServerResponse } from "node:http";
import { Readable } from "node:stream";
import { type Logger, stderrLogger } from "../runtime/observer.js";

/** Makes a listener for `node:http` of a handler, e.g. `createServer(nodeHandler(sseHandler({…})))`. */
export function nodeHandler(
  handler: (request: Request) => Response | Promise<Response>,
  options: { log?: Logger } = {},
): (request: IncomingMessage, response: ServerResponse) => void {
  const log = options.log ?? stderrLogger;
  return (incoming, outgoing) => {
    void answer(handler, incoming, outgoing).catch((error: unknown) => {
      log("error", "a request handler failed", { error: String(error) });
      if (outgoing.headersSent) outgoing.destroy();
      else outgoing.writeHead(500, { "content-type": "text/plain" }).end("internal error\n");
    });
  };
}

async function answer(
  handler: (request: Request) => Response | Promise<Response>,
  incoming: IncomingMessage,
  outgoing: ServerResponse,
): Promise<void> {
  const gone = new AbortController();
  outgoing.once("close", () => gone.abort());
  const response = await handler(requestOf(incoming, gone.signal));
  const headers = [...response.headers].filter(([name]) => name !== "set-cookie");
  for (const [name, value] of headers) outgoing.setHeader(name, value);
  const cookies = response.headers.getSetCookie();
  if (cookies.length > 0) outgoing.setHeader("set-cookie", cookies);
  outgoing.writeHead(response.status);
  if (response.body === null) return void outgoing.end();
  outgoing.flushHeaders();
  await pump(response.body.getReader(), outgoing, gone.signal);
}

function requestOf(incoming: IncomingMessage, signal: AbortSignal): Request {
  const scheme = "encrypted" in incoming.socket ? "https" : "http";
  const host = incoming.headers.host ?? "localhost";
  const base = URL.canParse(`${scheme}://${host}`) ? `${scheme}://${host}` : `${scheme}://localhost`;
  // A path that starts with two slashes is no host.
  const url = new URL(base + (incoming.url?.startsWith("/") ? incoming.url : "/"));
  const headers = new Headers();
  for (const [name, value] of Object.entries(incoming.headers)) {
    for (const one of Array.isArray(value) ? value : [value ?? ""]) headers.append(name, one);
  }
  const { method = "GET" } = incoming;
  if (method === "GET" || method === "HEAD") return new Request(url, { method, headers, signal });
  const body = Readable.toWeb(incoming) as unknown as ReadableStream<Uint8Array>;
  return new Request(url, { method, headers, signal, body, duplex: "half" });
}

async function pump(
  reader: ReadableStreamDefaultReader<Uint8Array>,
  outgoing: ServerResponse,
  gone: AbortSignal,
): Promise<void> {
  const cancel = (): void => void reader.cancel(gone.reason).catch(() => {});
  gone.addEventListener("abort", cancel, { once: true });
  if (gone.aborted) cancel();
  for (;;) {
    const { done, value } = await reader.read().catch((error: unknown) => {
      if (gone.aborted) return { done: true as const, value: undefined };
      throw error;
    });
    if (done) break;
    if (!outgoing.write(value)) await drained(outgoing, gone); // H1
  }
  gone.removeEventListener("abort", cancel);
  outgoing.end();
}

function drained(outgoing: ServerResponse, gone: AbortSignal): Promise<void> {
  if (gone.aborted) return Promise.resolve();
  return new Promise((resolve) => {
    const done = (): void => {
      outgoing.off("drain", done);
      gone.removeEventListener("abort", done);
      resolve();
    };
    outgoing.once("drain", done);
    gone.addEventListener("abort", done, { once: true });
  });
}
