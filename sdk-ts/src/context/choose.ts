/**
 * What a prompt is made of: the whole conversation, a compacted context with what came after it, or a window.
 *
 * Owns: the choice. Never: asks for a context, waits, builds messages (`prompt.ts`).
 *
 * Invariants:
 * - C1 what is chosen never has more tokens than the budget.
 * - C2 a call is never sent without its results, nor a result without its call.
 * - C3 leading messages of role system are always sent, first and whole.
 */
import type { Message } from "../runtime/messages.js";
import { type Cut, cutsFor, tooSmall } from "./cut.js";
import { beginnings, leadingSystem } from "./pairs.js";
import { MESSAGE_TOKENS, type Meter } from "./tokens.js";

/** A window that has to move is filled to this part of its room, so that it stands still for a while (provider caches). */
const WINDOW_FILL = 0.75;

/** A part of a compacted context. */
export interface Block {
  /** 1 instructions, 2 segments, 3 facts. */
  kind: number;
  text: string;
  tokens: number;
  /** A cache breakpoint belongs after it. */
  breakpoint: boolean;
}

/** A version of a session's compacted context. */
export interface Artefact {
  version: number;
  hash: Uint8Array;
  blocks: readonly Block[];
  coversMessages: number;
  coversSeq: number;
}

/** What is chosen from. */
export interface Asked {
  messages: readonly Message[];
  budget: number;
  meter: Meter;
  /** Tokens of the two tools that read back what a compacted context left out. */
  toolsTokens: number;
  artefact: Artefact | undefined;
  /** A compacted context was used before: the whole conversation is none of the choices. */
  compacted: boolean;
  /** Where the window of the previous prompt began; undefined: it was none over this artefact. */
  windowFrom?: number | undefined;
}

/** What was chosen. */
export interface Choice {
  source: "raw" | "ccs" | "window";
  /** Set if it is part of the prompt. */
  artefact: Artefact | undefined;
  /** First message that is sent as it is, leading system messages aside. */
  first: number;
  cuts: readonly Cut[];
  tokens: number;
}

/** Chooses what is whole: compacted context and all that came after it, or everything; undefined: neither fits. */
export function whole(asked: Asked): Choice | undefined {
  const { messages, budget, meter, compacted } = asked;
  const system = leadingSystem(messages);
  const artefact = usable(asked);
  if (artefact !== undefined) {
    const first = Math.max(system, artefact.coversMessages);
    const sent = meter.messages(messages.slice(0, system)) + meter.messages(messages.slice(first));
    const tokens = tokensOf(artefact, asked) + sent;
    if (tokens <= budget) return { source: "ccs", artefact, first, cuts: [], tokens };
  }
  const tokens = compacted ? Number.POSITIVE_INFINITY : meter.messages(messages);
  return tokens <= budget ? { source: "raw", artefact: undefined, first: system, cuts: [], tokens } : undefined;
}

/** Chooses the newest messages that fit, after the compacted context if that takes no more than half of the budget. */
export function window(asked: Asked): Choice {
  const { messages, budget, meter } = asked;
  const system = leadingSystem(messages);
  const fixed = meter.messages(messages.slice(0, system));
  const artefact = usable(asked);
  if (artefact !== undefined) {
    const compacted = tokensOf(artefact, asked);
    const room = budget - fixed - compacted;
    const from = Math.max(system, artefact.coversMessages);
    if (compacted * 2 <= budget && room * 4 >= budget) return placed(asked, artefact, from, room);
  }
  if (budget <= fixed) throw tooSmall(budget - fixed);
  return placed(asked, undefined, system, budget - fixed);
}

function usable({ artefact, messages }: Asked): Artefact | undefined {
  return artefact !== undefined && artefact.coversMessages <= messages.length ? artefact : undefined;
}

/** What a compacted context takes of a budget: its message, and the tools that it needs. */
function tokensOf({ blocks }: Artefact, { toolsTokens }: Asked): number {
  return blocks.reduce((sum, { tokens }) => sum + tokens, toolsTokens + MESSAGE_TOKENS);
}

function placed(asked: Asked, artefact: Artefact | undefined, from: number, room: number): Choice {
  const { messages, budget, meter, windowFrom } = asked;
  const may = beginnings(messages);
  const starts: { at: number; tokens: number }[] = [];
  let tokens = 0;
  for (let at = messages.length - 1; at >= from && tokens <= room; at--) {
    tokens += tokensAt(messages, at, meter);
    if (may[at] === true) starts.push({ at, tokens });
  }
  const fitting = starts.filter((start) => start.tokens <= room);
  const kept = fitting.find(({ at }) => at === windowFrom);
  const fill = fitting.findLast((start) => start.tokens <= room * WINDOW_FILL) ?? fitting.at(0);
  const start = fitting.at(-1)?.at === from ? fitting.at(-1) : (kept ?? fill);
  const choice = (first: number, sent: number, cuts: readonly Cut[]): Choice => {
    return { source: "window", artefact, first, cuts, tokens: budget - room + sent };
  };
  if (start !== undefined) return choice(start.at, start.tokens, []);
  if (from >= messages.length) return choice(messages.length, 0, []);
  const first = lastBeginning(may, from);
  const cut = cutsFor(messages, first, room, meter);
  return choice(first, cut.tokens, cut.cuts);
}

/** Where the newest messages begin that belong together. */
function lastBeginning(may: readonly boolean[], from: number): number {
  const last = may.lastIndexOf(true);
  return last < from ? from : last;
}

function tokensAt(messages: readonly Message[], at: number, meter: Meter): number {
  const message = messages[at];
  return message === undefined ? 0 : meter.message(message);
}
