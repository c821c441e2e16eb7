/**
 * What is going on in a run: work that was begun, appends that are not acknowledged, intents and zones that are open.
 *
 * Owns: the counts, and waiting for them. Never: starts anything.
 *
 * Invariant A3: a run is idle when nothing it began runs and nothing it appended is unacknowledged.
 */
import type { Stoppable } from "./run-types.js";

export class Activity {
  private readonly executing = new Set<Stoppable>();
  private readonly slotQueue: (() => void)[] = [];
  private slots = 0;
  private unacked = 0;
  private whenIdle: (() => void) | undefined;

  constructor(private readonly slotsMax: number) {}

  began(work: Stoppable): void {
    this.executing.add(work);
  }

  finished(work: Stoppable): void {
    this.executing.delete(work);
    this.checkIdle();
  }

  sent(): void {
    this.unacked += 1;
  }

  answered(): void {
    this.unacked -= 1;
  }

  /** Looks whether somebody waits for what has just become true. */
  checkIdle(): void {
    if (this.isIdle) this.whenIdle?.();
  }

  /** Opens an intent or zone when there is a slot for it. */
  whenSlot(open: () => void): void {
    if (this.slots < this.slotsMax) {
      this.slots += 1;
      open();
    } else this.slotQueue.push(open);
  }

  freeSlot(): void {
    const next = this.slotQueue.shift();
    if (next === undefined) this.slots -= 1;
    else next();
  }

  abortAll(reason: unknown): void {
    for (const work of [...this.executing]) work.abort(reason);
  }

  /** Resolves with true once idle, or with false after `ms`. */
  idleWithin(ms: number): Promise<boolean> {
    if (this.isIdle) return Promise.resolve(true);
    return new Promise((resolve) => {
      const timer = setTimeout(() => resolve(false), ms);
      this.whenIdle = () => {
        this.whenIdle = undefined;
        clearTimeout(timer);
        resolve(true);
      };
    });
  }

  /** The run is over: nobody waits for anything any more. */
  close(): void {
    this.slotQueue.length = 0;
    this.whenIdle?.();
  }

  get isIdle(): boolean {
    return this.executing.size === 0 && this.unacked === 0;
  }
}
