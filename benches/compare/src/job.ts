/**
 * What a driver process is asked to do, and what it answers. Both sides of the IPC channel import this file.
 */

/** What one session does: a plain loop of steps, or an agent's conversation. */
export type Kind = "steps" | "conversation";

/** What a session's code is given; plain JSON, the same for every contender. */
export interface Session {
  /** Unique over a contender's data folder. */
  id: string;
  kind: Kind;
  /** Steps, or turns of a conversation. */
  steps: number;
  /** Size of a step's output in bytes (ASCII text). */
  bytes: number;
  /** The process kills itself (-9) when the step after this many begins; 0: never. */
  dieAfter: number;
}

/** Sessions of one kind. */
export interface Job {
  name: string;
  kind: Kind;
  sessions: number;
  /** Sessions under way at a time. */
  atOnce: number;
  steps: number;
  bytes: number;
  dieAfter: number;
}

/** What a job came to, as its driver saw it. */
export interface Done {
  /** From the first start to the last end, in ms. */
  wallMs: number;
  /** CPU of the driver's process meanwhile, in ms. */
  cpuMs: number;
  /** From the start of each step's function to the start of the next one of its session, in ms, in order. */
  gapsMs: Float64Array;
  /** Bytes that steps returned. */
  payloadBytes: number;
}

/** What a replay came to: from the entry of the workflow's function to the start of the first step that is new. */
export interface Replayed {
  replayMs: number;
}

/** A request to a driver. */
export type Request =
  | { do: "run"; job: Job }
  /** Answers when the session's first new step begins in this process, which took it over from one that died. */
  | { do: "resume"; session: Session }
  | { do: "profile"; on: boolean }
  | { do: "end" };

/** A driver's answer. */
export type Answer = { ready: true } | { done: Done } | { replayed: Replayed } | { ok: true } | { failed: string };

/** The sessions of a job. */
export function sessionsOf(job: Job): Session[] {
  const { kind, steps, bytes, dieAfter } = job;
  return Array.from({ length: job.sessions }, (_, n) => ({
    id: `${job.name}-${n}`,
    kind,
    steps,
    bytes,
    dieAfter,
  }));
}
