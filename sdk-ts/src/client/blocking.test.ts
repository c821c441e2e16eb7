/**
 * Code that blocks the thread (`execSync`) keeps its lease (design 5.2): nobody takes the session over, nothing runs twice.
 * A process that is stopped does not (B2 of `transport/heartbeat.ts`).
 *
 * This file is its own worker: started with CELLAFLOW_TEST_LOG it serves the workflow until it is killed.
 */
import assert from "node:assert/strict";
import { type ChildProcess, execFileSync } from "node:child_process";
import { appendFileSync, existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import { createClient } from "./client.js";
import { TestEngine, TIMES_MS } from "./engine-kit.js";

const { CELLAFLOW_TEST_LOG: log = "" } = process.env;
/** Long enough for several leases. */
const BLOCK_S = Math.ceil((TIMES_MS.lease_ttl * 3) / 1_000);

const blocker = workflow({ name: "blocker", version: "1", input: z.number() }, async (ctx, seconds) => {
  const compiled = await ctx.step("compile", () => {
    appendFileSync(log, `compiling in ${process.pid}\n`);
    execFileSync("sleep", [String(seconds)]);
    return "compiled";
  });
  return ctx.step("ship", () => `${compiled} and shipped`);
});

function lines(file: string): string[] {
  return existsSync(file) ? readFileSync(file, "utf8").trim().split("\n") : [];
}

function serve(engine: TestEngine, file: string): ChildProcess {
  return engine.spawnAgain(import.meta.url, { CELLAFLOW_TEST_LOG: file });
}

async function until(what: string, holds: () => boolean): Promise<void> {
  const deadline = Date.now() + 20_000;
  while (!holds()) {
    if (Date.now() > deadline) throw new Error(`not reached: ${what}`);
    await sleep(20);
  }
}

async function blocked(): Promise<void> {
  await using engine = await TestEngine.start();
  const file = join(engine.folder, "work.log");
  const workers = [serve(engine, file), serve(engine, file)];
  try {
    const client = createClient({ connection: engine.connection });
    const session = await client.start(blocker, BLOCK_S);
    const result = await session.result({ waitMs: 40_000 });
    assert.equal(result.status === "completed" && result.output, "compiled and shipped");
    assert.equal(lines(file).length, 1, "one call, though the other worker was free");
    const leases = [];
    for await (const event of session.events({ live: false })) if (event.kind === "leaseGranted") leases.push(event);
    assert.equal(leases.length, 1, "the session changed hands");
  } finally {
    for (const worker of workers) worker.kill("SIGKILL");
  }
}

async function stopped(): Promise<void> {
  await using engine = await TestEngine.start();
  const file = join(engine.folder, "work.log");
  const first = serve(engine, file);
  const workers = [first];
  try {
    const client = createClient({ connection: engine.connection });
    const session = await client.start(blocker, 1);
    await until("the step runs", () => lines(file).length === 1);
    await sleep(200); // its thread beats by now
    first.kill("SIGSTOP");
    workers.push(serve(engine, file));
    const result = await session.result({ waitMs: 30_000 });
    assert.equal(result.status, "completed");
    assert.equal(lines(file).length, 2, "the other worker took it over");
  } finally {
    for (const worker of workers) worker.kill("SIGKILL");
  }
}

if (log === "") {
  test("a step that blocks its process for several leases keeps the session", blocked);
  test("B2 a process that is stopped loses it", stopped);
} else await createWorker({ workflows: [blocker] }).run();
