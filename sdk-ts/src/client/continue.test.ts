/** `ctx.continueAs` against the real engine: the key goes on, state and conversation are carried, results follow. */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as z from "zod";
import { workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

let engine: TestEngine;
const quiet = (): void => {};

before(async () => {
  engine = await TestEngine.start();
});
after(async () => {
  await engine[Symbol.asyncDispose]();
});

const connect = () => createClient({ connection: engine.connection, log: quiet });
const Round = z.object({ round: z.number() });
const seen = ["round 1", "round 2", "round 3"];

const rounds = workflow({ name: "rounds", version: "1", input: Round }, async (ctx, { round }) => {
  const before = ctx.state.get<string[]>("seen") ?? [];
  ctx.state.set("seen", [...before, await ctx.step("look", () => `round ${round}`)]);
  ctx.messages.push({
    role: "user",
    content: `round ${round}: ${"a text that is long enough to be referred to ".repeat(3)}`,
  });
  if (round < 3) return ctx.continueAs({ round: round + 1 });
  return { seen: ctx.state.get<string[]>("seen"), messages: ctx.messages.length, root: ctx.rootId };
});

test("client.run runs every successor itself; the key keeps the input that callers use", async () => {
  const client = connect();
  const first = await client.run(rounds, { round: 1 }, { key: "here" });
  assert.ok(first.status === "completed", JSON.stringify(first));
  assert.deepEqual(first.output, { seen, messages: 3, root: first.sessionId });
  assert.deepEqual(await client.run(rounds, { round: 1 }, { key: "here" }), first);
  await assert.rejects(client.run(rounds, { round: 2 }, { key: "here" }), { code: "key_conflict" });
  const keyless = await client.run(rounds, { round: 1 });
  assert.ok(keyless.status === "completed" && keyless.sessionId !== first.sessionId);
});

test("workers take successors by dispatch; the result of the first is the last one's", async () => {
  const client = connect();
  const stop = new AbortController();
  const worker = createWorker({ connection: engine.connection, workflows: [rounds], log: quiet });
  const serving = worker.run({ signal: stop.signal });
  const started = await client.start(rounds, { round: 1 }, { key: "there" });
  const result = await started.result({ waitMs: 20_000 });
  assert.ok(result.status === "completed" && result.sessionId !== started.sessionId, JSON.stringify(result));
  const last = await client.get(result.sessionId);
  const previous = await client.get(last.continuedFrom ?? "");
  assert.equal(previous.continuedTo, last.sessionId);
  assert.equal(last.key, "there");
  assert.equal((await client.get({ workflow: "rounds", key: "there" })).sessionId, last.sessionId);
  stop.abort();
  await serving;
});

test("a successor of another version is that version's to run", async () => {
  const client = connect();
  const old = workflow({ name: "moves", version: "1", input: Round }, (ctx) =>
    ctx.continueAs({ round: 2 }, { version: "2" }),
  );
  const moved = workflow({ name: "moves", version: "2", input: Round }, async (_, { round }) => round);
  const here = await client.run(old, { round: 1 }, { key: "moved" });
  assert.equal(here.status, "runningElsewhere");
  const there = await client.run(moved, { round: 1 }, { key: "moved" });
  assert.ok(there.status === "completed" && there.output === 2, JSON.stringify(there));
});

test("a kill -9 of the engine between two rounds loses neither", async () => {
  const client = connect();
  const stop = new AbortController();
  const worker = createWorker({ connection: engine.connection, workflows: [rounds], log: quiet });
  const serving = worker.run({ signal: stop.signal });
  const started = await Promise.all(
    Array.from({ length: 20 }, (_, index) => client.start(rounds, { round: 1 }, { key: `crash ${index}` })),
  );
  await engine.crash();
  for (const one of started) {
    const result = await one.result({ waitMs: 30_000 });
    assert.ok(result.status === "completed" && result.output.messages === 3, JSON.stringify(result));
  }
  stop.abort();
  await serving;
});
