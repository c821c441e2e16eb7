/**
 * An agent that is killed (kill -9) at every outcome of its run finishes in another process with the same result, in
 * the same order, without starting its guarded effect twice (design 5.1, 5.2, 5.3).
 *
 * This file is its own agent: started with CELLAFLOW_TEST_KEY it runs the workflow once and, if told so, dies.
 */
import assert from "node:assert/strict";
import { appendFileSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import { workflow } from "../runtime/workflow.js";
import { createClient } from "./client.js";
import { TestEngine } from "./engine-kit.js";

const { CELLAFLOW_TEST_KEY: key, CELLAFLOW_TEST_LOG: log = "", CELLAFLOW_TEST_DIE_AT: dieAt = "" } = process.env;

const agent = workflow({ name: "agent", version: "1", input: z.string() }, async (ctx, input) => {
  const trace: string[] = [];
  const step = (name: string, ms: number) =>
    ctx
      .step(name, async () => {
        appendFileSync(log, `ran ${name}\n`);
        await sleep(ms);
        return name;
      })
      .then((value) => {
        trace.push(value);
        return value;
      });
  ctx.state.set("input", input);
  const winner = await Promise.race([step("slow", 120), step("fast", 5)]);
  ctx.messages.push({ role: "user", parts: [{ type: "text", text: `${winner} won` }] });
  const late = sleep(30).then(() => step("late", 5));
  const zone = await ctx.zone("zone", async (inside) => {
    const parts = await Promise.all([
      inside.step("a", () => sleep(20, "a")),
      inside.step("b", () => sleep(2, "b").then((value) => `${value}${trace.length > 0}`)),
    ]);
    return parts.join();
  });
  const mail = await ctx.step(
    "mail",
    () => {
      appendFileSync(log, "mailed\n");
      return "sent";
    },
    { input, effect: "guarded", reconcile: () => (mailed() ? { applied: "sent" } : "notApplied") },
  );
  const items = await ctx.map(["x", "y", "z"], (item, inner) => inner.step("item", () => sleep(3, item)), {
    key: (item) => item,
    concurrency: 2,
  });
  return { winner, zone, mail, items, late: await late, trace, messages: ctx.messages.length, id: ctx.uuid() !== "" };
});

function mailed(): boolean {
  return readFileSync(log, "utf8").includes("mailed");
}

async function runAgent(): Promise<void> {
  const client = createClient({
    log: () => {},
    observer: {
      stepDelivered: ({ stepKey, replayed }) => {
        appendFileSync(log, `${replayed ? "replayed" : "delivered"} ${stepKey}\n`);
        if (!replayed && stepKey === dieAt) process.kill(process.pid, "SIGKILL");
      },
    },
  });
  const result = await client.run(agent, "in", { key: key ?? "" });
  appendFileSync(log, `result ${JSON.stringify(result.status === "completed" ? result.output : result)}\n`);
}

interface Spawned {
  code: number | null;
  lines: string[];
}

function start(engine: TestEngine, runKey: string, die: string): Promise<Spawned> {
  const file = join(engine.folder, `${runKey}.log`);
  appendFileSync(file, `start ${die}\n`);
  const child = engine.spawnAgain(import.meta.url, {
    CELLAFLOW_TEST_KEY: runKey,
    CELLAFLOW_TEST_LOG: file,
    CELLAFLOW_TEST_DIE_AT: die,
  });
  return new Promise((resolve) => {
    child.once("exit", (code) => resolve({ code, lines: readFileSync(file, "utf8").trim().split("\n") }));
  });
}

const deliveries = (lines: string[]): string[] =>
  lines.flatMap((line) => /^(?:delivered|replayed) (.*)/.exec(line)?.[1] ?? []);
const resultOf = (lines: string[]): string => lines.find((line) => line.startsWith("result ")) ?? "none";

async function everyOutcome(): Promise<void> {
  await using engine = await TestEngine.start();
  const whole = await start(engine, "whole", "");
  assert.equal(whole.code, 0);
  // The race's loser may or may not be delivered before the end.
  const order = deliveries(whole.lines).filter((key) => key !== "slow#1");
  assert.ok(order.length >= 7, order.join());
  const expected = JSON.parse(resultOf(whole.lines).slice(7)) as Record<string, unknown>;
  const killed = order.map(async (die, index) => {
    const runKey = `killed-${index}`;
    const first = await start(engine, runKey, die);
    assert.equal(first.code, null, `${die} was not reached`);
    const second = await start(engine, runKey, "");
    assert.equal(second.code, 0, second.lines.join("\n"));
    const restart = second.lines.lastIndexOf("start ");
    const before = deliveries(second.lines.slice(0, restart));
    const after = deliveries(second.lines.slice(restart));
    assert.deepEqual(after.slice(0, before.length), before, `order after dying at ${die}`);
    const result = JSON.parse(resultOf(second.lines).slice(7)) as Record<string, unknown>;
    assert.deepEqual({ ...result, trace: undefined }, { ...expected, trace: undefined });
    assert.equal(second.lines.filter((line) => line === "mailed").length, 1, `mails after dying at ${die}`);
    for (const done of before) {
      const name = done.split("#")[0] ?? "";
      const ran = second.lines.slice(restart).filter((line) => line === `ran ${name}`).length;
      assert.equal(ran, 0, `${done} ran again after it was delivered`);
    }
  });
  await Promise.all(killed);
}

if (key === undefined) test("an agent killed at every outcome finishes as if it had not been", everyOutcome);
else await runAgent();
