/** Tokens are o200k's, in time that is in proportion to the text. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FILE_TOKENS, loadMeter, MESSAGE_TOKENS, Meter } from "./tokens.js";

const meter = await loadMeter();

test("T1 texts count what the vocabulary says, control tokens are text", () => {
  // Counted with the published o200k_base encoder.
  assert.equal(meter.text(""), 0);
  assert.equal(meter.text("hello world"), 2);
  assert.equal(meter.text("The quick brown fox jumps over the lazy dog."), 10);
  assert.ok(meter.text("<|endoftext|>") > 1);
});

test("T1 a message counts its texts, tool names and arguments", () => {
  const parts = [
    { type: "text", text: "hello world" },
    { type: "toolCall", id: "not counted", name: "read", arguments: '{"path":"a"}' },
    { type: "file", mediaType: "image/png", data: new Uint8Array(9) },
  ] as const;
  const expected = 2 + meter.text("read") + meter.text('{"path":"a"}') + FILE_TOKENS + MESSAGE_TOKENS;
  assert.equal(meter.message({ role: "assistant", parts }), expected);
});

test("T2 no text is handed to the vocabulary with a run that takes it the square of its length", () => {
  let longest = 0;
  const watching = new Meter((text) => {
    for (const run of text.match(/(.)\1*/gsu) ?? []) longest = Math.max(longest, run.length);
    return text.length;
  });
  const text = `${"a".repeat(5_000)} b ${"=".repeat(5_000)}\n${" ".repeat(5_000)}${"漢".repeat(5_000)}c`;
  assert.equal(watching.text(text), text.length, "all of it is counted, once");
  assert.ok(longest <= 256, String(longest));
});

test("T2 counting in slices says at least as much", () => {
  for (const unit of ["a", "=", "漢", " ", "é", "\n"]) {
    const plain = new Meter((text) => text.length);
    assert.equal(plain.text(unit.repeat(1_000)), 1_000);
    // 200 is below the length of a slice: counted whole.
    const whole = meter.text(unit.repeat(200));
    assert.ok(meter.text(unit.repeat(1_000)) >= whole, unit);
  }
});

test("a message is counted once", () => {
  let calls = 0;
  const counting = new Meter(() => ++calls);
  const message = { role: "user", parts: [{ type: "text", text: "x" }] } as const;
  counting.message(message);
  counting.message(message);
  assert.equal(calls, 1);
});
