/**
 * Order (design 5.3) on random workflows: parallel and racing branches, failures, zones, timers, signals that come or do
 * not, waits of the workflow's own.
 *
 * A run is cut at a random boundary and goes on in a second run, that one in a third. Whatever a run delivered from the
 * ledger it must deliver in the ledger's order, and a replay of the whole ledger gives the same trace and result.
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import * as z from "zod";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

const SEEDS = 60;

/** Numbers that depend on the seed alone (mulberry32). */
function numbers(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Node =
  | { kind: "step"; name: string; fails: boolean; zone: boolean }
  | { kind: "wait" }
  /** A timer, or a signal with a time limit. */
  | { kind: "timer"; name: string }
  | { kind: "signal"; name: string }
  | { kind: "all" | "race" | "any" | "sequence"; parts: Node[] };

function plan(random: () => number, depth: number): Node {
  const pick = random();
  if (depth === 0 || pick < 0.35) {
    const name = `w${Math.floor(random() * 3)}`;
    const wait = random();
    if (wait < 0.25) return { kind: wait < 0.15 ? "timer" : "signal", name };
    return { kind: "step", name: `s${Math.floor(random() * 4)}`, fails: random() < 0.2, zone: random() < 0.2 };
  }
  if (pick < 0.45) return { kind: "wait" };
  const kind = (["all", "race", "any", "sequence"] as const)[Math.floor(random() * 4)] ?? "sequence";
  const parts = Array.from({ length: 1 + Math.floor(random() * 4) }, () => plan(random, depth - 1));
  if (kind !== "race" && kind !== "any") return { kind, parts };
  // A timer of the workflow's own must not win: who wins would be nobody's record.
  return { kind, parts: parts.map((part) => ({ kind: "sequence", parts: [part, plan(random, 0)] })) };
}

/** Runs a plan; times are random in every run, as in life. */
async function walk(ctx: Context, node: Node, trace: string[], path: string): Promise<string> {
  if (node.kind === "wait") {
    await sleep(Math.random() * 4);
    return "waited";
  }
  if (node.kind === "step") return one(ctx, node, trace, path);
  if (node.kind === "timer" || node.kind === "signal") return awaited(ctx, node.kind, node.name, { trace, path });
  const parts = node.parts.map((part, index) => (inner: Context) => walk(inner, part, trace, `${path}.${index}`));
  if (node.kind === "sequence") {
    const results: string[] = [];
    for (const part of parts) results.push(await part(ctx));
    return results.join();
  }
  const branches = parts.map((part, index) => ctx.scope(`b${index}`, part));
  if (node.kind === "all") return (await Promise.all(branches)).join();
  if (node.kind === "race") return Promise.race(branches);
  return Promise.any(branches).catch(() => "none");
}

function one(ctx: Context, node: Node & { kind: "step" }, trace: string[], path: string): Promise<string> {
  const work = async (): Promise<string> => {
    await sleep(Math.random() * 5);
    if (node.fails) throw new Error(path);
    return path;
  };
  const retry = { maxAttempts: 1 };
  const made = node.zone
    ? ctx.zone(node.name, (zone) => zone.step("inner", work, { retry }), { retry })
    : ctx.step(node.name, work, { retry });
  const seen = (word: string): string => {
    trace.push(`${word} ${path}`);
    return word;
  };
  return made.then(seen, () => seen("failed"));
}

function awaited(
  ctx: Context,
  kind: "timer" | "signal",
  name: string,
  { trace, path }: { trace: string[]; path: string },
): Promise<string> {
  const ms = Math.random() * 5;
  const made: Promise<unknown> =
    kind === "timer" ? ctx.sleep(name, ms) : ctx.signal(name, z.string(), { timeoutMs: ms });
  return made.then((value) => {
    const word = String(value);
    trace.push(`${word} ${path}`);
    return word;
  });
}

function define(node: Node, trace: string[]) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, async (ctx) => {
    return walk(ctx, node, trace, "r");
  });
}

const OUTCOMES = new Set([
  "stepCompleted",
  "stepFailed",
  "zoneCommitted",
  "zoneFailed",
  "timerFired",
  "signalDelivered",
]);
const outcomesIn = (events: readonly Event[]): number =>
  events.filter(({ body }) => OUTCOMES.has(body.case ?? "")).length;

async function run(node: Node, from: readonly Event[], killAfter?: number) {
  const trace: string[] = [];
  const session = new MemorySession([...from], killAfter, { replayStallMsMax: 2_000 });
  const running = session.execute(define(node, trace));
  // Some come before anybody asks, some after, some to nobody.
  for (const name of ["w0", "w1", "w0"]) {
    if (Math.random() < 0.3) setTimeout(() => session.waits.signal(name, `said ${name}`), Math.random() * 8);
  }
  const end = await running;
  return { trace, end, events: session.events, recorded: outcomesIn(from) };
}

function agree(later: { trace: string[]; recorded: number }, earlier: { trace: string[] }, what: string): void {
  const count = Math.min(later.recorded, earlier.trace.length, later.trace.length);
  assert.deepEqual(later.trace.slice(0, count), earlier.trace.slice(0, count), what);
}

async function check(seed: number): Promise<void> {
  const random = numbers(seed);
  const node = plan(random, 4);
  const whole = await run(node, []);
  assert.ok(whole.end !== "killed" && whole.end.kind !== "suspended", `seed ${seed}: ${JSON.stringify(whole.end)}`);
  const cut = 2 + Math.floor(random() * Math.max(1, whole.events.length - 3));
  const second = await run(node, whole.events.slice(0, cut), cut + 3);
  agree(second, whole, `seed ${seed}: second run, cut at ${cut}`);
  const ended = second.events.at(-1)?.body.case;
  if (ended === "sessionCompleted" || ended === "sessionFailed") return;
  const third = await run(node, second.events);
  agree(third, second, `seed ${seed}: third run`);
  for (const original of [whole, third]) {
    const again = await run(node, original.events.slice(0, -1));
    assert.deepEqual(again.end, original.end, `seed ${seed}: replay of all`);
    agree(again, original, `seed ${seed}: replay of all`);
  }
}

test(`${SEEDS} random workflows, cut and cut again, keep their order`, async () => {
  const seeds = Array.from({ length: SEEDS }, (_, index) => index + 1);
  for (let at = 0; at < seeds.length; at += 20) await Promise.all(seeds.slice(at, at + 20).map(check));
});
