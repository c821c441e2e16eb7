/**
 * Streams over HTTP on a real engine: reconnecting readers miss and repeat nothing, slow and gone ones cost little.
 * Invariants W1 to W3, H1, H2.
 */
import assert from "node:assert/strict";
import { createServer, type Server } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { workflow } from "../runtime/workflow.js";
import type { Client } from "./api.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";
import { nodeHandler } from "./node-http.js";
import { type SseOptions, sseHandler } from "./sse.js";
import type { StreamItem } from "./subscribe.js";

let engine: TestEngine;
let client: Client;

const WORDS = Array.from({ length: 30 }, (_, n) => `word ${n} `);
let beforeWord: (word: string) => Promise<unknown> = () => sleep(5);

const talk = workflow({ name: "talk", version: "1", input: z.string() }, (ctx, filler) =>
  ctx.zone("answer", async (zone) => {
    await zone.llm.call({ provider: "own", model: "m", request: "x" }, async ({ emit }) => {
      for (const word of WORDS) {
        await beforeWord(word);
        emit(word + filler);
      }
      return { value: null };
    });
  }),
);

/** Serves streams: the path names the key; a token says who may. */
class Site implements AsyncDisposable {
  readonly lines: string[] = [];
  private readonly server: Server;

  private constructor(options: Partial<SseOptions>) {
    const handler = sseHandler({
      client,
      authorize: (request) => {
        const { pathname, searchParams } = new URL(request.url);
        if (searchParams.get("token") === null) return new Response("log in", { status: 401 });
        return searchParams.get("token") === "mine" ? { workflow: "talk", key: pathname.slice(1) } : undefined;
      },
      log: (_, message) => this.lines.push(message),
      retryMs: 10,
      ...options,
    });
    this.server = createServer(nodeHandler(handler));
  }

  static async start(options: Partial<SseOptions> = {}): Promise<Site> {
    const site = new Site(options);
    await new Promise<void>((resolve) => site.server.listen(0, "127.0.0.1", resolve));
    return site;
  }

  url(key: string, token = "mine"): string {
    return `http://127.0.0.1:${this.port}/${key}?token=${token}`;
  }

  get port(): number {
    return (this.server.address() as AddressInfo).port;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.server.closeAllConnections();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

interface Frame {
  id: string;
  event: string;
  item: StreamItem;
}

/** Reads frames until there are `max`, or the answer ends; comments and `retry` are left out. */
async function frames(response: Response, max = Number.MAX_SAFE_INTEGER): Promise<Frame[]> {
  const found: Frame[] = [];
  let text = "";
  for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
    text += chunk;
    for (let end = text.indexOf("\n\n"); end >= 0 && found.length < max; end = text.indexOf("\n\n")) {
      const fields = new Map(
        text
          .slice(0, end)
          .split("\n")
          .map((line): [string, string] => [line.split(": ")[0] ?? "", line.slice(line.indexOf(": ") + 2)]),
      );
      text = text.slice(end + 2);
      const data = fields.get("data");
      if (data === undefined) continue;
      const item = { ...JSON.parse(data), offset: fields.get("id") } as StreamItem;
      found.push({ id: fields.get("id") ?? "", event: fields.get("event") ?? "", item });
    }
    if (found.length >= max) break;
  }
  return found;
}

function textOf(read: readonly Frame[]): string {
  return read.map(({ item }) => (item.type === "tokens" ? item.text : "")).join("");
}

describe("server-sent events", { skip: process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine" }, () => {
  before(async () => {
    engine = await TestEngine.start();
    client = createClient({ connection: engine.connection, log: () => {} });
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
  });

  it("W1 W3 a reader that is cut off after every few frames has the whole answer, then is told to stop", async () => {
    await using site = await Site.start();
    const { sessionId } = await client.start(talk, "", { key: "cut" });
    const read: Frame[] = [];
    const connect = () => fetch(site.url("cut"), { headers: { "last-event-id": read.at(-1)?.id ?? "" } });
    // The session has begun before it runs: who comes first waits for it.
    const first = await connect();
    assert.match(first.headers.get("content-type") ?? "", /^text\/event-stream/);
    const run = client.run(talk, "", { key: "cut" });
    read.push(...(await frames(first, 3)));
    for (let connections = 0; read.at(-1)?.event !== "end"; connections++) {
      assert.ok(connections < 200, "it goes on");
      read.push(...(await frames(await connect(), 2)));
    }
    assert.equal(textOf(read), WORDS.join(""));
    const seqs = read.flatMap(({ item }) => (item.type === "event" ? item.event.seq : []));
    assert.deepEqual(
      seqs,
      [...seqs.keys()].map((n) => n + 1),
    );
    assert.equal((await connect()).status, 204);
    assert.equal((await run).sessionId, sessionId);
  });

  it("nobody reads what authorize did not name, and what is wrong is said by the status", async () => {
    await using site = await Site.start({ connectionsMax: 1 });
    await client.run(talk, "", { key: "mine" });
    const status = async (url: string, init: RequestInit = {}) => {
      const response = await fetch(url, init);
      await response.body?.cancel();
      return response.status;
    };
    assert.equal(await status(`http://127.0.0.1:${site.port}/mine`), 401);
    assert.equal(await status(site.url("mine", "theirs")), 403);
    assert.equal(await status(site.url("nothing")), 404);
    assert.equal(await status(site.url("mine"), { headers: { "last-event-id": "1.0123.nonsense" } }), 400);
    assert.equal(await status(site.url("mine"), { method: "POST", body: "x" }), 405);
    await client.start(talk, "", { key: "waits" });
    const open = await fetch(site.url("waits"));
    assert.equal(await status(site.url("waits")), 503);
    await open.body?.cancel();
    for (let tries = 0; (await status(site.url("waits"))) !== 200; tries++) {
      assert.ok(tries < 100, "W3 a reader that is gone gives its place back");
      await sleep(10);
    }
  });

  it("a quiet stream is kept open by comments", async () => {
    await using site = await Site.start({ heartbeatMs: 30 });
    await client.start(talk, "", { key: "quiet" });
    const response = await fetch(site.url("quiet"));
    let text = "";
    for await (const chunk of (response.body as ReadableStream<Uint8Array>).pipeThrough(new TextDecoderStream())) {
      text += chunk;
      if (text.split(": \n\n").length > 3) break;
    }
    assert.match(text, /^retry: 10\n\n/);
  });

  it("W2 H1 a reader that does not read holds back its own stream, not the run and not this process's memory", async () => {
    await using site = await Site.start();
    const taken: number[] = [];
    const counting: Pick<Client, "subscribe"> = {
      subscribe: async function* (session, options) {
        for await (const item of client.subscribe(session, options)) {
          taken.push(item.type === "tokens" ? item.text.length : 0);
          yield item;
        }
      },
    };
    await using slow = await Site.start({ client: counting });
    beforeWord = () => Promise.resolve();
    // 30 words with 256 KiB each: about 8 MiB.
    const run = await client.run(talk, "x".repeat(256 * 1_024), { key: "slow" });
    beforeWord = () => sleep(5);
    assert.equal(run.status, "completed");
    const socket = connect(slow.port, "127.0.0.1");
    socket.pause();
    socket.write("GET /slow?token=mine HTTP/1.1\r\nhost: x\r\n\r\n");
    let before = -1;
    // Until nothing moves any more.
    while (before !== taken.length || taken.length === 0) {
      before = taken.length;
      await sleep(150);
    }
    const bytes = taken.reduce((sum, length) => sum + length, 0);
    assert.ok(bytes < 6 * 1_024 * 1_024, `${bytes} bytes were taken for a reader that does not read`);
    // Another reader is not held back by it.
    assert.equal(textOf(await frames(await fetch(site.url("slow")))).length, 30 * 256 * 1_024 + WORDS.join("").length);
    socket.destroy();
  });

  it("M1 the engine's kill -9 is not seen by readers", async () => {
    await using site = await Site.start();
    beforeWord = async (word) => {
      await sleep(10);
      if (word === "word 15 ") await engine.crash(50);
    };
    const run = client.run(talk, "", { key: "crash" });
    while (
      (
        await client
          .list({ workflow: "talk", status: ["running"] })
          [Symbol.asyncIterator]()
          .next()
      ).done
    ) {
      await sleep(5);
    }
    const read = await frames(await fetch(site.url("crash")));
    beforeWord = () => sleep(5);
    assert.equal(textOf(read), WORDS.join(""));
    assert.equal(read.at(-1)?.event, "end");
    assert.equal((await run).status, "completed");
  });
});
