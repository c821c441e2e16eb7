/**
 * Reading back what a prompt left out: what handles name, and lines that contain words.
 *
 * Owns: what `ccs_fetch` and `ccs_search` return. Never: touches the network; all of it is in the run.
 *
 * Invariants:
 * - R1 what is returned is at most {@link FETCH_BYTES} bytes unless a range asks for more, and at most {@link LINES_MAX} lines.
 * - R2 a text that was found never looks like a handle: the sign is taken out of it.
 */
import type { Message, MessagePart } from "../runtime/messages.js";
import { slice } from "./bytes.js";
import { HANDLE_SIGN, parseHandle, partAt, showHandle } from "./handles.js";

/** The most that is fetched without a range, in bytes. */
export const FETCH_BYTES = 16 * 1_024;
/** The most that is fetched with one, in bytes. */
export const FETCH_RANGE_BYTES_MAX = 256 * 1_024;
/** Lines of one search. */
export const LINES_MAX = 20;
/** Length of one line of a search, in characters. */
export const LINE_CHARS_MAX = 200;

/** What came of a fetch: a failure is for the model to read. */
export type Fetched = { text: string } | { failure: string };

/** Returns what a handle names. @param range first byte and end (exclusive) */
export function fetchHandle(messages: readonly Message[], handle: string, range?: readonly [number, number]): Fetched {
  const n = parseHandle(handle);
  if (n === undefined) {
    return { failure: `\`${shorten(handle, 40)}\` is no handle; copy one from the context, such as §12` };
  }
  const part = partAt(messages, n);
  if (part === undefined) return { failure: `this session has no event ${n}; use a handle that the context shows` };
  const bytes = contentOf(part);
  if (range === undefined) return { text: beginning(bytes) };
  const [first, end] = range;
  if (!(first >= 0 && end > first)) {
    return { failure: `the range [${first}, ${end}] holds nothing; give [first byte, end byte], the end exclusive` };
  }
  return { text: slice(bytes, first, Math.min(end, first + FETCH_RANGE_BYTES_MAX)) };
}

/** Returns lines of the conversation that contain all words of a query, newest message first. */
export function searchLines(messages: readonly Message[], query: string): string[] {
  const words = query
    .toLowerCase()
    .split(/\s+/u)
    .filter((word) => word !== "");
  const found: string[] = [];
  if (words.length === 0) return found;
  let after = messages.reduce((sum, { parts }) => sum + parts.length, 0);
  for (const { parts } of messages.toReversed()) {
    after -= parts.length;
    for (const [index, part] of parts.entries()) {
      for (const line of linesOf(part)) {
        const lower = line.toLowerCase();
        if (!words.every((word) => lower.includes(word))) continue;
        found.push(`${showHandle(after + index + 1)}: ${squeezed(line)}`);
        if (found.length === LINES_MAX) return found;
      }
    }
  }
  return found;
}

function beginning(bytes: Uint8Array): string {
  if (bytes.length <= FETCH_BYTES) return slice(bytes, 0, bytes.length);
  return `${slice(bytes, 0, FETCH_BYTES)}\n… [${bytes.length} bytes in all: give a range]`;
}

/** The bytes of a part: its text, arguments, JSON, address or file. */
function contentOf(part: MessagePart): Uint8Array {
  switch (part.type) {
    case "text":
    case "reasoning":
    case "toolResult":
      return Buffer.from(part.text);
    case "toolCall":
      return Buffer.from(part.arguments);
    case "custom":
      return Buffer.from(part.json);
    case "file":
      return "url" in part ? Buffer.from(part.url) : part.data;
  }
}

function linesOf(part: MessagePart): string[] {
  if (part.type === "file" && "data" in part) return [];
  return Buffer.from(contentOf(part)).toString("utf8").split("\n");
}

function squeezed(line: string): string {
  return shorten(line.replaceAll(HANDLE_SIGN, "").replace(/\s+/gu, " ").trim(), LINE_CHARS_MAX);
}

function shorten(text: string, charsMax: number): string {
  const chars = [...text.slice(0, charsMax * 2)];
  return chars.length <= charsMax ? text : chars.slice(0, charsMax).join("");
}
