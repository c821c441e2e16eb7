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
import { HANDLE_SIGN, type Handle, type Place, type Places, parseHandle, showHandle } from "./places.js";

/** The most that is fetched without a range, in bytes. */
export const FETCH_BYTES = 16 * 1_024;
/** The most that is fetched with one, in bytes. */
export const FETCH_RANGE_BYTES_MAX = 256 * 1_024;
/** Lines of one search. */
export const LINES_MAX = 20;
/** Length of one line of a search, in characters. */
export const LINE_CHARS_MAX = 200;

/** A conversation that can be read. */
export interface Readable {
  readonly places: Places;
  readonly messages: readonly Message[];
}

/** What came of a fetch: a failure is for the model to read. */
export type Fetched = { text: string } | { failure: string };

/** Returns what a handle names. @param range first byte and end (exclusive) */
export function fetchHandle(from: Readable, handle: string, range?: readonly [number, number]): Fetched {
  const named = parseHandle(handle);
  if (named === undefined) {
    return { failure: `\`${shorten(handle, 40)}\` is no handle; copy one from the context, such as §12` };
  }
  const part = partAt(from, named);
  if (typeof part === "string") return { failure: part };
  const bytes = contentOf(part);
  if (range === undefined) return { text: beginning(bytes) };
  const [first, end] = range;
  if (!(first >= 0 && end > first)) {
    return { failure: `the range [${first}, ${end}] holds nothing; give [first byte, end byte], the end exclusive` };
  }
  return { text: slice(bytes, first, Math.min(end, first + FETCH_RANGE_BYTES_MAX)) };
}

/** Returns lines of the conversation that contain all words of a query, newest message first. */
export function searchLines(from: Readable, query: string): string[] {
  const words = query
    .toLowerCase()
    .split(/\s+/u)
    .filter((word) => word !== "");
  const found: string[] = [];
  if (words.length === 0) return found;
  // What a later event said again is found there.
  let before = Number.POSITIVE_INFINITY;
  for (const place of from.places.newestFirst()) {
    const parts = partsNewestFirst(from, place, before);
    before = Math.min(before, place.first);
    for (const { handle, part } of parts) {
      for (const line of linesOf(part)) {
        const lower = line.toLowerCase();
        if (!words.every((word) => lower.includes(word))) continue;
        found.push(`${handle}: ${squeezed(line)}`);
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

function partAt({ places, messages }: Readable, handle: Handle): MessagePart | string {
  const place = places.of(handle.seq);
  if (place === undefined) {
    return `this session has no event ${handle.seq}; use a handle that the context shows`;
  }
  let left = handle.part;
  for (const message of messages.slice(place.first, place.first + place.count)) {
    const part = message.parts[left];
    if (part !== undefined) return part;
    left -= message.parts.length;
  }
  return `event ${handle.seq} has no part ${handle.part}; use a handle that the context shows`;
}

interface Named {
  handle: string;
  part: MessagePart;
}

function partsNewestFirst({ messages }: Readable, { seq, first, count }: Place, before: number): Named[] {
  let parts = 0;
  const perMessage = messages.slice(first, Math.min(first + count, before)).map((message) => {
    const start = parts;
    parts += message.parts.length;
    return message.parts.map((part, index) => ({ handle: showHandle({ seq, part: start + index }), part }));
  });
  return perMessage.reverse().flat();
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
