/**
 * Zones (design 5.6): a zone commits as a whole or leaves nothing. Invariants Z1 to Z7.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import * as z from "zod";
import { StepError } from "../failure.js";
import { RefusalSchema } from "../gen/cellaflow/v1/common_pb.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const FAST = { maxAttempts: 3, backoff: { initialMs: 1 } };

function define(code: (ctx: Context) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

function kinds(session: MemorySession): string[] {
  return session.events.map((event) => event.body.case ?? "");
}

test("Z5 Z7 a zone is one event, and its body runs again over the recorded outcomes", async () => {
  let ran = 0;
  const seen: string[][] = [];
  const code = define(async (ctx) => {
    const local: string[] = [];
    const value = await ctx.zone("work", async (zone) => {
      const step = (name: string, ms: number) =>
        zone
          .step(name, async () => {
            ran += 1;
            await sleep(ms);
            return name;
          })
          .then((done) => local.push(done));
      await Promise.all([step("slow", 15), step("fast", 1)]);
      zone.state.set("kept", local.join());
      return local.length;
    });
    seen.push(local);
    return [value, ctx.state.get("kept")];
  });
  const session = new MemorySession();
  const end = await session.execute(code);
  assert.deepEqual(end, { kind: "completed", output: [2, "fast,slow"] });
  assert.deepEqual(kinds(session), [
    "sessionStarted",
    "leaseGranted",
    "zoneEntered",
    "zoneCommitted",
    "sessionCompleted",
  ]);
  assert.deepEqual(await new MemorySession(session.events.slice(0, -1)).execute(code), end);
  assert.equal(ran, 2);
  assert.deepEqual(seen, [
    ["fast", "slow"],
    ["fast", "slow"],
  ]);
});

test("Z6 a failed attempt forgets its state and is tried again; the last one's failure is the outcome", async () => {
  const session = new MemorySession();
  const code = define(async (ctx) => {
    let attempt = 0;
    const value = await ctx.zone(
      "flaky",
      async (zone) => {
        attempt += 1;
        zone.state.set(`attempt${attempt}`, true);
        if (attempt < 3) throw new Error("again");
        return attempt;
      },
      { retry: FAST },
    );
    return [value, ctx.state.keys()];
  });
  assert.deepEqual(await session.execute(code), { kind: "completed", output: [3, ["attempt3"]] });
  assert.equal(kinds(session).filter((kind) => kind === "zoneFailed").length, 2);

  const failing = define(async (ctx) => {
    const failure = await ctx
      .zone("bad", () => Promise.reject(new Error("never")), { retry: { maxAttempts: 1 } })
      .catch((error: unknown) => error);
    assert.ok(failure instanceof StepError);
    return failure.message;
  });
  const failed = new MemorySession();
  const end = await failed.execute(failing);
  assert.deepEqual(end, { kind: "completed", output: "never" });
  assert.deepEqual(await new MemorySession(failed.events.slice(0, -1)).execute(failing), end);
});

test("a takeover rolls back to the entry, and the count of attempts goes on", async () => {
  const attempts: number[] = [];
  const code = define(async (ctx) => {
    return ctx.zone("work", async (zone) => {
      return zone.step("inner", async () => {
        attempts.push(1);
        await sleep(20);
        return "done";
      });
    });
  });
  const killed = new MemorySession([], 3); // right after the entry
  await killed.execute(code);
  const again = new MemorySession(killed.events);
  assert.deepEqual(await again.execute(code), { kind: "completed", output: "done" });
  const entries = again.events.flatMap((event) =>
    event.body.case === "zoneEntered" ? [event.body.value.attempt] : [],
  );
  assert.deepEqual(entries, [1, 2]);
  assert.equal(attempts.length, 1);
});

test("an opened zone commits by commit alone, and leaving without it is a failed attempt", async () => {
  const code = define(async (ctx) => {
    const zone = await ctx.openZone("draft");
    assert.throws(() => ctx.now(), /outer_ctx_inside_zone/);
    const text = await zone.step("write", () => "text");
    const committed = await zone.commit(`${text}!`);
    await zone[Symbol.asyncDispose]();
    const second = await ctx
      .openZone("dropped")
      .then(async (open) => {
        await open.step("write", () => "lost");
        await open[Symbol.asyncDispose]();
        return "left";
      })
      .catch(() => "failed");
    return [committed, await ctx.step("after", () => second)];
  });
  const session = new MemorySession();
  assert.deepEqual(await session.execute(code), { kind: "completed", output: ["text!", "left"] });
  const last = session.events.find((event) => event.body.case === "zoneFailed");
  assert.ok(last !== undefined);
});

test("the outer ctx, guarded effects and unawaited steps are refused inside a zone", async () => {
  const code = define(async (ctx) => {
    const problems: string[] = [];
    const attempt = async (run: () => Promise<unknown>) => {
      await run().catch((error: Error) => problems.push(error.message.split(":")[0] ?? ""));
    };
    const once = { retry: { maxAttempts: 1 } };
    await attempt(() => ctx.zone("a", () => ctx.step("x", () => 1), once));
    await attempt(() =>
      ctx.zone("b", (zone) => zone.step("x", () => 1, { input: 1, effect: "guarded" } as { input: number }), once),
    );
    await attempt(() =>
      ctx.zone(
        "c",
        async (zone) => {
          void zone.step("x", () => 1);
        },
        once,
      ),
    );
    return problems;
  });
  assert.deepEqual(await new MemorySession().execute(code), {
    kind: "completed",
    output: ["outer_ctx_inside_zone", "guarded_step_in_zone", "unawaited_steps"],
  });
});

test("Z8 a process that stood still for longer than a lease asks again before it pays for anything", async () => {
  const LEASE_MS = 20;
  for (const lost of [false, true]) {
    let ran = 0;
    const code = define((ctx) =>
      ctx.zone("work", () => {
        ran += 1;
        return "done";
      }),
    );
    const session = new MemorySession([], undefined, { leaseTtlMs: LEASE_MS });
    const take = session.append.bind(session);
    let entries = 0;
    session.append = (entry) => {
      if (entry.op.case !== "zoneEntered") return take(entry);
      entries += 1;
      if (entries === 1)
        return void setTimeout(() => entry.acked({ seq: 3, timeMs: 1, duplicate: false, before: [] }), 2 * LEASE_MS);
      if (lost)
        return entry.refused(create(RefusalSchema, { code: "fenced", message: "fenced: a newer lease exists" }));
      return take(entry);
    };
    const end = await session.execute(code);
    assert.equal(entries, 2);
    assert.deepEqual([end === "killed" ? end : end.kind, ran], lost ? ["fenced", 0] : ["completed", 1]);
  }
});
