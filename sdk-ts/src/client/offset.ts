/**
 * Where a subscriber is: the opaque offset of a stream's item.
 *
 * Owns: its form. Never: reads a stream.
 *
 * Invariants:
 * - O1 an offset is visible ASCII without commas, so that it can be a `Last-Event-ID`.
 * - O2 an offset of another session is refused, never guessed at.
 */
import { CellaflowError } from "../errors.js";

/** How far an attempt of a zone was read. */
export interface ZonePlace {
  attempt: number;
  /** Bytes of it that were read. */
  byte: number;
}

/** Where a subscriber is. */
export interface Position {
  /** First event it has not seen. */
  nextSeq: number;
  /** What it has read of zones that have not committed. */
  zones: Map<string, ZonePlace>;
  /** It has seen the end of a session that has ended. */
  ended: boolean;
}

const FORM = 1;
/** Characters of the session's id that an offset carries: its random tail. */
const TAIL_CHARS = 12;
const END = "end";

/** The start of a session. */
export function startPosition(): Position {
  return { nextSeq: 1, zones: new Map(), ended: false };
}

/** Writes a position. */
export function offsetOf(sessionId: string, position: Position): string {
  const head = `${FORM}.${sessionId.slice(-TAIL_CHARS)}`;
  if (position.ended) return `${head}.${END}`;
  const zones = [...position.zones].map(([key, { attempt, byte }]) => `.${attempt}.${byte}.${encodeKey(key)}`);
  return `${head}.${position.nextSeq}${zones.join("")}`;
}

/** True if this is the offset of the last item of an ended session: there is nothing after it. */
export function isEndOffset(offset: string): boolean {
  return offset.startsWith(`${FORM}.`) && offset.endsWith(`.${END}`);
}

/** Reads an offset. @throws CellaflowError `invalid_offset` */
export function positionOf(sessionId: string, offset: string): Position {
  const [form, tail, next, ...rest] = offset.split(".");
  if (form !== String(FORM)) throw invalid("it was not made by this version of the SDK");
  if (tail !== sessionId.slice(-TAIL_CHARS)) throw invalid("it belongs to another session");
  if (next === END && rest.length === 0) return { nextSeq: 0, zones: new Map(), ended: true };
  const position = { nextSeq: numberIn(next), zones: new Map<string, ZonePlace>(), ended: false };
  if (rest.length % 3 !== 0) throw invalid("it is cut off");
  for (let at = 0; at < rest.length; at += 3) {
    const place = { attempt: numberIn(rest[at]), byte: numberIn(rest[at + 1]) };
    position.zones.set(Buffer.from(rest[at + 2] ?? "", "base64url").toString("utf8"), place);
  }
  return position;
}

function encodeKey(key: string): string {
  return Buffer.from(key, "utf8").toString("base64url");
}

function numberIn(text: string | undefined): number {
  const value = /^\d{1,15}$/.test(text ?? "") ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw invalid("a number in it cannot be read");
  return value;
}

function invalid(problem: string): CellaflowError {
  return new CellaflowError(
    "invalid_offset",
    `the offset cannot be used: ${problem}`,
    "pass the offset of an item of this session's stream as it was, or none to start at the beginning",
  );
}
