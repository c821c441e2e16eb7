/**
 * Children against the real engine: join, race, failure, cancellation down the tree children first, the parent's end,
 * kill -9 of the engine and of the worker. The worker that dies is this file as a process of its own.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { NonRetryableError } from "../errors.js";
import { StepError } from "../failure.js";
import { workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

const {
  CELLAFLOW_TEST_LOG: log = "",
  CELLAFLOW_TEST_DIE_AT: dieAt = "",
  CELLAFLOW_TEST_WORKER: isWorker,
} = process.env;
const quiet = (): void => {};
const say = (line: string): void => appendFileSync(log, `${line}\n`);

const double = workflow({ name: "double", version: "1", input: z.number() }, async (ctx, input) => {
  const result = await ctx.step("double", (n) => n * 2, { input });
  if (input === 13) throw new NonRetryableError("no luck with 13", { code: "unlucky" });
  return result;
});

const sleeper = workflow({ name: "sleeper", version: "1", input: z.string() }, async (ctx, name) => {
  ctx.onCancel((cleanup) => cleanup.step("clean", (who) => say(`cleaned ${who}`), { input: name }));
  await ctx.sleep(3_600_000);
});

const parent = workflow({ name: "parent", version: "1", input: z.string() }, async (ctx, what) => {
  if (what === "join") {
    const doubled = await ctx.map([1, 2, 3, 4], (n, inner) => inner.spawn(double, n).result());
    return doubled.reduce((sum, n) => sum + n, 0);
  }
  if (what === "fails") {
    const child = ctx.spawn(double, 13);
    const error = await child.result().catch((thrown: unknown) => thrown);
    assert.ok(error instanceof StepError && error.cause instanceof StepError);
    assert.deepEqual(error.data, { sessionId: await child.sessionId });
    return [error.code, error.cause.code];
  }
  if (what === "race") {
    const slow = ctx.spawn(sleeper, "loser");
    const quick = ctx.spawn(double, 4);
    return Promise.race([slow.result(), quick.result()]);
  }
  if (what === "abandon") {
    const child = ctx.spawn(sleeper, "free", { onParentEnd: "abandon" });
    return child.sessionId;
  }
  ctx.onCancel((cleanup) => cleanup.step("clean", () => say("cleaned parent")));
  await Promise.all([ctx.spawn(sleeper, "first").result(), ctx.spawn(sleeper, "second").result()]);
  return "not reached";
});

async function serve(): Promise<void> {
  const observer = {
    stepDelivered: ({ stepKey, replayed }: { stepKey: string; replayed: boolean }) => {
      if (!replayed && dieAt !== "" && stepKey.includes(dieAt)) process.kill(process.pid, "SIGKILL");
    },
  };
  await createWorker({ workflows: [parent, double, sleeper], log: quiet, observer }).run({ handleSignals: true });
}

let engine: TestEngine;

function worker(die = "") {
  const child = engine.spawnAgain(import.meta.url, {
    CELLAFLOW_TEST_WORKER: "1",
    CELLAFLOW_TEST_LOG: join(engine.folder, "tree.log"),
    CELLAFLOW_TEST_DIE_AT: die,
  });
  const exited = new Promise<void>((resolve) => child.once("exit", () => resolve()));
  return {
    exited,
    stop: async () => {
      child.kill("SIGTERM");
      await exited;
    },
  };
}

const said = (): string[] => readFileSync(join(engine.folder, "tree.log"), "utf8").trim().split("\n");

function tests(): void {
  before(async () => {
    engine = await TestEngine.start();
    appendFileSync(join(engine.folder, "tree.log"), "");
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
  });
  const connect = () => createClient({ connection: engine.connection, log: quiet });
  const ended = async (what: string, key: string) => {
    const started = await connect().start(parent, what, { key });
    const result = await started.result({ waitMs: 30_000 });
    return { started, result };
  };

  test("children are joined and raced, a failure names its session, the tree is linked", async () => {
    const serving = worker();
    const joined = await ended("join", "join");
    assert.ok(joined.result.status === "completed" && joined.result.output === 20, JSON.stringify(joined.result));
    const failed = await ended("fails", "fails");
    assert.ok(failed.result.status === "completed", JSON.stringify(failed.result));
    assert.deepEqual(failed.result.output, ["child_failed", "unlucky"]);
    const raced = await ended("race", "race");
    assert.ok(raced.result.status === "completed" && raced.result.output === 8, JSON.stringify(raced.result));
    assert.ok(said().includes("cleaned loser"), "the loser was cancelled before its parent ended");
    for await (const child of connect().list({ workflow: "double" })) {
      assert.ok(child.parentId !== undefined && child.topId === child.parentId);
    }
    await serving.stop();
  });

  test("an abandoned child goes on after its parent, and is found by its id", async () => {
    const serving = worker();
    const { result } = await ended("abandon", "abandon");
    assert.ok(result.status === "completed");
    const client = connect();
    let child = await client.get(result.output as string);
    for (; child.status !== "waiting"; child = await client.get(child.sessionId)) await sleep(20);
    assert.equal(child.cancelRequested, false);
    await client.terminate(child.sessionId);
    await serving.stop();
  });

  test("cancellation runs down the tree, children first, although the engine dies in it", async () => {
    const serving = worker();
    const client = connect();
    const started = await client.start(parent, "cancel", { key: "cancel" });
    for (let waiting = 0; waiting < 2; ) {
      waiting = 0;
      for await (const _ of client.list({ workflow: "sleeper", status: ["waiting"] })) waiting += 1;
      await sleep(20);
    }
    await client.cancel(started.sessionId, { reason: "enough" });
    await engine.crash();
    const result = await started.result({ waitMs: 30_000 });
    assert.deepEqual(result, { status: "cancelled", sessionId: started.sessionId });
    const cleaned = said().filter((line) => /parent|first|second/.test(line));
    assert.deepEqual(cleaned.slice(0, 2).sort(), ["cleaned first", "cleaned second"]);
    assert.deepEqual(cleaned.slice(2), ["cleaned parent"]);
    for await (const child of client.list({ workflow: "sleeper" })) assert.equal(child.status, "cancelled");
    await serving.stop();
  });

  test("a worker killed at a spawn, at a child's step and at a child's end starts no child twice", async () => {
    for (const die of ["map#1/2/double#1", "double#1", "/ended"]) {
      const key = `killed at ${die}`;
      const client = connect();
      const started = await client.start(parent, "join", { key });
      const first = worker(die);
      await first.exited;
      const second = worker();
      const result = await started.result({ waitMs: 30_000 });
      assert.ok(result.status === "completed" && result.output === 20, `${key}: ${JSON.stringify(result)}`);
      let children = 0;
      for await (const child of client.list({ workflow: "double" })) {
        if (child.parentId === started.sessionId) children += 1;
      }
      assert.equal(children, 4, key);
      await second.stop();
    }
  });
}

if (isWorker === undefined) tests();
else await serve();
