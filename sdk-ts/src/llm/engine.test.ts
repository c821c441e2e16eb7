/**
 * Model calls on a real engine over TLS: replay, streams, tools, accounting and the growth of a conversation.
 *
 * A run is interrupted by giving its session back in the middle of a step ("gate"), then run again in this process.
 */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { readdirSync, statSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { z } from "zod";
import { createClient } from "../client/client.js";
import { NonRetryableError } from "../errors.js";
import type { Context } from "../runtime/api.js";
import { workflow } from "../runtime/workflow.js";
import { startEngine, type TestEngine } from "../testing/engine.js";
import { type ScriptedLlm, type ScriptedLlmOptions, startScriptedLlm } from "../testing/scripted-llm.js";
import { runTools, type Tools, tool } from "./tools.js";
import type { Endpoint, StreamEvent } from "./types.js";

const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";
const RETRY_NOW = { maxAttempts: 3, backoff: { initialMs: 1 } };
let engine: TestEngine;
let count = 0;

/** A workflow that can be interrupted at its gate: the first run waits there, later ones pass. */
class Interrupted<O> {
  readonly key = `run-${++count}`;
  private readonly controller = new AbortController();
  private runs = 0;
  private readonly definition;
  private readonly client = createClient({ connection: engine.connection });

  constructor(body: (ctx: Context, gate: () => Promise<unknown>) => Promise<O>) {
    const options = { name: `llm-${count}`, version: "1", input: z.null() };
    this.definition = workflow(options, (ctx) => body(ctx, () => ctx.step("gate", () => this.wait())));
  }

  /** Runs it up to the gate, then again to the end. */
  async twice() {
    const first = this.client.run(this.definition, null, { key: this.key, signal: this.controller.signal });
    await assert.rejects(first);
    return this.once();
  }

  async once() {
    const result = await this.client.run(this.definition, null, { key: this.key });
    assert.ok(result.status === "completed", JSON.stringify(result));
    return { sessionId: result.sessionId, output: result.output };
  }

  info(sessionId: string) {
    return this.client.get(sessionId);
  }

  async kinds(sessionId: string) {
    const kinds: string[] = [];
    for await (const event of this.client.attach(sessionId).events({ live: false })) kinds.push(event.kind);
    return kinds;
  }

  private wait(): null {
    this.runs += 1;
    if (this.runs > 1) return null;
    this.controller.abort();
    throw new Error("interrupted");
  }
}

async function using<T>(options: ScriptedLlmOptions, use: (llm: ScriptedLlm, endpoint: Endpoint) => Promise<T>) {
  const llm = await startScriptedLlm(options);
  try {
    return await use(llm, { baseUrl: llm.baseUrl });
  } finally {
    await llm.close();
  }
}

const user = (content: string) => ({ role: "user" as const, content });

describe("model calls on an engine", { skip }, () => {
  before(async () => {
    engine = await startEngine({ flags: ["--lease-ttl-ms", "2000"] });
  });
  after(() => engine?.close());

  it("replay answers and streams, chunk by chunk, without the provider", () =>
    using(
      { script: ({ stream }) => ({ content: stream ? "Grüße 😀 aus dem Süden." : "yes" }) },
      async (llm, endpoint) => {
        const seen: string[][] = [];
        const run = new Interrupted(async (ctx, gate) => {
          const { text } = await ctx.llm.generate("scripted-1", { endpoint, messages: "well?" });
          const zone = await ctx.zone("draft", async ({ llm }) => {
            const stream = llm.stream("scripted-1", { endpoint, messages: "greet" });
            const chunks: string[] = [];
            for await (const chunk of stream) chunks.push(chunk);
            seen.push(chunks);
            return stream.final;
          });
          const own = ctx.llm.stream("scripted-1", { endpoint, messages: "again" });
          const events: StreamEvent[] = [];
          for await (const event of own.events) events.push(event);
          seen.push(events.flatMap((event) => (event.type === "text" ? [event.text] : [])));
          await gate();
          return { text, zone, own: await own.final };
        });
        const { output, sessionId } = await run.twice();
        assert.equal(llm.received, 3);
        assert.equal(seen.length, 4);
        assert.ok((seen[0]?.length ?? 0) > 3);
        assert.deepEqual(seen[2], seen[0]);
        assert.deepEqual(seen[3], seen[1]);
        assert.equal(output.text, "yes");
        assert.deepEqual(output.own.message, output.zone.message);
        const { totals } = await run.info(sessionId);
        assert.equal(totals.llmCalls, 3);
        assert.ok(totals.costNanos > 0);
      },
    ));

  it("run tools as steps that never run again, failed ones included", () =>
    using(
      {
        script: [
          {
            toolCalls: [
              { id: "c1", name: "add", arguments: { a: 1, b: 2 } },
              { id: "c2", name: "fail", arguments: {} },
              { id: "c3", name: "nothing", arguments: {} },
            ],
          },
          { content: "3, and two problems" },
        ],
      },
      async (llm, endpoint) => {
        let executed = 0;
        const tools: Tools = {
          add: tool({
            description: "Adds.",
            parameters: z.object({ a: z.number(), b: z.number() }),
            execute: ({ a, b }) => {
              executed += 1;
              return a + b;
            },
          }),
          fail: tool({
            description: "Fails.",
            parameters: z.object({}),
            execute: () => {
              executed += 1;
              throw new NonRetryableError("no such disk", { code: "no_disk" });
            },
          }),
        };
        const run = new Interrupted(async (ctx, gate) => {
          ctx.messages.push(user("add"));
          const first = await ctx.llm.generate("scripted-1", { endpoint, tools });
          ctx.messages.push(first.message, ...(await runTools(ctx, first.toolCalls, tools)));
          await gate();
          const last = await ctx.llm.generate("scripted-1", { endpoint, tools });
          return { text: last.text, conversation: ctx.messages.list };
        });
        const { output } = await run.twice();
        assert.equal(executed, 2);
        assert.equal(llm.received, 2);
        assert.equal(output.text, "3, and two problems");
        const results = output.conversation.flatMap(({ parts }) =>
          parts.flatMap((part) => (part.type === "toolResult" ? [[part.id, part.text, part.failed ?? false]] : [])),
        );
        assert.deepEqual(results.slice(0, 2), [
          ["c1", "3", false],
          ["c2", "no_disk: no such disk", true],
        ]);
        assert.equal(results[2]?.[2], true);
      },
    ));

  it("try an answer again that broke off, and account for what was wasted", () =>
    using({ script: () => ({ content: "a whole answer of some words", usage: null }) }, async (llm, endpoint) => {
      llm.inject({ dieAtByte: 700 });
      llm.inject({ malformedFrame: 2 });
      const run = new Interrupted(async (ctx) => {
        const stream = ctx.llm.stream("nobody-knows-it", { endpoint, messages: "go", retry: RETRY_NOW });
        return (await stream.final).usage;
      });
      const { output, sessionId } = await run.once();
      assert.equal(output.estimated, true);
      assert.equal("costNanos" in output, false);
      assert.equal(llm.received, 3);
      const kinds = await run.kinds(sessionId);
      assert.equal(kinds.filter((kind) => kind === "zoneFailed").length, 2);
      assert.equal(kinds.filter((kind) => kind === "zoneCommitted").length, 1);
      const { totals } = await run.info(sessionId);
      assert.ok(totals.wastedTokens > 0);
    }));

  it("wait as long as the provider asks before the next attempt", () =>
    using({ script: () => ({ content: "yes" }) }, async (llm, endpoint) => {
      llm.inject({ status: 429, retryAfterS: 1 });
      const run = new Interrupted((ctx) =>
        ctx.llm.generate("scripted-1", { endpoint, messages: "hi", retry: RETRY_NOW }),
      );
      await run.once();
      const [first, second] = llm.records;
      assert.ok((second?.received_ms ?? 0) - (first?.received_ms ?? 0) >= 1_000);
    }));

  it("notice a call that nobody awaits", () =>
    using({}, async (_, endpoint) => {
      const run = new Interrupted(async (ctx) => {
        void ctx.llm.generate("scripted-1", { endpoint, messages: "hello" });
        await ctx.step("other", () => 1);
      });
      await assert.rejects(run.once(), /unawaited_steps/);
    }));

  it("keep 100 turns over 209 k tokens in 1.2 times the transcript on disk", async () => {
    const own = await startEngine();
    await own.stop();
    const empty = bytesOf(own.folder);
    await own.restart();
    // Random printable ASCII: as little to compress as a text can have.
    const text = (bytes: number): string => String.fromCharCode(...randomBytes(bytes).map((byte) => 32 + (byte % 95)));
    await using({ script: () => ({ content: text(4_000) }) }, async (llm, endpoint) => {
      const grow = workflow({ name: "grow", version: "1", input: z.null() }, async (ctx) => {
        for (let turn = 0; turn < 100; turn++) {
          const asked = await ctx.step("ask", () => text(4_360));
          ctx.messages.push(user(asked));
          const { message } = await ctx.llm.generate("scripted-1", { endpoint, system: "Be brief." });
          ctx.messages.push(message);
        }
        return ctx.messages.list.reduce(
          (sum, { parts: [part] }) => sum + (part?.type === "text" ? part.text.length : 0),
          0,
        );
      });
      const result = await createClient({ connection: own.connection }).run(grow, null);
      assert.ok(result.status === "completed", JSON.stringify(result));
      assert.equal(llm.received, 100);
      const transcript = result.output;
      assert.ok(transcript / 4 >= 209_000);
      // At rest: what the log held is in its place.
      await own.stop();
      await own.restart();
      await own.stop();
      const disk = bytesOf(own.folder) - empty;
      console.error(
        `conversation of ${transcript} bytes: ${disk} bytes on disk, ${(disk / transcript).toFixed(3)} times`,
      );
      assert.ok(disk <= transcript * 1.2, `${disk} bytes on disk for ${transcript}`);
    });
    await own.close();
  });
});

function bytesOf(folder: string): number {
  return readdirSync(folder, { recursive: true, withFileTypes: true })
    .filter((entry) => entry.isFile())
    .reduce((sum, entry) => sum + statSync(join(entry.parentPath, entry.name)).size, 0);
}
