/**
 * `ctx.context` with the real engine and the real compactor (design: compaction, in the loop): compacted while the agent works,
 * the same prompts after kills, in forks, from the ledger alone, and without a compactor.
 */
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { createClient } from "../client/client.js";
import type { Context } from "../runtime/api.js";
import type { DeliveredContext } from "../runtime/observer.js";
import { workflow } from "../runtime/workflow.js";
import { startCompactor, type TestCompactor } from "../testing/compactor.js";
import { startEngine, type TestEngine } from "../testing/engine.js";
import { exportLedger, replayLedger } from "../testing/ledger.js";
import type { UsedContext } from "./shown.js";
import { contextTools } from "./tools.js";
import type { PromptContext } from "./types.js";

const BUDGET = 3_000;
/** Long: what is asked here is whether it is compacted, not how soon on a busy machine. */
const WAIT_MS = 10_000;
const TOPICS = ["lease", "epoch", "frame", "quota", "shard", "token"];

let engine: TestEngine;
let folder = "";
const logged: string[] = [];
const fallbacks = new Map<string, number>();

function client() {
  const log = (level: string, message: string) => {
    if (level === "warn") logged.push(message);
  };
  const contextUsed = ({ sessionId, fallback, replayed }: DeliveredContext) => {
    if (fallback && !replayed) fallbacks.set(sessionId, (fallbacks.get(sessionId) ?? 0) + 1);
  };
  return createClient({ connection: engine.connection, log, observer: { contextUsed } });
}

/** What a tool says of a topic: about 700 tokens, of which some lines differ. */
function said(topic: string, turn: number): string {
  const lines = Array.from(
    { length: 60 },
    (_, n) => `${topic} ${n}: renewed after ${(n * 37 + turn) % 97} ms, kept in ${topic}.log`,
  );
  return [`report of turn ${turn}`, ...lines].join("\n");
}

interface Seen {
  prompts: string[];
  sources: string[];
}

/** One turn of an agent: a tool call and its result, then a prompt. */
async function turn(ctx: Context, number: number, waitMs: number, seen: Seen): Promise<PromptContext> {
  const topic = TOPICS[number % TOPICS.length] ?? "";
  const call = { id: `call-${number}`, name: "look", arguments: JSON.stringify({ topic }) };
  ctx.messages.push({ role: "assistant", parts: [{ type: "toolCall", ...call }] });
  const look = {
    description: "Looks at a topic.",
    parameters: { type: "object" },
    resources: () => [{ kind: "topic", id: topic, mode: "read" as const }],
    execute: () => said(topic, number),
  };
  ctx.messages.push(...(await ctx.runTools([call], { look })));
  // Commits the result: what is not committed cannot be compacted.
  await ctx.step("note", () => number);
  const prompt = await ctx.context({ budget: BUDGET, waitMs });
  seen.prompts.push(JSON.stringify(prompt.messages));
  seen.sources.push(prompt.source);
  return prompt;
}

const seenBy = new Map<string, Seen>();

const agent = workflow(
  {
    name: "context-agent",
    version: "1",
    input: z.object({ turns: z.number(), extra: z.string().default(""), waitMs: z.number().default(WAIT_MS) }),
  },
  async (ctx, { turns, extra, waitMs }) => {
    const seen: Seen = { prompts: [], sources: [] };
    seenBy.set(ctx.sessionId, seen);
    ctx.messages.push({ role: "user", content: "Watch the topics. The password of the day is heron." });
    if (extra !== "") ctx.messages.push({ role: "user", content: extra });
    for (let n = 1; n <= turns; n++) {
      const { tokens } = await turn(ctx, n, waitMs, seen);
      if (tokens > BUDGET) throw new Error(`${tokens} tokens`);
    }
    const handle = /§\d+/.exec(seen.prompts.at(-1) ?? "")?.[0] ?? "";
    const calls = [
      { id: "f", name: "ccs_fetch", arguments: JSON.stringify({ handle }) },
      { id: "s", name: "ccs_search", arguments: JSON.stringify({ query: "report turn 1" }) },
    ];
    const results = await ctx.runTools(calls, contextTools);
    return {
      sources: seen.sources,
      handle,
      read: results.map(({ parts: [part] }) => (part?.type === "toolResult" ? part.text : "")),
    };
  },
);

/** Seq of a step's outcome. */
async function seqOf(sessionId: string, stepKey: string): Promise<number> {
  for await (const item of client().subscribe(sessionId, { live: false })) {
    if (item.type === "event" && item.event.stepKey === stepKey) return item.event.seq;
  }
  throw new Error(`no ${stepKey}`);
}

describe("contexts on an engine", () => {
  before(async () => {
    folder = mkdtempSync(join(tmpdir(), "context-test-"));
    engine = await startEngine({ flags: ["--lease-ttl-ms", "1500"] });
  });
  after(async () => {
    await engine?.close();
    rmSync(folder, { recursive: true, force: true });
  });

  it("without a compactor a window is sent at once, and said so", async () => {
    const result = await client().run(agent, { turns: 6 });
    assert.ok(result.status === "completed", JSON.stringify(result));
    const { sources } = result.output;
    assert.deepEqual(new Set(sources), new Set(["raw", "window"]));
    assert.equal(logged.filter((line) => line.includes("no compacted context")).length, 1);
    assert.equal(fallbacks.get(result.sessionId), sources.filter((source) => source === "window").length);
  });

  describe("with a compactor", () => {
    let compactor: TestCompactor;
    before(async () => {
      compactor = startCompactor({ connection: engine.connection });
      // Until it has connected nothing is waited for.
      for (;;) {
        const result = await client().run(agent, { turns: 6 });
        if (result.status === "completed" && result.output.sources.includes("ccs")) return;
        await sleep(50);
      }
    });
    after(() => compactor?.close());

    it("a conversation is compacted while its agent works, and can be read back", async () => {
      const result = await client().run(agent, { turns: 12 });
      assert.ok(result.status === "completed", JSON.stringify(result));
      const { sources, handle, read } = result.output;
      assert.equal(sources[0], "raw");
      assert.equal(sources.at(-1), "ccs", compactor.log());
      const seen = seenBy.get(result.sessionId);
      assert.match(seen?.prompts.at(-1) ?? "", /password of the day is heron/, "what the user said is kept");
      assert.match(handle, /^§/);
      assert.doesNotMatch(read[0] ?? "", /is no handle|has no event/);
      assert.match(read[1] ?? "", /^§\d+: report of turn 1/m, "lines that no prompt has any more are found");
      const used: UsedContext[] = [];
      for await (const item of client().subscribe(result.sessionId, { values: true, live: false })) {
        if (item.type === "event" && item.event.name === "context") used.push(item.event.value as UsedContext);
      }
      assert.deepEqual(
        used.map(({ source }) => source),
        sources,
      );
      for (const { tokens, budgetTokens } of used) assert.ok(tokens <= budgetTokens);
    });

    it("the ledger alone makes the same prompts", async () => {
      const result = await client().run(agent, { turns: 9 });
      assert.ok(result.status === "completed", JSON.stringify(result));
      const before = seenBy.get(result.sessionId);
      assert.ok(before?.sources.includes("ccs"));
      seenBy.delete(result.sessionId);
      const file = join(folder, "ledger.jsonl");
      await exportLedger(result.sessionId, file, { connection: engine.connection });
      assert.deepEqual(await replayLedger(file, agent), {
        compatible: true,
        outcomes: 9 * 3 + 2,
        ended: true,
      });
      assert.deepEqual(seenBy.get(result.sessionId), before);
    });

    it("what is encrypted is never compacted: windows, and the same prompts from the ledger", async () => {
      const flip = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0x5a);
      const hooks = { encode: flip, decode: flip, name: "flip" };
      const sealed = createClient({ connection: engine.connection, log: () => {}, hooks });
      const result = await sealed.run(agent, { turns: 6 });
      assert.ok(result.status === "completed", JSON.stringify(result));
      assert.deepEqual(new Set(result.output.sources), new Set(["raw", "window"]));
      const before = seenBy.get(result.sessionId);
      const file = join(folder, "sealed.jsonl");
      await exportLedger(result.sessionId, file, { connection: engine.connection });
      const replayed = await replayLedger(file, agent, { hooks });
      assert.deepEqual(replayed, { compatible: true, outcomes: 6 * 3 + 2, ended: true });
      assert.deepEqual(seenBy.get(result.sessionId), before);
      assert.notEqual(seenBy.get(result.sessionId), before, "another run of the code");
    });

    it("a fork sees its parent's prompts, goes on with the form that its parent used, and gets its own", async () => {
      const parent = await client().run(agent, { turns: 8 });
      assert.ok(parent.status === "completed", JSON.stringify(parent));
      const before = seenBy.get(parent.sessionId);
      const at = await seqOf(parent.sessionId, "context#7");
      const fork = await client().fork(parent.sessionId, { fromSeq: at });
      const forked = await client().runSession(agent, fork.sessionId);
      assert.ok(forked.status === "completed", JSON.stringify(forked));
      const seen = seenBy.get(fork.sessionId);
      assert.deepEqual(seen?.prompts.slice(0, 7), before?.prompts.slice(0, 7));
      assert.notEqual(seen?.sources[7], "raw");
    });

    it("a fork that begins with another input says its conversation again, and is compacted by itself", async () => {
      const parent = await client().run(agent, { turns: 6 });
      assert.ok(parent.status === "completed", JSON.stringify(parent));
      const before = seenBy.get(parent.sessionId);
      const fromSeq = await seqOf(parent.sessionId, "context#6");
      const fork = await client().fork(parent.sessionId, { fromSeq, edits: [{ input: { turns: 10 } }] });
      const forked = await client().runSession(agent, fork.sessionId);
      assert.ok(forked.status === "completed", JSON.stringify(forked));
      const seen = seenBy.get(fork.sessionId);
      assert.deepEqual(seen?.prompts.slice(0, 6), before?.prompts, "what is recorded is what it was");
      assert.equal(seen?.sources.at(-1), "ccs");
    });

    it("a fork whose input makes it say something else uses nothing that stands for what its parent said", async () => {
      const parent = await client().run(agent, { turns: 6 });
      assert.ok(parent.status === "completed", JSON.stringify(parent));
      assert.ok(seenBy.get(parent.sessionId)?.sources.includes("ccs"));
      const fromSeq = await seqOf(parent.sessionId, "context#6");
      const edits = [{ input: { turns: 8, extra: "The password is stork.", waitMs: 500 } }];
      const fork = await client().fork(parent.sessionId, { fromSeq, edits });
      const forked = await client().runSession(agent, fork.sessionId);
      assert.ok(forked.status === "completed", JSON.stringify(forked));
      const own = seenBy.get(fork.sessionId)?.prompts.slice(6) ?? [];
      assert.equal(own.length, 2);
      for (const prompt of own) {
        // Its own context has its own words; without one it is a window.
        assert.ok(prompt.includes("stork") || !prompt.includes("heron"), prompt.slice(0, 500));
      }
    });
  });
});
