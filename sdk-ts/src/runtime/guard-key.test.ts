/**
 * Idempotency keys that another step or session has in use (design 5.1): G6 of `guard.ts`, I1 and I2 of `in-flight.ts`.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { CancelledError } from "../errors.js";
import { StepError } from "../failure.js";
import type { Context } from "./api.js";
import type { StepOptions } from "./options.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

interface Paying {
  session: MemorySession;
  pay: (options?: Partial<StepOptions<string, string>>) => ReturnType<MemorySession["execute"]>;
  calls: () => number;
}

/** A session that pays invoice 7; `answers` is what the engine knows of the key, one for each request. */
function paying(answers: (string | { output: unknown } | undefined)[], events: MemorySession["events"] = []): Paying {
  let calls = 0;
  const session = new MemorySession(events);
  session.elsewhere = () => (answers.length > 1 ? answers.shift() : answers[0]);
  const pay: Paying["pay"] = (options = {}) => {
    const code = async (ctx: Context): Promise<string> => {
      const call = (): string => `charged ${++calls}`;
      return ctx
        .step("charge", call, { input: "invoice 7", idempotencyKey: "invoice-7", ...options })
        .catch((error: unknown) => {
          assert.ok(error instanceof StepError);
          return `${error.code} retryable=${error.retryable}`;
        });
    };
    return session.execute(workflow({ name: "test", version: "1", input: z.unknown() }, code));
  };
  return { session, pay, calls: () => calls };
}

const kinds = (session: MemorySession): string[] => session.events.map(({ body }) => body.case ?? "");

test("G6 what another session recorded is the step's output, without a call, and is replayed", async () => {
  const { session, pay, calls } = paying([{ output: "charged there" }]);
  assert.deepEqual(await pay(), { kind: "completed", output: "charged there" });
  assert.equal(calls(), 0);
  assert.deepEqual(kinds(session).slice(2), ["stepCompleted", "sessionCompleted"]);
  const replay = paying(["must not ask"], session.events.slice(0, -1));
  assert.deepEqual(await replay.pay(), { kind: "completed", output: "charged there" });
  assert.equal(replay.calls(), 0);
});

test("G6 a step waits while the key is in flight elsewhere, and calls if nothing came of it there", async () => {
  const waits = paying(["guard_in_flight", "guard_in_flight", { output: "there" }]);
  assert.deepEqual(await waits.pay(), { kind: "completed", output: "there" });
  const passed = paying(["guard_in_flight", undefined]);
  assert.deepEqual(await passed.pay(), { kind: "completed", output: "charged 1" });
});

test("I2 the wait ends with the step's time, with in_progress, and that is the outcome on replay", async () => {
  const { session, pay, calls } = paying(["guard_in_flight"]);
  const ended = { kind: "completed", output: "in_progress retryable=true" };
  assert.deepEqual(await pay({ totalTimeoutMs: 60 }), ended);
  assert.equal(calls(), 0);
  const replay = paying(["must not ask"], session.events.slice(0, -1));
  assert.deepEqual(await replay.pay({ totalTimeoutMs: 60 }), ended);
});

test("a step that is not to wait fails at once, and so does one whose key means something else", async () => {
  const impatient = paying(["in_progress"]);
  let asked: boolean | undefined;
  const answer = impatient.session.elsewhere;
  impatient.session.elsewhere = (intent) => {
    asked = intent.refuseInFlight;
    return answer(intent);
  };
  assert.deepEqual(await impatient.pay({ onInFlight: "fail" }), {
    kind: "completed",
    output: "in_progress retryable=true",
  });
  assert.equal(asked, true);
  for (const code of ["guard_input_conflict", "guard_key_in_use"]) {
    const refused = paying([code]);
    assert.deepEqual(await refused.pay(), { kind: "completed", output: `${code} retryable=false` });
    assert.equal(refused.calls(), 0);
  }
});

for (const when of ["asked for", "waited for"] as const) {
  test(`a session that is cancelled while a key is ${when} ends without calling`, async () => {
    const { session, calls } = paying(["guard_in_flight"]);
    let said: unknown;
    let asked = 0;
    session.elsewhere = ({ name }) => {
      if (name !== "charge") return undefined;
      asked += 1;
      if (asked === 1 && when === "asked for") session.cancel("too late");
      return "guard_in_flight";
    };
    const code = async (ctx: Context): Promise<unknown> => {
      ctx.onCancel((cleanup) => cleanup.step("undo", () => "undone", { input: 1, effect: "guarded" }));
      return ctx
        .step("charge", () => "charged", { input: 1, idempotencyKey: "k" })
        .catch((error: unknown) => {
          said = error;
          throw error;
        });
    };
    const { run } = session.begin(workflow({ name: "test", version: "1", input: z.unknown() }, code));
    if (when === "waited for") {
      while (asked < 2) await sleep(1);
      session.cancel("too late");
    }
    const end = await run.ended;
    assert.equal(end.kind, "cancelled", JSON.stringify(end));
    assert.ok(said instanceof CancelledError, String(said));
    assert.equal(calls(), 0);
    assert.ok(session.told.includes("stepCompleted onCancel/undo#1"), session.told.join());
  });
}
