/**
 * Waits (W1–W3, I1, N1, N2, Y1, Y2): what comes from outside reaches workflow code once and in ledger order, whatever is
 * cut where; and a run that only waits holds nothing (B1–B3).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { StepError } from "../failure.js";
import { ApprovalDecision } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const LINGER_MS = 20;

type Code = (ctx: Context, trace: string[]) => Promise<unknown>;

const OUTCOMES = new Set(["stepCompleted", "timerFired", "signalDelivered", "approvalDecided", "waitDropped"]);

function define(trace: string[], code: Code) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, (ctx) => code(ctx, trace));
}

/** A session whose run is given back soon. */
function parking(events: Event[] = []): MemorySession {
  const session = new MemorySession(events);
  session.lingerMs = LINGER_MS;
  return session;
}

/** Waits until the ledger has an event of this kind. */
async function seen(session: MemorySession, kind: string): Promise<void> {
  while (!session.events.some((event) => event.body.case === kind)) await sleep(1);
}

function kinds(session: MemorySession): string[] {
  return session.events.map((event) => event.body.case ?? "").filter((kind) => !kind.startsWith("lease"));
}

const outcomes = (events: readonly Event[]): number =>
  events.filter((event) => OUTCOMES.has(event.body.case ?? "")).length;

/** Runs uncut, then from every prefix of its ledger: the trace must begin alike, the end must be the same. */
async function fromEveryPrefix(code: Code, during: (session: MemorySession) => unknown = () => {}): Promise<string[]> {
  const trace: string[] = [];
  const whole = new MemorySession();
  const running = whole.execute(define(trace, code));
  await during(whole);
  const end = await running;
  assert.ok(end !== "killed" && end.kind === "completed", JSON.stringify(end));
  for (let count = 2; count < whole.events.length; count++) {
    const events = whole.events.slice(0, count);
    const again: string[] = [];
    const session = new MemorySession(events);
    const resumed = session.execute(define(again, code));
    if (count < whole.events.length - 1) await during(session);
    const result = await resumed;
    const delivered = outcomes(whole.events.slice(0, count));
    assert.ok(result !== "killed" && result.kind === "completed", `cut at ${count}: ${JSON.stringify(result)}`);
    assert.deepEqual(again.slice(0, delivered), trace.slice(0, delivered), `cut at ${count}`);
  }
  const again: string[] = [];
  assert.deepEqual(await new MemorySession(whole.events.slice(0, -1)).execute(define(again, code)), end);
  assert.deepEqual(again, trace);
  return kinds(whole);
}

function traced<T>(trace: string[], name: string, promise: Promise<T>): Promise<string> {
  return promise.then(
    () => {
      trace.push(name);
      return name;
    },
    (error: unknown) => {
      trace.push(`${name} ${(error as StepError).code}`);
      return `${name} ${(error as StepError).code}`;
    },
  );
}

test("W2 a race of a sleep against a step replays as it ran, whoever won", async () => {
  const race = (sleepMs: number, stepMs: number): Code => {
    return async (ctx, trace) => {
      const winner = await Promise.race([
        traced(trace, "slept", ctx.sleep(sleepMs)),
        traced(
          trace,
          "stepped",
          ctx.step("work", (_, step) => sleep(stepMs, undefined, { signal: step.signal })),
        ),
      ]);
      await traced(
        trace,
        `after ${winner}`,
        ctx.step("after", () => 1),
      );
      return winner;
    };
  };
  const timerWins = await fromEveryPrefix(race(5, 60_000));
  assert.deepEqual(timerWins.slice(0, 4), ["sessionStarted", "timerStarted", "timerFired", "stepCompleted"]);
  const stepWins = await fromEveryPrefix(race(60_000, 5));
  assert.deepEqual(stepWins.slice(0, 3), ["sessionStarted", "timerStarted", "stepCompleted"]);
});

test("W1 I1 a timer is started once, however often its run is resumed", async () => {
  const code: Code = async (ctx) => {
    await ctx.sleep("first", 30);
    await ctx.sleep({ until: 1 });
    return ctx.step("then", () => "done");
  };
  const session = new MemorySession();
  const first = session.begin(define([], code));
  await seen(session, "timerStarted");
  const left = [...session.events];
  first.run.fence("this process died");
  const second = new MemorySession(left);
  const end = await second.execute(define([], code));
  assert.deepEqual(end, { kind: "completed", output: "done" });
  assert.deepEqual(kinds(second), [
    "sessionStarted",
    "timerStarted",
    "timerFired",
    "timerStarted",
    "timerFired",
    "stepCompleted",
    "sessionCompleted",
  ]);
});

test("N1 signals are delivered in the order they came, buffered ones first, each to one wait", async () => {
  const code: Code = async (ctx, trace) => {
    const text = z.string();
    await traced(
      trace,
      "busy",
      ctx.step("busy", () => sleep(20)),
    );
    const got: unknown[] = [];
    for (let turn = 0; turn < 3; turn++) {
      const said = await ctx.signal("say", text);
      trace.push(said);
      got.push(said);
    }
    const none = await ctx.signal("say", text, { timeoutMs: 10 });
    trace.push(String(none));
    return [...got, none];
  };
  const whole = new MemorySession();
  const running = whole.execute(define([], code));
  await sleep(2);
  whole.waits.signal("say", "one");
  whole.waits.signal("other", "not this");
  whole.waits.signal("say", "two");
  await sleep(40);
  whole.waits.signal("say", "three");
  assert.deepEqual(await running, { kind: "completed", output: ["one", "two", "three", undefined] });
  // From every prefix that has all the signals.
  const last = whole.events.findLastIndex((event) => event.body.case === "signalReceived");
  for (let count = last + 1; count < whole.events.length; count++) {
    const resumed = await new MemorySession(whole.events.slice(0, count)).execute(define([], code));
    assert.deepEqual(resumed, { kind: "completed", output: ["one", "two", "three", undefined] }, `cut at ${count}`);
  }
});

test("N2 a value that does not match the schema rejects with a typed error, live and on replay", async () => {
  const code: Code = async (ctx) => {
    const said = ctx.signal("say", z.object({ amount: z.number() }));
    const error = await said.then(
      () => undefined,
      (thrown: unknown) => thrown,
    );
    assert.ok(error instanceof StepError);
    return [error.code, error.retryable, (error.data as { issues: string[] }).issues.length];
  };
  await fromEveryPrefix(code, async (session) => {
    await sleep(2);
    if (!session.events.some((event) => event.body.case === "signalReceived")) {
      session.waits.signal("say", { amount: "ten" });
    }
  });
});

test("Y2 an approval tells the decision, by whom and what was said; expiry is a decision", async () => {
  const code: Code = async (ctx) => {
    const refund = { toolCall: "refund", args: { order: "A1", cents: 900n } };
    const first = await ctx.approval("refund", refund);
    const second = await ctx.approval("refund", { ...refund, expiresIn: 5 });
    return [first, second];
  };
  const session = new MemorySession();
  const running = session.execute(define([], code));
  await seen(session, "approvalRequested");
  session.waits.decide("refund#1", ApprovalDecision.REJECTED, "not this one");
  const end = await running;
  const decided = [
    { decision: "rejected", by: "test", comment: "not this one" },
    { decision: "expired", by: undefined, comment: undefined },
  ];
  assert.deepEqual(end, { kind: "completed", output: decided });
  const replayed = await new MemorySession(session.events.slice(0, -1)).execute(define([], code));
  assert.deepEqual(replayed, end);
});

test("Y1 an approval that asks about other arguments than recorded is a nondeterminism", async () => {
  const code = (cents: number): Code => {
    return (ctx) => ctx.approval("refund", { toolCall: "refund", args: { cents } });
  };
  const session = parking();
  assert.deepEqual(await session.execute(define([], code(1))), { kind: "suspended", why: "waiting" });
  const other = new MemorySession([...session.events]);
  const end = await other.execute(define([], code(2)));
  assert.ok(end !== "killed" && end.kind === "suspended" && end.error?.code === "nondeterminism", JSON.stringify(end));
});

test("W3 an aborted wait rejects in its turn and frees its place; an outcome that came before wins", async () => {
  const kindsSeen = await fromEveryPrefix(async (ctx, trace) => {
    const controller = new AbortController();
    const long = traced(trace, "long", ctx.sleep("long", 60_000, { signal: controller.signal }));
    const step = await traced(
      trace,
      "step",
      ctx.step("work", () => 1),
    );
    controller.abort();
    return [step, await long];
  });
  assert.deepEqual(kindsSeen, ["sessionStarted", "timerStarted", "stepCompleted", "waitDropped", "sessionCompleted"]);
  // With one place, a second timer starts only when the first is dropped.
  const session = new MemorySession([], undefined, { openMax: 1 });
  const end = await session.execute(
    define([], async (ctx) => {
      const controller = new AbortController();
      const first = ctx.sleep("first", 60_000, { signal: controller.signal });
      const second = ctx.sleep("second", 1);
      await ctx.step("work", () => 1);
      controller.abort();
      await assert.rejects(first, { code: "wait_dropped" });
      await second;
      return "both";
    }),
  );
  assert.deepEqual(end, { kind: "completed", output: "both" });
});

test("misuse of waits is said at once", async () => {
  const session = new MemorySession();
  const end = await session.execute(
    define([], async (ctx) => {
      assert.throws(() => ctx.sleep(-1), { code: "invalid_wait_time" });
      assert.throws(() => ctx.sleep("n", Number.NaN), { code: "invalid_wait_time" });
      assert.throws(() => ctx.sleep({ until: new Date("nonsense") }), { code: "invalid_wait_time" });
      assert.throws(() => ctx.signal("s", undefined as never), { code: "signal_without_schema" });
      assert.throws(() => ctx.approval("a", { toolCall: "t", args: () => 1 }), { code: "unserialisable_value" });
      return ctx.step("inside", () => {
        assert.throws(() => ctx.sleep(1), { code: "ctx_inside_step" });
        return "refused";
      });
    }),
  );
  assert.deepEqual(end, { kind: "completed", output: "refused" });
  assert.deepEqual(kinds(session), ["sessionStarted", "stepCompleted", "sessionCompleted"], "nothing was opened");
});

// ---- giving the session back ----

test("B1 a run that only waits is given back, and goes on from its events", async () => {
  let steps = 0;
  const code: Code = async (ctx) => {
    await ctx.step("before", () => {
      steps += 1;
    });
    const said = await ctx.signal("say", z.string());
    return ctx.step("after", () => `${said} ${steps}`);
  };
  const session = parking();
  const end = await session.execute(define([], code));
  assert.deepEqual(end, { kind: "suspended", why: "waiting" });
  assert.deepEqual(session.released, ["waiting"]);
  const later = parking([...session.events]);
  const running = later.execute(define([], code));
  later.waits.signal("say", "hello");
  assert.deepEqual(await running, { kind: "completed", output: "hello 1" });
});

test("B1 nothing is given back while a step runs beside the wait, or an outcome is to be delivered", async () => {
  const session = parking();
  const running = session.execute(
    define([], async (ctx) => {
      const said = ctx.signal("say", z.string());
      await ctx.step("long", () => sleep(LINGER_MS * 6));
      return said;
    }),
  );
  await sleep(LINGER_MS * 4);
  assert.deepEqual(session.released, []);
  session.waits.signal("say", "in time");
  assert.deepEqual(await running, { kind: "completed", output: "in time" });
});

test("B1 what the engine knows more keeps the run", async () => {
  const session = parking();
  const release = session.release.bind(session);
  let refused = 0;
  session.release = async (why, seen) => {
    // A signal arrives while the release is on its way.
    if (refused === 0) session.waits.signal("say", "crossing");
    const given = await release(why, seen);
    if (!given) refused += 1;
    return given;
  };
  const end = await session.execute(define([], (ctx) => ctx.signal("say", z.string())));
  assert.deepEqual(end, { kind: "completed", output: "crossing" });
  assert.equal(refused, 1);
});

test("B2 a timer that fires soon is waited for", async () => {
  const session = parking();
  const end = await session.execute(
    define([], async (ctx) => {
      for (let round = 0; round < 3; round++) await ctx.sleep(LINGER_MS * 3);
      return "kept";
    }),
  );
  assert.deepEqual(end, { kind: "completed", output: "kept" });
  const far = await parking().execute(define([], (ctx) => ctx.sleep(3_600_000)));
  assert.deepEqual(far, { kind: "suspended", why: "waiting" });
});

test("B1 a run that acquires a resource is kept", async () => {
  const session = parking();
  const running = session.execute(
    define([], async (ctx) => {
      const said = ctx.signal("say", z.string());
      const slow = await ctx.resource("slow", () => sleep(LINGER_MS * 5, "acquired"));
      return `${slow} ${await said}`;
    }),
  );
  await sleep(LINGER_MS * 3);
  assert.deepEqual(session.released, []);
  session.waits.signal("say", "in time");
  assert.deepEqual(await running, { kind: "completed", output: "acquired in time" });
});
