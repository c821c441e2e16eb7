import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, it } from "node:test";
import OpenAI from "openai";
import { type LlmRequestRecord, type ScriptedLlm, type ScriptedLlmOptions, startScriptedLlm } from "./scripted-llm.js";

const CONTENT = "Grüße aus dem Süden: 😀😀 ends here.";

async function using<T>(
  options: ScriptedLlmOptions,
  use: (llm: ScriptedLlm, client: OpenAI) => Promise<T>,
): Promise<T> {
  const llm = await startScriptedLlm(options);
  // One request per attempt, as the SDK does it: a hidden retry would be a second bill.
  const client = new OpenAI({ apiKey: "none", baseURL: llm.baseUrl, maxRetries: 0, logLevel: "off" });
  try {
    return await use(llm, client);
  } finally {
    await llm.close();
  }
}

const ask = (text: string): { model: string; messages: { role: "user"; content: string }[] } => ({
  model: "scripted",
  messages: [{ role: "user", content: text }],
});

const named = (session: string, call: string): { headers: Record<string, string> } => ({
  headers: { "x-cellaflow-session": session, "x-cellaflow-call": call },
});

/** Entries are made when the connection is done, which may be a moment after the client has its answer. */
async function entry(llm: ScriptedLlm, n: number): Promise<LlmRequestRecord> {
  for (let turn = 0; turn < 2_000; turn++) {
    const found = llm.records.find((one) => one.n === n);
    if (found !== undefined) return found;
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
  throw new Error(`no entry ${n}`);
}

async function streamed(client: OpenAI, text = "hello", signal?: AbortSignal): Promise<string> {
  const stream = await client.chat.completions.create(
    { ...ask(text), stream: true },
    signal === undefined ? {} : { signal },
  );
  let content = "";
  for await (const chunk of stream) content += chunk.choices[0]?.delta.content ?? "";
  return content;
}

describe("answers", () => {
  it("streams text and usage, the same bytes each time (L1)", () =>
    using(
      { script: () => ({ content: CONTENT, usage: { promptTokens: 7, completionTokens: 5, cachedTokens: 2 } }) },
      async (llm) => {
        const raw = async (): Promise<string> => {
          const response = await fetch(`${llm.baseUrl}/chat/completions`, {
            method: "POST",
            body: JSON.stringify({ ...ask("x"), stream: true, stream_options: { include_usage: true } }),
          });
          return response.text();
        };
        const first = await raw();
        assert.equal(await raw(), first);
        assert.match(
          first,
          /"usage":\{"prompt_tokens":7,"completion_tokens":5,"total_tokens":12,"prompt_tokens_details":\{"cached_tokens":2\}\}/,
        );
        assert(first.endsWith("data: [DONE]\n\n"));
      },
    ));

  it("streams to the openai client, with usage only when asked", () =>
    using({ script: () => ({ content: CONTENT }) }, async (_llm, client) => {
      for (const include_usage of [true, false]) {
        const stream = await client.chat.completions.create({
          ...ask("x"),
          stream: true,
          stream_options: { include_usage },
        });
        let content = "";
        let tokens = 0;
        let reason: string | null | undefined;
        for await (const chunk of stream) {
          content += chunk.choices[0]?.delta.content ?? "";
          reason = chunk.choices[0]?.finish_reason ?? reason;
          tokens += chunk.usage?.total_tokens ?? 0;
        }
        assert.equal(content, CONTENT);
        assert.equal(reason, "stop");
        assert.equal(tokens > 0, include_usage);
      }
    }));

  it("leaves usage out when told to, though asked", () =>
    using({ script: () => ({ content: "x", usage: null }) }, async (_llm, client) => {
      assert.equal((await client.chat.completions.create(ask("x"))).usage, undefined);
    }));

  it("calls tools, streamed in pieces and whole", () => {
    const toolCalls = [
      { id: "call_1", name: "read", arguments: { path: "a.ts" } },
      { name: "list", arguments: "{}" },
    ];
    return using({ script: () => ({ toolCalls }) }, async (_llm, client) => {
      const whole = await client.chat.completions.create(ask("x"));
      assert.equal(whole.choices[0]?.finish_reason, "tool_calls");
      const final = await client.chat.completions.stream(ask("x")).finalChatCompletion();
      const calls = final.choices[0]?.message.tool_calls?.flatMap((call) =>
        call.type === "function" ? [call.function] : [],
      );
      assert.deepEqual(
        calls?.map((call) => [call.name, call.arguments]),
        [
          ["read", '{"path":"a.ts"}'],
          ["list", "{}"],
        ],
      );
    });
  });

  it("a list answers by turn, however often a turn is asked", () =>
    using({ script: [{ content: "first" }, { content: "second" }] }, async (_llm, client) => {
      const turn = async (assistant: number): Promise<string | null | undefined> => {
        const past = Array.from({ length: assistant }, () => ({ role: "assistant" as const, content: "…" }));
        const answer = await client.chat.completions.create({
          model: "m",
          messages: [...past, { role: "user", content: "x" }],
        });
        return answer.choices[0]?.message.content;
      };
      assert.deepEqual(
        [await turn(0), await turn(0), await turn(1), await turn(5)],
        ["first", "first", "second", "second"],
      );
    }));

  it("lists models and knows nothing else", () =>
    using({ models: ["a", "b"] }, async (llm, client) => {
      const models = await client.models.list();
      assert.deepEqual(
        models.data.map((model) => model.id),
        ["a", "b"],
      );
      assert.equal((await fetch(`${llm.url}/v1/other`)).status, 404);
    }));
});

describe("the account (L2, L3)", () => {
  it("names session and call and is appended to the file", async () => {
    const folder = mkdtempSync(join(tmpdir(), "cellaflow-"));
    const recordFile = join(folder, "llm.jsonl");
    try {
      await using({ recordFile }, async (llm, client) => {
        await client.chat.completions.create(ask("x"), named("s1", "c1"));
        const one = await entry(llm, 1);
        assert.equal(one.session, "s1");
        assert.equal(one.call, "c1");
        assert(one.complete && one.charged && one.bytes > 0 && one.completion_tokens > 0);
        assert(one.first_byte_ms !== null && one.last_byte_ms !== null);
        assert(one.received_ms <= one.first_byte_ms && one.first_byte_ms <= one.last_byte_ms);
        assert.deepEqual(JSON.parse(readFileSync(recordFile, "utf8")), one);
      });
    } finally {
      rmSync(folder, { recursive: true });
    }
  });

  it("a client that goes away in mid-stream leaves an incomplete entry", () =>
    using(
      { script: () => ({ content: "word ".repeat(100) }), delivery: { stallAtByte: 2_000 } },
      async (llm, client) => {
        const leave = new AbortController();
        setTimeout(() => leave.abort(), 50);
        // The openai client ends an aborted stream without an error: what came so far looks like a whole answer.
        assert.notEqual(await streamed(client, "x", leave.signal), "word ".repeat(100));
        const one = await entry(llm, 1);
        assert.equal(one.complete, false);
        assert.equal(one.last_byte_ms, null);
        assert.equal(one.bytes, 2_000);
        assert(one.interrupted_ms !== null && one.charged);
      },
    ));
});

describe("faults", () => {
  it("awkward cuts change nothing for the client", () =>
    using({ script: () => ({ content: CONTENT }), delivery: { awkwardCuts: true } }, async (_llm, client) => {
      assert.equal(await streamed(client), CONTENT);
    }));

  it("dies in mid-answer", () =>
    using({ script: () => ({ content: CONTENT }) }, async (llm, client) => {
      llm.inject({ dieAtByte: 500 });
      await assert.rejects(streamed(client));
      const one = await entry(llm, 1);
      assert.deepEqual([one.complete, one.bytes, one.charged], [false, 500, true]);
      assert.equal(await streamed(client), CONTENT);
    }));

  it("stalls until it is released", () =>
    using({ script: () => ({ content: CONTENT }) }, async (llm, client) => {
      llm.inject({ stallAtByte: 300 });
      let done = false;
      const answer = streamed(client).finally(() => {
        done = true;
      });
      await new Promise((resolve) => setTimeout(resolve, 60));
      assert.equal(done, false);
      llm.release();
      assert.equal(await answer, CONTENT);
      assert.equal((await entry(llm, 1)).complete, true);
    }));

  it("resets after charging: billed, not a byte sent", () =>
    using({}, async (llm, client) => {
      llm.inject({ resetAfterCharge: true });
      await assert.rejects(client.chat.completions.create(ask("x")), OpenAI.APIConnectionError);
      const one = await entry(llm, 1);
      assert.deepEqual([one.charged, one.complete, one.bytes], [true, false, 0]);
    }));

  it("answers 429 with retry-after and 500, free of charge", () =>
    using({}, async (llm, client) => {
      llm.inject({ status: 429, retryAfterS: 3 });
      await assert.rejects(client.chat.completions.create(ask("x")), (error) => {
        assert(error instanceof OpenAI.RateLimitError);
        assert.equal(error.headers.get("retry-after"), "3");
        return true;
      });
      llm.inject({ status: 500 });
      await assert.rejects(client.chat.completions.create(ask("x")), OpenAI.InternalServerError);
      assert.deepEqual([(await entry(llm, 1)).charged, (await entry(llm, 2)).status], [false, 500]);
    }));

  it("breaks a frame, and ends a stream early in good order", () =>
    using({ script: () => ({ content: CONTENT }) }, async (llm, client) => {
      llm.inject({ malformedFrame: 2 });
      await assert.rejects(streamed(client), SyntaxError);
      llm.inject({ endAfterFrames: 3 });
      assert.equal(await streamed(client), "Grüße aus");
      assert.equal((await entry(llm, 2)).complete, false);
    }));

  it("hits only whom it is for, and a script may fail by itself the first time", () =>
    using(
      { script: ({ repeat }) => (repeat === 0 ? { fault: { status: 503 } } : { content: "ok" }) },
      async (llm, client) => {
        llm.inject({ status: 429 }, { session: "other" });
        await assert.rejects(client.chat.completions.create(ask("x"), named("s", "c")), OpenAI.InternalServerError);
        const answer = await client.chat.completions.create(ask("x"), named("s", "c"));
        assert.equal(answer.choices[0]?.message.content, "ok");
        await assert.rejects(client.chat.completions.create(ask("x"), named("other", "c")), OpenAI.RateLimitError);
      },
    ));

  it("is told by other processes over HTTP", () =>
    using({}, async (llm, client) => {
      await fetch(`${llm.url}/control/faults`, {
        method: "POST",
        body: JSON.stringify({ fault: { status: 500 }, match: { call: "c" }, times: 2 }),
      });
      for (let n = 0; n < 2; n++) await assert.rejects(client.chat.completions.create(ask("x"), named("s", "c")));
      await client.chat.completions.create(ask("x"), named("s", "c"));
      const record = (await (await fetch(`${llm.url}/control/record`)).json()) as { received: number };
      assert.equal(record.received, 3);
    }));
});
