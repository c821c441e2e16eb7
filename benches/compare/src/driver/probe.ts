/**
 * The stop-watch that every contender's steps carry.
 *
 * Owns: what a latency is. Never: knows a contender.
 *
 * Invariants:
 * - P1 a step costs what passes between the start of its function and the start of the next one's in the same session:
 *   all that a runtime does for a step is in between, wherever it does it.
 * - P2 a replay costs what passes between the entry of the workflow's function and the start of the first new step's.
 */
import { performance } from "node:perf_hooks";
import type { Session } from "../job.js";
import { text } from "./text.js";

/** Bytes of what a tool says in one turn of a conversation; with the answer: 100 turns come to about 209,000 tokens. */
export const TOOL_BYTES = 7_000;
/** Bytes of what the model answers. */
export const ANSWER_BYTES = 1_360;

interface Track {
  entered: number;
  /** Start of the last step; NaN before the first. */
  last: number;
  /** Steps that began. */
  begun: number;
}

const tracks = new Map<string, Track>();
let gaps: number[] = [];
let payloadBytes = 0;
let resuming: { id: string; done: (ms: number) => void } | undefined;
/** This process took over: nothing dies in it. */
let tookOver = false;

/** To be called first in a workflow's function. */
export function entered(id: string): void {
  tracks.set(id, { entered: performance.now(), last: Number.NaN, begun: 0 });
}

/** The function of step `n` (from 0): what a tool would do. */
export function work(session: Session, n: number, bytes = session.bytes): string {
  began(session, n);
  payloadBytes += bytes;
  return text(bytes);
}

/** Steps of a session that began in this process. */
export function begun(id: string): number {
  return tracks.get(id)?.begun ?? 0;
}

/** Starts over; returns what was measured. */
export function take(): { gapsMs: Float64Array; payloadBytes: number } {
  const taken = { gapsMs: Float64Array.from(gaps), payloadBytes };
  gaps = [];
  payloadBytes = 0;
  tracks.clear();
  return taken;
}

/** Resolves with the replay's time in ms when the session's first new step begins (P2). */
export function resumed(id: string): Promise<number> {
  tookOver = true;
  return new Promise((done) => {
    resuming = { id, done };
  });
}

function began(session: Session, n: number): void {
  const now = performance.now();
  const track = tracks.get(session.id) ?? {
    entered: now,
    last: Number.NaN,
    begun: 0,
  };
  if (resuming?.id === session.id) {
    resuming.done(now - track.entered);
    resuming = undefined;
  } else if (!tookOver && session.dieAfter > 0 && n >= session.dieAfter) {
    process.kill(process.pid, "SIGKILL");
  }
  if (!Number.isNaN(track.last)) gaps.push(now - track.last);
  track.last = now;
  track.begun += 1;
  tracks.set(session.id, track);
}
