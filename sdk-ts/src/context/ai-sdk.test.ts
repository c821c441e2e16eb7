/** Prompts for the AI SDK and for servers that hand `cache_control` on. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { wireMessages } from "../llm/body.js";
import type { Message } from "../runtime/messages.js";
import { fromModelMessages, toModelMessages } from "./ai-sdk.js";
import { withCacheControl } from "./cache.js";

const MESSAGES: Message[] = [
  { role: "system", parts: [{ type: "text", text: "Be brief." }] },
  {
    role: "user",
    parts: [
      { type: "text", text: "rules" },
      { type: "text", text: "segments" },
    ],
  },
  {
    role: "assistant",
    parts: [
      { type: "reasoning", text: "hm", providerMetadata: '{"anthropic":{"signature":"s"}}' },
      { type: "toolCall", id: "c1", name: "read", arguments: '{"path":"a"}' },
    ],
  },
  { role: "tool", parts: [{ type: "toolResult", id: "c1", text: "no such file", failed: true }] },
];
const BREAKPOINTS = [
  { message: 1, part: 1 },
  { message: 3, part: 0 },
];
const EPHEMERAL = { cacheControl: { type: "ephemeral" } };

test("messages for the AI SDK have its parts, and cache control at the breakpoints alone", () => {
  assert.deepEqual(toModelMessages({ messages: MESSAGES, breakpoints: BREAKPOINTS }), [
    { role: "system", content: "Be brief." },
    {
      role: "user",
      content: [
        { type: "text", text: "rules" },
        { type: "text", text: "segments", providerOptions: { anthropic: EPHEMERAL } },
      ],
    },
    {
      role: "assistant",
      content: [
        { type: "reasoning", text: "hm", providerOptions: { anthropic: { signature: "s" } } },
        { type: "tool-call", toolCallId: "c1", toolName: "read", input: { path: "a" } },
      ],
    },
    {
      role: "tool",
      content: [
        {
          type: "tool-result",
          toolCallId: "c1",
          toolName: "read",
          output: { type: "error-text", value: "no such file" },
          providerOptions: { anthropic: EPHEMERAL },
        },
      ],
    },
  ]);
});

test("A1 messages of the AI SDK come back as they were", () => {
  assert.deepEqual(fromModelMessages(toModelMessages({ messages: MESSAGES })), MESSAGES);
  const given = [
    { role: "user", content: "plain" },
    {
      role: "tool",
      content: [{ type: "tool-result", toolCallId: "c", toolName: "t", output: { type: "json", value: [1] } }],
    },
    { role: "assistant", content: [{ type: "tool-approval-request", approvalId: "1", toolCallId: "c" }] },
  ];
  assert.deepEqual(fromModelMessages(given), [
    { role: "user", parts: [{ type: "text", text: "plain" }] },
    { role: "tool", parts: [{ type: "toolResult", id: "c", text: "[1]" }] },
    {
      role: "assistant",
      parts: [{ type: "custom", json: '{"type":"tool-approval-request","approvalId":"1","toolCallId":"c"}' }],
    },
  ]);
  const [, , custom] = toModelMessages({ messages: fromModelMessages(given) });
  assert.deepEqual(custom, given[2]);
});

test("the same marks reach servers of the OpenAI format", () => {
  const marked = withCacheControl({ messages: MESSAGES, breakpoints: BREAKPOINTS });
  assert.equal(marked[0], MESSAGES[0], "what has no breakpoint is left alone");
  const cacheControl = { cache_control: { type: "ephemeral" } };
  assert.deepEqual(
    marked
      .slice(1)
      .flatMap(wireMessages)
      .filter((message) => JSON.stringify(message).includes("cache")),
    [
      {
        role: "user",
        content: [
          { type: "text", text: "rules" },
          { type: "text", text: "segments", ...cacheControl },
        ],
      },
      { role: "tool", tool_call_id: "c1", content: "no such file", ...cacheControl },
    ],
  );
});
