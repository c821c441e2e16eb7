/**
 * The chat's server. It keeps nothing: any number of them, started and killed at any time, serve the same chats.
 *
 * `GET /` the page · `POST /messages {id, text}` a message · `GET /stream` what the chat says. A cookie names the chat;
 * whoever has it may read and write it.
 */
import { randomUUID } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { CellaflowError, type Client, nodeHandler, sseHandler } from "@cellaflow/sdk";
import { chat } from "./workflow.js";

/** A platform that ends this process after 60 s leaves this much time for what was begun. In ms. */
const DEADLINE_MS = 30_000;
const MESSAGE_BYTES_MAX = 16_384;
const COOKIE = /(?:^|; )chat=([0-9a-f-]{36})(?:;|$)/;

/** Where the page is, seen from the compiled file. */
const PAGE = new URL("../../../examples/chat-serverless/index.html", import.meta.url);
const SCRIPT = new URL("./page.js", import.meta.url);

export interface ChatOptions {
  client: Client;
  model: string;
}

export function chatServer(options: ChatOptions): Server {
  const runs = new Runs(options);
  const stream = sseHandler({
    client: options.client,
    values: true,
    authorize: async (request) => {
      const key = chatOf(request);
      if (key === undefined) return new Response("no chat: load the page first\n", { status: 401 });
      // Somebody looks: an answer that another process left behind is gone on with.
      await runs.go(key);
      return { workflow: chat.name, key };
    },
  });
  return createServer(
    nodeHandler((request) => {
      const { pathname } = new URL(request.url);
      switch (`${request.method} ${pathname}`) {
        case "GET /":
          return page(request);
        case "GET /page.js":
          return file(SCRIPT, "text/javascript");
        case "GET /stream":
          return stream(request);
        case "POST /messages":
          return message(request, options.client, runs);
        default:
          return new Response("not found\n", { status: 404 });
      }
    }),
  );
}

function chatOf(request: Request): string | undefined {
  return COOKIE.exec(request.headers.get("cookie") ?? "")?.[1];
}

function page(request: Request): Response {
  const response = file(PAGE, "text/html");
  if (chatOf(request) !== undefined) return response;
  response.headers.set("set-cookie", `chat=${randomUUID()}; Path=/; HttpOnly; SameSite=Strict; Max-Age=31536000`);
  return response;
}

function file(at: URL, type: string): Response {
  return new Response(readFileSync(at), { headers: { "content-type": `${type}; charset=utf-8` } });
}

async function message(request: Request, client: Client, runs: Runs): Promise<Response> {
  const key = chatOf(request);
  if (key === undefined) return new Response("no chat: load the page first\n", { status: 401 });
  const body = await request.text();
  if (body.length > MESSAGE_BYTES_MAX) return new Response("the message is too long\n", { status: 413 });
  const { id, text } = JSON.parse(body) as { id?: unknown; text?: unknown };
  if (typeof id !== "string" || typeof text !== "string") return new Response("send {id, text}\n", { status: 400 });
  await runs.go(key);
  try {
    // Sent twice (a double click, a retry after a lost answer) it is received once: the page made the id.
    await client.signal({ workflow: chat.name, key }, "message", text, { id });
  } catch (error) {
    if (!(error instanceof CellaflowError)) throw error;
    return new Response(`${error.message}\n`, { status: error.retryable ? 503 : 409 });
  }
  await runs.go(key);
  return new Response(null, { status: 202 });
}

/** One chat that is run in this process. */
interface Going {
  /** There may be more to do than it knows of. */
  again: boolean;
  started: Promise<unknown>;
}

/** Runs of chats in this process, one for each. */
class Runs {
  private readonly going = new Map<string, Going>();

  constructor(private readonly options: ChatOptions) {}

  /** Sees to it that a chat is started, and that what it has to do is done, here or wherever it runs already. */
  async go(key: string): Promise<void> {
    const { client, model } = this.options;
    let going = this.going.get(key);
    if (going === undefined) {
      going = { again: true, started: client.start(chat, { model }, { key }) };
      this.going.set(key, going);
      void this.run(key, going);
    }
    going.again = true;
    await going.started;
  }

  private async run(key: string, going: Going): Promise<void> {
    const { client, model } = this.options;
    try {
      await going.started;
      while (going.again) {
        going.again = false;
        const { status } = await client.run(chat, { model }, { key, deadlineMs: DEADLINE_MS });
        // On a platform of functions the next request goes on; here it is this very process.
        if (status === "handedOver" || status === "runningElsewhere") going.again = true;
      }
    } catch (error) {
      console.error(`chat ${key} stopped and goes on with the next request: ${error}`);
    } finally {
      this.going.delete(key);
    }
  }
}
