/** What handles name (contract of handles: event and part), and what a search finds. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Message } from "../runtime/messages.js";
import { Places, parseHandle, showHandle } from "./places.js";
import { FETCH_BYTES, fetchHandle, LINE_CHARS_MAX, LINES_MAX, type Readable, searchLines } from "./reading.js";

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

function readable(): Readable {
  const places = new Places();
  places.note(1, 0, 1);
  places.note(5, 1, 3);
  places.note(8, 4, 1);
  return { places, messages: MESSAGES };
}

test("a handle names a part among all that its event appended", () => {
  const from = readable();
  const named = (handle: string) => fetchHandle(from, handle);
  assert.deepEqual(named("§1"), { text: "Fix the lease." });
  assert.deepEqual(named("§5"), { text: "I look first." });
  assert.deepEqual(named("§5.2"), { text: '{"path":"epoch.rs"}' });
  assert.deepEqual(named("§5.3"), { text: "pub struct Lease;\nfn fence() {}" });
  assert.deepEqual(named("§5.4"), { text: "" });
  assert.deepEqual(named(" §8 "), { text: "größe §7" });
});

test("H2 what is no handle, or names nothing, is said to the model", () => {
  const from = readable();
  assert.deepEqual(fetchHandle(from, "12"), { failure: "`12` is no handle; copy one from the context, such as §12" });
  assert.deepEqual(fetchHandle(from, "§4"), {
    failure: "this session has no event 4; use a handle that the context shows",
  });
  for (const forged of ["§5.5", "§05", "§5.-1", "§1e3", "§", "§5 §1", "§99999999999999999999", "§5.0x1"]) {
    assert.ok("failure" in fetchHandle(from, forged), forged);
  }
});

test("a range is of bytes, its end exclusive, and cuts no character", () => {
  const from = readable();
  assert.deepEqual(fetchHandle(from, "§8", [0, 3]), { text: "gr" });
  assert.deepEqual(fetchHandle(from, "§8", [3, 99]), { text: "ße §7" });
  assert.deepEqual(fetchHandle(from, "§8", [50, 60]), { text: "" });
  assert.ok("failure" in fetchHandle(from, "§8", [3, 3]));
  assert.ok("failure" in fetchHandle(from, "§8", [Number.NaN, 3]));
});

test("R1 a long content is cut and says how long it is", () => {
  const text = "é".repeat(FETCH_BYTES);
  const places = new Places();
  places.note(2, 0, 1);
  const from = { places, messages: [{ role: "user", parts: [{ type: "text", text }] } satisfies Message] };
  const fetched = fetchHandle(from, "§2");
  assert.deepEqual(fetched, {
    text: `${"é".repeat(FETCH_BYTES / 2)}\n… [${2 * FETCH_BYTES} bytes in all: give a range]`,
  });
  assert.deepEqual(fetchHandle(from, "§2", [FETCH_BYTES, FETCH_BYTES + 4]), { text: "éé" });
});

test("a search finds lines with all words, newest message first, with the handles that fetch them", () => {
  const from = readable();
  assert.deepEqual(searchLines(from, "lease"), [
    "§5.3: pub struct Lease;",
    '§5.1: {"path":"lease.rs"}',
    "§1: Fix the lease.",
  ]);
  assert.deepEqual(searchLines(from, "FENCE  fn"), ["§5.3: fn fence() {}"]);
  assert.deepEqual(searchLines(from, "fence lease"), [], "both words in one line");
  assert.deepEqual(searchLines(from, "  "), []);
});

test("R2 a line that was found cannot be taken for a handle, and is short", () => {
  const places = new Places();
  places.note(3, 0, 1);
  const text = `see §12 \t ${"x".repeat(500)} needle\nneedle §1 `.repeat(LINES_MAX);
  const from = { places, messages: [{ role: "user", parts: [{ type: "text", text }] } satisfies Message] };
  const found = searchLines(from, "needle");
  assert.equal(found.length, LINES_MAX);
  for (const line of found) {
    assert.match(line, /^§3: [^§]*$/u);
    assert.ok(line.length <= LINE_CHARS_MAX + "§3: ".length);
  }
});

test("what was said again is found once, and under both handles", () => {
  const places = new Places();
  places.note(2, 0, 2);
  places.note(6, 1, 2);
  const messages = ["a one", "a two", "a three"].map(
    (text) => ({ role: "user", parts: [{ type: "text", text }] }) as Message,
  );
  assert.deepEqual(searchLines({ places, messages }, "a"), ["§6.1: a three", "§6: a two", "§2: a one"]);
  assert.deepEqual(fetchHandle({ places, messages }, "§2.1"), { text: "a two" });
});

test("H1 handles are read as they are written", () => {
  for (const handle of [
    { seq: 0, part: 0 },
    { seq: 12, part: 0 },
    { seq: 12, part: 3 },
  ]) {
    assert.deepEqual(parseHandle(showHandle(handle)), handle);
  }
  assert.equal(showHandle({ seq: 12, part: 0 }), "§12");
});
