/**
 * Cancellation (design 5.4, 5.14): everything pending rejects at one place of the ledger, begun guarded effects are
 * waited for, cleanup runs after that, and a crash anywhere in it changes nothing.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { CancelledError, NotApplied } from "../errors.js";
import { StepError } from "../failure.js";
import { Resolution } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const GUARDED = { effect: "guarded", input: 1 } as const;

function define(code: (ctx: Context) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

/** Runs until `when` is stored, then cancels. */
async function cancelledAt(code: (ctx: Context) => Promise<unknown>, when: string): Promise<MemorySession> {
  const session = new MemorySession();
  session.onStored = () => {
    if (session.told.at(-1) === when) setImmediate(() => session.cancel("not wanted"));
  };
  const { run } = session.begin(define(code));
  const end = await run.ended;
  assert.deepEqual(end, { kind: "cancelled" }, JSON.stringify(end));
  return session;
}

/** Kills the run after each event from the request to cancel on; every replay ends as cancelled and repeats nothing. */
async function killedAtEach(session: MemorySession, code: (ctx: Context) => Promise<unknown>): Promise<void> {
  const from = session.told.indexOf("cancelRequested");
  for (let count = from + 1; count < session.events.length; count++) {
    const again = new MemorySession(session.events.slice(0, count));
    assert.deepEqual(await again.execute(define(code)), { kind: "cancelled" }, `cut after ${count}: ${again.told}`);
    for (const told of again.told.slice(count)) {
      if (told.startsWith("step") || told.startsWith("guardIntent")) {
        assert.ok(!again.told.slice(0, count).includes(told), `${told} was repeated after a cut at ${count}`);
      }
    }
  }
}

test("C1: pending and later calls reject with CancelledError, the same when it is replayed", async () => {
  const seen: string[][] = [];
  const code = async (ctx: Context): Promise<string> => {
    const trace: string[] = [];
    seen.push(trace);
    trace.push(await ctx.step("first", () => "first"));
    const slow = ctx.step("slow", (_, step) => sleep(5_000, "never", { signal: step.signal }));
    const thrown = await slow.catch((error: unknown) => error);
    assert.ok(thrown instanceof CancelledError && thrown.reason === "not wanted", String(thrown));
    trace.push(thrown.code);
    await assert.rejects(
      ctx.step("later", () => "later"),
      CancelledError,
    );
    await assert.rejects(
      ctx.zone("zone", () => "later"),
      CancelledError,
    );
    trace.push("over");
    return "a result that nobody gets";
  };
  const session = await cancelledAt(code, "stepCompleted first#1");
  assert.deepEqual(seen[0], ["first", "cancelled", "over"]);
  assert.deepEqual(session.told, [
    "sessionStarted",
    "leaseGranted",
    "stepCompleted first#1",
    "cancelRequested",
    "sessionCancelled",
  ]);
  await killedAtEach(session, code);
  for (const trace of seen) assert.deepEqual(trace, seen[0]);
});

test("C4: cleanups run last first, one at a time, and what was taken back does not run", async () => {
  const code = async (ctx: Context): Promise<void> => {
    ctx.onCancel(async (cleanup) => cleanup.step("undo first", () => "undone"));
    const taken = ctx.onCancel(() => assert.fail("was taken back"));
    // With the outer ctx as well: what a cleanup asks for lies below its own path.
    ctx.onCancel(async () => {
      await ctx.step("undo second", () => "undone");
      await ctx.scope("deep", (inner) => inner.step("more", () => "more"));
      throw new Error("does not keep the others from running");
    });
    taken();
    await ctx.step("work", () => "done");
    await ctx.step("slow", () => sleep(5_000));
  };
  const session = await cancelledAt(code, "stepCompleted work#1");
  assert.deepEqual(session.told.slice(3), [
    "cancelRequested",
    "stepCompleted onCancel#3/undo second#1",
    "stepCompleted onCancel#3/deep/more#1",
    "stepCompleted onCancel/undo first#1",
    "sessionCancelled",
  ]);
  assert.ok(session.logged.some((line) => line.includes("a cleanup of a cancelled session failed")));
  await killedAtEach(session, code);
});

test("C2: a guarded effect that was begun is not interrupted; its outcome is known before the cleanup", async () => {
  let calls = 0;
  const code = async (ctx: Context): Promise<void> => {
    const charge = await ctx.step("charge", () => sleep(60, `charge ${++calls}`), GUARDED);
    ctx.onCancel((cleanup) =>
      cleanup.step("refund", (input) => `refunded ${input}`, { effect: "guarded", input: charge }),
    );
    await ctx.step("ship", () => assert.fail("nobody ships what was cancelled"));
  };
  const session = await cancelledAt(code, "guardIntent charge#1");
  assert.deepEqual(session.told.slice(2), [
    "guardIntent charge#1",
    "cancelRequested",
    "stepCompleted charge#1",
    "guardIntent onCancel/refund#1",
    "stepCompleted onCancel/refund#1",
    "sessionCancelled",
  ]);
  assert.equal(calls, 1);
  // Right after the request the effect is still open: only its resolution lets the cleanup start.
  const cut = new MemorySession(session.events.slice(0, 4));
  const { run } = cut.begin(define(code));
  await sleep(20);
  assert.ok(!cut.told.includes("guardIntent onCancel/refund#1"));
  cut.resolve("charge#1", 1, Resolution.OUTPUT, "charge 1");
  assert.deepEqual(await run.ended, { kind: "cancelled" });
  assert.equal(calls, 1);
});

test("C2: an effect whose outcome nobody will say rejects as unknown", async () => {
  const code = async (ctx: Context): Promise<void> => {
    const thrown = await ctx.step("charge", () => sleep(5_000), GUARDED).catch((error: unknown) => error);
    assert.ok(thrown instanceof StepError && thrown.code === "effect_unknown", String(thrown));
    ctx.state.set("asked", true);
    throw thrown;
  };
  const session = new MemorySession([], 3);
  await session.execute(define(code));
  const again = new MemorySession(session.events);
  const { run } = again.begin(define(code));
  again.cancel();
  await sleep(20);
  again.due("charge#1", 1);
  assert.deepEqual(await run.ended, { kind: "cancelled" });
});

test("C6: an effect of the cleanup whose outcome nobody says pauses the session until somebody does", async () => {
  const code = async (ctx: Context): Promise<void> => {
    ctx.onCancel((cleanup) => cleanup.step("refund", () => sleep(5_000), GUARDED));
    await ctx.step("wait", () => sleep(5_000));
  };
  const killed = new MemorySession([], 4);
  const first = killed.begin(define(code));
  await sleep(5);
  killed.cancel();
  await first.died;
  const session = new MemorySession(killed.events);
  const { run } = session.begin(define(code));
  await sleep(20);
  session.due("onCancel/refund#1", 1);
  assert.deepEqual(await run.ended, { kind: "suspended", why: "paused" });
  assert.equal(session.told.at(-1), "sessionPaused onCancel/refund#1");
  const resumed = new MemorySession(session.events);
  const last = resumed.begin(define(code));
  resumed.resolve("onCancel/refund#1", 1, Resolution.OUTPUT, "refunded");
  assert.deepEqual(await last.run.ended, { kind: "cancelled" });
});

test("C2: what certainly did not happen is not tried again", async () => {
  let calls = 0;
  const code = async (ctx: Context): Promise<void> => {
    const act = async (): Promise<never> => {
      calls += 1;
      await sleep(30);
      throw new NotApplied();
    };
    await assert.rejects(ctx.step("charge", act, GUARDED), CancelledError);
  };
  const session = await cancelledAt(code, "guardIntent charge#1");
  assert.deepEqual(session.told.slice(-3), ["cancelRequested", "guardResolved charge#1", "sessionCancelled"]);
  const again = new MemorySession(session.events.slice(0, -1));
  assert.deepEqual(await again.execute(define(code)), { kind: "cancelled" });
  assert.equal(calls, 1);
});

test("a zone is rolled back and its code unwinds", async () => {
  let unwound = 0;
  const code = async (ctx: Context): Promise<void> => {
    await ctx.zone("zone", async (zone) => {
      await zone.step("slow", () => sleep(5_000)).finally(() => unwound++);
    });
  };
  const session = await cancelledAt(code, "zoneEntered zone#1");
  assert.equal(unwound, 1);
  assert.deepEqual(session.told.slice(-2), ["zoneRolledBack zone#1", "sessionCancelled"]);
  await killedAtEach(session, code);
  assert.equal(unwound, 1, "a replay does not enter the zone again");
});

test("C5: cancelled wins over an end that was not committed", async () => {
  const session = new MemorySession();
  const code = define(async () => "result");
  const { run } = session.begin(code);
  session.cancel("too late for you");
  assert.deepEqual(await run.ended, { kind: "cancelled" });
  assert.deepEqual(session.told.slice(2), ["cancelRequested", "sessionCancelled"]);
});
