/**
 * One idempotency key, several sessions, a real engine: the effect happens once, whoever asks, across kill -9 of the engine
 * and of the process that calls (design 5.1).
 *
 * This file is its own agent: started with CELLAFLOW_TEST_KEY it pays, and dies inside the call.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import * as z from "zod";
import { StepError } from "../failure.js";
import { workflow } from "../runtime/workflow.js";
import type { Client } from "./api.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";
import type { EventInfo } from "./events.js";

const { CELLAFLOW_TEST_KEY: key, CELLAFLOW_TEST_LOG: log = "" } = process.env;

const Payment = z.object({
  invoice: z.string(),
  cents: z.number(),
  onInFlight: z.enum(["wait", "fail"]).default("wait"),
  /** Where calls are written to. */
  log: z.string(),
  callMs: z.number().default(100),
});

const payment = workflow({ name: "payment", version: "1", input: Payment }, (ctx, { invoice, cents, ...how }) =>
  ctx
    .step(
      "charge",
      async () => {
        appendFileSync(how.log, "charged\n");
        if (key !== undefined) process.kill(process.pid, "SIGKILL");
        await sleep(how.callMs);
        return `receipt of ${invoice}`;
      },
      {
        input: { invoice, cents },
        idempotencyKey: invoice,
        onInFlight: how.onInFlight,
        timeoutMs: 1_000,
        totalTimeoutMs: 60_000,
      },
    )
    .catch((error: unknown) => {
      assert.ok(error instanceof StepError);
      return error.code;
    }),
);

const charges = (file: string): number => readFileSync(file, "utf8").split("charged").length - 1;

async function eventsOf(client: Client, sessionId: string): Promise<EventInfo[]> {
  const events: EventInfo[] = [];
  for await (const event of client.attach(sessionId).events()) events.push(event);
  return events;
}

async function twoOrders(): Promise<void> {
  await using engine = await TestEngine.start();
  const client = createClient({ connection: engine.connection, log: () => {} });
  const file = join(engine.folder, "charges");
  const pay = (order: string, more: Partial<z.input<typeof Payment>> = {}) =>
    client.run(payment, { invoice: "invoice-7", cents: 4_200, log: file, ...more }, { key: order });
  const results = await Promise.all([pay("order-1"), pay("order-2")]);
  const outputs = results.map((result) => (result.status === "completed" ? result.output : result));
  assert.deepEqual(outputs, ["receipt of invoice-7", "receipt of invoice-7"]);
  assert.equal(charges(file), 1);
  const ledgers = await Promise.all(results.map(({ sessionId }) => eventsOf(client, sessionId)));
  const called = ledgers.findIndex((events) => events.some(({ kind }) => kind === "guardIntent"));
  const outcome = ledgers[called]?.find(({ kind }) => kind === "stepCompleted");
  const taken = ledgers[1 - called]?.find(({ kind }) => kind === "stepCompleted");
  assert.deepEqual(taken?.deduplicatedFrom, { sessionId: results[called]?.sessionId, seq: outcome?.seq });
  assert.equal(outcome?.deduplicatedFrom, undefined);
  assert.ok(ledgers[1 - called]?.every(({ kind }) => kind !== "guardIntent"));

  const other = await pay("order-3", { cents: 9_900 });
  assert.ok(other.status === "completed" && other.output === "guard_input_conflict", JSON.stringify(other));

  const slow = pay("order-4", { invoice: "invoice-8", callMs: 500 });
  while (charges(file) < 2) await sleep(5);
  const impatient = await pay("order-5", { invoice: "invoice-8", onInFlight: "fail" });
  assert.ok(impatient.status === "completed" && impatient.output === "in_progress", JSON.stringify(impatient));
  await slow;
  assert.equal(charges(file), 2);
}

async function killed(): Promise<void> {
  await using engine = await TestEngine.start();
  const file = join(engine.folder, "charges");
  const { url, token, ca } = engine.connection;
  const child = spawn(process.execPath, [fileURLToPath(import.meta.url)], {
    stdio: ["ignore", "ignore", "inherit"],
    env: {
      ...process.env,
      NODE_TEST_CONTEXT: "",
      CELLAFLOW_URL: url,
      CELLAFLOW_TOKEN: token,
      CELLAFLOW_CA: ca,
      CELLAFLOW_TEST_KEY: "order-1",
      CELLAFLOW_TEST_LOG: file,
    },
  });
  await new Promise((resolve) => child.once("exit", resolve));
  assert.equal(child.signalCode, "SIGKILL");
  assert.equal(charges(file), 1);

  const client = createClient({ connection: engine.connection, log: () => {} });
  const input = { invoice: "invoice-7", cents: 4_200, log: file };
  const other = client.run(payment, input, { key: "order-2" });
  await sleep(200);
  await engine.crash(); // between intent and outcome
  // Whoever takes the first order over may not call; nobody knows what the bank did.
  let owner = await client.run(payment, input, { key: "order-1" });
  while (owner.status !== "paused") owner = await client.run(payment, input, { key: "order-1" });
  assert.equal(charges(file), 1, "the other order waits");
  await client.resolveStep(owner.sessionId, "charge#1", { output: "receipt found" });
  const results = [await other, await client.run(payment, input, { key: "order-1" })];
  for (const result of results) {
    assert.ok(result.status === "completed" && result.output === "receipt found", JSON.stringify(result));
  }
  assert.equal(charges(file), 1);
}

async function die(): Promise<void> {
  const client = createClient({ log: () => {} });
  await client.run(payment, { invoice: "invoice-7", cents: 4_200, log }, { key: key ?? "" });
}

if (key === undefined) {
  test("of sessions that ask with one key one calls, and the others say where their output is from", twoOrders);
  test("a process killed inside the call, and the engine after it: nobody calls again, and a word reaches all", killed);
} else await die();
