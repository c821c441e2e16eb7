/**
 * Children as their parent's run sees them: join, race, map, failure, cancellation, the parent's end. The engine's part
 * is in memory here.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { CancelledError } from "../errors.js";
import { StepError } from "../failure.js";
import { SessionStatus } from "../gen/cellaflow/v1/common_pb.js";
import type { Context } from "./api.js";
import type { WorkflowRef } from "./spawn.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const child: WorkflowRef<number, string> = { name: "child", version: "1" };

function define(code: (ctx: Context, input: unknown) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

/** An engine whose children end by themselves, in this order, or as soon as they are asked to cancel. */
function withChildren(
  ends: Record<string, () => Parameters<MemorySession["endChild"]>[1]>,
  events = new MemorySession().events,
) {
  const session = new MemorySession(events);
  session.onStored = ({ body }) => {
    if (body.case === "childCancelRequested") {
      const { stepKey } = body.value;
      setTimeout(() => session.endChild(stepKey, { status: SessionStatus.CANCELLED }), 5);
    }
    if (body.case !== "childSpawned" || !Object.hasOwn(ends, body.value.stepKey)) return;
    if (!Object.keys(ends).every((key) => session.told.includes(`childSpawned ${key}`))) return;
    for (const [index, [key, end]] of Object.entries(ends).entries()) {
      setTimeout(() => session.endChild(key, end()), 5 * (index + 1));
    }
  };
  return session;
}

test("W1: children are joined and raced; the same on replay, without their end being awaited again", async () => {
  const code = define(async (ctx) => {
    const children = [1, 2, 3].map((input) => ctx.spawn(child, input));
    const first = await Promise.race(children.map((one) => one.result()));
    const all = await Promise.all(children.map((one) => one.result()));
    return { first, all, ids: await Promise.all(children.map((one) => one.sessionId)) };
  });
  const session = withChildren({
    "child#2": () => ({ output: "two" }),
    "child#3": () => ({ output: "three" }),
    "child#1": () => ({ output: "one" }),
  });
  const end = await session.execute(code);
  const output = {
    first: "two",
    all: ["one", "two", "three"],
    ids: ["child of child#1", "child of child#2", "child of child#3"],
  };
  assert.deepEqual(end, { kind: "completed", output });
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), end);
  assert.equal(session.told.filter((told) => told.startsWith("childSpawned")).length, 3);
});

test("W3: a child's failure is a StepError with its session and its cause", async () => {
  const code = define(async (ctx) => {
    const handle = ctx.spawn(child, 1, { name: "risky" });
    const thrown = await handle.result().catch((error: unknown) => error);
    assert.ok(thrown instanceof StepError && thrown.cause instanceof StepError);
    return [thrown.code, thrown.data, thrown.cause.code];
  });
  const failure = { name: "Error", code: "quota", message: "no quota is left", retryable: false };
  const session = withChildren({ "risky#1": () => ({ status: SessionStatus.FAILED, failure }) });
  const expected = { kind: "completed", output: ["child_failed", { sessionId: "child of risky#1" }, "quota"] };
  assert.deepEqual(await session.execute(code), expected);
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), expected);
});

test("a child that is cancelled rejects; it is asked once, also over a crash", async () => {
  const code = define(async (ctx) => {
    const handle = ctx.spawn(child, 1);
    await handle.sessionId;
    handle.cancel("not needed");
    handle.cancel("not needed");
    await assert.rejects(handle.result(), (error: StepError) => error.code === "child_cancelled");
    return "over";
  });
  const session = withChildren({});
  assert.deepEqual(await session.execute(code), { kind: "completed", output: "over" });
  const told = ["childSpawned child#1", "childCancelRequested child#1", "childEnded child#1", "sessionCompleted"];
  assert.deepEqual(session.told.slice(2), told);
  const cut = withChildren({}, session.events.slice(0, 4));
  const { run } = cut.begin(code);
  cut.endChild("child#1", { status: SessionStatus.CANCELLED });
  assert.deepEqual(await run.ended, { kind: "completed", output: "over" });
  assert.equal(cut.told.filter((line) => line.startsWith("childCancelRequested")).length, 1);
});

test("L1: the parent's end cancels open children and waits for them; abandoned ones go on", async () => {
  const code = define(async (ctx) => {
    ctx.spawn(child, 1);
    ctx.spawn(child, 2, { name: "free", onParentEnd: "abandon" });
    const race = ctx.spawn(child, 3, { name: "quick" });
    return race.result();
  });
  const session = withChildren({ "quick#1": () => ({ output: "quick" }) });
  assert.deepEqual(await session.execute(code), { kind: "completed", output: "quick" });
  assert.deepEqual(session.told.slice(5), [
    "childEnded quick#1",
    "childCancelRequested child#1",
    "childEnded child#1",
    "sessionCompleted",
  ]);
});

test("L4: a cancelled parent cleans up after its children; those of the cleanup are its own", async () => {
  const code = define(async (ctx) => {
    ctx.onCancel(async (cleanup) => cleanup.spawn(child, 9, { name: "undo" }).result());
    const handle = ctx.spawn(child, 1);
    await assert.rejects(handle.result(), CancelledError);
  });
  const session = new MemorySession();
  session.onStored = ({ body }) => {
    if (session.told.at(-1) === "childSpawned child#1") setImmediate(() => session.cancel());
    if (body.case === "childSpawned" && body.value.name === "undo") {
      setImmediate(() => session.endChild("onCancel/undo#1", { output: "undone" }));
    }
  };
  const { run } = session.begin(code);
  await sleep(20);
  assert.equal(session.told.at(-1), "cancelRequested", "the cleanup waits for the child, which the engine cancels");
  session.endChild("child#1", { status: SessionStatus.CANCELLED });
  assert.deepEqual(await run.ended, { kind: "cancelled" });
  const told = ["childEnded child#1", "childSpawned onCancel/undo#1", "childEnded onCancel/undo#1", "sessionCancelled"];
  assert.deepEqual(session.told.slice(4), told);
  // Killed while the child of the cleanup was open: nobody asks it to cancel.
  const cut = new MemorySession(session.events.slice(0, 6));
  const second = cut.begin(code);
  await sleep(20);
  cut.endChild("onCancel/undo#1", { output: "undone" });
  assert.deepEqual(await second.run.ended, { kind: "cancelled" });
  assert.ok(!cut.told.some((line) => line.startsWith("childCancelRequested")));
});

test("ctx.map over children replays", async () => {
  const code = define((ctx) => ctx.map([1, 2], (item, inner) => inner.spawn(child, item).result()));
  const session = withChildren({
    "map#1/1/child#1": () => ({ output: "b" }),
    "map#1/0/child#1": () => ({ output: "a" }),
  });
  const end = await session.execute(code);
  assert.deepEqual(end, { kind: "completed", output: ["a", "b"] });
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), end);
});
