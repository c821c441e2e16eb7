/**
 * Retries and time-outs (design 5.15): what is tried again, how long, and what happens when attempts are used up.
 * Invariants T2 and T4 of `step.ts`, G1 and G2 of `progress.ts`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import * as z from "zod";
import { NonRetryableError } from "../errors.js";
import type { StepError } from "../failure.js";
import { PauseReason } from "../gen/cellaflow/v1/common_pb.js";
import { EventSchema, SessionResumedSchema } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "./api.js";
import { backoffMs, type RetryDefaults } from "./retry.js";
import { MemorySession, TEST_LIMITS } from "./test-kit.js";
import { workflow } from "./workflow.js";

const FAST = { backoff: { initialMs: 1, maxMs: 1 } };
const DEFAULTS: RetryDefaults = TEST_LIMITS.retry;

function define(code: (ctx: Context) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

const kinds = (session: MemorySession): string[] => session.events.map((event) => event.body.case ?? "");

/** What an operator's resume leaves in the ledger. */
function resume(session: MemorySession): MemorySession {
  const seq = BigInt(session.events.length + 1);
  const timeMs = session.events.at(-1)?.timeMs ?? 0n;
  const body = { case: "sessionResumed", value: create(SessionResumedSchema, { by: "ada" }) } as const;
  return new MemorySession([...session.events, create(EventSchema, { seq, timeMs, body })]);
}

test("waits grow exponentially with full jitter, on top of what the failure asked for", () => {
  const waits = Array.from({ length: 400 }, () => backoffMs(undefined, DEFAULTS, 4));
  assert.ok(Math.max(...waits) <= 1_600 && Math.max(...waits) > 1_200, `${Math.max(...waits)}`);
  assert.ok(Math.min(...waits) < 400, "full jitter reaches down to nothing");
  const asked = backoffMs(FAST, DEFAULTS, 1, { data: { retryAfterMs: 700 } });
  assert.ok(asked >= 700 && asked <= 701, `${asked}`);
  const capped = backoffMs({ backoff: { initialMs: 60_000 } }, DEFAULTS, 30);
  assert.ok(capped <= 60_000, "an own first wait above the engine's longest is kept");
});

test("the engine's defaults count for a step that says nothing, the step's own before them", async () => {
  let calls = 0;
  const failing = () => {
    calls += 1;
    throw new Error("no");
  };
  const retry = { ...DEFAULTS, attemptsMax: 2, backoffInitialMs: 1, backoffMaxMs: 1 };
  await new MemorySession([], undefined, { retry }).execute(define((ctx) => ctx.step("a", failing)));
  assert.equal(calls, 2);
  calls = 0;
  const own = define((ctx) => ctx.step("a", failing, { retry: { ...FAST, maxAttempts: 4 } }));
  await new MemorySession([], undefined, { retry }).execute(own);
  assert.equal(calls, 4);
  calls = 0;
  const stepAttemptMs = 20;
  const slow = define((ctx) => ctx.step("a", () => sleep(200), { retry: { maxAttempts: 1 } }));
  const end = await new MemorySession([], undefined, { stepAttemptMs }).execute(slow);
  assert.equal(typeof end === "object" && end.kind === "failed" && end.failure.code, "timeout");
});

test("used up attempts pause the session if the step says so, and a resume gives it all of them again", async () => {
  let calls = 0;
  let healthy = false;
  const code = define((ctx) =>
    ctx.step(
      "flaky",
      (_, step) => {
        calls += 1;
        if (!healthy) throw new Error("down");
        return step.attempt;
      },
      { retry: { ...FAST, maxAttempts: 2, onExhausted: "pause" } },
    ),
  );
  const first = new MemorySession();
  assert.deepEqual(await first.execute(code), { kind: "suspended", why: "paused" });
  assert.equal(calls, 2);
  const paused = first.events.at(-1)?.body;
  assert.equal(paused?.case === "sessionPaused" && paused.value.reason, PauseReason.RETRIES_EXHAUSTED);
  assert.equal(paused?.case === "sessionPaused" && paused.value.stepKey, "flaky#1");

  const second = resume(first);
  assert.deepEqual(await second.execute(code), { kind: "suspended", why: "paused" });
  assert.equal(calls, 4, "the resumed session had two attempts again");

  healthy = true;
  const third = resume(second);
  assert.deepEqual(await third.execute(code), { kind: "completed", output: 5 }, "attempts are counted on (T2)");
});

test("a zone pauses like a step", async () => {
  let healthy = false;
  const code = define((ctx) =>
    ctx.zone("z", async () => (healthy ? "done" : Promise.reject(new Error("down"))), {
      retry: { ...FAST, maxAttempts: 2, onExhausted: "pause" },
    }),
  );
  const first = new MemorySession();
  assert.deepEqual(await first.execute(code), { kind: "suspended", why: "paused" });
  assert.equal(kinds(first).filter((kind) => kind === "zoneFailed").length, 2);
  healthy = true;
  assert.deepEqual(await resume(first).execute(code), { kind: "completed", output: "done" });
});

test("what says that it is not worth another attempt fails the step, pause or not", async () => {
  let calls = 0;
  const code = define((ctx) =>
    ctx.step(
      "bad",
      () => {
        calls += 1;
        throw new NonRetryableError("bad request");
      },
      { retry: { onExhausted: "pause" } },
    ),
  );
  const end = await new MemorySession().execute(code);
  assert.equal(typeof end === "object" && end.kind, "failed");
  assert.equal(calls, 1);
});

test("T4 the time for all attempts ends the step in an attempt and between two, and a crash does not start it again", async () => {
  const thrown: string[] = [];
  const signals: boolean[] = [];
  const at = (ms: number, name: string, fn: (signal: AbortSignal) => Promise<unknown>) =>
    define((ctx) =>
      ctx
        .step(name, (_, step) => fn(step.signal), {
          totalTimeoutMs: ms,
          retry: { maxAttempts: 50, backoff: { initialMs: 20, maxMs: 20 } },
        })
        .catch((error: StepError) => thrown.push(error.code)),
    );
  const fresh = (): MemorySession => new MemorySession([], undefined, {}, Date.now());
  const hanging = async (signal: AbortSignal) => {
    await sleep(2_000, undefined, { signal }).catch(() => signals.push(signal.aborted));
  };
  await fresh().execute(at(60, "hangs", hanging));
  await fresh().execute(at(60, "fails", () => Promise.reject(new Error("no"))));
  assert.deepEqual(thrown, ["step_timeout", "step_timeout"]);
  assert.deepEqual(signals, [true]);

  // By the ledger it began an hour ago, so hardly anything of an hour is left. All of it again, and the attempt would
  // come to its end.
  const hourMs = 3_600_000;
  const hung = new MemorySession([], undefined, {}, Date.now() - hourMs);
  const { run } = hung.begin(at(hourMs + 200, "hangs", hanging));
  await sleep(50);
  hung.dead = true;
  run.fence("killed");
  await new MemorySession(hung.events).execute(at(hourMs + 200, "hangs", hanging));
  assert.deepEqual(thrown.slice(2), ["step_timeout"], "what was left, not all of it again");
});

test("the next attempt finds the details of the last heartbeat, in this process and after a crash", async () => {
  const seen: unknown[] = [];
  const code = define((ctx) =>
    ctx.step(
      "crawl",
      async (_, step) => {
        seen.push(step.progress);
        const from = (step.progress as { page: number } | undefined)?.page ?? 0;
        for (let page = from + 1; page <= from + 3; page += 1) step.heartbeat({ page });
        if (step.attempt < 3) throw new Error("connection lost");
        return from;
      },
      { retry: FAST },
    ),
  );
  const session = new MemorySession();
  assert.deepEqual(await session.execute(code), { kind: "completed", output: 6 });
  assert.deepEqual(seen, [undefined, { page: 3 }, { page: 6 }]); // G2
  const beats = kinds(session).filter((kind) => kind === "stepHeartbeat").length;
  assert.equal(beats, 1, "one at once, the others within 5 s of it are not journaled"); // G1

  seen.length = 0;
  const atBeat = kinds(session).indexOf("stepHeartbeat") + 1;
  const again = new MemorySession(session.events.slice(0, atBeat));
  assert.equal((await again.execute(code)) !== "killed", true);
  assert.deepEqual(seen[0], { page: 1 }, "what was journaled before the crash");
});

test("a heartbeat starts the clock of the attempt again, and one without details journals nothing", async () => {
  const code = define((ctx) =>
    ctx.step(
      "long",
      async (_, step) => {
        for (let n = 0; n < 6; n += 1) {
          await sleep(20);
          step.heartbeat();
        }
        return "done";
      },
      { timeoutMs: 60, retry: { maxAttempts: 1 } },
    ),
  );
  const session = new MemorySession();
  assert.deepEqual(await session.execute(code), { kind: "completed", output: "done" });
  assert.equal(kinds(session).includes("stepHeartbeat"), false);
});
