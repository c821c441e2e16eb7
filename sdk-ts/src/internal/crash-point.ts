/**
 * Where tests make a process die: exactly at an event, as soon as the process is told of it and before anything else
 * comes of it.
 *
 * Owns: the hook of this process. Never: set by anything but tests.
 */

/** Called with a session and the seq of an event that this process has just been told of, by an answer or a push. */
export type Watcher = (sessionId: string, seq: number) => void;

let watcher: Watcher | undefined;

/** Sets the hook; undefined: none. */
export function watchEvents(watch: Watcher | undefined): void {
  watcher = watch;
}

/** Tells the hook; seq 0 is no event. */
export function reached(sessionId: string, seq: number): void {
  if (watcher !== undefined && seq > 0) watcher(sessionId, seq);
}
