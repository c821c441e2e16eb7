/**
 * Order (design 5.3): outcomes reach workflow code as they did the first time, whatever is cut where.
 *
 * Each workflow is run uncut, then again from every prefix of its ledger; its trace and result must be the same.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

type Code = (ctx: Context, trace: string[]) => Promise<unknown>;

function define(trace: string[], code: Code) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, (ctx) => code(ctx, trace));
}

/** Runs uncut, then cut at every boundary: killed there live, and started again from there. */
async function atEveryBoundary(code: Code): Promise<{ events: number }> {
  const trace: string[] = [];
  const whole = new MemorySession();
  const end = await whole.execute(define(trace, code));
  assert.ok(end !== "killed" && end.kind === "completed", JSON.stringify(end));
  for (let count = 2; count < whole.events.length; count++) {
    const killed = new MemorySession([], count);
    await killed.execute(define([], code));
    for (const events of [whole.events.slice(0, count), killed.events]) {
      // With other timing the killed run may have come to its end before.
      if (events.at(-1)?.body.case === "sessionCompleted") continue;
      const again: string[] = [];
      const resumed = await new MemorySession([...events]).execute(define(again, code));
      assert.ok(resumed !== "killed" && resumed.kind === "completed", `cut at ${count}: ${JSON.stringify(resumed)}`);
      if (events !== killed.events) {
        assert.deepEqual(
          again.slice(0, prefixOf(trace, events.length, whole)),
          trace.slice(0, prefixOf(trace, events.length, whole)),
        );
      }
    }
  }
  const again: string[] = [];
  const replayed = await new MemorySession(whole.events.slice(0, -1)).execute(define(again, code));
  assert.deepEqual(replayed, end);
  assert.deepEqual(again, trace);
  return { events: whole.events.length };
}

// What was delivered before the cut has to be delivered again in the same order; later timing may differ.
function prefixOf(trace: string[], count: number, whole: MemorySession): number {
  const outcomes = whole.events.slice(0, count).filter((event) => event.body.case === "stepCompleted").length;
  return Math.min(outcomes, trace.length);
}

function step(ctx: Context, trace: string[], name: string, ms: number): Promise<string> {
  return ctx
    .step(name, async () => {
      await sleep(ms);
      return name;
    })
    .then((value) => {
      trace.push(value);
      return value;
    });
}

test("a race with a slow first member has the same winner", async () => {
  await atEveryBoundary(async (ctx, trace) => {
    const winner = await Promise.race([step(ctx, trace, "slow", 20), step(ctx, trace, "fast", 2)]);
    const after = await step(ctx, trace, `after-${winner}`, 1);
    return [winner, after];
  });
});

test("branches that finish in the opposite order", async () => {
  await atEveryBoundary(async (ctx, trace) => {
    const branch = (name: string, ms: number) =>
      ctx.scope(name, async (inner) => {
        await step(inner, trace, `${name}1`, ms);
        await step(inner, trace, `${name}2`, ms);
        return name;
      });
    return Promise.all([branch("a", 12), branch("b", 6), branch("c", 1)]);
  });
});

test("I/O of the workflow's own between requests", async () => {
  await atEveryBoundary(async (ctx, trace) => {
    const late = sleep(15).then(() => step(ctx, trace, "late", 1));
    const early = step(ctx, trace, "early", 25);
    const first = await Promise.any([late, early]);
    await sleep(5);
    const then = await step(ctx, trace, `then-${first}`, 1);
    return [first, then, await early];
  });
});

test("500 items at concurrency 8 replay in order", async () => {
  const trace: string[] = [];
  const code: Code = (ctx, into) =>
    ctx.map(
      Array.from({ length: 500 }, (_, index) => index),
      async (item, inner) => {
        const value = await inner.step("work", async () => {
          if (item % 7 === 0) await sleep(item % 3);
          return item * 2;
        });
        into.push(String(item));
        return value;
      },
      { concurrency: 8 },
    );
  const whole = new MemorySession();
  const end = await whole.execute(define(trace, code));
  assert.ok(end !== "killed" && end.kind === "completed");
  for (const count of [2, 3, 10, 101, 250, 499, 500, 501]) {
    const again: string[] = [];
    const resumed = await new MemorySession(whole.events.slice(0, count)).execute(define(again, code));
    assert.deepEqual(resumed, end);
    assert.deepEqual(again.slice(0, count - 2), trace.slice(0, count - 2));
  }
  const again: string[] = [];
  await new MemorySession(whole.events.slice(0, -1)).execute(define(again, code));
  assert.deepEqual(again, trace);
});

test("other source text with the same requests replays: keys and digests know nothing of the source", async () => {
  const whole = new MemorySession();
  const end = await whole.execute(
    define([], async (ctx) => {
      const first = await ctx.step("double", (input: number) => input * 2, { input: 21 });
      const both = await Promise.all(["x", "y"].map((name) => ctx.scope(name, (inner) => inner.step("s", () => name))));
      return { first, both };
    }),
  );
  // Killed at every event, then resumed by a build whose closures, names and layout are others.
  for (let count = 2; count < whole.events.length; count++) {
    const ran: string[] = [];
    const minified = define([], async (c) => {
      const r = (n: string) => {
        ran.push(n);
        return n;
      };
      const d = await c.step("double", (q: number) => 2 * q * r("d").length, { input: 21 });
      const m = async (n: string) => c.scope(n, async (i) => i.step("s", () => r(n)));
      return { first: d, both: await Promise.all([..."xy"].map(m)) };
    });
    assert.deepEqual(
      await new MemorySession(whole.events.slice(0, count)).execute(minified),
      end,
      `cut after ${count}`,
    );
    assert.equal(ran.length, 3 - recordedSteps(whole.events.slice(0, count)), "what was recorded did not run again");
  }
});

function recordedSteps(events: readonly Event[]): number {
  return events.filter((event) => event.body.case === "stepCompleted").length;
}
