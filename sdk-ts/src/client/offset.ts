/**
 * Where a subscriber is: the opaque offset of a stream's item.
 *
 * Owns: its form. Never: reads a stream.
 *
 * Invariants:
 * - O1 an offset is visible ASCII without commas, so that it can be a `Last-Event-ID`.
 * - O2 an offset names its session, so that one of another session is refused, never guessed at.
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
const END = "end";

/** The start of a session. */
export function startPosition(): Position {
  return { nextSeq: 1, zones: new Map(), ended: false };
}

/** Writes a position. */
export function offsetOf(sessionId: string, position: Position): string {
  const head = `${FORM}.${sessionId}`;
  if (position.ended) return `${head}.${END}`;
  const zones = [...position.zones].map(([key, { attempt, byte }]) => `.${attempt}.${byte}.${encodeKey(key)}`);
  return `${head}.${position.nextSeq}${zones.join("")}`;
}

/** True if this is the offset of the last item of an ended session: there is nothing after it. */
export function isEndOffset(offset: string): boolean {
  return /^1\.[^.]+\.end$/.test(offset);
}

/** Reads an offset: which session, and where in it. @throws CellaflowError `invalid_offset` */
export function positionOf(offset: string): { sessionId: string; position: Position } {
  const [form, sessionId = "", next, ...rest] = offset.split(".");
  if (form !== String(FORM)) throw invalidOffset("it was not made by this version of the SDK");
  if (!/^[0-9a-f-]{36}$/.test(sessionId)) throw invalidOffset("it names no session");
  const position: Position = { nextSeq: 1, zones: new Map(), ended: next === END };
  if (position.ended && rest.length === 0) return { sessionId, position };
  position.nextSeq = numberIn(next);
  if (rest.length % 3 !== 0) throw invalidOffset("it is cut off");
  for (let at = 0; at < rest.length; at += 3) {
    const place = { attempt: numberIn(rest[at]), byte: numberIn(rest[at + 1]) };
    position.zones.set(Buffer.from(rest[at + 2] ?? "", "base64url").toString("utf8"), place);
  }
  return { sessionId, position };
}

function encodeKey(key: string): string {
  return Buffer.from(key, "utf8").toString("base64url");
}

function numberIn(text: string | undefined): number {
  const value = /^\d{1,15}$/.test(text ?? "") ? Number(text) : Number.NaN;
  if (Number.isNaN(value)) throw invalidOffset("a number in it cannot be read");
  return value;
}

/** The offset is of no use here. */
export function invalidOffset(problem: string): CellaflowError {
  return new CellaflowError(
    "invalid_offset",
    `the offset cannot be used: ${problem}`,
    "pass the offset of an item of this session's stream as it was, or none to start at the beginning",
  );
}
