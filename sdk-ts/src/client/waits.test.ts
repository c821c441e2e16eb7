/**
 * Waits against a real engine: what a session waits for reaches it once, however often its worker and its engine die
 * meanwhile, and nobody is held for it (design 4, 5.3, 5.4; W1–W3, B1, A1, A2, S1, Q1).
 *
 * This file is its own worker: started with CELLAFLOW_TEST_LOG it serves the workflow until it is killed.
 */
import assert from "node:assert/strict";
import type { ChildProcess } from "node:child_process";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, it } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { create } from "@bufbuild/protobuf";
import * as z from "zod";
import {
  OperatorService,
  PauseSessionRequestSchema,
  ResumeSessionRequestSchema,
} from "../gen/cellaflow/v1/operator_pb.js";
import { connectionOf } from "../internal/connection.js";
import { workflow } from "../runtime/workflow.js";
import { createWorker } from "../worker/worker.js";
import type { Client, SessionResult } from "./api.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";
import type { SessionInfo } from "./session.js";

const { CELLAFLOW_TEST_LOG: log = "" } = process.env;
/** Longer than the time for which a run is kept for a timer. */
const NAP_MS = 5_600;

const sleeper = workflow({ name: "sleeper", version: "1", input: z.string() }, async (ctx, input) => {
  const note = (line: string) => () => {
    appendFileSync(log, `ran ${line}\n`);
    return line;
  };
  await ctx.step("before", note("before"));
  const first = await Promise.race([ctx.sleep("limit", 3_600_000).then(() => "late"), ctx.signal("go", z.string())]);
  await ctx.sleep("nap", NAP_MS);
  const { decision, by } = await ctx.approval("pay", { toolCall: "pay", args: { cents: 5 } });
  const paid = await ctx.step("pay", note("pay"), { input, effect: "guarded" });
  return { first, decision, by, paid, woke: ctx.now() };
});

if (log !== "") {
  const deliveries = (stepKey: string): void => appendFileSync(log, `delivered ${stepKey}\n`);
  const observer = { stepDelivered: ({ stepKey }: { stepKey: string }) => deliveries(stepKey) };
  appendFileSync(log, "start\n");
  await createWorker({ workflows: [sleeper], log: () => {}, observer }).run();
} else {
  describe("waits", { skip: process.env.CELLAFLOW_BIN ? false : "CELLAFLOW_BIN names no engine" }, suite);
}

class WorkerProcess {
  private readonly child: ChildProcess;
  private readonly exited: Promise<unknown>;

  constructor(engine: TestEngine, file: string) {
    this.child = engine.spawnAgain(import.meta.url, { CELLAFLOW_TEST_LOG: file });
    this.exited = new Promise((resolve) => this.child.once("exit", resolve));
  }

  async kill(): Promise<void> {
    this.child.kill("SIGKILL");
    await this.exited;
  }
}

function suite(): void {
  let engine: TestEngine;
  let client: Client;

  before(async () => {
    engine = await TestEngine.start();
    client = createClient({ connection: engine.connection, log: () => {} });
  });
  after(() => engine[Symbol.asyncDispose]());

  async function until(session: string, test: (info: SessionInfo) => boolean): Promise<SessionInfo> {
    for (const deadline = Date.now() + 30_000; ; await sleep(20)) {
      const info = await client.get(session);
      if (test(info)) return info;
      assert.ok(Date.now() < deadline, `still ${info.status} (${info.reason}) at ${info.seq}`);
    }
  }
  const waitingFor = (...kinds: string[]) => {
    return ({ status, waits }: SessionInfo) =>
      status === "waiting" && waits.map(({ kind }) => kind).join() === kinds.join();
  };

  it("W1 W2 B1 worker and engine die in every wait; the session goes on as if they had not", async () => {
    const file = join(engine.folder, "sleeper.log");
    const { sessionId } = await client.start(sleeper, "in");
    let worker = new WorkerProcess(engine, file);
    const crash = async (): Promise<void> => {
      await worker.kill();
      await engine.crash();
    };
    const resume = (): void => {
      worker = new WorkerProcess(engine, file);
    };

    const waiting = await until(sessionId, waitingFor("timer", "signal"));
    await crash();
    // Nobody runs it now.
    const { delivered } = await client.signal(sessionId, "go", "went");
    assert.equal(delivered, true);
    resume();
    const napping = await until(sessionId, waitingFor("timer", "timer"));
    assert.ok(napping.epoch > waiting.epoch);
    const due = napping.waits.find(({ name }) => name === "nap")?.due?.getTime() ?? 0;
    await crash();
    await sleep(Math.max(0, due - Date.now()));
    const fired = await until(sessionId, ({ status, waits }) => status !== "waiting" && waits.length === 1);
    assert.ok(fired.updatedAt.getTime() >= due, "a timer never fires early");
    resume();
    await until(sessionId, waitingFor("timer", "approval"));
    await crash();
    const [asked] = await client.approvals(sessionId);
    assert.deepEqual([asked?.toolCall, asked?.args], ["pay", { cents: 5 }]);
    assert.ok(asked !== undefined);
    await client.approve(asked);
    resume();
    const result = await client.result<{ first: string; decision: string; paid: string }>(sessionId, {
      waitMs: 20_000,
    });
    await worker.kill();
    assert.ok(result.status === "completed", JSON.stringify(result));
    const { first, decision, paid } = result.output;
    assert.deepEqual([first, decision, paid], ["went", "approved", "pay"]);

    const lines = readFileSync(file, "utf8").trim().split("\n");
    assert.deepEqual(
      lines.filter((line) => line.startsWith("ran ")),
      ["ran before", "ran pay"],
    );
    const runs = lines
      .join("\n")
      .split("start")
      .map((run) => run.match(/(?<=delivered ).*/g) ?? []);
    for (const [index, run] of runs.slice(2).entries()) {
      const former = runs[index + 1] ?? [];
      assert.deepEqual(run.slice(0, former.length), former, "the order of the run before");
    }
    assert.deepEqual(runs.at(-1), ["before#1", "go#1", "nap#1", "pay#1", "pay#2"]);
  });

  const echo = workflow({ name: "echo", version: "1", input: z.number() }, async (ctx, count) => {
    const said: string[] = [];
    while (said.length < count) said.push(await ctx.signal("say", z.string()));
    return said;
  });

  it("N1 S1 a run is followed while it waits; signals come in order, each id once", async () => {
    const key = "followed";
    const first = await client.run(echo, 3, { key });
    assert.ok(first.status === "waiting" && first.reason.includes("say"), JSON.stringify(first));
    const running = client.run(echo, 3, { key, whileWaiting: "follow" });
    const one = await client.signal({ workflow: "echo", key }, "say", "one", { id: "1" });
    const again = await client.signal({ workflow: "echo", key }, "say", "one", { id: "1" });
    assert.deepEqual([again.seq, again.duplicate], [one.seq, true]);
    await assert.rejects(client.signal({ workflow: "echo", key }, "say", "other", { id: "1" }), {
      code: "signal_conflict",
    });
    // Other names wake nobody who does not ask for them.
    assert.equal((await client.signal(first.sessionId, "unheard", 1)).delivered, false);
    await client.signal(first.sessionId, "say", "two");
    await client.signal(first.sessionId, "say", "three");
    assert.deepEqual(await running, {
      status: "completed",
      sessionId: first.sessionId,
      output: ["one", "two", "three"],
    });
    await assert.rejects(client.signal(first.sessionId, "say", "late"), { code: "session_ended" });
  });

  it("a run without a key is followed as well, and a result that is awaited follows", async () => {
    const nap = workflow({ name: "nap", version: "1", input: z.number() }, async (ctx, ms) => {
      await ctx.signal("wake", z.string(), { timeoutMs: ms });
      await ctx.sleep(20);
      return "woken";
    });
    const running = client.run(nap, NAP_MS, { whileWaiting: "follow" });
    const started = await client.start(nap, 60_000);
    const result = started.result({ whileWaiting: "follow" });
    const stopped = new AbortController();
    const serving = createWorker({ connection: engine.connection, workflows: [nap], log: () => {} }).run({
      signal: stopped.signal,
    });
    await until(started.sessionId, waitingFor("signal"));
    await client.signal(started.sessionId, "wake", "now");
    const outputs = (await Promise.all([running, result])).map((one: SessionResult) => one.status);
    assert.deepEqual(outputs, ["completed", "completed"]);
    stopped.abort();
    await serving;
  });

  const refund = workflow({ name: "refund", version: "1", input: z.number() }, (ctx, expiresIn) => {
    const call = { toolCall: "refund", args: { order: "A1" } };
    return ctx.approval("refund", expiresIn > 0 ? { ...call, expiresIn } : call);
  });

  it("A1 A2 a decision is bound to the call that was shown, made once, and says who", async () => {
    const key = "refund";
    const { sessionId } = await client.run(refund, 0, { key });
    const [asked] = await client.approvals({ workflow: "refund", key });
    assert.ok(asked !== undefined && asked.outcome === undefined);
    await assert.rejects(client.approve({ ...asked, argsDigest: "00".repeat(32) }), { code: "approval_mismatch" });
    const id = "ab".repeat(16);
    await client.reject(asked, { comment: "no", onBehalfOf: "Ann", id });
    await client.reject(asked, { comment: "no", onBehalfOf: "Ann", id });
    await assert.rejects(client.approve(asked), { code: "approval_decided" });
    const result = await client.run(refund, 0, { key });
    assert.ok(result.status === "completed", JSON.stringify(result));
    const { decision, by, comment } = result.output;
    assert.deepEqual([decision, comment], ["rejected", "no"]);
    assert.match(by ?? "", /\(on behalf of Ann\)$/);
    assert.equal((await client.approval(sessionId, "refund#1")).outcome?.decision, "rejected");
  });

  it("Y2 an approval expires; then nobody decides it", async () => {
    const running = client.run(refund, 400, { key: "expires", whileWaiting: "follow" });
    const session = { workflow: "refund", key: "expires" };
    let [asked] = await client.approvals(session).catch(() => []);
    while (asked === undefined) [asked] = await client.approvals(session).catch(() => []);
    const result = await running;
    assert.ok(result.status === "completed" && result.output.decision === "expired", JSON.stringify(result));
    await assert.rejects(client.approve(asked), { code: /approval_expired|approval_decided|session_ended/ });
  });

  it("100 timers at once: 64 are open at a time, all fire, and the session is held by nobody in between", async () => {
    const many = workflow({ name: "many", version: "1", input: z.number() }, async (ctx, count) => {
      const items = Array.from({ length: count }, (_, index) => index);
      const woken = await ctx.map(items, (item, inner) => inner.sleep(20 + (item % 7) * 5).then(() => item));
      await ctx.signal("end", z.string());
      return woken.length;
    });
    const { sessionId, status } = await client.run(many, 100, { key: "many" });
    assert.equal(status, "waiting");
    await client.signal(sessionId, "end", "now");
    const result = await client.run(many, 100, { key: "many" });
    assert.ok(result.status === "completed" && result.output === 100, JSON.stringify(result));
  });

  it("W4 what comes while a session is paused is recorded, and seen after it was resumed", async () => {
    const key = "paused";
    const { sessionId } = await client.run(echo, 1, { key });
    const { client: wire } = connectionOf(engine.connection);
    const timeoutMs = 5_000;
    await wire.unary(OperatorService.method.pauseSession, create(PauseSessionRequestSchema, { sessionId }), {
      timeoutMs,
    });
    const running = await client.run(echo, 1, { key, whileWaiting: "follow" });
    assert.equal(running.status, "paused");
    await client.signal(sessionId, "say", "meanwhile");
    assert.equal((await client.get(sessionId)).status, "paused");
    await wire.unary(OperatorService.method.resumeSession, create(ResumeSessionRequestSchema, { sessionId }), {
      timeoutMs,
    });
    const result = await client.run(echo, 1, { key, whileWaiting: "follow" });
    assert.deepEqual(result, { status: "completed", sessionId, output: ["meanwhile"] });
  });

  it("Q1 a query shows state and conversation of a waiting session, texts that are references included", async () => {
    const long = "a text that is long enough to be stored as a reference where it is repeated, word by word";
    const talk = workflow({ name: "talk", version: "1", input: z.string() }, async (ctx, name) => {
      ctx.state.set("name", name);
      ctx.state.set("gone", 1);
      const answer = await ctx.step("answer", () => long);
      ctx.state.delete("gone");
      ctx.messages.push({ role: "user", content: name }, { role: "assistant", content: answer });
      await ctx.zone("zone", async (zone) => {
        zone.state.set("count", 3n);
        return zone.step("inner", () => `${long}!`);
      });
      ctx.messages.push({ role: "user", content: `${long}!` });
      return ctx.signal("end", z.string());
    });
    const { sessionId } = await client.run(talk, "Ann");
    const view = await client.query(sessionId);
    assert.equal(view.status, "waiting");
    assert.deepEqual(view.state, { name: "Ann", count: 3n });
    const texts = view.messages.map(({ role, parts }) => [
      role,
      parts.map((part) => ("text" in part ? part.text : "")),
    ]);
    assert.deepEqual(texts, [
      ["user", ["Ann"]],
      ["assistant", [long]],
      ["user", [`${long}!`]],
    ]);
    const early = await client.query(sessionId, { toSeq: 3 });
    assert.deepEqual([early.seq, early.state], [3, { name: "Ann", gone: 1 }]);
  });
}
