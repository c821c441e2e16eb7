/**
 * What two prompts have in common at their beginning: what a provider that keeps prefixes does not read again.
 *
 * Owns: the comparison. Never: knows a provider.
 */
import { isDeepStrictEqual } from "node:util";
import type { Message } from "../runtime/messages.js";
import { MESSAGE_TOKENS, type Meter } from "./tokens.js";

/** Tokens of the longest common prefix, in whole parts. */
export function sharedTokens(before: readonly Message[], now: readonly Message[], meter: Meter): number {
  let tokens = 0;
  for (const [index, message] of now.entries()) {
    const old = before[index];
    if (old === undefined || old.role !== message.role) break;
    if (old !== message && !isDeepStrictEqual(old, message)) return tokens + sharedParts(old, message, meter);
    tokens += meter.message(message);
  }
  return tokens;
}

function sharedParts(before: Message, now: Message, meter: Meter): number {
  let tokens = 0;
  for (const [index, part] of now.parts.entries()) {
    if (!isDeepStrictEqual(before.parts[index], part)) break;
    tokens += meter.part(part);
  }
  return tokens === 0 ? 0 : tokens + MESSAGE_TOKENS;
}
