/**
 * Where a list of messages may begin.
 *
 * Owns: which results belong to which calls. Never: changes messages.
 *
 * Invariant P1: a list that begins where {@link beginnings} says so has the call of every result in it, if there is one at all.
 */
import type { Message } from "../runtime/messages.js";

/** Says of every message whether a list may begin with it. */
export function beginnings(messages: readonly Message[]): boolean[] {
  const split = new Array<number>(messages.length + 1).fill(0);
  const calls = new Map<string, number>();
  for (const [index, message] of messages.entries()) {
    for (const part of message.parts) {
      // Some providers' ids count from zero in every answer: the newest call of an id is meant.
      if (part.type === "toolCall") calls.set(part.id, index);
      else if (part.type === "toolResult") markBetween(split, calls.get(part.id) ?? index, index);
    }
  }
  let open = 0;
  return messages.map((message, index) => {
    open += split[index] ?? 0;
    return open === 0 && message.role !== "tool";
  });
}

/** Counts how many pairs a list would split that began after `call` and not after `result`. */
function markBetween(split: number[], call: number, result: number): void {
  if (result <= call) return;
  split[call + 1] = (split[call + 1] ?? 0) + 1;
  split[result + 1] = (split[result + 1] ?? 0) - 1;
}

/** How many leading messages there are, at most `max`, so that each call among them has its result among them. */
export function closedEnd(messages: readonly Message[], max: number): number {
  const open = new Set<string>();
  let end = 0;
  for (const [index, { parts }] of messages.slice(0, max).entries()) {
    for (const part of parts) {
      if (part.type === "toolCall") open.add(part.id);
      else if (part.type === "toolResult") open.delete(part.id);
    }
    if (open.size === 0) end = index + 1;
  }
  return end;
}

/** How many messages of role system a list begins with. */
export function leadingSystem(messages: readonly Message[]): number {
  const first = messages.findIndex(({ role }) => role !== "system");
  return first < 0 ? messages.length : first;
}
