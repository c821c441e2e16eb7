/**
 * What a contender's SDK has to be able to do to take part; one file per contender implements it.
 */
import type { Session } from "../job.js";
import { ANSWER_BYTES, entered, TOOL_BYTES, work } from "./probe.js";

/** A worker with its client, in this process. */
export interface Adapter {
  /** Starts a session and waits for its end. */
  run(session: Session): Promise<void>;
  /** Makes a session go on that a process which died has left, where its runtime does not do so by itself. */
  resume?(session: Session): Promise<void>;
  close(): Promise<void>;
}

/** Opens a contender's worker; `server` is what its server said of itself (addresses, tokens). */
export type Open = (server: Readonly<Record<string, string>>) => Promise<Adapter>;

/** Runs one step durably: `fn` unless its outcome is recorded. */
export type Step = (name: string, fn: () => string) => Promise<string>;

/**
 * The code of a session for SDKs that journal closures. The conversation keeps its messages as variables, as their
 * users do: what a model is asked is then not journaled.
 */
export async function loop(session: Session, step: Step): Promise<number> {
  entered(session.id);
  if (session.kind === "steps") {
    for (let n = 0; n < session.steps; n++) await step("work", () => work(session, n));
    return session.steps;
  }
  const messages: string[] = [];
  for (let n = 0; n < session.steps; n++) {
    messages.push(await step("tool", () => work(session, 2 * n, TOOL_BYTES)));
    messages.push(await step("model", () => work(session, 2 * n + 1, ANSWER_BYTES)));
  }
  return messages.length;
}
