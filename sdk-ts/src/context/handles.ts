/**
 * Handles: how compacted contexts name what they leave out.
 *
 * Owns: their form, and which part they name. Never: keeps messages.
 *
 * Invariants:
 * - H1 `§n` names part n (from 1) of all parts of all messages of the conversation, for ever: it only grows.
 * - H2 what is not there is an error for the model to read, never other bytes.
 */
import type { Message, MessagePart } from "../runtime/messages.js";

/** The sign that handles begin with. */
export const HANDLE_SIGN = "§";

const HANDLE = /^§([1-9]\d{0,14})$/u;

/** Reads a handle; undefined: it is none. */
export function parseHandle(text: string): number | undefined {
  const match = HANDLE.exec(text.trim());
  return match === null ? undefined : Number(match[1]);
}

/** Writes the handle of part `n`. */
export function showHandle(n: number): string {
  return `${HANDLE_SIGN}${n}`;
}

/** Returns part `n` (from 1); undefined: there is none. */
export function partAt(messages: readonly Message[], n: number): MessagePart | undefined {
  let left = n - 1;
  for (const { parts } of messages) {
    const part = parts[left];
    if (part !== undefined) return part;
    left -= parts.length;
  }
  return undefined;
}

/** How many parts come before message `index`. */
export function partsBefore(messages: readonly Message[], index: number): number {
  let parts = 0;
  for (let at = 0; at < index; at++) parts += messages[at]?.parts.length ?? 0;
  return parts;
}
