/** The test kit against a real engine: what `docs/testing.md` promises. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as delay } from "node:timers/promises";
import { createClient } from "../client/client.js";
import { crashEngineAfter } from "./crash.js";
import { startEngine, type TestEngine } from "./engine.js";
import {
  droppedStep,
  insertedStep,
  orderV1,
  otherInput,
  otherResult,
  patient,
  payment,
  rewritten,
} from "./kit.fixture.js";
import { exportLedger, readLedger, replayLedger } from "./ledger.js";
import { startWorkerProcess } from "./worker-process.js";

const skip = process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine";
const module = new URL("./kit.fixture.js", import.meta.url);
const DAY_MS = 24 * 3_600_000;

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
}

describe("a private engine", { skip }, () => {
  it("E1: ends with the process that started it, even by kill -9", async () => {
    const url = new URL("./engine.js", import.meta.url).href;
    const code = `const { startEngine } = await import(${JSON.stringify(url)});
      const engine = await startEngine();
      console.log(engine.connection.pid);
      setInterval(() => {}, 1000);`;
    const starter = spawn(process.execPath, ["--input-type=module", "--eval", code], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    const pid = Number(await new Promise((resolve) => starter.stdout.once("data", (data) => resolve(String(data)))));
    assert.ok(isAlive(pid));
    starter.kill("SIGKILL");
    for (let tries = 0; tries < 200 && isAlive(pid); tries += 1) await delay(25);
    assert.equal(isAlive(pid), false, "the engine outlived its starter");
  });

  it("E2: its clock skips, and what was skipped stays skipped across a restart", async () => {
    await using engine = await startEngine();
    const client = createClient({ connection: engine.connection });
    const startedAt = async (key: string) => {
      const { sessionId } = await client.start(orderV1, { item: key }, { key });
      return (await client.get(sessionId)).startedAt.getTime();
    };
    const before = await startedAt("before");
    await engine.skip(30 * DAY_MS);
    const later = await startedAt("after");
    assert.ok(later - before >= 30 * DAY_MS && later - before < 30 * DAY_MS + 60_000, `${later - before} ms`);
    await engine.kill();
    await assert.rejects(engine.skip(1), /does not run/);
    await engine.restart();
    assert.ok((await startedAt("restarted")) >= later);
    assert.ok(Math.abs(engine.now() - Date.now() - 30 * DAY_MS) < 60_000);
  });

  it("what comes due by the skipped time does so at once, and is not taken for a jump of the clock", async () => {
    await using engine = await startEngine();
    await using worker = startWorkerProcess({ connection: engine.connection, module });
    const client = createClient({ connection: engine.connection });
    const { sessionId } = await client.start(payment, { item: "a" });
    while ((await client.get(sessionId)).seq < 3) await delay(20);
    await worker.kill();
    await engine.skip(DAY_MS);
    const result = await client.result(sessionId, { waitMs: 5_000 });
    assert.equal(result.status, "paused");
    assert.match(JSON.stringify(result), /effect|unknown/);
    assert.doesNotMatch(engine.log(), /clock jumped/);
  });
});

describe("a clock that skips", { skip }, () => {
  it("sleeps of a month and a year pass at once, in a worker and in this process", async () => {
    await using engine = await startEngine();
    await using worker = startWorkerProcess({ connection: engine.connection, module });
    const client = createClient({ connection: engine.connection });
    const session = await client.start(patient, { item: "there" });
    const there = await engine.skipUntil(session.result({ whileWaiting: "follow" }));
    assert.deepEqual(there, { status: "completed", sessionId: session.sessionId, output: 395 }, worker.log());
    const here = await engine.skipUntil(client.run(patient, { item: "here" }, { whileWaiting: "follow" }));
    assert.ok(here.status === "completed" && here.output === 395, JSON.stringify(here));
  });
});

describe("crash after event N", { skip }, () => {
  let engine: TestEngine;
  before(async () => {
    engine = await startEngine({ flags: ["--lease-ttl-ms", "600"] });
  });
  after(async () => {
    await engine?.close();
  });

  it("a worker dies exactly there: the event is durable and nothing else came of it", async () => {
    const client = createClient({ connection: engine.connection });
    for (const seq of [2, 3, 5]) {
      const worker = startWorkerProcess({ connection: engine.connection, module, crashAfter: { seq } });
      const session = await client.start(orderV1, { item: `crash ${seq}` });
      assert.equal(await worker.exited, "SIGKILL", worker.log());
      assert.equal((await session.get()).seq, seq);
      await using _next = startWorkerProcess({ connection: engine.connection, module });
      const result = await session.result({ waitMs: 10_000 });
      assert.deepEqual(result.status === "completed" && result.output, { item: `crash ${seq}`, price: 42, left: 2 });
    }
  });

  it("an engine dies there, and the session goes on with the worker that never stopped", async () => {
    const client = createClient({ connection: engine.connection });
    await using worker = startWorkerProcess({ connection: engine.connection, module });
    const crashed = crashEngineAfter(engine, { workflow: "order", key: "engine" }, 3);
    const session = await client.start(orderV1, { item: "engine" }, { key: "engine" });
    await crashed;
    await engine.restart();
    const result = await session.result({ waitMs: 10_000 });
    assert.equal(result.status, "completed");
    assert.equal((await session.get()).epoch, 1, `another worker had to take over\n${worker.log()}`);
  });
});

describe("recorded ledgers replayed against new code", { skip }, () => {
  const folder = mkdtempSync(join(tmpdir(), "ledger-test-"));
  const whole = join(folder, "whole.jsonl");
  const parked = join(folder, "parked.jsonl");
  before(async () => {
    // The engine is gone when the ledgers are replayed.
    await using engine = await startEngine({ flags: ["--lease-ttl-ms", "600"] });
    const client = createClient({ connection: engine.connection });
    const done = await client.run(orderV1, { item: "book" });
    await exportLedger(done.sessionId, whole, { connection: engine.connection });
    await using worker = startWorkerProcess({ connection: engine.connection, module });
    const { sessionId } = await client.start(payment, { item: "book" });
    while ((await client.get(sessionId)).seq < 3) await delay(20);
    await assert.rejects(exportLedger(sessionId, parked, { connection: engine.connection }), /session_running/);
    await worker.kill();
    await engine.skip(DAY_MS);
    await client.result(sessionId, { waitMs: 5_000 });
    await exportLedger(sessionId, parked, { connection: engine.connection });
  });
  after(() => rmSync(folder, { recursive: true, force: true }));

  it("the code that recorded it is compatible", async () => {
    assert.deepEqual(await replayLedger(whole, orderV1), { compatible: true, outcomes: 3, ended: true });
  });
  it("so is code that asks for the same in other words; its steps are not run", async () => {
    assert.deepEqual(await replayLedger(whole, rewritten), { compatible: true, outcomes: 3, ended: true });
  });
  it("a session that is parked: compatible as far as it got, and its effect is not started", async () => {
    assert.deepEqual(await replayLedger(parked, payment), { compatible: true, outcomes: 0, ended: false, next: [] });
  });
  it("another input: the step, with both sides", async () => {
    const result = await replayLedger(whole, otherInput);
    assert.ok(!result.compatible && result.stepKey === "price#1", JSON.stringify(result));
    assert.notEqual(result.recorded, result.requested);
  });
  it("a step that was put in between: what the ledger has next was not asked for", async () => {
    const result = await replayLedger(whole, insertedStep, { stallMs: 200 });
    assert.ok(!result.compatible && result.stepKey === "stock#1", JSON.stringify(result));
  });
  it("a step that was left out", async () => {
    const result = await replayLedger(whole, droppedStep);
    assert.ok(!result.compatible && result.stepKey === "stock#1", JSON.stringify(result));
  });
  it("another result: the end differs", async () => {
    const result = await replayLedger(whole, otherResult);
    assert.ok(!result.compatible && result.stepKey === "" && result.requested.includes("EUR"), JSON.stringify(result));
  });
  it("a file that is none is refused", () => {
    assert.throws(() => readLedger(new URL("../../package.json", import.meta.url).pathname), /is no exported ledger/);
  });
});
