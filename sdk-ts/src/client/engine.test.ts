/**
 * The SDK against the real engine over TLS: clients, workers, and what survives the engine's death (design 5.2).
 */
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { CellaflowError, NonDeterminismError } from "../errors.js";
import { workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

let engine: TestEngine;
const quiet = () => {};

before(async () => {
  engine = await TestEngine.start();
});
after(async () => {
  await engine[Symbol.asyncDispose]();
});

// Another namespace of connections per client: a process of its own would have another instance, too.
function connect() {
  return createClient({ connection: engine.connection, log: quiet });
}

const double = workflow({ name: "double", version: "1", input: z.number() }, async (ctx, input) => {
  return ctx.step("double", (n) => n * 2, { input });
});

test("a key names one session: its result is returned, another input is a conflict", async () => {
  const client = connect();
  const first = await client.run(double, 21, { key: "k1" });
  assert.ok(first.status === "completed" && first.output === 42);
  const again = await client.run(double, 21, { key: "k1" });
  assert.deepEqual(again, first);
  await assert.rejects(client.run(double, 22, { key: "k1" }), { code: "key_conflict" });
  const restarted = await client.run(double, 21, { key: "k1", ifEnded: "restart" });
  assert.notEqual(restarted.sessionId, first.sessionId);
});

test("another version appends nothing and says so", async () => {
  const client = connect();
  const second = workflow({ name: "double", version: "2", input: z.number() }, async () => 0);
  const handle = await client.start(double, 4, { key: "pinned" });
  await assert.rejects(client.run(second, 4, { key: "pinned" }), { code: "version_mismatch" });
  assert.equal((await handle.get()).seq, 1);
});

test("workers take started sessions of the versions they serve", async () => {
  const client = connect();
  const stop = new AbortController();
  const triple = workflow({ name: "triple", version: "7", input: z.number() }, async (ctx, n) => {
    return ctx.step("triple", () => n * 3);
  });
  const worker = createWorker({ connection: engine.connection, workflows: [double, triple], log: quiet });
  const running = worker.run({ signal: stop.signal, shutdownGraceMs: 500 });
  const handles = await Promise.all([1, 2, 3].map((n) => client.start(triple, n)));
  const results = await Promise.all(handles.map((handle) => handle.result({ waitMs: 10_000 })));
  assert.deepEqual(
    results.map((result) => (result.status === "completed" ? result.output : result)),
    [3, 6, 9],
  );
  const listed: string[] = [];
  for await (const session of client.list({ workflow: "triple", status: ["completed"] }))
    listed.push(session.sessionId);
  assert.deepEqual(listed.sort(), handles.map((handle) => handle.sessionId).sort());
  stop.abort();
  await running;
});

test("a worker that shuts down finishes what was begun and gives the session back at once", async () => {
  const client = connect();
  const ran: string[] = [];
  const slow = workflow({ name: "slow", version: "1", input: z.number() }, async (ctx) => {
    for (const name of ["one", "two"]) {
      await ctx.step(name, async () => {
        ran.push(name);
        await sleep(300);
      });
    }
    return ran.length;
  });
  const serve = (signal: AbortSignal) =>
    createWorker({ connection: engine.connection, workflows: [slow], log: quiet }).run({
      signal,
      shutdownGraceMs: 2_000,
    });
  const [first, second] = [new AbortController(), new AbortController()];
  const running = serve(first.signal);
  const handle = await client.start(slow, 1);
  while (ran.length === 0) await sleep(10);
  first.abort();
  await running;
  assert.deepEqual(ran, ["one"]);
  const again = serve(second.signal);
  const result = await handle.result({ waitMs: 10_000 });
  assert.ok(result.status === "completed" && result.output === 2, JSON.stringify(result));
  second.abort();
  await again;
});

test("a wrong token is refused at once, whoever asks", async () => {
  const connection = { ...engine.connection, token: "cf_wrong" };
  const client = createClient({ connection, log: quiet });
  await assert.rejects(client.run(double, 1), { code: "unauthenticated" });
  await assert.rejects(client.start(double, 1), { code: "unauthenticated" });
  const worker = createWorker({ connection, workflows: [double], log: quiet });
  await assert.rejects(worker.run(), { code: "unauthenticated" });
});

test("losing the engine aborts nothing: steps and zones go on and commit afterwards", async () => {
  const client = connect();
  let runs = 0;
  let aborted = false;
  const patient = workflow({ name: "patient", version: "1", input: z.number() }, async (ctx) => {
    const one = await ctx.step("long", async (_input, step) => {
      runs += 1;
      step.signal.addEventListener("abort", () => {
        aborted = true;
      });
      await sleep(1_200);
      return "one";
    });
    const two = await ctx.zone("zone", async (zone) => {
      return zone.step("inner", async () => {
        runs += 1;
        await sleep(1_200);
        return "two";
      });
    });
    return [one, two];
  });
  const running = client.run(patient, 1, { key: "patient" });
  await sleep(300);
  await engine.crash(200);
  await sleep(900);
  await engine.crash();
  const result = await running;
  assert.ok(result.status === "completed", JSON.stringify(result));
  assert.deepEqual(result.output, ["one", "two"]);
  assert.equal(runs, 2);
  assert.equal(aborted, false);
  assert.equal((await client.get(result.sessionId)).epoch, 1);
});

test("500 concurrent items, larger than a message, survive the engine's death", async () => {
  const client = connect();
  const wide = workflow({ name: "wide", version: "1", input: z.number() }, async (ctx, count) => {
    const sizes = await ctx.map(
      Array.from({ length: count }, (_, index) => index),
      async (index, inner) => {
        const text = await inner.step("make", async () => {
          await sleep(index % 5);
          return "x".repeat(index % 50 === 0 ? 200_000 : 10);
        });
        return text.length;
      },
      { concurrency: 32 },
    );
    return sizes.reduce((sum, size) => sum + size, 0);
  });
  const running = client.run(wide, 500);
  await sleep(60);
  await engine.crash();
  const result = await running;
  assert.ok(result.status === "completed", JSON.stringify(result));
  assert.equal(result.output, 10 * 200_000 + 490 * 10);
  const kinds: string[] = [];
  for await (const event of client.attach(result.sessionId).events()) kinds.push(event.kind);
  assert.equal(kinds.filter((kind) => kind === "stepCompleted").length, 500);
});

test("a session whose payloads are encrypted runs, resumes and shows its result", async () => {
  const invert = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);
  const hooks = { name: "invert/1", encode: invert, decode: invert };
  const client = createClient({ connection: engine.connection, log: quiet, hooks });
  const secret = workflow({ name: "secret", version: "1", input: z.string() }, async (ctx, input) => {
    const text = await ctx.step("say", (value) => `${value}!`, { input });
    const sent = await ctx.step("send", () => text.repeat(50_000), { input: text, effect: "guarded" });
    ctx.messages.push({ role: "user", parts: [{ type: "text", text: sent }] });
    return ctx.zone("zone", async (zone) => zone.step("inner", () => sent.length + ctx.sessionId.length * 0));
  });
  const result = await client.run(secret, "hush", { key: "s" });
  assert.ok(result.status === "completed" && result.output === 250_000, JSON.stringify(result));
  assert.deepEqual(await client.result(result.sessionId), result);
  await assert.rejects(connect().result(result.sessionId), { code: "payload_sealed" });
});

test("an unknown guarded effect is reconciled after attempt time and grace", async () => {
  const client = connect();
  let calls = 0;
  const mail = workflow({ name: "mail", version: "1", input: z.string() }, async (ctx, text) => {
    return ctx.step(
      "send",
      () => {
        calls += 1;
        throw new Error("connection reset");
      },
      { input: text, idempotencyKey: `mail-${ctx.rootId}`, reconcile: () => ({ applied: "delivered" }) },
    );
  });
  const result = await client.run(mail, "hello");
  assert.ok(result.status === "completed" && result.output === "delivered", JSON.stringify(result));
  assert.equal(calls, 1);
});

test("an unknown guarded effect pauses by default; the session says why", async () => {
  const client = connect();
  const mail = workflow({ name: "mail-pause", version: "1", input: z.string() }, async (ctx, input) => {
    return ctx.step("send", () => Promise.reject(new Error("reset")), { input, effect: "guarded" });
  });
  const result = await client.run(mail, "hello");
  assert.ok(result.status === "paused", JSON.stringify(result));
});

test("a nondeterministic run pauses its session and shows both sides", async () => {
  const client = connect();
  let input = "old";
  let release: (() => void) | undefined;
  const changing = workflow({ name: "changing", version: "1", input: z.number() }, async (ctx) => {
    await ctx.step("first", () => 1, { input });
    await new Promise<void>((resolve) => {
      release = resolve;
    });
  });
  const stop = new AbortController();
  const first = client.run(changing, 1, { key: "c", signal: stop.signal }).catch((error: unknown) => error);
  while (release === undefined) await sleep(10);
  stop.abort();
  await first;
  input = "new";
  const second = await client.run(changing, 1, { key: "c" });
  assert.ok(second.status === "paused", JSON.stringify(second));
  assert.match(second.reason, /"old".*"new"/s);
  assert.ok(NonDeterminismError.prototype instanceof CellaflowError);
});

test("a client that waits for another's run says so, once, and returns that run's result", async () => {
  const said: string[] = [];
  const key = "held";
  let running = false;
  const held = workflow({ name: "held", version: "1", input: z.number() }, async (ctx) => {
    return await ctx.step("slow", async () => {
      running = true;
      await sleep(300);
      return 7;
    });
  });
  const first = connect().run(held, 1, { key });
  while (!running) await sleep(10);
  // Another address: with the same one both would share a channel and be one worker to the engine.
  const connection = { ...engine.connection, url: engine.connection.url.replace("127.0.0.1", "localhost") };
  const other = createClient({ connection, log: (_level, message) => said.push(message) });
  const second = await other.run(held, 1, { key });
  assert.ok(second.status === "completed" && second.output === 7, JSON.stringify(second));
  assert.equal((await first).status, "completed");
  assert.equal(said.filter((message) => message.includes("another run holds this session")).length, 1);
});
