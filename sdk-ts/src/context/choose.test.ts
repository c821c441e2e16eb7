/** What a prompt is made of (design: compaction, in the loop): never above the budget, never a call without its result. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { ContextUsedSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type Message, messageBytes, toStored } from "../runtime/messages.js";
import { type Artefact, type Asked, type Choice, whole, window } from "./choose.js";
import { beginnings, closedEnd, leadingSystem } from "./pairs.js";
import { promptOf } from "./prompt.js";
import { artefactOf, conversation, Dice } from "./random.fixture.js";
import { loadMeter, MESSAGE_TOKENS, type Meter } from "./tokens.js";

const TOOLS_TOKENS = 60;
const meter = await loadMeter();

function ask(messages: readonly Message[], budget: number, more: Partial<Asked> = {}): Asked {
  return { messages, budget, meter, toolsTokens: TOOLS_TOKENS, artefact: undefined, compacted: false, ...more };
}

/** The prompt of a choice, by way of its stored form. */
function prompt(choice: Choice, messages: readonly Message[]): readonly Message[] {
  const used = create(ContextUsedSchema, {
    firstMessage: BigInt(choice.first),
    messages: BigInt(messages.length),
    cuts: choice.cuts.map((cut) => ({
      message: BigInt(cut.message),
      part: cut.part,
      headBytes: BigInt(cut.headBytes),
      tailBytes: BigInt(cut.tailBytes),
    })),
  });
  const read = fromBinary(ContextUsedSchema, toBinary(ContextUsedSchema, used));
  // What comes later changes nothing.
  const later: Message[] = [...messages, { role: "user", parts: [{ type: "text", text: "later" }] }];
  return promptOf(read, choice.artefact?.blocks ?? [], later).messages;
}

function sent(choice: Choice, messages: readonly Message[], counter: Meter): number {
  const tools = choice.artefact === undefined ? 0 : TOOLS_TOKENS;
  return counter.messages(prompt(choice, messages)) + tools;
}

/** C2: every result has its call before it, every call that was answered has its results. */
function assertPaired(messages: readonly Message[], all: readonly Message[]): void {
  const open = new Map<string, number>();
  for (const { parts } of messages) {
    for (const part of parts) {
      if (part.type === "toolCall") open.set(part.id, (open.get(part.id) ?? 0) + 1);
      if (part.type !== "toolResult") continue;
      assert.ok(open.has(part.id), `the result of ${part.id} has no call`);
      open.delete(part.id);
    }
  }
  const answered = all.at(-1)?.role !== "assistant";
  if (answered) assert.equal(open.size, 0, "a call has lost its result");
}

function bytesOf(messages: readonly Message[]): string {
  return messages.map((message) => Buffer.from(messageBytes(toStored(message))).toString("hex")).join("\n");
}

test("C1 C2 C3 whatever is chosen fits the budget, keeps pairs together and sends system messages first", () => {
  const sources = { raw: 0, ccs: 0, window: 0, cut: 0, refused: 0 };
  for (let seed = 1; seed <= 400; seed++) {
    const dice = new Dice(seed);
    const messages = conversation(dice, dice.below(12), dice.pick([10, 80, 600]));
    const ends = [...beginnings(messages).flatMap((may, at) => (may ? [at] : [])), messages.length];
    const artefact = dice.below(3) === 0 ? undefined : artefactOf(dice, ends, dice.pick([20, 200]), meter);
    const budget = dice.pick([60, 256, 400, 1_000, 3_000, 20_000]);
    const asked = ask(messages, budget, { artefact, compacted: dice.below(2) === 0 });
    let choice: Choice;
    try {
      choice = whole(asked) ?? window(asked);
    } catch (error) {
      assert.equal((error as { code: string }).code, "context_budget", `seed ${seed}`);
      sources.refused += 1;
      continue;
    }
    sources[choice.source] += 1;
    if (choice.cuts.length > 0) sources.cut += 1;
    const tokens = sent(choice, messages, meter);
    assert.ok(tokens <= budget, `seed ${seed}: ${tokens} of ${budget}`);
    assert.equal(choice.tokens, tokens, `seed ${seed}: what is said is what is sent`);
    const made = prompt(choice, messages);
    assertPaired(made, messages);
    const system = leadingSystem(messages);
    assert.deepEqual(made.slice(0, system), messages.slice(0, system), `seed ${seed}`);
    assert.equal(bytesOf(made), bytesOf(prompt(choice, messages)), "C1 of cut.ts: the same bytes again");
    if (choice.source !== "window") assert.deepEqual(choice.cuts, []);
  }
  for (const [name, count] of Object.entries(sources))
    assert.ok(count > 0, `no case was ${name}: ${JSON.stringify(sources)}`);
});

const user = (words: string): Message => ({ role: "user", parts: [{ type: "text", text: words }] });

function artefact(coversMessages: number, words = "what was"): Artefact {
  const block = { kind: 2, text: words, tokens: meter.text(words), breakpoint: true };
  return { version: 3, hash: new Uint8Array(32), blocks: [block], coversMessages, coversSeq: 9 };
}

test("P1 a list may begin where it splits no call from its result, whatever comes between them", () => {
  const call = (id: string): Message => ({
    role: "assistant",
    parts: [{ type: "toolCall", id, name: "read", arguments: "{}" }],
  });
  const result = (id: string): Message => ({ role: "tool", parts: [{ type: "toolResult", id, text: "ok" }] });
  const messages = [user("go"), call("a"), user("hurry"), result("a"), call("a"), result("a"), user("thanks")];
  assert.deepEqual(beginnings(messages), [true, true, false, false, true, false, true]);
  assert.deepEqual(
    [0, 1, 2, 3, 4, 5, 6, 7].map((max) => closedEnd(messages, max)),
    [0, 1, 1, 1, 4, 4, 6, 7],
  );
});

test("a compacted context is used as soon as it fits, with all that came after it", () => {
  const messages = [user("one"), user("two"), user("three")];
  const choice = whole(ask(messages, 1_000, { artefact: artefact(2) }));
  assert.equal(choice?.source, "ccs");
  assert.deepEqual(prompt(choice, messages), [user("what was"), user("three")]);
});

test("the whole conversation is no choice once a compacted context was used", () => {
  const messages = [user("one"), user("two")];
  const huge = artefact(1, "word ".repeat(2_000));
  assert.equal(whole(ask(messages, 1_000, { artefact: huge }))?.source, "raw");
  assert.equal(whole(ask(messages, 1_000, { artefact: huge, compacted: true })), undefined);
});

test("a context of messages that this prompt does not have yet is left aside", () => {
  const messages = [user("one")];
  assert.equal(whole(ask(messages, 1_000, { artefact: artefact(2) }))?.source, "raw");
});

test("a window has the compacted context if that takes no more than half of the budget", () => {
  const messages = [user("old"), ...Array.from({ length: 9 }, () => user("word ".repeat(100)))];
  const small = window(ask(messages, 600, { artefact: artefact(1, "word ".repeat(150)) }));
  assert.ok(small.artefact !== undefined && small.first > 1);
  const large = window(ask(messages, 600, { artefact: artefact(1, "word ".repeat(300)) }));
  assert.equal(large.artefact, undefined);
  assert.ok(large.tokens > 0 && large.tokens <= 600);
});

test("a window stands still while it fits, so that a provider's cache is of use", () => {
  const words = "word ".repeat(96);
  const messages = Array.from({ length: 20 }, () => user(words));
  const budget = (96 + 1 + MESSAGE_TOKENS) * 10;
  const first = window(ask(messages, budget)).first;
  messages.push(user(words));
  assert.equal(window(ask(messages, budget, { windowFrom: first })).first, first);
  for (let n = 0; n < 9; n++) messages.push(user(words));
  assert.ok(window(ask(messages, budget, { windowFrom: first })).first > first);
});

test("a message that alone is too large is cut in its middle, and says so", () => {
  const body = `BEGIN ${"lorem ipsum dolor ".repeat(5_000)} END`;
  const call: Message = { role: "assistant", parts: [{ type: "toolCall", id: "c", name: "read", arguments: "{}" }] };
  const messages: Message[] = [
    user("go"),
    call,
    { role: "tool", parts: [{ type: "toolResult", id: "c", text: body }] },
  ];
  const choice = window(ask(messages, 500));
  const made = prompt(choice, messages);
  assert.deepEqual(made[0], call);
  const [part] = made[1]?.parts ?? [];
  assert.ok(part?.type === "toolResult");
  assert.match(part.text, /^BEGIN .* bytes left out: §3\] ….* END$/s);
  assert.ok(meter.messages(made) > 300, "what is left of the budget is used");
});

test("large arguments are cut to an object that providers take", () => {
  const written = JSON.stringify({ path: "a.ts", content: "const a = 1;\n".repeat(4_000) });
  const messages: Message[] = [
    user("go"),
    { role: "assistant", parts: [{ type: "toolCall", id: "c", name: "write", arguments: written }] },
    { role: "tool", parts: [{ type: "toolResult", id: "c", text: "ok" }] },
  ];
  const [asked, told] = prompt(window(ask(messages, 400)), messages);
  const [part] = asked?.parts ?? [];
  assert.ok(part?.type === "toolCall");
  assert.deepEqual(Object.keys(JSON.parse(part.arguments) as object), ["cut"]);
  assert.deepEqual(told, messages[2]);
});

test("system messages that leave no room are refused by name", () => {
  const messages: Message[] = [{ role: "system", parts: [{ type: "text", text: "word ".repeat(400) }] }, user("go")];
  assert.throws(() => window(ask(messages, 300)), { code: "context_budget" });
});
