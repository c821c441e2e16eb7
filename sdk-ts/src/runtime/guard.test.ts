/**
 * Guarded steps (design 5.1): never started twice while the outcome is unknown. Invariants G1 to G5 of `guard.ts`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { NotApplied } from "../errors.js";
import { StepError } from "../failure.js";
import { Resolution } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const FAST = { backoff: { initialMs: 1 } };

function define(code: (ctx: Context) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

function kinds(session: MemorySession): string[] {
  return session.events.map((event) => event.body.case ?? "");
}

test("the intent is durable before the call, and a recorded outcome is not called again", async () => {
  const calls: string[] = [];
  const session = new MemorySession();
  const code = define((ctx) =>
    ctx.step(
      "send",
      (input, step) => {
        calls.push(`${input} after ${kinds(session).at(-1)} ${step.idempotencyKey}`);
        return "sent";
      },
      { input: "mail", idempotencyKey: "k" },
    ),
  );
  assert.deepEqual(await session.execute(code), { kind: "completed", output: "sent" });
  assert.deepEqual(calls, ["mail after guardIntent k"]);
  const again = new MemorySession(session.events.slice(0, -1));
  assert.deepEqual(await again.execute(code), { kind: "completed", output: "sent" });
  assert.equal(calls.length, 1);
});

test("G2 an intent left open is never called again: the run waits for its resolution", async () => {
  let calls = 0;
  const code = define((ctx) => ctx.step("send", () => ++calls, { input: 1, effect: "guarded" }));
  const killed = new MemorySession([], 3); // right after the intent
  assert.equal(await killed.execute(code), "killed");
  const again = new MemorySession(killed.events);
  const { run } = again.begin(code);
  await sleep(30);
  assert.equal(calls, 0);
  again.due("send#1", 1);
  await sleep(10);
  assert.equal(calls, 0);
  again.resolve("send#1", 1, Resolution.OUTPUT, "by hand");
  assert.deepEqual(await run.ended, { kind: "completed", output: "by hand" });
  assert.equal(calls, 0);
});

test("G2 an open intent is reconciled once its time is over", async () => {
  const code = define((ctx) =>
    ctx.step("send", () => "called", {
      input: 1,
      effect: "guarded",
      reconcile: (_input, step) => ({ applied: `found ${step.attempt}` }),
    }),
  );
  const killed = new MemorySession([], 3);
  await killed.execute(code);
  const again = new MemorySession(killed.events);
  const { run } = again.begin(code);
  await sleep(10);
  again.due("send#1", 1);
  assert.deepEqual(await run.ended, { kind: "completed", output: "found 1" });
  // The finding is the step's outcome on every later replay.
  const replay = new MemorySession(again.events.slice(0, -1));
  assert.deepEqual(await replay.execute(code), { kind: "completed", output: "found 1" });
});

test("G3 what a tool throws is unknown, unless it is NotApplied, which is tried again under a new intent", async () => {
  const session = new MemorySession();
  const code = define((ctx) =>
    ctx.step(
      "send",
      (_input, step) => {
        if (step.attempt < 3) throw new NotApplied("refused at the door");
        return step.attempt;
      },
      { input: 1, effect: "guarded", retry: FAST },
    ),
  );
  assert.deepEqual(await session.execute(code), { kind: "completed", output: 3 });
  assert.equal(kinds(session).filter((kind) => kind === "guardIntent").length, 3);

  let calls = 0;
  const unknown = new MemorySession();
  const throwing = define((ctx) =>
    ctx.step(
      "send",
      () => {
        calls += 1;
        throw new Error("connection reset");
      },
      { input: 1, effect: "guarded", retry: FAST },
    ),
  );
  const { run } = unknown.begin(throwing);
  await sleep(30);
  assert.equal(calls, 1);
  assert.ok(kinds(unknown).includes("guardUnknown"));
  unknown.resolve("send#1", 1, Resolution.FAILURE);
  const end = await run.ended;
  assert.ok(end.kind === "failed" && end.failure.code === "effect_unknown", JSON.stringify(end));
  assert.equal(calls, 1);
});

test("G4 attempts end when they are used up, with what the tool said", async () => {
  const session = new MemorySession();
  const code = define(async (ctx) => {
    const failure = await ctx
      .step("send", () => Promise.reject(new NotApplied("no such box")), {
        input: 1,
        effect: "guarded",
        retry: { maxAttempts: 2, ...FAST },
      })
      .catch((error: unknown) => error);
    assert.ok(failure instanceof StepError);
    return `${failure.code}: ${failure.message}`;
  });
  const end = await session.execute(code);
  assert.deepEqual(end, { kind: "completed", output: "not_applied: no such box" });
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), end);
});

test("G5 an output that comes after the time-out is still the outcome", async () => {
  const session = new MemorySession();
  let aborted = false;
  const code = define((ctx) =>
    ctx.step(
      "send",
      async (_input, step) => {
        step.signal.addEventListener("abort", () => {
          aborted = true;
        });
        await sleep(60);
        return "late";
      },
      { input: 1, effect: "guarded", timeoutMs: 20 },
    ),
  );
  assert.deepEqual(await session.execute(code), { kind: "completed", output: "late" });
  assert.ok(aborted);
  assert.ok(kinds(session).includes("guardUnknown"));
});

test("an output that cannot be stored leaves the effect unknown instead of repeating it", async () => {
  let calls = 0;
  const session = new MemorySession();
  const code = define((ctx) =>
    ctx.step(
      "send",
      () => {
        calls += 1;
        return { callback: () => 1 };
      },
      { input: 1, effect: "guarded", retry: FAST },
    ),
  );
  const { run } = session.begin(code);
  await sleep(20);
  assert.equal(kinds(session).at(-1), "guardUnknown");
  session.resolve("send#1", 1, Resolution.OUTPUT, "said by a person", "alice");
  assert.deepEqual(await run.ended, { kind: "completed", output: "said by a person" });
  assert.equal(calls, 1);
});

test("a workflow that ends waits for its open guarded effects", async () => {
  const session = new MemorySession();
  const code = define(async (ctx) => {
    const slow = ctx.step("send", () => sleep(40, "done"), { input: 1, effect: "guarded" });
    return Promise.race([slow, ctx.step("quick", () => "quick")]);
  });
  assert.deepEqual(await session.execute(code), { kind: "completed", output: "quick" });
  assert.deepEqual(kinds(session).slice(-2), ["stepCompleted", "sessionCompleted"]);
});

test("at most open_max intents are open; further ones wait in the SDK", async () => {
  let open = 0;
  let most = 0;
  const session = new MemorySession([], Number.MAX_SAFE_INTEGER, { openMax: 2 });
  const code = define(async (ctx) => {
    const items = Array.from({ length: 7 }, (_, index) => index);
    const results = await ctx.map(items, (item, inner) =>
      inner.step(
        "send",
        async () => {
          most = Math.max(most, ++open);
          await sleep(5);
          open -= 1;
          return item;
        },
        { input: item, effect: "guarded" },
      ),
    );
    return results.length;
  });
  assert.deepEqual(await session.execute(code), { kind: "completed", output: 7 });
  assert.equal(most, 2);
});
