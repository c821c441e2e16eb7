/**
 * Cancelled, terminated, paused, retried: against the real engine over TLS (design 5.4, 5.14). What was
 * cancelled stays cancelled after kill -9 in the cleanup, and its effects are undone once.
 *
 * This file is its own agent: started with CELLAFLOW_TEST_KEY it runs the order once and, if told so, dies.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { CancelledError } from "../errors.js";
import { workflow } from "../runtime/workflow.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

const { CELLAFLOW_TEST_KEY: key, CELLAFLOW_TEST_LOG: log = "", CELLAFLOW_TEST_DIE_AT: dieAt = "" } = process.env;
const quiet = (): void => {};

/** Books something, once per key, and says so in the log. */
const booking = (name: string) => ({
  fn: () => {
    appendFileSync(log, `booked ${name}\n`);
    return name;
  },
  options: {
    effect: "guarded",
    input: name,
    reconcile: () => (readFileSync(log, "utf8").includes(`booked ${name}\n`) ? { applied: name } : "notApplied"),
  } as const,
});

const order = workflow({ name: "order", version: "1", input: z.string() }, async (ctx) => {
  const book = (on: typeof ctx, name: string): Promise<string> =>
    on.step(name, booking(name).fn, booking(name).options);
  await book(ctx, "reserve");
  ctx.onCancel((cleanup) => book(cleanup, "release"));
  await book(ctx, "charge");
  ctx.onCancel((cleanup) => book(cleanup, "refund"));
  await ctx.signal("delivered", z.string()).catch((error: unknown) => {
    assert.ok(error instanceof CancelledError);
    appendFileSync(log, `rejected ${error.reason}\n`);
    throw error;
  });
});

async function runAgent(): Promise<void> {
  const client = createClient({
    log: quiet,
    observer: {
      stepDelivered: ({ stepKey, replayed }) => {
        if (!replayed && stepKey === dieAt) process.kill(process.pid, "SIGKILL");
      },
    },
  });
  const result = await client.run(order, "in", { key: key ?? "" });
  appendFileSync(log, `result ${result.status}\n`);
}

let engine: TestEngine;

/** Runs the agent in a process of its own; returns its exit code and the log of all its starts. */
async function agent(runKey: string, die = ""): Promise<{ code: number | null; lines: string[] }> {
  const file = join(engine.folder, `${runKey}.log`);
  const child = engine.spawnAgain(import.meta.url, {
    CELLAFLOW_TEST_KEY: runKey,
    CELLAFLOW_TEST_LOG: file,
    CELLAFLOW_TEST_DIE_AT: die,
  });
  const code = await new Promise<number | null>((resolve) => child.once("exit", resolve));
  return { code, lines: readFileSync(file, "utf8").trim().split("\n") };
}

function tests(): void {
  before(async () => {
    engine = await TestEngine.start();
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
  });
  const connect = () => createClient({ connection: engine.connection, log: quiet });

  test("what waits is cancelled, and what was done is undone, last first", async () => {
    const first = await agent("waits");
    assert.deepEqual(first.lines, ["booked reserve", "booked charge", "result waiting"]);
    const client = connect();
    const asked = await client.cancel({ workflow: "order", key: "waits" }, { reason: "by mistake" });
    assert.ok(asked.cancelRequested);
    const second = await agent("waits");
    const undone = ["rejected by mistake", "booked refund", "booked release", "result cancelled"];
    assert.deepEqual(second.lines.slice(3), undone);
    assert.equal((await client.get(asked.sessionId)).status, "cancelled");
    assert.deepEqual(await client.result(asked.sessionId), { status: "cancelled", sessionId: asked.sessionId });
    assert.equal((await agent("waits")).lines.at(-1), "result cancelled", "and stays cancelled");
  });

  test("killed at every outcome of the cleanup, it stays cancelled and nothing is undone twice", async () => {
    const places = ["onCancel#2/refund#1", "onCancel/release#1"];
    await Promise.all(
      places.map(async (die, index) => {
        const runKey = `killed-${index}`;
        await agent(runKey);
        await connect().cancel({ workflow: "order", key: runKey });
        assert.equal((await agent(runKey, die)).code, null, `${die} was not reached`);
        const { lines } = await agent(runKey);
        assert.equal(lines.at(-1), "result cancelled", lines.join());
        for (const name of ["reserve", "charge", "refund", "release"]) {
          assert.equal(lines.filter((line) => line === `booked ${name}`).length, 1, `${name}, killed at ${die}`);
        }
      }),
    );
  });

  test("a run that is under way is cancelled; the signal of its step fires", async () => {
    let stopped = "";
    const long = workflow({ name: "long", version: "1", input: z.string() }, async (ctx) => {
      await ctx.step("long", (_, step) =>
        sleep(20_000, "", { signal: step.signal }).catch((error: unknown) => {
          stopped = String((error as Error).cause);
          throw error;
        }),
      );
    });
    const client = connect();
    const running = client.run(long, "x", { key: "under-way" });
    let info = await eventually(() => client.get({ workflow: "long", key: "under-way" }));
    while (info.epoch === 0) info = await client.get(info.sessionId);
    await client.cancel(info.sessionId, { reason: "enough" });
    assert.deepEqual(await running, { status: "cancelled", sessionId: info.sessionId });
    assert.match(stopped, /cancelled: enough/);
  });

  test("terminate ends at once and runs no cleanup; a paused session resumes, or retries, on request", async () => {
    let cleaned = 0;
    const waits = workflow({ name: "waits", version: "1", input: z.string() }, async (ctx) => {
      ctx.onCancel(() => {
        cleaned += 1;
      });
      return ctx.signal("go", z.string());
    });
    const client = connect();
    const first = await client.run(waits, "x", { key: "t1" });
    assert.equal(first.status, "waiting");
    const ended = await client.terminate(first.sessionId, { reason: "now" });
    assert.equal(ended.status, "cancelled");
    assert.equal(cleaned, 0);
    await assert.rejects(client.cancel(first.sessionId), { code: "session_ended" });

    const second = await client.run(waits, "x", { key: "t2" });
    const paused = await client.pause(second.sessionId, { reason: "look at it" });
    assert.equal(paused.status, "paused");
    assert.equal((await client.pause(second.sessionId)).status, "paused", "twice is once");
    await client.resume(second.sessionId);
    await assert.rejects(client.resume(second.sessionId), { code: "session_not_paused" });
    await client.pause(second.sessionId);
    await client.retry({ workflow: "waits", key: "t2" });
    await client.signal(second.sessionId, "go", "on");
    const done = await client.run(waits, "x", { key: "t2" });
    assert.ok(done.status === "completed" && done.output === "on", JSON.stringify(done));
  });

  test("a filter selects; a dry run changes nothing", async () => {
    const bulk = workflow({ name: "bulk", version: "1", input: z.number() }, (ctx) => ctx.signal("go", z.string()));
    const client = connect();
    for (const n of [1, 2, 3]) await client.run(bulk, n, { key: `bulk ${n}` });
    const filter = { workflow: "bulk", status: ["waiting"] } as const;
    const dry = await client.cancel(filter, { dryRun: true });
    assert.deepEqual([dry.matched, dry.done, dry.refused, dry.outcomes.length], [3, 3, 0, 3]);
    assert.ok(dry.outcomes.every(({ session }) => session.status === "waiting" && !session.cancelRequested));
    const paused = await client.pause(filter);
    assert.equal(paused.done, 3);
    assert.equal((await client.pause(filter)).matched, 0, "none waits any more");
    const terminated = await client.terminate({ workflow: "bulk" }, { reason: "clean up" });
    assert.equal(terminated.done, 3);
    await assert.rejects(client.cancel({}), { code: "empty_filter" });
  });
}

async function eventually<T>(look: () => Promise<T>): Promise<T> {
  for (;;) {
    try {
      return await look();
    } catch {
      await sleep(5);
    }
  }
}

if (key === undefined) tests();
else await runAgent();
