/**
 * Streams on a real engine (design 5.7): every byte once and in order for subscribers that come and go, through kill -9
 * of the engine, rollbacks and commits. Invariants M1 to M4, O2, T1, D1.
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import type { Context, Zone } from "../runtime/api.js";
import { workflow } from "../runtime/workflow.js";
import type { Client } from "./api.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";
import type { StreamItem } from "./subscribe.js";

const FAST = { maxAttempts: 3, backoff: { initialMs: 1 } };
let engine: TestEngine;
let client: Client;
let count = 0;

/** What a page shows: it refuses bytes that are missing or come twice. */
class Page {
  readonly text = new Map<string, { attempt: number; bytes: Buffer }>();
  readonly kinds: string[] = [];
  seq = 0;
  resets = 0;
  ended: string | undefined;
  offset = "";

  take(item: StreamItem): void {
    assert.equal(this.ended, undefined, "nothing follows the end");
    this.offset = item.offset;
    if (item.type === "event") {
      assert.equal(item.event.seq, this.seq + 1, "M1: every event once");
      this.seq = item.event.seq;
      this.kinds.push(item.event.kind);
    } else if (item.type === "tokens") {
      const known = this.text.get(item.zoneKey) ?? { attempt: item.attempt, bytes: Buffer.alloc(0) };
      assert.equal(item.attempt, known.attempt, "M2: a reset comes first");
      assert.equal(item.byte, known.bytes.length, "M1: every byte once");
      const bytes = Buffer.concat([known.bytes, Buffer.from(item.text)]);
      this.text.set(item.zoneKey, { attempt: item.attempt, bytes });
    } else if (item.type === "reset") {
      this.resets += 1;
      this.text.delete(item.zoneKey);
    } else this.ended = item.status;
  }

  of(zoneKey: string): string {
    return this.text.get(zoneKey)?.bytes.toString("utf8") ?? "";
  }
}

/** Takes items until `enough` says so, or the stream ends. */
async function read(
  page: Page,
  stream: AsyncIterable<StreamItem>,
  enough: (item: StreamItem) => boolean = () => false,
) {
  for await (const item of stream) {
    page.take(item);
    if (enough(item)) break;
  }
  return page;
}

/** A model of one's own: it says these texts, one after the other, whenever `next` lets it. */
async function say(zone: Zone, name: string, texts: readonly string[], next: (text: string) => Promise<unknown>) {
  const called = await zone.llm.call({ provider: "own", model: "m", request: texts, name }, async ({ emit }) => {
    for (const text of texts) {
      await next(text);
      emit(text);
    }
    const message = { role: "assistant" as const, parts: [{ type: "text" as const, text: texts.join("") }] };
    return { value: texts.length, message };
  });
  return called.value;
}

function define(body: (ctx: Context) => Promise<unknown>) {
  return workflow({ name: `streams-${++count}`, version: "1", input: z.null() }, body);
}

const WORDS = Array.from({ length: 40 }, (_, n) => `Wört ${n} 😀 `);

describe("streams", { skip: process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine" }, () => {
  before(async () => {
    engine = await TestEngine.start();
    client = createClient({ connection: engine.connection, log: () => {} });
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
  });

  it("M1 M3 tokens arrive while they are streamed, and from every offset the rest is the same", async () => {
    const agent = define((ctx) => ctx.zone("answer", (zone) => say(zone, "talk", WORDS, () => sleep(5))));
    const run = client.run(agent, null, { key: "live" });
    const items: StreamItem[] = [];
    const page = new Page();
    let committed = 0;
    for await (const item of run.stream) {
      page.take(item);
      items.push(item);
      if (item.type === "event" && item.event.kind === "zoneCommitted") committed = items.length;
    }
    assert.equal(page.ended, "completed");
    assert.equal(page.of("answer#1"), WORDS.join(""));
    assert.ok(
      items.filter(({ type }) => type === "tokens").length > 2 && committed > 4,
      "tokens came before the commit",
    );
    const { sessionId } = await run;
    // A subscriber that was cut off after any item: the zone's evidence is gone, the rest comes from its record.
    for (const [index, { offset }] of items.entries()) {
      const again = await read(new Page(), items.slice(0, index + 1).values() as never);
      if (again.ended !== undefined) continue;
      await read(again, client.subscribe(sessionId, { from: offset }));
      assert.equal(again.of("answer#1"), WORDS.join(""), `from item ${index}, ${offset}`);
      assert.deepEqual([again.kinds, again.ended], [page.kinds, "completed"]);
    }
    const end = items.at(-1)?.offset ?? "";
    assert.equal((await read(new Page(), client.subscribe(sessionId, { from: end }))).offset, "");
  });

  it("M1 kill -9 of the engine in the middle of an answer loses and repeats nothing", async () => {
    const crashes = new Set([8, 16, 24]);
    const agent = define((ctx) =>
      ctx.zone("answer", (zone) =>
        say(zone, "talk", WORDS, async (text) => {
          await sleep(10);
          if (crashes.has(WORDS.indexOf(text))) await engine.crash(50);
        }),
      ),
    );
    const run = client.run(agent, null, { key: "crash" });
    const [page, result] = await Promise.all([read(new Page(), run.stream), run]);
    assert.deepEqual(result, { status: "completed", sessionId: result.sessionId, output: WORDS.length });
    assert.equal(page.of("answer#1"), WORDS.join(""));
    assert.equal(page.resets, 0, "losing the engine aborts nothing");
  });

  it("M2 what a handed-over run streamed is reset, also for a subscriber that was away", async () => {
    let runs = 0;
    const agent = define((ctx) =>
      ctx.zone("answer", (zone) => {
        const word = runs++ === 0 ? "first" : "again";
        return say(
          zone,
          "talk",
          WORDS.map((text) => `${word} ${text}`),
          () => sleep(10),
        );
      }),
    );
    const first = client.run(agent, null, { key: "reset", deadlineMs: 250, handOverMs: 1 });
    const away = await read(new Page(), first.stream, ({ type }) => type === "tokens");
    const session = { workflow: agent.name, key: "reset" };
    const there = read(new Page(), client.subscribe(session));
    assert.equal((await first).status, "handedOver");
    const second = client.run(agent, null, { key: "reset" });
    await read(away, client.subscribe(session, { from: away.offset }));
    for (const page of [await there, away]) {
      assert.equal(page.resets, 1);
      assert.equal(page.of("answer#1"), WORDS.map((text) => `again ${text}`).join(""));
    }
    assert.equal((await second).status, "completed");
  });

  it("T1 what was streamed is read back exactly: interleaved, failed and cut within characters", async () => {
    const agent = define((ctx) =>
      ctx.zone("answer", async (zone) => {
        const failing = zone.llm.call(
          { provider: "own", model: "m", request: "x", name: "fails", retry: FAST },
          ({ emit, attempt }) => {
            emit(`<attempt ${attempt}>`);
            if (attempt === 1) throw new Error("no");
            return { value: "whole", message: { role: "assistant", parts: [{ type: "text", text: "<attempt 2>" }] } };
          },
        );
        const halves = ["one \ud83d", "\ude00 ", "two "];
        const both = [say(zone, "a", halves, () => sleep(7)), say(zone, "b", ["B", "BB", "BBB "], () => sleep(5))];
        await Promise.all([failing, ...both]);
      }),
    );
    const run = client.run(agent, null, { key: "exact" });
    const live = await read(new Page(), run.stream);
    const late = await read(new Page(), client.subscribe((await run).sessionId));
    assert.equal(late.of("answer#1"), live.of("answer#1"));
    const text = late.of("answer#1");
    for (const part of ["<attempt 1>", "<attempt 2>", "😀", "BBB "]) assert.ok(text.includes(part), text);
    assert.ok(!text.includes("�"), text);
  });

  it("a failed attempt of a zone is reset, and only the last one's tokens stay", async () => {
    let attempts = 0;
    const agent = define((ctx) =>
      ctx.zone(
        "answer",
        async (zone) => {
          attempts += 1;
          await say(zone, "talk", [`attempt ${attempts} `, "more"], () => sleep(60));
          if (attempts < 3) throw new Error("again");
        },
        { retry: FAST },
      ),
    );
    const page = await read(new Page(), client.run(agent, null, { key: "fails" }).stream);
    assert.equal(page.resets, 2);
    assert.equal(page.of("answer#1"), "attempt 3 more");
  });

  it("O2 an offset of another session is refused, and so is one that is none", async () => {
    const agent = define(async () => "done");
    const [one, other] = await Promise.all(["x", "y"].map((key) => client.run(agent, null, { key })));
    assert.ok(one !== undefined && other !== undefined);
    const { offset } = await read(new Page(), client.subscribe(one.sessionId));
    for (const from of [offset, "nonsense", "1.2", "9.9.9"]) {
      await assert.rejects(read(new Page(), client.subscribe(other.sessionId, { from })), { code: "invalid_offset" });
    }
    await assert.rejects(read(new Page(), client.subscribe({ workflow: "none", key: "x" })), {
      code: "session_not_found",
    });
  });

  it("D1 at its deadline a run hands over between two steps, and the next one goes on", async () => {
    const ran: number[] = [];
    const agent = define(async (ctx) => {
      for (let n = 0; n < 12; n++) {
        await ctx.step("step", async () => {
          await sleep(60);
          ran.push(n);
        });
      }
      return ran.length;
    });
    const results: string[] = [];
    for (let calls = 0; calls < 20; calls++) {
      const run = client.run(agent, null, { key: "deadline", deadlineMs: 250 });
      const page = await read(new Page(), run.stream);
      const { status } = await run;
      results.push(status);
      assert.equal(page.ended, status === "handedOver" ? "running" : status, "the stream of a run ends with it");
      if (status !== "handedOver") break;
    }
    assert.ok(results.length > 2 && results.at(-1) === "completed", results.join());
    assert.deepEqual(ran, [...ran.keys()], "no step ran twice, none was cut off");
    await assert.rejects(client.run(agent, null, { deadlineMs: 0 }), { code: "invalid_deadline" });
  });

  it("a token is with its subscriber soon", async (t) => {
    const sent = new Map<number, number>();
    const late: number[] = [];
    let first = 0;
    let seenBeforeTheLast = 0;
    const agent = define((ctx) =>
      ctx.zone("answer", (zone) =>
        say(zone, "talk", WORDS.concat(WORDS), async () => {
          await sleep(20);
          sent.set(sent.size, performance.now());
        }),
      ),
    );
    let seen = 0;
    const run = client.run(agent, null, { key: "soon" });
    for await (const item of run.stream) {
      if (item.type !== "tokens") continue;
      const now = performance.now();
      for (const _ of item.text.matchAll(/Wört/g)) late.push(now - (sent.get(seen++) ?? now));
      first ||= late[0] ?? 0;
      if (sent.size < 80) seenBeforeTheLast += 1;
    }
    // The stream ends with the session; the run learns of it an answer later, and needs the engine until then.
    await run;
    late.sort((a, b) => a - b);
    const [p50 = 0, p99 = 0] = [0.5, 0.99].map((q) => late[Math.floor(late.length * q)]);
    t.diagnostic(`token to subscriber: first ${first.toFixed(1)}, p50 ${p50.toFixed(1)}, p99 ${p99.toFixed(1)} ms`);
    assert.equal(late.length, 80);
    assert.ok(seenBeforeTheLast > 0, "tokens come while the model still speaks, not with its end");
  });
});
