/**
 * Promise **forked**: a session that goes on from the middle of another one, with edits, and never touches it; a session
 * as it was at any event; two branches side by side. Against the real engine.
 *
 * This file is its own agent: started with CELLAFLOW_TEST_FORK it runs that fork once and, if told so, is killed.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import { connectionOf } from "../internal/connection.js";
import { workflow } from "../runtime/workflow.js";
import { payloadCodec } from "../values/hooks.js";
import { createClient } from "./client.js";
import { ClientCore } from "./core.js";
import { TestEngine } from "./engine-kit.js";
import { readEvents } from "./read.js";

const { CELLAFLOW_TEST_FORK: forkId, CELLAFLOW_TEST_LOG: log = "", CELLAFLOW_TEST_DIE_AT: dieAt = "" } = process.env;

let engine: TestEngine;
let mails: string[] = [];
const quiet = () => {};

const connect = () => createClient({ connection: engine.connection, log: quiet });

/** Looks something up, decides, and mails the decision. */
const triage = workflow({ name: "triage", version: "1", input: z.string() }, async (ctx, input) => {
  ctx.state.set("ticket", input);
  const found = await ctx.step("search", () => `${input}: a broken pump`, { input });
  ctx.messages.push({ role: "user", parts: [{ type: "text", text: found }] });
  const decided = await ctx.step("decide", (text) => (text.includes("pump") ? "repair" : "ignore"), { input: found });
  ctx.state.set("decided", decided);
  const mail = await ctx.step(
    "mail",
    (text) => {
      mails.push(text);
      if (log !== "") appendFileSync(log, "mailed\n");
      return `mailed ${text}`;
    },
    { input: decided, effect: "guarded" },
  );
  return { decided, mail, root: ctx.rootId, uuid: ctx.uuid() };
});

async function events(sessionId: string): Promise<Event[]> {
  const core = new ClientCore(connectionOf(engine.connection), payloadCodec(undefined), undefined);
  const list: Event[] = [];
  for await (const event of readEvents(core, sessionId)) list.push(event);
  return list;
}

/** What was stored, as far as anybody could tell: every event with the hash of the chain up to it. */
const fingerprint = (list: readonly Event[]) =>
  list.map(({ seq, hash, body }) => `${seq} ${body.case} ${Buffer.from(hash).toString("hex")}`);

async function whole(): Promise<{ sessionId: string; events: Event[]; output: Record<string, unknown> }> {
  const result = await connect().run(triage, "ticket 7");
  assert.ok(result.status === "completed", JSON.stringify(result));
  const output = result.output as Record<string, unknown>;
  return { sessionId: result.sessionId, events: await events(result.sessionId), output };
}

const seqOf = (list: readonly Event[], key: string): number =>
  Number(list.find(({ body }) => body.case === "stepCompleted" && body.value.stepKey === key)?.seq);

if (forkId === undefined) {
  before(async () => {
    engine = await TestEngine.start();
  });
  after(async () => {
    await engine[Symbol.asyncDispose]();
  });

  test("a finished session is forked before a decision with another tool output", async () => {
    mails = [];
    const client = connect();
    const parent = await whole();
    const fork = await client.fork(parent.sessionId, { edits: [{ step: "search#1", output: "nothing found" }] });
    const forked = await client.runSession(triage, fork.sessionId);
    assert.ok(forked.status === "completed", JSON.stringify(forked));
    const output = forked.output as Record<string, unknown>;
    assert.equal(output.decided, "ignore", "what comes after the edit follows from it");
    assert.equal(output.root, parent.output.root, "the root is the same in every branch");
    assert.equal(output.uuid, parent.output.uuid, "so is what is seeded by it");
    assert.deepEqual(mails, ["repair"], "the fork mails nothing"); // F8
    assert.equal(output.mail, "mailed repair", "it takes what the lineage recorded under the step's key");

    const info = await fork.get();
    const cut = seqOf(parent.events, "search#1") - 1;
    assert.deepEqual(
      [info.forkedFrom?.sessionId, info.forkedFrom?.seq],
      [parent.sessionId, cut],
      "cut before the edit",
    );
    assert.deepEqual([info.forkedFrom?.effects, info.epoch, info.key], ["stubbed", 1, undefined]); // F4
    const own = (await events(fork.sessionId)).slice(cut);
    assert.deepEqual(
      own.map(({ body }) => body.case),
      ["sessionStarted", "forkEdited", "leaseGranted", "stepCompleted", "stepCompleted", "sessionCompleted"],
    );
    assert.deepEqual(
      fingerprint(await events(parent.sessionId)),
      fingerprint(parent.events),
      "the parent is untouched",
    ); // F2
    assert.deepEqual(
      fingerprint((await events(fork.sessionId)).slice(0, cut)),
      fingerprint(parent.events.slice(0, cut)),
    );
  });

  test("the branches are compared by outcomes, and each pays for its own", async () => {
    const client = connect();
    const parent = await whole();
    const fork = await client.fork(parent.sessionId, { edits: [{ step: "search#1", output: "nothing found" }] });
    await client.runSession(triage, fork.sessionId);
    const diff = await client.diff(parent.sessionId, fork.sessionId);
    assert.equal(diff.commonSeq, seqOf(parent.events, "search#1") - 1);
    assert.deepEqual(
      diff.steps.map(({ stepKey, a, b }) => [stepKey, a?.output, b?.output, b?.edited]),
      [
        ["search#1", "ticket 7: a broken pump", "nothing found", true],
        ["decide#1", "repair", "ignore", false],
      ],
    );
    assert.equal(diff.same, 1, "the mail is the same: it was stubbed");
    assert.deepEqual([diff.a.own.steps, diff.b.own.steps], [3, 2]);
  });

  test("effects: live performs them under keys of the fork's own", async () => {
    mails = [];
    const client = connect();
    const parent = await whole();
    const edits = [{ step: "search#1", output: "nothing found" }];
    const fork = await client.fork(parent.sessionId, { edits, effects: "live" });
    const forked = await client.runSession(triage, fork.sessionId);
    assert.ok(forked.status === "completed" && (forked.output as { mail: string }).mail === "mailed ignore");
    assert.deepEqual(mails, ["repair", "ignore"]);
  });

  test("an effect that nobody recorded pauses the fork until somebody answers", async () => {
    mails = [];
    const client = connect();
    const quietly = workflow({ name: "triage", version: "1", input: z.string() }, async () => "did nothing");
    const parent = await client.run(quietly, "x");
    const fork = await client.fork(parent.sessionId, { fromSeq: 1 });
    const paused = await client.runSession(triage, fork.sessionId);
    assert.ok(paused.status === "paused", JSON.stringify(paused));
    assert.equal((await fork.get()).pauseReason, "effect_unknown");
    assert.match((await fork.get()).reason, /this fork does not perform/);
    assert.deepEqual(mails, [], "nothing was mailed"); // F8
  });

  test("forks of forks, with another input, keep what they inherited by key alone", async () => {
    const client = connect();
    const parent = await whole();
    const decided = seqOf(parent.events, "decide#1");
    const first = await client.fork(parent.sessionId, { fromSeq: decided });
    assert.equal((await client.runSession(triage, first.sessionId)).status, "completed");
    const second = await client.fork(first.sessionId, { fromSeq: decided, edits: [{ input: "ticket 8" }] });
    const result = await client.runSession(triage, second.sessionId);
    assert.ok(result.status === "completed", JSON.stringify(result));
    const { state, input, outcomes } = await client.stateAt(second.sessionId, (await second.get()).seq);
    assert.equal(input, "ticket 8");
    assert.equal(state.ticket, "ticket 8", "what the code writes follows from the new input");
    assert.equal(
      outcomes.find(({ stepKey }) => stepKey === "decide#1")?.output,
      "repair",
      "the recorded outcome stays",
    );
    assert.equal((await second.get()).forkedFrom?.sessionId, parent.sessionId, "cut where both are the parent's");
    const third = await client.fork(second.sessionId, {
      edits: [{ step: "mail#1", failure: new Error("no mail server") }],
    });
    const failed = await client.runSession(triage, third.sessionId);
    assert.ok(failed.status === "failed" && /no mail server/.test(failed.failure.message), JSON.stringify(failed));
  });

  test("the state at any event is what it was then", async () => {
    const client = connect();
    const parent = await whole();
    const at = (seq: number) => client.stateAt(parent.sessionId, seq);
    assert.deepEqual((await at(1)).state, {});
    const searched = await at(seqOf(parent.events, "search#1"));
    assert.deepEqual([searched.state, searched.messages.length], [{ ticket: "ticket 7" }, 0]);
    assert.deepEqual(
      searched.outcomes.map(({ stepKey, output }) => [stepKey, output]),
      [["search#1", "ticket 7: a broken pump"]],
    );
    const decided = await at(seqOf(parent.events, "decide#1"));
    assert.equal(decided.messages.length, 1);
    const mailed = await at(seqOf(parent.events, "mail#1"));
    assert.deepEqual(mailed.state, { decided: "repair", ticket: "ticket 7" });
    await assert.rejects(at(99), { code: "invalid_argument" });
  });

  test("a running session is forked inside a zone, at its entry", async () => {
    const client = connect();
    let inside = 0;
    const stop = new AbortController();
    const zoned = workflow({ name: "zoned", version: "1", input: z.string() }, async (ctx) => {
      const first = await ctx.step("first", () => 1);
      return ctx.zone("zone", async (zone) => {
        inside += 1;
        if (inside === 1) await sleep(60_000, undefined, { signal: zone.signal }).catch(() => {});
        return first + (await zone.step("inner", () => 1));
      });
    });
    const running = client.run(zoned, "x", { key: "zoned", signal: stop.signal }).catch(() => undefined);
    while (inside === 0) await sleep(10);
    const parent = await client.get({ workflow: "zoned", key: "zoned" });
    const fork = await client.fork(parent.sessionId);
    const entry = (await events(parent.sessionId)).find(({ body }) => body.case === "zoneEntered");
    assert.equal((await fork.get()).forkedFrom?.seq, Number(entry?.seq) - 1); // F3
    const result = await client.runSession(zoned, fork.sessionId);
    assert.ok(result.status === "completed" && result.output === 2, JSON.stringify(result));
    stop.abort();
    await running;
  });

  test("one call makes one fork, and a key names it", async () => {
    const client = connect();
    const parent = await whole();
    const fork = await client.fork(parent.sessionId, { fromSeq: 3, key: "what-if" });
    const again = await client.fork(parent.sessionId, { fromSeq: 3, key: "what-if" });
    assert.deepEqual([again.sessionId, fork.created, again.created], [fork.sessionId, true, false]); // T3
    assert.equal((await client.get({ workflow: "triage", key: "what-if" })).sessionId, fork.sessionId);
    await assert.rejects(client.fork(parent.sessionId, { fromSeq: 4, key: "what-if" }), { code: "key_conflict" });
    await assert.rejects(client.fork(parent.sessionId, { fromSeq: 99 }), { code: "invalid_argument" });
  });

  test("a fork killed (kill -9) at every outcome, and an engine killed with it, end as if nothing had happened", async () => {
    const parent = await whole();
    for (const die of ["", "decide#1", "mail#1"]) {
      const client = connect();
      const fork = await client.fork(parent.sessionId, { edits: [{ step: "search#1", output: "nothing found" }] });
      const first = await agent(fork.sessionId, die);
      assert.equal(first.code, die === "" ? 0 : null, first.lines.join("\n"));
      if (die !== "") await engine.crash();
      const second = die === "" ? first : await agent(fork.sessionId, "");
      assert.equal(second.code, 0, second.lines.join("\n"));
      const result = second.lines.find((line) => line.startsWith("result "));
      assert.deepEqual(JSON.parse(result?.slice(7) ?? "null"), ["ignore", "mailed repair"], `after dying at ${die}`);
      assert.equal(second.lines.filter((line) => line === "mailed").length, 0, "no effect");
      assert.deepEqual(
        fingerprint(await events(parent.sessionId)),
        fingerprint(parent.events),
        "the parent is untouched",
      );
    }
  });
} else await runAgent(forkId);

async function runAgent(fork: string): Promise<void> {
  const client = createClient({
    log: () => {},
    observer: {
      stepDelivered: ({ stepKey, replayed }) => {
        if (!replayed && stepKey === dieAt) process.kill(process.pid, "SIGKILL");
      },
    },
  });
  const result = await client.runSession(triage, fork);
  const shown = result.status === "completed" ? (result.output as { decided: string; mail: string }) : undefined;
  appendFileSync(log, `result ${JSON.stringify(shown === undefined ? result : [shown.decided, shown.mail])}\n`);
}

function agent(fork: string, die: string): Promise<{ code: number | null; lines: string[] }> {
  const file = join(engine.folder, `${fork}.log`);
  appendFileSync(file, "start\n");
  const child = engine.spawnAgain(import.meta.url, {
    CELLAFLOW_TEST_FORK: fork,
    CELLAFLOW_TEST_LOG: file,
    CELLAFLOW_TEST_DIE_AT: die,
  });
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve({ code, lines: readFileSync(file, "utf8").trim().split("\n") }));
  });
}
