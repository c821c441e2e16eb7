/**
 * At most once, fenced (design 5.1, 5.2): a worker that is stopped (SIGSTOP) inside a guarded call, taken over and
 * woken again charges nobody a second time; a server that charges and resets the connection charges once.
 *
 * This file is its own agent: started with CELLAFLOW_TEST_KEY it runs the workflow once.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { workflow } from "../runtime/workflow.js";
import { startCountingServer } from "../testing/counting-server.js";
import { createClient } from "./client.js";
import { engineProgram, TestEngine } from "./engine-kit.js";

const { CELLAFLOW_TEST_KEY: key, CELLAFLOW_TEST_LOG: log = "" } = process.env;
const note = (line: string): void => appendFileSync(log, `${line}\n`);

const charging = workflow({ name: "charging", version: "1", input: z.string() }, async (ctx, server) => {
  return ctx.step(
    "charge",
    async (url, step) => {
      note("calling");
      await sleep(300);
      const answer = await fetch(`${url}/charge`, {
        method: "POST",
        headers: { "idempotency-key": step.idempotencyKey },
        signal: step.signal,
      });
      return answer.status;
    },
    {
      input: server,
      idempotencyKey: "once",
      reconcile: async (url) => {
        const { count } = (await (await fetch(`${url}/count?key=once`)).json()) as { count: number };
        return count > 0 ? { applied: 200 } : "notApplied";
      },
    },
  );
});

function agent(engine: TestEngine, server: string, file: string): ChildProcess {
  return engine.spawnAgain(import.meta.url, { CELLAFLOW_TEST_KEY: server, CELLAFLOW_TEST_LOG: file });
}

async function until(file: string, text: string, msMax: number): Promise<void> {
  for (const end = Date.now() + msMax; Date.now() < end; await sleep(10)) {
    if (existsSync(file) && readFileSync(file, "utf8").includes(text)) return;
  }
  assert.fail(`"${text}" did not come within ${msMax} ms`);
}

async function stopped(): Promise<void> {
  await using engine = await TestEngine.start();
  const server = await startCountingServer();
  const [one, two] = [join(engine.folder, "one.log"), join(engine.folder, "two.log")];
  const first = agent(engine, server.url, one);
  try {
    await until(one, "calling", 10_000);
    first.kill("SIGSTOP");
    agent(engine, server.url, two);
    await until(two, "completed", 20_000);
    first.kill("SIGCONT");
    await until(one, "completed", 10_000);
    assert.equal(server.count("once"), 1);
  } finally {
    first.kill("SIGKILL");
    await server.close();
  }
}

async function resetAfterCharge(): Promise<void> {
  await using engine = await TestEngine.start();
  const server = await startCountingServer();
  try {
    server.inject({ resetAfterCharge: true });
    const client = createClient({ connection: engine.connection, log: () => {} });
    let calls = 0;
    const buy = workflow({ name: "buy", version: "1", input: z.string() }, (ctx, url) =>
      ctx.step(
        "buy",
        (_url, step) => {
          calls += 1;
          return fetch(`${url}/charge`, {
            method: "POST",
            headers: { "idempotency-key": "buy" },
            signal: step.signal,
          }).then((answer) => answer.status);
        },
        { input: url, effect: "guarded" },
      ),
    );
    const result = await client.run(buy, server.url, { key: "buy" });
    assert.ok(result.status === "paused", JSON.stringify(result));
    assert.equal(server.count("buy"), 1);
    // A person looks at the account and says what happened; the run goes on from there.
    const { url, token, ca } = engine.connection;
    const args = ["steps", "resolve", result.sessionId, "buy#1", "--output", '"seen in the account"'];
    const env = { ...process.env, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca };
    execFileSync(engineProgram(), args, { env, stdio: "pipe" });
    const resumed = await client.run(buy, server.url, { key: "buy" });
    assert.ok(resumed.status === "completed", JSON.stringify(resumed));
    assert.equal(resumed.output, "seen in the account");
    assert.deepEqual([calls, server.count("buy")], [1, 1]);
  } finally {
    await server.close();
  }
}

if (key === undefined) {
  test("a worker that wakes inside a guarded call after a takeover charges nobody again", stopped);
  test("a server that charges and resets the connection charges once, and a person resolves it", resetAfterCharge);
} else {
  const client = createClient({ log: () => {} });
  const result = await client.run(charging, key, { key: "one", waitMs: 30_000 });
  note(JSON.stringify(result));
}
