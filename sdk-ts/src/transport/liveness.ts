/**
 * What the main thread and the one that renews its leases tell each other.
 *
 * Owns: the shared word by which the main thread shows that it moves. Never: network.
 */
import type { FoundConnection } from "./lookup.js";

/** How often the main thread shows that it moves, in ms. */
const SHOW_MS = 1_000;

/** What the thread is started with. */
export interface BeatOrders {
  found: FoundConnection;
  instance: string;
  /** Time between two beats in ms. */
  everyMs: number;
  /** How long the main thread may stand still, in ms. */
  blockedMsMax: number;
  liveness: SharedArrayBuffer;
}

/** What it tells: it has started or beaten, or the connection is dead. */
export type BeatReport = "alive" | "dead";

/** When the main thread last moved, on the clock that all threads share. */
export class Liveness {
  private readonly word: BigInt64Array;
  private timer: NodeJS.Timeout | undefined;

  constructor(readonly shared = new SharedArrayBuffer(BigInt64Array.BYTES_PER_ELEMENT)) {
    this.word = new BigInt64Array(shared);
  }

  /** Shows from now on that this thread moves. */
  start(): void {
    this.show();
    this.timer = setInterval(() => this.show(), SHOW_MS);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
  }

  /** How long the other thread has stood still, in ms. */
  get stillMs(): number {
    return Number((process.hrtime.bigint() - Atomics.load(this.word, 0)) / 1_000_000n);
  }

  private show(): void {
    Atomics.store(this.word, 0, process.hrtime.bigint());
  }
}
