/** Tool calls as steps (K1, K2 of tools.ts). */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { z } from "zod";
import { CellaflowError } from "../errors.js";
import { StepError } from "../failure.js";
import { FakeRun } from "./fake-host.test.js";
import { runTools, type Tools, tool } from "./tools.js";

const call = (id: string, name: string, args: unknown) => ({ id, name, arguments: JSON.stringify(args) });
const TOOLS: Tools = {
  add: tool({
    description: "Adds.",
    parameters: z.object({ a: z.number(), b: z.number() }),
    execute: ({ a, b }) => ({ sum: a + b }),
    resources: ({ a }) => [{ kind: "number", id: String(a), mode: "read" }],
  }),
  say: tool({ description: "Says.", parameters: { type: "object" }, execute: () => "as it is" }),
  fail: tool({
    description: "Fails.",
    parameters: { type: "object" },
    execute: () => {
      throw new StepError({ name: "Error", code: "no_disk", message: "the disk is full", retryable: false });
    },
  }),
  pay: tool({
    description: "Pays.",
    parameters: { type: "object" },
    idempotencyKey: (_, { id }) => `pay-${id}`,
    execute: () => undefined,
  }),
};

const results = (messages: Awaited<ReturnType<typeof runTools>>) =>
  messages.map((message) => {
    const [part] = message.parts;
    assert.ok(part?.type === "toolResult" && message.role === "tool");
    return { id: part.id, text: part.text, failed: part.failed ?? false };
  });

describe("runTools", () => {
  it("runs calls as parallel steps under their own ids and answers in their order (K1)", async () => {
    const run = new FakeRun();
    const calls = [call("c1", "add", { a: 1, b: 2 }), call("c2", "say", {}), call("c3", "pay", { eur: 5 })];
    const messages = await runTools(run.toolHost, calls, TOOLS);
    assert.deepEqual(results(messages), [
      { id: "c1", text: '{"sum":3}', failed: false },
      { id: "c2", text: "as it is", failed: false },
      { id: "c3", text: "", failed: false },
    ]);
    assert.deepEqual(
      run.steps.map(({ name, options }) => [name, options.key, options.input]),
      [
        ["add", "c1", { a: 1, b: 2 }],
        ["say", "c2", {}],
        ["pay", "c3", { eur: 5 }],
      ],
    );
    assert.deepEqual(run.steps[0]?.options.resources, [{ kind: "number", id: "1", mode: "read" }]);
    assert.equal(run.steps[2]?.options.idempotencyKey, "pay-c3");
  });

  it("lets the model read what it got wrong and what failed (K2)", async () => {
    const run = new FakeRun();
    const calls = [
      call("c1", "nope", {}),
      call("c2", "add", { a: "x", b: 1 }),
      { id: "c3", name: "add", arguments: '{"a":' },
      call("c4", "fail", {}),
      call("c5", "say", {}),
    ];
    const [unknown, unfit, broken, failed, fine] = results(await runTools(run.toolHost, calls, TOOLS));
    assert.match(unknown!.text, /no tool "nope"; there are: add, say/);
    assert.match(unfit!.text, /a: /);
    assert.match(broken!.text, /do not fit/);
    assert.equal(failed!.text, "no_disk: the disk is full");
    assert.deepEqual(
      [unknown, unfit, broken, failed].map((one) => one!.failed),
      [true, true, true, true],
    );
    assert.equal(fine!.failed, false);
    // Only calls that can run are steps.
    assert.deepEqual(
      run.steps.map(({ name }) => name),
      ["fail", "say"],
    );
  });

  it("throws what is not a step's failure (K2)", async () => {
    const host = {
      step: () => Promise.reject(new CellaflowError("ctx_inside_step", "misused", "do not")),
    };
    await assert.rejects(runTools(host, [call("c1", "say", {})], TOOLS), { code: "ctx_inside_step" });
    const cancelled = new StepError({ name: "Error", code: "cancelled", message: "cancelled", retryable: false });
    await assert.rejects(runTools({ step: () => Promise.reject(cancelled) }, [call("c1", "say", {})], TOOLS), {
      code: "cancelled",
    });
  });

  it("tells calls apart whose provider counts ids from zero in every answer (K1)", async () => {
    const run = new FakeRun();
    for (let turn = 0; turn < 2; turn++) await runTools(run.toolHost, [call("call_0", "say", { turn })], TOOLS);
    assert.deepEqual(
      run.steps.map(({ options }) => options.key),
      ["call_0", "call_0 2"],
    );
  });
});
