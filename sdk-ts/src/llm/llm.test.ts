/** Model calls against the scripted server; the invariants cited are those of the files in this folder. */
import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { fromBinary } from "@bufbuild/protobuf";
import { z } from "zod";
import { StepError } from "../failure.js";
import { LlmResponseSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type ScriptedLlm, type ScriptedLlmOptions, startScriptedLlm } from "../testing/scripted-llm.js";
import { FakeLedger, FakeRun } from "./fake-host.test.js";
import { finalAnswer, sessionLlm, zoneLlm } from "./llm.js";
import { tool } from "./tools.js";
import type { RequestOptions, StreamEvent } from "./types.js";

const CONTENT = "Grüße aus dem Süden: 😀😀 ends here.";
const RETRY_NOW = { maxAttempts: 3, backoff: { initialMs: 1 } };

async function using<T>(options: ScriptedLlmOptions, use: (llm: ScriptedLlm, to: RequestOptions) => Promise<T>) {
  const llm = await startScriptedLlm(options);
  try {
    return await use(llm, { endpoint: { baseUrl: llm.baseUrl } });
  } finally {
    await llm.close();
  }
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

async function failure(promise: Promise<unknown>): Promise<StepError> {
  const thrown: unknown = await promise.then(
    () => assert.fail("it did not fail"),
    (error: unknown) => error,
  );
  assert.ok(thrown instanceof StepError, String(thrown));
  return thrown;
}

describe("generate", () => {
  it("asks once, names session and call, and gives text, usage and cost (P1, U1)", () =>
    using(
      { script: () => ({ content: CONTENT, usage: { promptTokens: 100, completionTokens: 10, cachedTokens: 40 } }) },
      async (llm, to) => {
        const run = new FakeRun();
        const answer = await sessionLlm(run.session).generate("scripted-1", { ...to, messages: "hello" });
        assert.equal(answer.text, CONTENT);
        assert.equal(answer.finishReason, "stop");
        assert.deepEqual(answer.usage, {
          provider: "openai",
          model: "scripted-1",
          inputTokens: 60,
          cachedReadTokens: 40,
          cacheWriteTokens: 0,
          outputTokens: 10,
          estimated: false,
          costNanos: 60 * 250 + 40 * 25 + 10 * 2_000,
          priceDate: answer.usage.priceDate,
        });
        assert.match(answer.usage.priceDate ?? "", /^\d{4}-\d\d-\d\d$/);
        assert.equal(llm.received, 1);
        assert.deepEqual([llm.records[0]?.session, llm.records[0]?.call], ["session-1", "llm#1"]);
      },
    ));

  it("marks missing usage as estimated and leaves an unknown model's cost out (U1, U2)", () =>
    using({ script: () => ({ content: "x".repeat(400), usage: null }) }, async (_, to) => {
      const { usage } = await sessionLlm(new FakeRun().session).generate("nobody-knows-it", { ...to, messages: "hi" });
      assert.equal(usage.estimated, true);
      assert.equal(usage.outputTokens, 100);
      assert.ok(usage.inputTokens > 0);
      assert.equal("costNanos" in usage, false);
    }));

  it("sends what the options say in the words of the wire", () =>
    using({}, async (_, to) => {
      let body: Record<string, unknown> = {};
      const seen = await startScriptedLlm({
        script: (request) => {
          body = request.body;
          return { content: '{"files":["a"]}' };
        },
      });
      const answer = await sessionLlm(new FakeRun().session).generate("scripted-1", {
        ...to,
        endpoint: { baseUrl: seen.baseUrl },
        system: "be brief",
        messages: [{ role: "user", content: "hi" }],
        tools: { read: tool({ description: "Reads.", parameters: z.object({ path: z.string() }), execute: () => "" }) },
        toolChoice: { tool: "read" },
        output: z.object({ files: z.array(z.string()) }),
        maxTokens: 50,
        temperature: 0,
        topP: 0.5,
        seed: 7,
        stop: ["END"],
        extraBody: { reasoning_effort: "low" },
      });
      await seen.close();
      assert.deepEqual(answer.output.files, ["a"]);
      assert.deepEqual(body.messages, [
        { role: "system", content: "be brief" },
        { role: "user", content: "hi" },
      ]);
      assert.deepEqual(body.tool_choice, { type: "function", function: { name: "read" } });
      const { tools, response_format: format, ...rest } = body as Record<string, never>;
      assert.equal((tools as unknown as { function: { name: string } }[])[0]?.function.name, "read");
      assert.equal((format as unknown as { json_schema: { strict: boolean } }).json_schema.strict, true);
      assert.deepEqual(
        [rest.max_tokens, rest.temperature, rest.top_p, rest.seed, rest.stop, rest.reasoning_effort],
        [50, 0, 0.5, 7, ["END"], "low"],
      );
    }));

  it("tries an answer again that does not match its schema, and counts what it cost", () =>
    using({ script: ({ repeat }) => ({ content: repeat === 0 ? '{"risk":"?"}' : '{"risk":3}' }) }, async (llm, to) => {
      const run = new FakeRun();
      const { output } = await sessionLlm(run.session).generate("scripted-1", {
        ...to,
        messages: "how risky?",
        output: z.object({ risk: z.number() }),
        retry: RETRY_NOW,
      });
      assert.deepEqual(output, { risk: 3 });
      assert.equal(llm.received, 2);
      const [failed] = run.ledger.failures;
      assert.equal((failed!.error as StepError).code, "invalid_output");
      assert.ok((failed?.usage?.outputTokens ?? 0n) > 0n);
    }));

  it("replays without the provider and sees the same (I1, I3)", () =>
    using(
      { script: () => ({ content: CONTENT, toolCalls: [{ name: "go", arguments: { a: 1 } }] }) },
      async (llm, to) => {
        const first = new FakeRun();
        const live = await sessionLlm(first.session).generate("scripted-1", { ...to, messages: "hello" });
        const second = new FakeRun(first.ledger);
        const again = await sessionLlm(second.session).generate("scripted-1", { messages: "hello" });
        assert.deepEqual(again, live);
        assert.equal(second.performed, 0);
        assert.equal(llm.received, 1);
      },
    ));
});

describe("failures", () => {
  it("says of each status whether another attempt may help, and how long to wait", async () => {
    for (const [status, retryable] of [
      [400, false],
      [401, false],
      [404, false],
      [429, true],
      [500, true],
      [503, true],
    ] as const) {
      await using({}, async (llm, to) => {
        llm.inject({ status, retryAfterS: 7 }, {}, 10);
        const run = new FakeRun();
        const error = await failure(
          sessionLlm(run.session).generate("scripted-1", { ...to, messages: "hi", retry: { maxAttempts: 2 } }),
        );
        assert.equal(error.retryable, retryable, String(status));
        assert.equal((error.data as { retryAfterMs: number }).retryAfterMs, 7_000);
        // One HTTP request per attempt: the client's own retries are off.
        assert.equal(llm.received, retryable ? 2 : 1);
        assert.equal(run.ledger.failures[0]?.usage, undefined);
      });
    }
  });

  it("names a provider that cannot be reached", async () => {
    const to = { endpoint: { baseUrl: "http://127.0.0.1:1/v1" }, retry: { maxAttempts: 1 } };
    const error = await failure(sessionLlm(new FakeRun().session).generate("m", { ...to, messages: "hi" }));
    assert.equal(error.code, "provider_unreachable");
    assert.equal(error.retryable, true);
  });

  it("fails an answer that broke off, with what it cost, and streams again from the beginning", () =>
    using({ script: () => ({ content: CONTENT }) }, async (llm, to) => {
      llm.inject({ dieAtByte: 900 });
      const run = new FakeRun();
      const stream = sessionLlm(run.session).stream("scripted-1", { ...to, messages: "hi", retry: RETRY_NOW });
      const events = await collect(stream.events);
      const reset = events.findIndex((event) => event.type === "reset");
      assert.ok(reset > 0, "it streamed something before it broke");
      const text = events.slice(reset).map((event) => (event.type === "text" ? event.text : ""));
      assert.equal(text.join(""), CONTENT);
      assert.equal(run.ledger.failures.length, 1);
      assert.equal((run.ledger.failures[0]!.error as StepError).code, "answer_interrupted");
      assert.equal(run.ledger.failures[0]?.usage?.estimated, true);
      assert.equal(llm.received, 2);
    }));

  it("does not take half an answer for a whole one (P3)", () =>
    using({ script: () => ({ content: CONTENT }) }, async (llm, to) => {
      llm.inject({ endAfterFrames: 3 });
      llm.inject({ malformedFrame: 2 });
      const run = new FakeRun();
      const stream = sessionLlm(run.session).stream("scripted-1", { ...to, messages: "hi", retry: RETRY_NOW });
      const { message } = await stream.final;
      assert.deepEqual(message.parts, [{ type: "text", text: CONTENT }]);
      const codes = run.ledger.failures.map((one) => (one.error as StepError).code);
      assert.deepEqual(codes, ["incomplete_answer", "malformed_answer"]);
    }));

  it("does not pay again for an answer whose finish reason had arrived (P3)", () =>
    using({ script: () => ({ chunks: ["one ", "two"] }) }, async (llm, to) => {
      // Frames: role, one, two, finish reason; usage and the closing line are lost.
      llm.inject({ endAfterFrames: 4 });
      const run = new FakeRun();
      const { usage, finishReason } = await sessionLlm(run.session).stream("scripted-1", { ...to, messages: "hi" })
        .final;
      assert.equal(finishReason, "stop");
      assert.equal(usage.estimated, true);
      assert.equal(llm.received, 1);
    }));
});

describe("streams", () => {
  it("hand out text as it was cut, in any cut of the bytes, and replay the same chunks (S1, A2)", () =>
    using({ script: () => ({ content: CONTENT }), delivery: { awkwardCuts: true } }, async (llm, to) => {
      const first = new FakeRun();
      const live = sessionLlm(first.session).stream("scripted-1", { ...to, messages: "hi" });
      const chunks = await collect(live);
      assert.ok(chunks.length > 3);
      assert.equal(chunks.join(""), CONTENT);
      assert.deepEqual(first.evidence, chunks);
      const recorded = fromBinary(LlmResponseSchema, first.ledger.calls[0]?.response ?? new Uint8Array());
      assert.equal(
        recorded.chunkLengths.reduce((sum, length) => sum + length, 0),
        Buffer.byteLength(CONTENT),
      );

      const second = new FakeRun(first.ledger);
      const replayed = sessionLlm(second.session).stream("scripted-1", { messages: "hi" });
      assert.deepEqual(await collect(replayed), chunks);
      assert.deepEqual(await replayed.final, await live.final);
      assert.equal(second.performed, 0);
      assert.equal(llm.received, 1);
    }));

  it("give tool calls in pieces and whole, and the same call on replay", () =>
    using(
      { script: () => ({ content: "let me see", toolCalls: [{ name: "read", arguments: { path: "a.ts" } }] }) },
      async (_, to) => {
        const run = new FakeRun();
        const stream = zoneLlm({ ...run.session, where: "zone" }).stream("scripted-1", { ...to, messages: "hi" });
        const events = await collect(stream.events);
        const pieces = events.filter((event) => event.type === "toolCall");
        assert.ok(pieces.length > 1);
        assert.equal(pieces.map((piece) => piece.arguments).join(""), '{"path":"a.ts"}');
        const { toolCalls, finishReason } = await stream.final;
        assert.deepEqual(toolCalls, [{ id: pieces[0]?.id, name: "read", arguments: '{"path":"a.ts"}' }]);
        assert.equal(finishReason, "tool_calls");
        assert.equal(events.at(-1)?.type, "finish");
        assert.equal(run.ledger.finals.length, 1);
      },
    ));

  it("let several readers read from the beginning, late ones too", () =>
    using({ script: () => ({ content: CONTENT }) }, async (_, to) => {
      const stream = sessionLlm(new FakeRun().session).stream("scripted-1", { ...to, messages: "hi" });
      const [early] = await Promise.all([collect(stream), stream.final]);
      assert.deepEqual(await collect(stream), early);
      const events: StreamEvent[] = await collect(stream.events);
      assert.equal(events.filter((event) => event.type === "text").length, early.length);
    }));
});

describe("any client", () => {
  it("is journaled with value, message and usage, and replays without being called", async () => {
    const ledger = new FakeLedger();
    let called = 0;
    const ask = (run: FakeRun) =>
      sessionLlm(run.session).call(
        { provider: "mine", model: "m", request: { messages: ["hi"], depth: 2 } },
        (attempt) => {
          called += 1;
          assert.equal(attempt.headers["x-cellaflow-call"], "llm#1");
          return {
            value: { at: new Date(0), n: 5n },
            message: { role: "assistant", parts: [{ type: "text", text: "yes" }] },
            usage: { inputTokens: 3, outputTokens: 4 },
          };
        },
      );
    const live = await ask(new FakeRun(ledger));
    const again = await ask(new FakeRun(ledger));
    assert.deepEqual(live.value, { at: new Date(0), n: 5n });
    assert.deepEqual(again, live);
    assert.equal(live.usage.estimated, false);
    assert.equal(called, 1);
  });

  it("estimates usage that the client does not know (U2)", async () => {
    const { usage } = await sessionLlm(new FakeRun().session).call(
      { provider: "x", model: "m", request: "hi" },
      () => ({
        value: "y".repeat(398),
      }),
    );
    assert.equal(usage.estimated, true);
    assert.equal(usage.outputTokens, 100);
  });
});

describe("metadata of the provider", () => {
  it("is kept and sent back as it came (A1)", async () => {
    const answers = [
      {
        role: "assistant",
        content: null,
        reasoning_content: "thinking",
        reasoning_details: [{ type: "reasoning.encrypted", data: "c2ln", index: 0 }],
        tool_calls: [
          {
            id: "c1",
            type: "function",
            function: { name: "read", arguments: '{ "path":"a" }' },
            extra_content: { google: { thought_signature: "AbC+/=" } },
          },
        ],
      },
      { role: "assistant", content: "done" },
    ];
    const bodies: { messages: Record<string, unknown>[] }[] = [];
    const fetched: typeof fetch = async (_url, init) => {
      bodies.push((await new Response(init?.body).json()) as { messages: Record<string, unknown>[] });
      const message = answers[bodies.length - 1];
      return Response.json({ id: "x", model: "m", choices: [{ index: 0, message, finish_reason: "stop" }] });
    };
    const original = globalThis.fetch;
    globalThis.fetch = fetched;
    try {
      const run = new FakeRun();
      const llm = sessionLlm(run.session);
      const to = { endpoint: { baseUrl: "http://metadata.invalid/v1" } };
      run.push({ role: "user", parts: [{ type: "text", text: "go" }] });
      const first = await llm.generate("m", to);
      run.push(first.message);
      run.push({ role: "tool", parts: [{ type: "toolResult", id: "c1", text: "content" }] });
      await llm.generate("m", to);
      assert.deepEqual(bodies[1]?.messages, [
        { role: "user", content: "go" },
        answers[0],
        { role: "tool", tool_call_id: "c1", content: "content" },
      ]);
      assert.deepEqual(
        finalAnswer({ response: fromBinary(LlmResponseSchema, run.ledger.calls[0]!.response), usage: undefined })
          .message,
        first.message,
      );
    } finally {
      globalThis.fetch = original;
    }
  });
});
