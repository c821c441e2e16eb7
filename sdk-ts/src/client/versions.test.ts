/**
 * Versions against the real engine: a session runs to its end on the version it started on, or on code that says it is
 * compatible with it.
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import * as z from "zod";
import type { Context } from "../runtime/api.js";
import { type Workflow, workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import type { SessionHandle } from "./api.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

let engine: TestEngine;
const log = () => {};

before(async () => {
  engine = await TestEngine.start();
});
after(async () => {
  await engine[Symbol.asyncDispose]();
});

/** Each version says in its second step which code ran. */
function order(version: string, compatible: string[] = [], first = "reserve"): Workflow<string> {
  return workflow({ name: "order", version, compatible, input: z.string() }, async (ctx: Context, item) => {
    await ctx.step(first, (asked) => asked, { input: item });
    await ctx.signal("go", z.boolean());
    return ctx.step("ship", () => `shipped by ${version}`);
  });
}

const old = order("1.0.0");
const next = order("1.1.0", ["1.0.0"]);
const other = order("2.0.0", [], "check");

/** Runs a worker while something happens. */
async function served<T>(workflows: Workflow[], during: () => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const connection = engine.connection;
  const worker = createWorker({ connection, workflows, log, suspendLingerMs: 10 });
  const running = worker.run({ signal: stop.signal, shutdownGraceMs: 500 });
  try {
    return await during();
  } finally {
    stop.abort();
    await running;
  }
}

async function parked(version: Workflow<string>, key: string): Promise<SessionHandle> {
  const client = createClient({ connection: engine.connection, log, suspendLingerMs: 10 });
  const result = await client.run(version, "tea", { key });
  assert.equal(result.status, "waiting");
  return client.attach(result.sessionId);
}

async function outcome(handle: SessionHandle, version: Workflow[]): Promise<unknown> {
  const client = createClient({ connection: engine.connection, log });
  await client.signal(handle.sessionId, "go", true);
  const result = await served(version, () => handle.result({ waitMs: 10_000, whileWaiting: "follow" }));
  return result.status === "completed" ? result.output : result;
}

test("a worker with compatible code goes on with a session, which stays pinned to its version", async () => {
  const handle = await parked(old, "compatible");
  assert.equal(await outcome(handle, [next, other]), "shipped by 1.1.0");
  assert.equal((await handle.get()).version, "1.0.0");
});

test("V2: code of exactly the version wins over compatible code", async () => {
  const handle = await parked(old, "exact");
  assert.equal(await outcome(handle, [next, old]), "shipped by 1.0.0");
});

test("versions that are not compatible leave the session waiting, and it says for what", async () => {
  const handle = await parked(old, "waits");
  const client = createClient({ connection: engine.connection, log });
  await client.signal(handle.sessionId, "go", true);
  await served([other], async () => {
    const result = await handle.result({ waitMs: 300 });
    assert.equal(result.status, "runningElsewhere");
    assert.match((await handle.get()).reason, /order 1\.0\.0; connected ones serve 2\.0\.0/);
  });
  await client.terminate(handle.sessionId);
});

test("R4: client.run binds to a key's session of a compatible version; new ones are of its own version", async () => {
  const handle = await parked(old, "here");
  const client = createClient({ connection: engine.connection, log });
  await client.signal(handle.sessionId, "go", true);
  await assert.rejects(client.run(other, "tea", { key: "here" }), { code: "version_mismatch" });
  await assert.rejects(client.run(next, "milk", { key: "here" }), { code: "key_conflict" });
  const result = await client.run(next, "tea", { key: "here" });
  assert.deepEqual(result, { status: "completed", sessionId: handle.sessionId, output: "shipped by 1.1.0" });
  const fresh = await parked(next, "fresh");
  assert.equal((await fresh.get()).version, "1.1.0");
  await client.terminate(fresh.sessionId);
});

test("V3: two definitions that claim a version are refused", () => {
  const connection = engine.connection;
  const create = (...workflows: Workflow[]) => createWorker({ connection, workflows, log });
  assert.throws(() => create(old, order("1.0.0")), { code: "invalid_worker" });
  assert.throws(() => create(next, order("1.2.0", ["1.0.0"])), { code: "invalid_worker", message: /both claim/ });
  assert.throws(() => order("1", ["0", "0"]), { code: "invalid_workflow" });
  assert.throws(() => order("1", ["1"]), { code: "invalid_workflow" });
  create(next, order("1.2.0", ["1.0.0"]), old);
});

test("R3, R5: a drained version starts nothing new, what is there ends, and who names no version gets the newest", async () => {
  const client = createClient({ connection: engine.connection, log });
  const handle = await parked(old, "drains");
  const version = async (name: string) => (await client.versions("order")).find((one) => one.version === name);
  const drained = await client.drain({ name: "order", version: "1.0.0" });
  assert.ok(drained.draining !== undefined && !drained.drained && drained.sessions.waiting === 1, drained.needs);
  assert.match(drained.needs, /order@1\.0\.0.*compatible: \["1\.0\.0"\]/);
  assert.deepEqual(drained.waiting[0]?.sessionIds, [handle.sessionId]);
  await assert.rejects(client.run(old, "tea", { key: "more" }), { code: "version_draining" });
  await served([next, other], async () => {
    const newest = await client.start({ name: "order" }, "milk");
    assert.equal((await newest.get()).version, "2.0.0");
    await client.terminate(newest.sessionId);
  });
  await engine.crash();
  assert.equal((await version("2.0.0"))?.firstSeen instanceof Date, true);
  await assert.rejects(client.start(old, "tea", { key: "more" }), { code: "version_draining" });
  assert.equal(await outcome(handle, [next]), "shipped by 1.1.0");
  assert.equal((await version("1.0.0"))?.drained, true);
  assert.equal((await client.undrain({ name: "order", version: "1.0.0" })).draining, undefined);
  const again = await client.start(old, "tea", { key: "more" });
  await client.terminate(again.sessionId);
});
