/**
 * `ctx.context` as a step (design: compaction, in the loop): its choice is journaled, a replay sees the same messages and asks
 * nobody. Against a compactor in memory; `engine.test.ts` has the real one.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as z from "zod";
import { StepError } from "../failure.js";
import { ContextUsedSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "../runtime/api.js";
import { payloadDocument } from "../runtime/payloads.js";
import { MemorySession } from "../runtime/test-kit.js";
import { workflow } from "../runtime/workflow.js";
import { MemoryCompactor } from "./memory.fixture.js";
import { contextTools } from "./tools.js";
import type { PromptContext } from "./types.js";

type Code = (ctx: Context, input: unknown) => Promise<unknown>;

function define(code: Code) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

function session(events: Event[] = []): { memory: MemorySession; compactor: MemoryCompactor } {
  const memory = new MemorySession(events);
  const compactor = new MemoryCompactor(memory.events);
  memory.contexts = compactor;
  return { memory, compactor };
}

async function outputOf(memory: MemorySession, code: Code): Promise<unknown> {
  const end = await memory.execute(define(code));
  assert.ok(end !== "killed" && end.kind === "completed", JSON.stringify(end));
  return end.output;
}

function usesOf(memory: MemorySession) {
  return memory.events.flatMap(({ seq, body }) => {
    if (body.case !== "stepCompleted" || body.value.name !== "context") return [];
    return { seq, used: payloadDocument(body.value.output, ContextUsedSchema) };
  });
}

const WORDS = "word ".repeat(60).trim();

/** A turn as agents have it: something is said and committed with the next step. */
async function turns(ctx: Context, count: number): Promise<void> {
  for (let n = 0; n < count; n++) {
    ctx.messages.push({ role: "user", content: `${n}: ${WORDS}` });
    await ctx.step("turn", () => n);
  }
}

function plain({ messages, breakpoints, version, tokens, source }: PromptContext) {
  return { messages: JSON.parse(JSON.stringify(messages)) as unknown[], breakpoints, version, tokens, source };
}

test("a short conversation is sent as it is", async () => {
  const { memory, compactor } = session();
  const output = await outputOf(memory, async (ctx) => {
    await turns(ctx, 3);
    return plain(await ctx.context());
  });
  assert.equal((output as PromptContext).source, "raw");
  assert.equal((output as PromptContext).messages.length, 3);
  assert.deepEqual((output as PromptContext).breakpoints, [{ message: 2, part: 0 }]);
  assert.equal(compactor.asked.length, 1);
  assert.equal(compactor.asked[0]?.waitMs, 0n);
});

const LONG: Code = async (ctx) => {
  const seen: unknown[] = [];
  for (let n = 0; n < 6; n++) {
    await turns(ctx, 2);
    ctx.messages.push({ role: "user", content: `question ${n}` });
    seen.push(plain(await ctx.context({ budget: 400, waitMs: 1_000 })));
    ctx.messages.push({ role: "assistant", content: `answer ${n}` });
  }
  return seen;
};

test("what does not fit is compacted; the ledger has each version once", async () => {
  const { memory, compactor } = session();
  const seen = (await outputOf(memory, LONG)) as PromptContext[];
  const sources = seen.map(({ source }) => source);
  assert.deepEqual(sources, ["raw", "raw", "ccs", "ccs", "ccs", "ccs"]);
  for (const { tokens } of seen) assert.ok(tokens <= 400, String(tokens));
  const uses = usesOf(memory);
  assert.equal(
    uses.filter(({ used }) => used.artefact !== undefined).length,
    new Set(seen.map((s) => s.version)).size - 1,
  );
  for (const { used } of uses.slice(2)) {
    const holder = used.artefact === undefined ? uses.find(({ seq }) => seq === used.artefactSeq)?.used : used;
    assert.deepEqual(holder?.hash, used.hash);
    assert.equal(holder?.artefact?.blocks.length, 2);
  }
  // What the run has is not sent again.
  const known = compactor.asked.map(({ knownVersion }) => knownVersion);
  assert.deepEqual(known.slice(0, 4), [0, 0, 0, 0]);
  assert.ok(known.at(-1) !== 0);
  // The prompt: blocks as parts of one message, then what came after.
  const { messages, breakpoints } = seen[2] as PromptContext;
  assert.match(JSON.stringify(messages[0]), /"role":"user".*Rules\..*messages word/);
  assert.deepEqual(breakpoints.slice(0, 2), [
    { message: 0, part: 0 },
    { message: 0, part: 1 },
  ]);
  assert.ok(Number(uses[3]?.used.sharedTokens) > 0, "the first block is what both prompts begin with");
});

test("Q1 a replay from every place sees the same messages and asks nobody for what is recorded", async () => {
  const { memory } = session();
  const seen = await outputOf(memory, LONG);
  for (let count = 2; count < memory.events.length; count++) {
    const { memory: again, compactor } = session(memory.events.slice(0, count));
    const recorded = usesOf(again).length;
    // Nobody has the contexts any more: what the ledger lacks is chosen anew, what it has is as it was.
    compactor.unattended = true;
    compactor.folds = false;
    const output = (await outputOf(again, LONG)) as unknown[];
    assert.deepEqual(output.slice(0, recorded), (seen as unknown[]).slice(0, recorded), `cut at ${count}`);
    assert.equal(new Set(compactor.asked.map(({ atLeastSeq }) => atLeastSeq === 0n)).has(false), false, "no waiting");
    assert.equal(compactor.asked.length, 6 - recorded);
  }
});

test("a context that was used stands for itself when the engine has none any more", async () => {
  const { memory, compactor } = session();
  const sources: string[] = [];
  await outputOf(memory, async (ctx) => {
    await turns(ctx, 7);
    sources.push((await ctx.context({ budget: 400 })).source);
    compactor.forget();
    compactor.folds = false;
    ctx.messages.push({ role: "user", content: "and now?" });
    const { source, messages } = await ctx.context({ budget: 400 });
    sources.push(source);
    assert.match(JSON.stringify(messages[0]), /Rules/);
  });
  assert.deepEqual(sources, ["ccs", "ccs"]);
});

test("U3 once a compacted context was used, neither the whole conversation nor an older one is", async () => {
  const { memory, compactor } = session();
  compactor.words = 300;
  const prompts: PromptContext[] = [];
  await outputOf(memory, async (ctx) => {
    await turns(ctx, 5);
    const first = ctx.context({ budget: 2_000 });
    compactor.fold(memory.events.length);
    prompts.push(await first);
    // Less of it is covered: what is there is better.
    compactor.fold(4);
    prompts.push(await ctx.context({ budget: 2_000 }));
    // All of the conversation would fit here, but the compacted form does not.
    compactor.folds = false;
    prompts.push(await ctx.context({ budget: 360 }));
  });
  const { rawTokens, messages } = prompts[0] as PromptContext;
  assert.ok(rawTokens < 360, String(rawTokens));
  assert.deepEqual(
    prompts.map(({ source }) => source),
    ["ccs", "ccs", "window"],
  );
  assert.deepEqual(prompts[1]?.messages[0], messages[0]);
});

test("Q3 what is waited for ends where every call has its result in the ledger", async () => {
  const { memory, compactor } = session();
  await outputOf(memory, async (ctx) => {
    await turns(ctx, 6);
    const call = { id: "c", name: "ccs_search", arguments: '{"query":"word"}' };
    ctx.messages.push({ role: "assistant", parts: [{ type: "toolCall", ...call }] });
    // The call is durable with the tool's step, its result only with what comes after.
    ctx.messages.push(...(await ctx.runTools([call], contextTools)));
    await ctx.context({ budget: 600 });
  });
  const last = memory.events.find(({ body }) => body.case === "stepCompleted" && body.value.stepKey === "turn#6")?.seq;
  assert.deepEqual(
    compactor.asked.map(({ atLeastSeq }) => atLeastSeq),
    [0n, last],
  );
});

test("what only the user can read is never asked for", async () => {
  const { memory, compactor } = session();
  memory.sealed = true;
  await outputOf(memory, async (ctx) => {
    await turns(ctx, 9);
    assert.equal((await ctx.context({ budget: 400 })).source, "window");
  });
  assert.equal(compactor.asked.length, 0);
});

test("without a compactor there is a window, at once, with one warning", async () => {
  const { memory, compactor } = session();
  compactor.unattended = true;
  const seen = (await outputOf(memory, async (ctx) => {
    await turns(ctx, 9);
    const first = await ctx.context({ budget: 400 });
    await turns(ctx, 1);
    return [plain(first), plain(await ctx.context({ budget: 400 }))];
  })) as PromptContext[];
  assert.deepEqual(
    seen.map(({ source }) => source),
    ["window", "window"],
  );
  assert.equal(compactor.asked.filter(({ waitMs }) => waitMs > 0n).length, 0);
  assert.equal(memory.logged.filter((line) => line.startsWith("warn")).length, 1);
  assert.deepEqual(
    usesOf(memory).map(({ used }) => used.fallback),
    [true, true],
  );
  // Once per session, not per process.
  const { memory: again } = session(memory.events.slice(0, -1));
  await outputOf(again, async (ctx) => {
    await turns(ctx, 9);
    await ctx.context({ budget: 400 });
    await turns(ctx, 1);
    await ctx.context({ budget: 400 });
    await turns(ctx, 4);
    await ctx.context({ budget: 400 });
  });
  assert.equal(again.logged.filter((line) => line.startsWith("warn")).length, 0);
});

test("Q3 what is not committed is not waited for", async () => {
  const { memory, compactor } = session();
  await outputOf(memory, async (ctx) => {
    await ctx.step("first", () => 1);
    for (let n = 0; n < 9; n++) ctx.messages.push({ role: "user", content: WORDS });
    assert.equal((await ctx.context({ budget: 400 })).source, "window");
  });
  assert.deepEqual(
    compactor.asked.map(({ waitMs }) => waitMs),
    [0n],
  );
});

test("a refusal of the compactor and an engine without the service mean a window", async () => {
  for (const broken of [false, true]) {
    const { memory, compactor } = session();
    compactor.refused = "sealed payloads";
    compactor.folds = false;
    if (broken) compactor.get = () => Promise.reject(new Error("unimplemented"));
    await outputOf(memory, async (ctx) => {
      await turns(ctx, 9);
      assert.equal((await ctx.context({ budget: 400 })).source, "window");
    });
    assert.ok(compactor.asked.length <= 2);
  }
});

test("where waiting brings nothing it becomes rare", async () => {
  const { memory, compactor } = session();
  compactor.folds = false;
  await outputOf(memory, async (ctx) => {
    for (let n = 0; n < 12; n++) {
      await turns(ctx, n === 0 ? 9 : 1);
      await ctx.context({ budget: 400 });
    }
  });
  const waited = compactor.asked.flatMap(({ waitMs }, at) => (waitMs > 0n ? [compactor.asked[at - 1]] : []));
  assert.equal(waited.length, 4, "with the 1st, 3rd, 6th and 11th prompt");
});

test("Q2 messages that other branches push meanwhile are no part of it", async () => {
  const { memory } = session();
  const length = await outputOf(memory, async (ctx) => {
    await turns(ctx, 1);
    const asked = ctx.context();
    ctx.messages.push({ role: "user", content: "later" });
    return (await asked).messages.length;
  });
  assert.equal(length, 1);
});

test("both tools read what the run has, in steps that declare what they read", async () => {
  const { memory } = session();
  const texts = await outputOf(memory, async (ctx) => {
    await turns(ctx, 2);
    const calls = [
      { id: "1", name: "ccs_fetch", arguments: JSON.stringify({ handle: "§1" }) },
      { id: "2", name: "ccs_search", arguments: JSON.stringify({ query: "1: WORD" }) },
      { id: "3", name: "ccs_fetch", arguments: JSON.stringify({ handle: "§3" }) },
      { id: "4", name: "ccs_fetch", arguments: JSON.stringify({ handle: "§1", range: [3, 7] }) },
    ];
    const results = await ctx.runTools(calls, { ...contextTools });
    return results.map(({ parts: [part] }) => (part?.type === "toolResult" ? part.text : ""));
  });
  const line = `1: ${WORDS}`.slice(0, 200);
  const unknown = "this session has no event 3; use a handle that the context shows";
  assert.deepEqual(texts, [`0: ${WORDS}`, `§2: ${line}`, unknown, "word"]);
  const resources = memory.events.flatMap(({ body }) => (body.case === "stepCompleted" ? body.value.resources : []));
  assert.deepEqual(
    resources.map(({ kind, id }) => `${kind} ${id}`),
    ["context §1", "context 1: WORD", "context §3", "context §1"],
  );
});

test("handles are the same after a replay", async () => {
  const { memory } = session();
  const ask: Code = async (ctx) => {
    await turns(ctx, 2);
    const calls = [{ id: "1", name: "ccs_fetch", arguments: '{"handle":"§2"}' }];
    const [result] = await ctx.runTools(calls, contextTools);
    return result?.parts;
  };
  const output = await outputOf(memory, ask);
  const { memory: again } = session(memory.events.slice(0, 4));
  assert.deepEqual(await outputOf(again, ask), output);
});

test("a successor begins with a conversation that its first event has", async () => {
  const first = new MemorySession();
  await first.execute(
    define(async (ctx) => {
      await turns(ctx, 2);
      await ctx.continueAs({});
    }),
  );
  const body = first.events.at(-1)?.body;
  assert.ok(body?.case === "sessionContinued");
  const next = new MemorySession();
  next.startFrom(body.value);
  const fetched = await outputOf(next, async (ctx) => {
    const calls = [{ id: "1", name: "ccs_fetch", arguments: '{"handle":"§2","range":[0,2]}' }];
    return [(await ctx.context()).messages.length, (await ctx.runTools(calls, contextTools))[0]?.parts[0]];
  });
  assert.deepEqual(fetched, [2, { type: "toolResult", id: "1", text: "1:" }]);
});

test("options that cannot be are refused at once, a budget without room by a failed step", async () => {
  const { memory } = session();
  await outputOf(memory, async (ctx) => {
    for (const options of [{ budget: 255 }, { budget: 1.5 }, { waitMs: -1 }, { waitMs: 30_001 }]) {
      assert.throws(() => ctx.context(options), { code: "invalid_context" });
    }
    ctx.messages.push({ role: "system", content: "word ".repeat(500) }, { role: "user", content: "go" });
    await assert.rejects(ctx.context({ budget: 300 }), (error) => {
      return error instanceof StepError && error.code === "context_budget" && !error.retryable;
    });
  });
  const attempts = memory.events.filter(({ body }) => body.case === "stepFailed");
  assert.equal(attempts.length, 1, "trying again would not help");
});

test("code that pushes other messages than it did is told so", async () => {
  const { memory } = session();
  await outputOf(memory, async (ctx) => {
    await turns(ctx, 2);
    await ctx.context();
  });
  const { memory: again } = session(memory.events.slice(0, -1));
  const end = await again.execute(
    define(async (ctx) => {
      await turns(ctx, 2);
      ctx.messages.push({ role: "user", content: "new code" });
      await ctx.context();
    }),
  );
  assert.ok(end !== "killed" && end.kind === "suspended" && end.error?.code === "nondeterminism", JSON.stringify(end));
});
