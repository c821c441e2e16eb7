/**
 * The chat in the middle of answers: a lost connection, a reload, kill -9 of the server, kill -9 of the engine, messages
 * sent twice. What the page shows is what was recorded, and no answer was paid for twice but the one that was killed.
 *
 * The page's script runs in a process of its own with Node's `EventSource` (a standard one). This file is that process,
 * too: started with CHAT_SITE it is the page.
 */
import assert from "node:assert/strict";
import { type ChildProcess, spawn } from "node:child_process";
import { createServer, request, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, describe, it } from "node:test";
import { fileURLToPath } from "node:url";
import { createClient } from "@cellaflow/sdk";
import { type ScriptedLlm, startEngine, startScriptedLlm, type TestEngine } from "@cellaflow/sdk/testing";
import { type Browser, ChatPage, type Line } from "./page.js";
import script, { answerTo } from "./script.js";

const { CHAT_SITE: site } = process.env;
const WAIT_MS_MAX = 30_000;

/** What the test tells the page. */
type Order = { send: string; id: string } | { reload: true };

/** The page's process: takes orders line by line, prints what is shown. */
function beThePage(at: string): void {
  const kept = new Map<string, string>();
  const browser: Browser = {
    EventSource: (globalThis as unknown as Pick<Browser, "EventSource">).EventSource,
    fetch,
    storage: { getItem: (name) => kept.get(name) ?? null, setItem: (name, value) => void kept.set(name, value) },
    show: (lines) => console.log(JSON.stringify(lines)),
  };
  let page = new ChatPage(browser, at);
  createInterface(process.stdin).on("line", (line) => {
    const order = JSON.parse(line) as Order;
    if ("send" in order) void page.send(order.send, order.id);
    else {
      page.leave();
      page = new ChatPage(browser, at);
    }
  });
}

/** Waits until something is so. */
class Watch {
  private looks: (() => void)[] = [];

  changed(): void {
    for (const look of this.looks) look();
  }

  until(what: string, holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => reject(new Error(`waited in vain for ${what}`)), WAIT_MS_MAX);
      const look = (): void => {
        if (!holds()) return;
        clearTimeout(timer);
        this.looks = this.looks.filter((one) => one !== look);
        resolve();
      };
      this.looks.push(look);
      look();
    });
  }
}

/** A browser's network: keeps the cookie, and can be cut. */
class Network {
  /** `Last-Event-ID` of every connection to the stream; empty: none. */
  readonly lastEventIds: string[] = [];
  private cookie = "";
  private readonly server: Server;

  constructor(private readonly port: () => number) {
    this.server = createServer((incoming, outgoing) => {
      const { url, method } = incoming;
      if (url?.startsWith("/stream")) this.lastEventIds.push(String(incoming.headers["last-event-id"] ?? ""));
      const headers = { ...incoming.headers, ...(this.cookie === "" ? {} : { cookie: this.cookie }) };
      const asked = request({ port: this.port(), host: "127.0.0.1", path: url, method, headers }, (answer) => {
        this.cookie = answer.headers["set-cookie"]?.[0]?.split(";")[0] ?? this.cookie;
        outgoing.writeHead(answer.statusCode ?? 502, answer.headers);
        answer.pipe(outgoing);
        answer.once("error", () => outgoing.destroy());
      });
      asked.once("error", () => outgoing.destroy());
      outgoing.once("close", () => asked.destroy());
      incoming.pipe(asked);
    });
  }

  async start(): Promise<string> {
    await new Promise<void>((resolve) => this.server.listen(0, "127.0.0.1", resolve));
    return `http://127.0.0.1:${(this.server.address() as AddressInfo).port}`;
  }

  cut(): void {
    this.server.closeAllConnections();
  }

  async close(): Promise<void> {
    this.cut();
    await new Promise((resolve) => this.server.close(resolve));
  }
}

/** A process of the test, read line by line. */
function started(args: string[], env: NodeJS.ProcessEnv, line: (line: string) => void): ChildProcess {
  const child = spawn(process.execPath, args, {
    stdio: ["pipe", "pipe", "inherit"],
    env: { ...process.env, NODE_TEST_CONTEXT: "", ...env },
  });
  createInterface(child.stdout as NodeJS.ReadableStream).on("line", line);
  return child;
}

async function killed(child: ChildProcess): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return;
  const exited = new Promise((resolve) => child.once("exit", resolve));
  child.kill("SIGKILL");
  await exited;
}

function tests(): void {
  const watch = new Watch();
  let engine: TestEngine;
  let model: ScriptedLlm;
  let server: ChildProcess;
  let page: ChildProcess;
  let port = 0;
  let lines: Line[] = [];
  const network = new Network(() => port);

  const environment = () => {
    const { url, token, ca } = engine.connection;
    return { CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca, OPENAI_BASE_URL: model.baseUrl };
  };
  const serve = () => {
    const args = [join(import.meta.dirname, "main.js"), "--port", String(port), "--model", "scripted-1"];
    server = started(args, environment(), (line) => {
      port = Number(/^http:\/\/127\.0\.0\.1:(\d+)\//.exec(line)?.[1] ?? port);
      watch.changed();
    });
  };
  const tell = (order: Order) => page.stdin?.write(`${JSON.stringify(order)}\n`);
  const answers = () => lines.filter(({ from }) => from === "assistant");
  const asked: string[] = [];
  /** Sends a message, calls `disturb` in the middle of the answer, and waits for its end. */
  const turn = async (text: string, disturb: () => unknown) => {
    const id = `message-${asked.push(text)}`;
    const turns = asked.length;
    tell({ send: text, id });
    tell({ send: text, id });
    const last = () => answers()[turns - 1];
    await watch.until(`the middle of answer ${turns}`, () => (last()?.text.length ?? 0) > 60);
    assert.equal(last()?.final, false, "in the middle of the answer");
    await disturb();
    tell({ send: text, id });
    await watch.until(`the end of answer ${turns}`, () => last()?.final === true);
    const expected = asked.flatMap((said, index) => [said, answerTo(asked.slice(0, index + 1))]);
    assert.deepEqual(
      lines.map((line) => line.text),
      expected,
      "what the page shows",
    );
  };

  before(async () => {
    engine = await startEngine({ flags: ["--lease-ttl-ms", "1500"] });
    model = await startScriptedLlm({ script, delivery: { chunkDelayMs: 25 } });
    serve();
    const at = await network.start();
    await watch.until("the server", () => port !== 0);
    await (await fetch(`${at}/`)).text();
    page = started(
      ["--experimental-eventsource", "--no-warnings", fileURLToPath(import.meta.url)],
      { CHAT_SITE: at },
      (line) => {
        lines = JSON.parse(line) as Line[];
        watch.changed();
      },
    );
  });
  after(async () => {
    for (const child of [page, server]) if (child !== undefined) await killed(child);
    await network.close();
    await model?.close();
    await engine?.close();
  });

  it("shows exactly what was recorded, whatever happens in the middle of answers", async () => {
    await turn("a lost connection", () => network.cut());
    const reconnects = network.lastEventIds.filter((id) => id !== "").length;
    assert.ok(reconnects > 0, "the browser came back with the last event's id");
    await turn("a reload", () => tell({ reload: true }));
    await turn("the server dies", async () => {
      await killed(server);
      serve();
    });
    await turn("the engine dies", async () => {
      await engine.kill();
      await engine.restart();
    });
    tell({ send: "/bye", id: "bye" });
    const client = createClient({ connection: engine.connection });
    const { sessionId } = (await client.list({ workflow: "chat" })[Symbol.asyncIterator]().next()).value ?? {};
    assert.ok(sessionId !== undefined);
    const result = await client.result(sessionId, { waitMs: WAIT_MS_MAX, whileWaiting: "follow" });
    assert.deepEqual(result, { status: "completed", sessionId, output: { turns: 4 } });
    const { messages } = await client.query(sessionId);
    const recorded = messages.flatMap(({ role, parts }) =>
      role === "assistant" ? parts.map((part) => (part.type === "text" ? part.text : "")).join("") : [],
    );
    assert.deepEqual(
      answers().map(({ text }) => text),
      recorded,
    );
    assert.equal(model.records.filter(({ complete }) => complete).length, 4, "each answer was made once");
    assert.equal(model.received, 5, "and one more was begun, by the server that was killed");
  });
}

if (site !== undefined) beThePage(site);
else describe("the chat", { skip: process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine" }, tests);
