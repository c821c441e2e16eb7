/**
 * Messages that are too large for any budget, cut so that they fit.
 *
 * Owns: what a cut part looks like, and where it is cut. Never: decides which messages are sent.
 *
 * Invariants:
 * - C1 a cut depends on message, part and two lengths alone, so that a replay makes the same bytes.
 * - C2 calls and results stay: what is cut is their content.
 */
import { CellaflowError } from "../errors.js";
import type { Message, MessagePart } from "../runtime/messages.js";
import { head, tail } from "./bytes.js";
import { partsBefore, showHandle } from "./handles.js";
import { MESSAGE_TOKENS, type Meter } from "./tokens.js";

/** A part of which less would be left is left out, in bytes. */
const KEPT_BYTES_MIN = 64;
/** How much is kept of what was still too large. */
const CUT_STEP = 0.85;

/** A part that is cut. */
export interface Cut {
  /** Index of the message. */
  message: number;
  /** Index of the part in it. */
  part: number;
  /** Bytes (UTF-8) that are kept of its beginning and end. */
  headBytes: number;
  tailBytes: number;
}

interface Piece {
  handle: string;
  message: number;
  part: number;
  content: MessagePart;
  tokens: number;
}

/** Returns a message as its cuts leave it. @param before how many parts of the conversation come before it */
export function withCuts(message: Message, cuts: readonly Cut[], before: number): Message {
  if (cuts.length === 0) return message;
  const parts = message.parts.flatMap((part, index) => {
    const cut = cuts.find((one) => one.part === index);
    return cut === undefined ? [part] : cutPart(part, cut, showHandle(before + index + 1));
  });
  return { ...message, parts };
}

/** Cuts, and what is left. */
export interface CutDown {
  cuts: readonly Cut[];
  tokens: number;
}

/**
 * Finds cuts that bring messages down to a number of tokens: the largest parts are cut, all to the same size.
 *
 * @param first index of the first message that is sent
 * @throws CellaflowError `context_budget` if there are too many parts for that
 */
export function cutsFor(all: readonly Message[], first: number, tokensMax: number, meter: Meter): CutDown {
  const messages = all.slice(first);
  let before = partsBefore(all, first);
  const starts = messages.map(({ parts }) => {
    before += parts.length;
    return before - parts.length;
  });
  const pieces: Piece[] = messages.flatMap((message, index) =>
    message.parts.map((content, part) => ({
      handle: showHandle((starts[index] ?? 0) + part + 1),
      message: first + index,
      part,
      content,
      tokens: meter.part(content),
    })),
  );
  const level = levelOf(pieces, tokensMax - MESSAGE_TOKENS * messages.length);
  const cuts = pieces.filter(({ tokens }) => tokens > level).flatMap((piece) => cutTo(piece, level, meter));
  const sent = messages.map((message, index) => withCuts(message, cutsOf(cuts, first + index), starts[index] ?? 0));
  const tokens = meter.messages(sent);
  if (tokens > tokensMax) throw tooSmall(tokensMax);
  return { cuts, tokens };
}

/** The cuts of one message. */
export function cutsOf(cuts: readonly Cut[], message: number): Cut[] {
  return cuts.filter((cut) => cut.message === message);
}

/** The error for a budget that has no room for what must be sent. */
export function tooSmall(tokens: number): CellaflowError {
  return new CellaflowError(
    "context_budget",
    `the messages that every prompt has do not fit: ${Math.max(0, tokens)} tokens are left for the newest ones`,
    "raise the budget of ctx.context, or shorten the leading system messages",
    { data: { tokens } },
  );
}

/** The most tokens that each part may have so that all fit: small ones are left whole, the others share what is left. */
function levelOf(pieces: readonly Piece[], room: number): number {
  const sizes = pieces.map(({ tokens }) => tokens).sort((a, b) => a - b);
  let left = room;
  for (const [index, size] of sizes.entries()) {
    const share = Math.floor(left / (sizes.length - index));
    if (size > share) return share;
    left -= size;
  }
  return Number.MAX_SAFE_INTEGER;
}

/** Cuts one part to a number of tokens, or as far as its marker goes; not at all if that would not make it smaller. */
function cutTo({ handle, message, part, content, tokens }: Piece, level: number, meter: Meter): Cut[] {
  const keeping = (kept: number): Cut => {
    return { message, part, headBytes: Math.ceil(kept / 2), tailBytes: Math.floor(kept / 2) };
  };
  const counted = (kept: number): number =>
    cutPart(content, keeping(kept), handle).reduce((sum, one) => sum + meter.part(one), 0);
  let kept = Math.floor((Buffer.byteLength(contentOf(content)) * Math.max(0, level)) / tokens);
  while (kept > 0 && counted(kept) > level) kept = kept < KEPT_BYTES_MIN ? 0 : Math.floor(kept * CUT_STEP);
  return counted(kept) < tokens ? [keeping(kept)] : [];
}

function contentOf(part: MessagePart): string {
  switch (part.type) {
    case "text":
    case "toolResult":
      return part.text;
    case "toolCall":
      return part.arguments;
    default:
      return "";
  }
}

function cutPart(part: MessagePart, { headBytes, tailBytes }: Cut, handle: string): MessagePart[] {
  const content = contentOf(part);
  const left = Buffer.byteLength(content) - headBytes - tailBytes;
  const text = `${head(content, headBytes)}… [${left} bytes left out: ${handle}] …${tail(content, tailBytes)}`;
  switch (part.type) {
    case "text":
    case "toolResult":
      return [{ ...part, text }];
    case "toolCall":
      // Providers want an object here.
      return [{ ...part, arguments: JSON.stringify({ cut: text }) }];
    case "reasoning":
      // A signature covers the whole of it.
      return [];
    case "file":
    case "custom":
      return [{ type: "text", text: `… [left out: ${handle}] …` }];
  }
}
