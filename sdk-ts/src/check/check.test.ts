/**
 * Promise: a check says what a worker would come to, and leaves everything as it was: no event, no lease, no effect.
 */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { create } from "@bufbuild/protobuf";
import * as z from "zod";
import type { Client } from "../client/api.js";
import { createClient } from "../client/client.js";
import { engineProgram, TestEngine } from "../client/engine-kit.js";
import { ledgerOf } from "../client/ledger.js";
import {
  type Event,
  EventSchema,
  GuardUnknownSchema,
  SessionStartedSchema,
  UnknownReason,
} from "../gen/cellaflow/v1/event_pb.js";
import { connectionOf } from "../internal/connection.js";
import { dryRun } from "../runtime/dry-run.js";
import { valuePayload } from "../runtime/payloads.js";
import { type Workflow, workflow } from "../runtime/workflow.js";
import { encodeValue } from "../values/codec.js";
import { createWorker } from "../worker/worker.js";
import { broken, curious, otherInput, unpaid, v1, v1_1 } from "./code.fixture.js";

const folder = mkdtempSync(join(tmpdir(), "check-test-"));
const effects = join(folder, "effects");
const log = (): void => {};
let engine: TestEngine;
let client: Client;
/** Sleeps until it is paid. */
let asleep: string;

before(async () => {
  engine = await TestEngine.start();
  client = createClient({ connection: engine.connection, log, suspendLingerMs: 10 });
  const result = await client.run(v1, "tea", { key: "asleep" });
  assert.equal(result.status, "waiting");
  asleep = result.sessionId;
  process.env.CHECK_EFFECTS = effects;
  writeFileSync(effects, "");
});
after(async () => {
  delete process.env.CHECK_EFFECTS;
  await engine[Symbol.asyncDispose]();
  rmSync(folder, { recursive: true, force: true });
});

/** What the engine has of a session: the hash of its last event stands for all of them. */
async function stored(sessionId: string): Promise<string> {
  const { seq, epoch, status, updatedAt } = await client.get(sessionId);
  const { ledger } = await ledgerOf(connectionOf(engine.connection), sessionId);
  return JSON.stringify([seq, epoch, status, updatedAt, Buffer.from(ledger.events.at(-1)?.hash ?? "").toString("hex")]);
}

/** X1: checks, and looks that nothing came of it. */
async function untouched<T>(sessionId: string, during: () => Promise<T>): Promise<T> {
  const ledger = await stored(sessionId);
  const result = await during();
  assert.equal(readFileSync(effects, "utf8"), "", "no effect");
  assert.equal(await stored(sessionId), ledger, "no event, no lease");
  return result;
}

const checked = (sessionId: string, workflow: Workflow<string>) =>
  untouched(sessionId, () => client.check(sessionId, { workflow, stallMs: 500 }));

test("a session that sleeps: compatible code waits on, whatever comes after", async () => {
  for (const code of [v1, v1_1]) {
    const result = await checked(asleep, code);
    assert.ok(result.compatible && !result.ended, JSON.stringify(result));
    assert.deepEqual([result.outcomes, result.next, result.serves], [2, [], true]);
    assert.deepEqual([result.version, result.codeVersion], ["1.0.0", code.version]);
  }
});

test("another input: the step, with both sides", async () => {
  const result = await checked(asleep, otherInput);
  assert.ok(!result.compatible && result.stepKey === "reserve#1", JSON.stringify(result));
  assert.match(result.requested, /two teas/);
  assert.equal(result.serves, false);
});

test("code that does not ask for what the session sleeps for, before it begins something else", async () => {
  const result = await checked(asleep, unpaid);
  assert.ok(!result.compatible && result.stepKey === "paid#1", JSON.stringify(result));
  assert.match(result.requested, /step "ship#1"/);
});

test("code that throws where the session sleeps would end it", async () => {
  const result = await checked(asleep, broken);
  assert.ok(!result.compatible && /broken/.test(result.requested), JSON.stringify(result));
});

test("D3: there is no verdict on code that looks at a resource which a check does not acquire", async () => {
  const undecided = untouched(asleep, () => client.check(asleep, { workflow: curious }));
  await assert.rejects(undecided, { code: "check_undecided", message: /"shop".*--acquire/ });
  const result = await client.check(asleep, { workflow: curious, resources: "acquire", stallMs: 500 });
  assert.equal(result.compatible, false);
  assert.equal(readFileSync(effects, "utf8"), "shop\n", "only what was allowed");
  writeFileSync(effects, "");
});

test("code of another workflow is refused, and so is a session that is not there", async () => {
  const foreign = { ...v1, name: "invoice" } as Workflow;
  await assert.rejects(client.check(asleep, { workflow: foreign }), { code: "invalid_check" });
  const missing = client.check("01935a2b-0000-7000-8000-00000000dead", { workflow: v1 });
  await assert.rejects(missing, { code: "session_not_found" });
});

test("a session without a worker: what the code would do next is said and not done", async () => {
  const { sessionId } = await client.start(v1, "milk", { key: "new" });
  await client.signal(sessionId, "paid", true);
  const fresh = await checked(sessionId, v1_1);
  assert.ok(fresh.compatible && !fresh.ended, JSON.stringify(fresh));
  assert.deepEqual([fresh.outcomes, fresh.next], [0, ['step "reserve#1"']]);
  await client.terminate(sessionId);
});

test("a paid session without a worker: the next step is an effect, and stays undone until a worker runs it", async () => {
  const { sessionId } = await client.run(v1, "salt", { key: "paid" });
  writeFileSync(effects, "");
  await client.signal(sessionId, "paid", true);
  const old = await checked(sessionId, v1);
  assert.ok(old.compatible && !old.ended && old.next.join() === 'step "ship#1"', JSON.stringify(old));
  const next = await checked(sessionId, v1_1);
  assert.ok(next.compatible && !next.ended && next.next.join() === 'step "tell#1"', JSON.stringify(next));
  // The verdict is true: a worker with that code goes on to the end.
  const stop = new AbortController();
  const worker = createWorker({ connection: engine.connection, workflows: [v1_1], log });
  const running = worker.run({ signal: stop.signal });
  const ended = await client.result(sessionId, { waitMs: 10_000 });
  stop.abort();
  await running;
  assert.equal(ended.status, "completed");
  assert.equal(readFileSync(effects, "utf8"), "shop\ntell\nship\nthank\n");
  writeFileSync(effects, "");
  const whole = await checked(sessionId, v1_1);
  assert.ok(whole.compatible && whole.ended, JSON.stringify(whole));
});

test("D1: what became of an effect is not asked either: reconcile stays uncalled", async () => {
  const at = (seq: number, body: Event["body"]) => create(EventSchema, { seq: BigInt(seq), timeMs: 1n, body });
  const input = valuePayload(encodeValue("tea"));
  const unknown = { stepKey: "ship#1", attempt: 1, reason: UnknownReason.NO_OUTCOME };
  const events = [
    at(1, { case: "sessionStarted", value: create(SessionStartedSchema, { input, rootId: asleep }) }),
    at(2, { case: "guardUnknown", value: create(GuardUnknownSchema, unknown) }),
  ];
  let asked = 0;
  const asking = workflow({ name: "order", version: "7", input: z.string() }, (ctx, item) => {
    const reconcile = () => {
      asked += 1;
      return "notApplied" as const;
    };
    return ctx.step("ship", () => 1, { input: item, effect: "guarded", reconcile });
  });
  const session = { sessionId: asleep, rootId: asleep, workflow: "order", version: "1.0.0" };
  const result = await dryRun({ session, digestSalt: new Uint8Array(32), events }, asking, { stallMs: 300 });
  assert.deepEqual(result, { compatible: true, outcomes: 0, ended: false, next: [] });
  assert.equal(asked, 0);
});

interface Ran {
  code: number | null;
  out: string;
  err: string;
}

function ran(program: string, args: string[]): Promise<Ran> {
  const { url, token, ca } = engine.connection;
  const env = { ...process.env, CELLAFLOW_URL: url, CELLAFLOW_TOKEN: token, CELLAFLOW_CA: ca };
  const child = spawn(program, args, { env: { ...env, CELLAFLOW_NODE: process.execPath }, cwd: folder });
  const texts = { out: "", err: "" };
  child.stdout.on("data", (data: Buffer) => (texts.out += data.toString()));
  child.stderr.on("data", (data: Buffer) => (texts.err += data.toString()));
  return new Promise((resolve) => child.once("close", (code) => resolve({ code, ...texts })));
}

const module = fileURLToPath(new URL("./code.fixture.js", import.meta.url));
const sessionsCheck = (...args: string[]) => ran(engineProgram(), ["sessions", "check", "--code", module, ...args]);

test("`cellaflow sessions check`: words, JSON and exit codes", async () => {
  const good = await untouched(asleep, () => sessionsCheck("order/asleep", "--as", "1.1.0"));
  assert.equal(good.code, 0, good.err);
  assert.match(good.out, /order@1\.0\.0 {2}compatible with order@1\.1\.0, 2 outcomes as recorded, then it waits on/);
  const bad = await untouched(asleep, () => sessionsCheck(asleep, "--as", "2.0.0", "--json"));
  assert.equal(bad.code, 1, bad.err);
  const [session] = (JSON.parse(bad.out) as { sessions: Record<string, unknown>[] }).sessions;
  assert.deepEqual([session?.session_id, session?.compatible, session?.step_key], [asleep, false, "reserve#1"]);
  const words = await sessionsCheck(asleep, "--as", "2.0.0");
  assert.match(words.out, /diverges from order@2\.0\.0 at "reserve#1"\n {4}recorded: .*\n {4}requested: .*two teas/);
  const choice = await sessionsCheck(asleep);
  assert.equal(choice.code, 2);
  assert.match(choice.err, /--as/);
  assert.equal((await sessionsCheck("order/none", "--as", "1.1.0")).code, 1);
});

test("without sessions, all that have not ended are checked; TypeScript is run as it is", async () => {
  const code = join(folder, "next.ts");
  const sdk = new URL("../index.js", import.meta.url).href;
  const source = `import { workflow, type Context } from ${JSON.stringify(sdk)};
    export const next = workflow({ name: "order", version: "6", input: { "~standard": { version: 1, vendor: "x",
      validate: (value: unknown) => ({ value }) } } }, async (ctx: Context, item) => {
        await ctx.step("reserve", () => 1, { input: item as string });
      });`;
  writeFileSync(code, source);
  const bin = fileURLToPath(new URL("./main.js", import.meta.url));
  const all = await untouched(asleep, () => ran(process.execPath, [bin, code, "--json", "--stall-ms", "300"]));
  assert.equal(all.code, 1, all.err);
  const { sessions } = JSON.parse(all.out) as { sessions: { session_id: string; step_key: string }[] };
  assert.deepEqual(
    sessions.map((one) => [one.session_id, one.step_key]),
    [[asleep, "think#1"]],
  );
  assert.equal((await ran(process.execPath, [bin, code, "--from", "9"])).code, 0, "there is none of that version");
  assert.equal((await ran(process.execPath, [bin, join(folder, "missing.js")])).code, 2);
  assert.match((await ran(process.execPath, [bin, "--help"])).out, /Usage: cellaflow-check/);
});
