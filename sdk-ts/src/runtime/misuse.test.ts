/**
 * Values, suspension, nondeterminism and misuse (design 5.4, 5.5, 5.9, 5.10).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { NonDeterminismError, NonRetryableError } from "../errors.js";
import { StepError } from "../failure.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const ONCE = { retry: { maxAttempts: 1 } };

function define(code: (ctx: Context, input: unknown) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

async function failureCode(code: (ctx: Context) => Promise<unknown>): Promise<string> {
  const end = await new MemorySession().execute(define(code));
  assert.ok(end !== "killed" && end.kind === "failed", JSON.stringify(end));
  return end.failure.code;
}

test("workflow code sees the stored value, live too", async () => {
  const session = new MemorySession();
  const shared = { when: new Date(5), big: 2n ** 70n, map: new Map([["a", new Set([1])]]), gone: undefined };
  const code = define(async (ctx) => {
    const value = await ctx.step("make", () => shared);
    assert.notEqual(value, shared);
    assert.deepEqual(value, shared);
    return value;
  });
  const end = await session.execute(code);
  assert.deepEqual(end, { kind: "completed", output: shared });
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), end);
});

test("failures are StepErrors with code, data and cause, the same on replay", async () => {
  const code = define(async (ctx) => {
    const cause = new RangeError("deep");
    const error = await ctx
      .step("bad", () => Promise.reject(new NonRetryableError("no", { cause, code: "quota", data: { left: 0 } })))
      .catch((thrown: unknown) => thrown);
    assert.ok(error instanceof StepError && error.cause instanceof StepError);
    return [error.name, error.code, error.message, error.retryable, error.data, error.cause.name];
  });
  const session = new MemorySession();
  const end = await session.execute(code);
  assert.deepEqual(end, {
    kind: "completed",
    output: ["NonRetryableError", "quota", "no", false, { left: 0 }, "RangeError"],
  });
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), end);
});

test("the count of attempts survives a crash", async () => {
  const code = define((ctx) =>
    ctx.step(
      "flaky",
      (_input, step) => {
        if (step.attempt < 3) throw new Error("again");
        return step.attempt;
      },
      { retry: { maxAttempts: 3, backoff: { initialMs: 1 } } },
    ),
  );
  const killed = new MemorySession([], 3); // after the first failure
  assert.equal(await killed.execute(code), "killed");
  const again = new MemorySession(killed.events);
  assert.deepEqual(await again.execute(code), { kind: "completed", output: 3 });
  assert.equal(again.events.filter((event) => event.body.case === "stepFailed").length, 2);
});

test("a changed input pauses the session and shows both sides", async () => {
  const first = new MemorySession();
  await first.execute(define((ctx) => ctx.step("s", () => 1, { input: { q: "old" } })));
  const again = new MemorySession(first.events.slice(0, -1));
  const end = await again.execute(define((ctx) => ctx.step("s", () => 1, { input: { q: "new" } })));
  assert.ok(end !== "killed" && end.kind === "suspended" && end.error instanceof NonDeterminismError);
  assert.match(end.error.message, /"old".*"new"/s);
  assert.equal(again.events.at(-1)?.body.case, "sessionPaused");
  assert.deepEqual(again.released, ["suspended"]);
});

test("a run that ends before it asked for all, or stands still, pauses", async () => {
  const first = new MemorySession();
  await first.execute(define((ctx) => ctx.step("a", () => 1)));
  for (const code of [
    define(async () => "nothing asked"),
    define((ctx) => ctx.step("other", () => sleep(5_000, 1, { ref: false }))),
  ]) {
    const again = new MemorySession(first.events.slice(0, -1));
    const end = await again.execute(code);
    assert.ok(
      end !== "killed" && end.kind === "suspended" && end.error?.code === "nondeterminism",
      JSON.stringify(end),
    );
  }
});

test("misuse is caught with errors that teach", async () => {
  assert.equal(
    await failureCode((ctx) => ctx.step("outer", () => ctx.step("inner", () => 1), ONCE)),
    "ctx_inside_step",
  );
  assert.equal(
    await failureCode(async (ctx) => {
      void ctx.step("lost", () => 1);
    }),
    "unawaited_steps",
  );
  assert.equal(await failureCode((ctx) => ctx.step("g", () => 1, { effect: "guarded" })), "guarded_step_without_input");
  assert.equal(await failureCode((ctx) => ctx.step("f", () => ({ deep: [() => 1] }))), "unserialisable_value");
  assert.equal(
    await failureCode((ctx) =>
      Promise.all([ctx.step("s", () => 1, { key: "k" }), ctx.step("s", () => 1, { key: "k" })]),
    ),
    "duplicate_step_key",
  );
});

test("an abandoned run throws nothing, and nothing is unhandled", async () => {
  const unhandled: unknown[] = [];
  const note = (reason: unknown): void => void unhandled.push(reason);
  process.on("unhandledRejection", note);
  let caught = 0;
  const session = new MemorySession();
  const { run } = session.begin(
    define(async (ctx) => {
      try {
        await ctx.step("slow", (_input, step) => sleep(10_000, 1, { signal: step.signal }));
      } catch {
        caught += 1;
      }
    }),
  );
  await sleep(5);
  run.fence("another worker took over");
  assert.deepEqual(await run.ended, { kind: "fenced" });
  await sleep(20);
  process.off("unhandledRejection", note);
  assert.equal(caught, 0);
  assert.deepEqual(unhandled, []);
});

test("a shutdown lets begun steps finish and gives the lease back", async () => {
  const session = new MemorySession();
  const { run } = session.begin(
    define(async (ctx) => {
      await ctx.step("begun", () => sleep(30, "done"));
      await ctx.step("next", () => assert.fail("must not start"));
    }),
  );
  await sleep(5);
  await run.suspend("shutdown", 1_000);
  assert.equal((await run.ended).kind, "suspended");
  assert.equal(session.events.at(-1)?.body.case, "stepCompleted");
  assert.deepEqual(session.released, ["shutdown"]);
});

test("a full buffer stalls new steps and drops nothing", async () => {
  const session = new MemorySession();
  session.full = true;
  let ran = 0;
  const { run } = session.begin(define((ctx) => ctx.step("s", () => ++ran)));
  await sleep(20);
  assert.equal(ran, 0);
  session.makeRoom();
  assert.deepEqual(await run.ended, { kind: "completed", output: 1 });
});

test("now, random, uuid and state are the same on replay; state commits what changed once", async () => {
  const code = define(async (ctx) => {
    const before = [ctx.now(), ctx.random(), ctx.uuid()];
    ctx.state.set("n", 1);
    await ctx.step("a", () => 1);
    ctx.state.set("n", (ctx.state.get<number>("n") ?? 0) + 1);
    await ctx.step("b", () => 2);
    return [...before, ctx.now(), ctx.random(), ctx.uuid(), ctx.state.get("n")];
  });
  const session = new MemorySession();
  const end = await session.execute(code);
  for (let count = 2; count < session.events.length; count++) {
    const again = new MemorySession(session.events.slice(0, count));
    const resumed = await again.execute(code);
    assert.ok(resumed !== "killed" && resumed.kind === "completed" && end !== "killed" && end.kind === "completed");
    const [left, right] = [resumed.output as unknown[], end.output as unknown[]];
    assert.deepEqual([left[1], left[2], left[4], left[5], left[6]], [right[1], right[2], right[4], right[5], right[6]]);
    const deltas = again.events.filter((event) => event.stateDelta !== undefined).length;
    assert.equal(deltas, 2, `cut at ${count}`);
  }
});
