/**
 * Nondeterminism (design 5.9): both sides are shown, the session is paused; an operator accepts what the code asked for,
 * or forks before it. Against the real engine.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as z from "zod";
import { connectionOf } from "../internal/connection.js";
import type { Context } from "../runtime/api.js";
import { payloadFailure } from "../runtime/payloads.js";
import { type Workflow, workflow } from "../runtime/workflow.js";
import { payloadCodec } from "../values/hooks.js";
import type { Client } from "./api.js";
import { createClient } from "./client.js";
import { ClientCore } from "./core.js";
import { TestEngine } from "./engine-kit.js";
import { readEvents } from "./read.js";

let engine: TestEngine;
const quiet = () => {};

before(async () => {
  engine = await TestEngine.start();
});
after(async () => {
  await engine[Symbol.asyncDispose]();
});

type Code = (ctx: Context, input: string) => Promise<unknown>;
const code = (body: Code): Workflow<string, unknown> =>
  workflow({ name: "changing", version: "1", input: z.string() }, body);

/** Runs `first` until its last step hangs, gives the session back, and returns its id. */
async function begun(client: Client, key: string, steps: Code): Promise<string> {
  const stop = new AbortController();
  const first = code(async (ctx, input) => {
    await steps(ctx, input);
    stop.abort();
    return new Promise(() => {});
  });
  await client.run(first, "x", { key, signal: stop.signal }).catch(() => {});
  return (await client.get({ workflow: "changing", key })).sessionId;
}

async function details(sessionId: string) {
  const core = new ClientCore(connectionOf(engine.connection), payloadCodec(undefined), undefined);
  for await (const { body } of readEvents(core, sessionId)) {
    if (body.case === "sessionPaused") return payloadFailure(body.value.details);
  }
  return undefined;
}

test("another input is shown with the recorded one, and accepted: the recorded outcome stands for it", async () => {
  const client = createClient({ connection: engine.connection, log: quiet });
  const sessionId = await begun(client, "input", (ctx) => ctx.step("ask", () => "blue", { input: { colour: "sky" } }));
  const changed = code((ctx) => ctx.step("ask", () => "green", { input: { colour: "grass" } }));
  const paused = await client.runSession(changed, sessionId);
  assert.equal(paused.status, "paused");
  assert.equal((await client.get(sessionId)).pauseReason, "nondeterminism");
  const said = await details(sessionId);
  const { recorded, requested } = (said?.data ?? {}) as { recorded: string; requested: string };
  assert.match(recorded, /"ask#1".*sky/, "the recorded side");
  assert.match(requested, /grass/, "the requested side");

  await client.acceptDivergence(sessionId);
  const result = await client.runSession(changed, sessionId);
  assert.ok(result.status === "completed" && result.output === "blue", JSON.stringify(result)); // F10
  await assert.rejects(client.acceptDivergence(sessionId), { code: "session_not_paused" });
});

test("steps that are not asked for any more are left aside", async () => {
  const client = createClient({ connection: engine.connection, log: quiet });
  const sessionId = await begun(client, "dropped", async (ctx) => {
    await ctx.step("one", () => 1);
    await ctx.step("two", () => 2);
    await ctx.step("three", () => 3);
  });
  const changed = code(async (ctx) => (await ctx.step("one", () => 1)) + 10);
  assert.equal((await client.runSession(changed, sessionId)).status, "paused");
  await client.acceptDivergence(sessionId);
  const result = await client.runSession(changed, sessionId);
  assert.ok(result.status === "completed" && result.output === 11, JSON.stringify(result));
});

test("what cannot be accepted is said to be so, and a fork before it goes on", async () => {
  const client = createClient({ connection: engine.connection, log: quiet });
  const sessionId = await begun(client, "kind", async (ctx) => {
    await ctx.step("before", () => 1);
    await ctx.step("work", () => 2);
  });
  const changed = code(async (ctx) => {
    const before = await ctx.step("before", () => 5);
    return ctx.zone("work", async () => before);
  });
  assert.equal((await client.runSession(changed, sessionId)).status, "paused");
  await assert.rejects(client.acceptDivergence(sessionId), { code: "not_repairable" });
  const fork = await client.fork(sessionId, { fromSeq: 3 });
  const result = await client.runSession(changed, fork.sessionId);
  assert.ok(result.status === "completed" && result.output === 1, JSON.stringify(result));
});
