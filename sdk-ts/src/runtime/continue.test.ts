/**
 * `ctx.continueAs`: an end that hands over state and conversation, and a successor's beginning (N1, N2).
 */
import assert from "node:assert/strict";
import { test } from "node:test";
import * as z from "zod";
import type { MisuseError } from "../errors.js";
import type { Context } from "./api.js";
import { MemorySession } from "./test-kit.js";
import { workflow } from "./workflow.js";

function define(code: (ctx: Context, input: unknown) => Promise<unknown>) {
  return workflow({ name: "test", version: "1", input: z.unknown() }, code);
}

test("continueAs ends the session with state and conversation; nothing after it runs", async () => {
  let after = 0;
  const code = define(async (ctx, input) => {
    ctx.state.set("seen", [1, 2]);
    ctx.messages.push({ role: "user", content: "hello" });
    await ctx.step("poll", () => "something");
    await ctx.continueAs({ round: (input as { round: number }).round + 1 });
    after += 1;
  });
  const session = new MemorySession();
  assert.deepEqual(await session.execute(code, { round: 1 }), { kind: "continued", successorId: "" });
  assert.equal(after, 0);
  const body = session.events.at(-1)?.body;
  assert.ok(body?.case === "sessionContinued");
  const { input, state, conversation } = body.value;
  const successor = new MemorySession();
  successor.startFrom({ input, state, conversation });
  const seen = define(async (ctx, next) => [next, ctx.state.get("seen"), ctx.messages.list.length]);
  assert.deepEqual(await successor.execute(seen), { kind: "completed", output: [{ round: 2 }, [1, 2], 1] });
});

test("continueAs carries replacements, and refuses while a request is unawaited", async () => {
  const code = define(async (ctx) => {
    ctx.state.set("old", 1);
    const open = ctx.step("open", () => 1);
    assert.throws(
      () => ctx.continueAs(1),
      (error: MisuseError) => error.code === "continued_too_early",
    );
    await open;
    await ctx.continueAs(2, { state: { fresh: true }, messages: [{ role: "user", content: "summary" }], version: "2" });
  });
  const session = new MemorySession();
  assert.deepEqual(await session.execute(code), { kind: "continued", successorId: "" });
  const body = session.events.at(-1)?.body;
  assert.ok(body?.case === "sessionContinued" && body.value.version === "2");
  const successor = new MemorySession();
  successor.startFrom(body.value);
  const seen = define(async (ctx) => [ctx.state.keys(), ctx.messages.list[0]?.parts[0]]);
  const output = [["fresh"], { type: "text", text: "summary" }];
  assert.deepEqual(await successor.execute(seen), { kind: "completed", output });
});
