/**
 * What waits to be sent on the worker channel: fair among sessions, in order within one.
 *
 * Owns: the queues. Never: encodes, counts credit.
 *
 * Invariants:
 * - B1 messages of one session leave in the order in which they were put, a payload's pieces right before its message.
 * - B2 sessions take turns, so that one large payload holds nobody else back for longer than a piece.
 */
import type { WorkerMessage } from "../gen/cellaflow/v1/worker_pb.js";

/** A message with its approximate size in bytes. */
export interface Outgoing {
  message: WorkerMessage;
  bytes: number;
}

/** What belongs to no session: it goes first. */
const CONTROL = "";

export class Outbox {
  private readonly queues = new Map<string, Outgoing[]>();

  get isEmpty(): boolean {
    return this.queues.size === 0;
  }

  put(session: string, outgoing: Outgoing): void {
    const queue = this.queues.get(session);
    if (queue === undefined) this.queues.set(session, [outgoing]);
    else queue.push(outgoing);
  }

  putControl(outgoing: Outgoing): void {
    this.put(CONTROL, outgoing);
  }

  clear(): void {
    this.queues.clear();
  }

  /** Forgets what a session still wanted to send. */
  drop(session: string): void {
    this.queues.delete(session);
  }

  /** Takes messages until about `bytesMax` are taken; at least one, if there is one. */
  take(bytesMax: number): WorkerMessage[] {
    const messages: WorkerMessage[] = [];
    let bytes = 0;
    const takeFrom = (session: string, queue: Outgoing[], turnBytes: number): void => {
      let taken = 0;
      let count = 0;
      for (const outgoing of queue) {
        if (count > 0 && (taken + outgoing.bytes > turnBytes || bytes + outgoing.bytes > bytesMax)) break;
        messages.push(outgoing.message);
        taken += outgoing.bytes;
        bytes += outgoing.bytes;
        count++;
      }
      // A session that still has something goes to the end of the line.
      this.queues.delete(session);
      if (count < queue.length) this.queues.set(session, queue.slice(count));
    };
    const control = this.queues.get(CONTROL);
    if (control !== undefined) takeFrom(CONTROL, control, bytesMax);
    while (bytes < bytesMax) {
      const next = this.queues.entries().next();
      if (next.done) break;
      takeFrom(next.value[0], next.value[1], TURN_BYTES);
    }
    return messages;
  }
}

/** What one session sends before the next one has its turn, in bytes. */
const TURN_BYTES = 64 * 1_024;
