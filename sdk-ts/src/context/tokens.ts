/**
 * Tokens of messages, in the o200k vocabulary that budgets are counted in.
 *
 * Owns: the vocabulary, which is loaded (70 MB of memory) when it is first asked for; counts that were made.
 * Never: estimates.
 *
 * Invariants:
 * - T1 a message counts what the vocabulary says of its texts, tool names and arguments, and {@link MESSAGE_TOKENS}.
 * - T2 counting takes time in proportion to the text, whatever the text is: a run of one kind of characters that is longer than
 *   {@link RUN_CHARS_MAX} is counted in slices, which gives at least as many tokens.
 */
import type { Message, MessagePart } from "../runtime/messages.js";

/** What a message costs beside its texts. */
export const MESSAGE_TOKENS = 4;
/** What a file that is sent with its bytes counts: providers charge by pixels or pages, about this much. */
export const FILE_TOKENS = 1_600;
/** Merging takes time in the square of such a run's length. In UTF-16 units. */
const RUN_CHARS_MAX = 256;

// Neither texts of users nor of tools may stand for the vocabulary's control tokens.
const AS_TEXT = { allowedSpecial: new Set<string>(), disallowedSpecial: new Set<string>() };
const LONG_RUN = new RegExp(
  `[\\p{L}\\p{M}]{${RUN_CHARS_MAX},}|[^\\s\\p{L}\\p{M}\\p{N}]{${RUN_CHARS_MAX},}|\\s{${RUN_CHARS_MAX},}`,
  "gu",
);

type Count = (text: string) => number;

let loading: Promise<Meter> | undefined;

/** Returns the meter of this process; the first call loads the vocabulary. */
export function loadMeter(): Promise<Meter> {
  loading ??= import("gpt-tokenizer/encoding/o200k_base").then(
    ({ countTokens }) => new Meter((text) => countTokens(text, AS_TEXT)),
  );
  return loading;
}

/** Counts tokens. */
export class Meter {
  private readonly counted = new WeakMap<Message, number>();

  constructor(private readonly count: Count) {}

  /** Tokens of a text. */
  text(text: string): number {
    let tokens = 0;
    let from = 0;
    for (const match of text.matchAll(LONG_RUN)) {
      tokens += this.piece(text.slice(from, match.index));
      from = match.index + match[0].length;
      for (let at = match.index; at < from; at += RUN_CHARS_MAX) {
        tokens += this.piece(text.slice(at, Math.min(from, at + RUN_CHARS_MAX)));
      }
    }
    return tokens + this.piece(text.slice(from));
  }

  /** Tokens of a part. */
  part(part: MessagePart): number {
    switch (part.type) {
      case "text":
      case "reasoning":
      case "toolResult":
        return this.text(part.text);
      case "toolCall":
        return this.text(part.name) + this.text(part.arguments);
      case "custom":
        return this.text(part.json);
      case "file":
        return "url" in part ? this.text(part.url) : FILE_TOKENS;
    }
  }

  /** Tokens of a message; counted once per message. */
  message(message: Message): number {
    const known = this.counted.get(message);
    if (known !== undefined) return known;
    const tokens = message.parts.reduce((sum, part) => sum + this.part(part), MESSAGE_TOKENS);
    this.counted.set(message, tokens);
    return tokens;
  }

  /** Tokens of messages. */
  messages(messages: readonly Message[]): number {
    return messages.reduce((sum, message) => sum + this.message(message), 0);
  }

  private piece(text: string): number {
    return text === "" ? 0 : this.count(text);
  }
}
