/**
 * How a test server runs as a process of its own: it prints where it listens as one JSON line and ends with whoever
 * started it, so that no killed test leaves servers behind.
 */
import { fstatSync } from "node:fs";

/** How long a test server lives at most, in milliseconds, unless `--max-lifetime-ms` says otherwise. */
export const LIFETIME_MS_MAX = 2 * 60 * 60 * 1_000;

/** A server that can be stopped. */
export interface Stoppable {
  close(): Promise<void>;
}

/**
 * Prints `ready` as a JSON line, then serves until standard input closes (when it is a pipe or socket), a signal
 * asks to stop, or the lifetime is over.
 */
export function serveUntilParentEnds(server: Stoppable, ready: object, lifetimeMs = LIFETIME_MS_MAX): void {
  let stopping = false;
  const stop = (): void => {
    if (stopping) return;
    stopping = true;
    void server.close().finally(() => process.exit(0));
  };
  process.stdout.write(`${JSON.stringify({ ...ready, pid: process.pid })}\n`);
  setTimeout(stop, lifetimeMs).unref();
  process.once("SIGTERM", stop);
  process.once("SIGINT", stop);
  const input = fstatSync(0);
  // /dev/null is at its end from the start: that is nobody's goodbye.
  if (input.isFIFO() || input.isSocket()) process.stdin.on("end", stop).on("close", stop).on("error", stop).resume();
}

/** Ends the process with a sentence instead of a stack trace. */
export function failToStart(error: unknown): never {
  console.error(error instanceof Error ? error.message : String(error));
  process.exit(64);
}

/** Reads a whole number option. */
export function wholeNumber(name: string, value: string | undefined, fallback: number): number {
  if (value === undefined) return fallback;
  const number = Number(value);
  if (!Number.isSafeInteger(number) || number < 0) throw new Error(`--${name} needs a whole number, got "${value}"`);
  return number;
}
