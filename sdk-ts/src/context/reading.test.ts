/** What handles name and what a search finds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../runtime/messages.js";
import { parseHandle, partAt, partsBefore, showHandle } from "./handles.js";
import { FETCH_BYTES, fetchHandle, LINE_CHARS_MAX, LINES_MAX, searchLines } from "./reading.js";

const MESSAGES: Message[] = [
  { role: "user", parts: [{ type: "text", text: "Fix the lease." }] },
  {
    role: "assistant",
    parts: [
      { type: "reasoning", text: "I look first." },
      { type: "toolCall", id: "1", name: "read", arguments: '{"path":"lease.rs"}' },
      { type: "toolCall", id: "2", name: "read", arguments: '{"path":"epoch.rs"}' },
    ],
  },
  { role: "tool", parts: [{ type: "toolResult", id: "1", text: "pub struct Lease;\nfn fence() {}" }] },
  { role: "tool", parts: [{ type: "toolResult", id: "2", text: "" }] },
  { role: "user", parts: [{ type: "file", mediaType: "text/plain", data: Buffer.from("größe §7") }] },
];

const named = (handle: string, range?: [number, number]) => fetchHandle(MESSAGES, handle, range);

test("H1 a handle names a part among all of the conversation, empty ones too", () => {
  assert.deepEqual(named("§1"), { text: "Fix the lease." });
  assert.deepEqual(named("§2"), { text: "I look first." });
  assert.deepEqual(named("§4"), { text: '{"path":"epoch.rs"}' });
  assert.deepEqual(named("§5"), { text: "pub struct Lease;\nfn fence() {}" });
  assert.deepEqual(named("§6"), { text: "" });
  assert.deepEqual(named(" §7 "), { text: "größe §7" });
});

test("H2 what is no handle, or names nothing, is said to the model", () => {
  assert.deepEqual(named("12"), { failure: "`12` is no handle; copy one from the context, such as §12" });
  assert.deepEqual(named("§8"), { failure: "this session has no event 8; use a handle that the context shows" });
  for (const forged of ["§0", "§05", "§-1", "§1e3", "§", "§5 §1", "§99999999999999999999", "§0x1", "§5.1"]) {
    assert.ok("failure" in named(forged), forged);
  }
});

test("a range is of bytes, its end exclusive, and cuts no character", () => {
  assert.deepEqual(named("§7", [0, 3]), { text: "gr" });
  assert.deepEqual(named("§7", [3, 99]), { text: "ße §7" });
  assert.deepEqual(named("§7", [50, 60]), { text: "" });
  assert.ok("failure" in named("§7", [3, 3]));
  assert.ok("failure" in named("§7", [Number.NaN, 3]));
});

test("R1 a long content is cut and says how long it is", () => {
  const text = "é".repeat(FETCH_BYTES);
  const messages: Message[] = [{ role: "user", parts: [{ type: "text", text }] }];
  assert.deepEqual(fetchHandle(messages, "§1"), {
    text: `${"é".repeat(FETCH_BYTES / 2)}\n… [${2 * FETCH_BYTES} bytes in all: give a range]`,
  });
  assert.deepEqual(fetchHandle(messages, "§1", [FETCH_BYTES, FETCH_BYTES + 4]), { text: "éé" });
});

test("a search finds lines with all words, newest message first, with the handles that fetch them", () => {
  assert.deepEqual(searchLines(MESSAGES, "lease"), [
    "§5: pub struct Lease;",
    '§3: {"path":"lease.rs"}',
    "§1: Fix the lease.",
  ]);
  assert.deepEqual(searchLines(MESSAGES, "FENCE  fn"), ["§5: fn fence() {}"]);
  assert.deepEqual(searchLines(MESSAGES, "fence lease"), [], "both words in one line");
  assert.deepEqual(searchLines(MESSAGES, "  "), []);
});

test("R2 a line that was found cannot be taken for a handle, and is short", () => {
  const text = `see §12 \t ${"x".repeat(500)} needle\nneedle §1 `.repeat(LINES_MAX);
  const found = searchLines([{ role: "user", parts: [{ type: "text", text }] }], "needle");
  assert.equal(found.length, LINES_MAX);
  for (const line of found) {
    assert.match(line, /^§1: [^§]*$/u);
    assert.ok(line.length <= LINE_CHARS_MAX + "§1: ".length);
  }
});

test("H1 handles are read as they are written, and name what comes after so many parts", () => {
  for (const n of [1, 12, 123_456]) assert.equal(parseHandle(showHandle(n)), n);
  for (const index of MESSAGES.keys()) {
    const before = partsBefore(MESSAGES, index);
    assert.deepEqual(partAt(MESSAGES, before + 1), MESSAGES[index]?.parts[0]);
  }
});
