/**
 * Budgets against a real engine: the worst case is reserved before each call, running out pauses, raising resumes, and
 * nothing is paid for twice (design 5.12; M1 to M4).
 */
import assert from "node:assert/strict";
import { after, before, describe, it } from "node:test";
import * as z from "zod";
import { usePrices } from "../llm/usage.js";
import { workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import type { Client } from "./api.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

/** One nano-dollar per token, whatever token. */
const PRICE = { input: 1, cachedRead: 1, cacheWrite: 1, output: 1 };
const USD = 1e-9;

let calls = 0;

const answer = () => {
  calls += 1;
  return { value: `answer ${calls}`, usage: { inputTokens: 10, outputTokens: 40 } };
};

/** Asks `n` models at a time, `rounds` times. */
const asker = workflow(
  { name: "asker", version: "1", input: z.object({ n: z.number(), rounds: z.number(), model: z.string().optional() }) },
  async (ctx, { n, rounds, model = "known" }) => {
    const request = { provider: "test", model, request: { maxTokens: 100 } };
    for (let round = 0; round < rounds; round++) {
      await Promise.all(Array.from({ length: n }, () => ctx.llm.call(request, answer)));
    }
    return ctx.usage();
  },
);

const zoned = workflow({ name: "zoned", version: "1", input: z.undefined() }, (ctx) =>
  ctx.zone("z", async (zone) => {
    const request = { provider: "test", model: "known", request: { maxTokens: 100 } };
    await zone.llm.call(request, answer);
    return (await zone.llm.call(request, answer)).value;
  }),
);

const stepper = workflow({ name: "stepper", version: "1", input: z.number() }, async (ctx, steps) => {
  let sum = 0;
  for (let n = 0; n < steps; n++) {
    sum += await ctx.step("add", async () => 1);
    await ctx.step("note", async () => n, { input: n, effect: "guarded" });
  }
  return sum;
});

describe("budgets", { skip: process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine" }, () => {
  let engine: TestEngine;
  let client: Client;

  before(async () => {
    usePrices({ date: "2026-01-01", models: { "test/known": PRICE } });
    engine = await TestEngine.start();
    client = createClient({ connection: engine.connection, log: () => {} });
  });
  after(() => engine[Symbol.asyncDispose]());

  it("pauses before the call that may exceed it, and goes on once it is raised, paying for nothing twice", async () => {
    calls = 0;
    // Each call reserves 100 output tokens and a little for the request, and uses 50.
    const run = () => client.run(asker, { n: 1, rounds: 5 }, { key: "raise", budget: { usd: 220 * USD } });
    const first = await run();
    assert.equal(first.status, "paused");
    const { sessionId } = first;
    const made = calls;
    assert.ok(made >= 2 && made < 5, `${made} calls`);
    const [budget] = await client.budget(sessionId);
    assert.equal(budget?.sessionId, sessionId);
    assert.deepEqual([budget?.spent.tokens, budget?.reserved.tokens], [50 * made, 0]);
    assert.ok((budget?.spent.usd ?? 0) + (budget?.reserved.usd ?? 0) <= 220 * USD);
    await assert.rejects(client.raiseBudget(sessionId, { usd: 100 * USD }), { code: "invalid_argument" });
    await client.raiseBudget(sessionId, { usd: 1000 * USD });
    const second = await run();
    assert.equal(second.status, "completed");
    assert.equal(calls, 5);
    const output = (second as { output: unknown }).output as { tokens: number; llmCalls: number };
    assert.deepEqual([output.tokens, output.llmCalls], [250, 5]);
  });

  it("never lets more be reserved than there is, however many ask at once", async () => {
    calls = 0;
    const result = await client.run(asker, { n: 20, rounds: 1 }, { budget: { tokens: 500 } });
    assert.equal(result.status, "paused");
    assert.ok(calls >= 1 && calls <= 5, `${calls} calls of at least 100 tokens each under 500`);
    const [budget] = await client.budget(result.sessionId);
    assert.ok((budget?.spent.tokens ?? 0) + (budget?.reserved.tokens ?? 0) <= 500);
  });

  it("reserves for model calls inside zones", async () => {
    const result = await client.run(zoned, undefined, { budget: { tokens: 180 } });
    assert.equal(result.status, "paused");
    const roomy = await client.run(zoned, undefined, { budget: { tokens: 1_000 } });
    assert.equal(roomy.status, "completed");
    const [budget] = await client.budget(roomy.sessionId);
    assert.deepEqual([budget?.spent.tokens, budget?.reserved.tokens], [100, 0]);
  });

  it("refuses a model without a price before the call, as a failure of that call", async () => {
    calls = 0;
    const result = await client.run(asker, { n: 1, rounds: 1, model: "unknown" }, { budget: { usd: 1 } });
    assert.equal(result.status, "failed");
    assert.equal((result as { failure: { code: string } }).failure.code, "price_unknown");
    assert.equal(calls, 0);
    const free = await client.run(asker, { n: 1, rounds: 1, model: "unknown" }, { budget: { tokens: 5_000 } });
    assert.equal(free.status, "completed");
    assert.equal((await client.get(free.sessionId)).totals.unpricedCalls, 1);
  });

  it("counts steps, guarded ones too", async () => {
    const result = await client.run(stepper, 3, { key: "steps", budget: { steps: 4 } });
    assert.equal(result.status, "paused");
    const [budget] = await client.budget(result.sessionId);
    assert.deepEqual([budget?.spent.steps, budget?.reserved.steps], [4, 0]);
    await client.raiseBudget(result.sessionId, { steps: 6 });
    assert.equal((await client.run(stepper, 3, { key: "steps" })).status, "completed");
  });

  it("pauses when the wall time is over", async () => {
    const slow = workflow({ name: "slow", version: "1", input: z.undefined() }, async (ctx) => {
      await ctx.step("nap", () => new Promise((resolve) => setTimeout(resolve, 1_000)));
      return ctx.step("late", async () => "done");
    });
    const result = await client.run(slow, undefined, { key: "wall", budget: { wallMs: 300 } });
    assert.equal(result.status, "paused");
    await client.raiseBudget(result.sessionId, { wallMs: 60_000 });
    assert.equal((await client.run(slow, undefined, { key: "wall" })).status, "completed");
  });

  it("resumes what a worker runs by itself once it is raised", async () => {
    const worker = createWorker({ workflows: [stepper], connection: engine.connection, log: () => {} });
    const stop = new AbortController();
    const running = worker.run({ signal: stop.signal });
    const handle = await client.start(stepper, 2, { budget: { steps: 1 } });
    assert.equal((await handle.result({ waitMs: 10_000 })).status, "paused");
    await client.raiseBudget(handle.sessionId, { steps: 100 });
    assert.equal((await handle.result({ waitMs: 10_000 })).status, "completed");
    stop.abort();
    await running;
  });
});
