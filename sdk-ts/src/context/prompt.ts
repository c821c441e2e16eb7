/**
 * The prompt that a recorded use of a context stands for.
 *
 * Owns: the way from a `ContextUsed` document to messages. Never: chooses, asks anybody.
 *
 * Invariants:
 * - P1 document, compacted context and conversation alone make the prompt, so that a replay makes the same bytes.
 * - P2 leading system messages | one user message with the compacted context's blocks as parts | messages as they are.
 */
import type { ContextUsed } from "../gen/cellaflow/content/v1/content_pb.js";
import type { Message } from "../runtime/messages.js";
import type { Block } from "./choose.js";
import { type Cut, cutsOf, withCuts } from "./cut.js";
import { partsBefore } from "./handles.js";
import { leadingSystem } from "./pairs.js";
import type { Breakpoint } from "./types.js";

/** A prompt. */
export interface Prompt {
  messages: readonly Message[];
  breakpoints: readonly Breakpoint[];
}

/** What of a document says how a prompt is made. */
export type PromptPlan = Pick<ContextUsed, "firstMessage" | "messages" | "cuts">;

/** Makes the prompt. @param conversation may have grown since */
export function promptOf(plan: PromptPlan, blocks: readonly Block[], conversation: readonly Message[]): Prompt {
  const said = conversation.slice(0, Number(plan.messages));
  const system = leadingSystem(said);
  const first = Math.max(system, Number(plan.firstMessage));
  const cuts = plan.cuts.map(cutOf);
  const compacted: Message[] = blocks.length === 0 ? [] : [{ role: "user", parts: blocks.map(textPart) }];
  const newest = cuts.length === 0 ? said.slice(first) : cutFrom(said, first, cuts);
  const messages = [...said.slice(0, system), ...compacted, ...newest];
  return { messages, breakpoints: breakpointsOf(messages, blocks, system) };
}

function cutFrom(said: readonly Message[], first: number, cuts: readonly Cut[]): Message[] {
  let before = partsBefore(said, first);
  return said.slice(first).map((message, index) => {
    const cut = withCuts(message, cutsOf(cuts, first + index), before);
    before += message.parts.length;
    return cut;
  });
}

function cutOf({ message, part, headBytes, tailBytes }: ContextUsed["cuts"][number]): Cut {
  return { message: Number(message), part, headBytes: Number(headBytes), tailBytes: Number(tailBytes) };
}

function textPart({ text }: Block): { type: "text"; text: string } {
  return { type: "text", text };
}

function breakpointsOf(messages: readonly Message[], blocks: readonly Block[], at: number): Breakpoint[] {
  const points = blocks.flatMap(({ breakpoint }, part) => (breakpoint ? [{ message: at, part }] : []));
  const last = { message: messages.length - 1, part: (messages.at(-1)?.parts.length ?? 0) - 1 };
  const isThere = points.some(({ message, part }) => message === last.message && part === last.part);
  return isThere || last.part < 0 ? points : [...points, last];
}
