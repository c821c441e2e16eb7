import assert from "node:assert/strict";
import { it } from "node:test";
import { jsonLines } from "./jsonl.js";
import { Screen } from "./screen.js";

function screen(isTTY: boolean, quiet: boolean): { screen: Screen; text: () => string } {
  let written = "";
  const output = { isTTY, columns: 80, write: (text: string) => (written += text) };
  return { screen: new Screen(output, quiet), text: () => written };
}

it("prints plain lines where nothing can be redrawn", () => {
  const { screen: plain, text } = screen(false, false);
  plain.live(() => ["table"]);
  plain.say("one");
  plain.settle(["table"]);
  plain.last("{}");
  assert.equal(text(), "demo: one\n\ntable\n\n{}\n");
});

it("draws the table over itself in a terminal", () => {
  const { screen: live, text } = screen(true, false);
  live.live(() => ["a", "b"]);
  live.say("one");
  live.say("two");
  live.last("{}");
  const erase = "\u001b[2A\u001b[0J";
  assert.equal(text(), `demo: one\na\nb\n${erase}demo: two\na\nb\n${erase}{}\n`);
});

it("--json: nothing but the last line", () => {
  const { screen: quiet, text } = screen(true, true);
  quiet.live(() => ["table"]);
  quiet.say("one");
  quiet.settle(["table"]);
  quiet.last("{}");
  assert.equal(text(), "{}\n");
});

it("reads a log whose last line a kill cut off", () => {
  assert.deepEqual(jsonLines('{"a":1}\n{"a":2}\n{"a":'), [{ a: 1 }, { a: 2 }]);
  assert.deepEqual(jsonLines('{"a"'), []);
});
