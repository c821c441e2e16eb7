/** Random conversations for property tests: the same seed gives the same ones. */
import type { Message, MessagePart } from "../runtime/messages.js";
import type { Artefact } from "./choose.js";
import type { Meter } from "./tokens.js";

/** Random numbers of a seed (mulberry32). */
export class Dice {
  constructor(private state: number) {}

  /** In [0, max). */
  below(max: number): number {
    this.state = (this.state + 0x6d2b79f5) | 0;
    let t = Math.imul(this.state ^ (this.state >>> 15), 1 | this.state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % max;
  }

  pick<T>(list: readonly T[]): T {
    return list[this.below(list.length)] as T;
  }
}

const WORDS = [
  "the ",
  "lease ",
  "§12 ",
  "epoch\n",
  "  ",
  "0x3f;",
  "漢字",
  "👩‍💻 ",
  "error: ",
  "aaaaaaaa",
  "<|endoftext|>",
  "é ",
];

export function text(dice: Dice, wordsMax: number): string {
  return Array.from({ length: dice.below(wordsMax + 1) }, () => dice.pick(WORDS)).join("");
}

/** A conversation as agents have them: calls are answered by the next messages, ids may come again. */
export function conversation(dice: Dice, turns: number, wordsMax: number): Message[] {
  const messages: Message[] = [];
  for (let n = dice.below(3); n > 0; n--)
    messages.push({ role: "system", parts: [{ type: "text", text: text(dice, 20) }] });
  messages.push({ role: "user", parts: [{ type: "text", text: text(dice, wordsMax) }] });
  for (let turn = 0; turn < turns; turn++) {
    const calls = Array.from({ length: dice.below(4) }, (_, n) => ({ id: `call_${dice.below(3)}_${n}`, n }));
    const parts: MessagePart[] = calls.map(({ id }) => {
      return {
        type: "toolCall",
        id,
        name: dice.pick(["read", "run"]),
        arguments: JSON.stringify({ path: text(dice, 9) }),
      };
    });
    messages.push({ role: "assistant", parts: [...said(dice, wordsMax), ...parts] });
    for (const { id } of calls) {
      messages.push({ role: "tool", parts: [{ type: "toolResult", id, text: text(dice, wordsMax) }] });
    }
    if (calls.length === 0) messages.push({ role: "user", parts: [{ type: "text", text: text(dice, 30) }] });
  }
  return messages;
}

function said(dice: Dice, wordsMax: number): MessagePart[] {
  const reasoning: MessagePart[] =
    dice.below(3) === 0
      ? [{ type: "reasoning", text: text(dice, wordsMax), providerMetadata: '{"signature":"x"}' }]
      : [];
  return [...reasoning, { type: "text", text: text(dice, 30) }];
}

/** A compacted context of some leading messages, which end where a list may begin. */
export function artefactOf(dice: Dice, ends: readonly number[], wordsMax: number, meter: Meter): Artefact {
  const texts = [1, 2, 3].map((kind) => ({ kind, text: `${kind}\n${text(dice, wordsMax)}` }));
  return {
    version: 1 + dice.below(9),
    hash: Uint8Array.from({ length: 32 }, () => dice.below(256)),
    blocks: texts.map(({ kind, text }) => ({ kind, text, tokens: meter.text(text), breakpoint: dice.below(2) === 0 })),
    coversMessages: dice.pick(ends),
    coversSeq: 1 + dice.below(100),
  };
}
