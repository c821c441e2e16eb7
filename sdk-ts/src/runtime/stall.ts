/**
 * Notices a replay that stands still: it neither requests nor is delivered anything.
 *
 * Owns: the clock. Never: says what is awaited, or what follows.
 *
 * Invariant L1: one timer per run, and only while something recorded is awaited.
 */

/** Looks no more often than this, in ms. */
const LOOK_MS_MIN = 10;

export class Stall<T> {
  private progressMs = performance.now();
  private timer: NodeJS.Timeout | undefined;

  constructor(
    private readonly stallMsMax: number,
    /** What is awaited; undefined: nothing that counts. */
    private readonly awaited: () => T | undefined,
    private readonly stalled: (awaited: T) => void,
  ) {}

  /** The run has moved. */
  progress(): void {
    this.progressMs = performance.now();
  }

  /** Watches from now on, as long as something is awaited. */
  watch(): void {
    this.timer ??= setTimeout(() => this.look(), this.stallMsMax);
  }

  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
  }

  private look(): void {
    this.timer = undefined;
    const awaited = this.awaited();
    const leftMs = this.progressMs + this.stallMsMax - performance.now();
    if (leftMs > 0) this.timer = setTimeout(() => this.look(), Math.max(leftMs, LOOK_MS_MIN));
    else if (awaited !== undefined) this.stalled(awaited);
  }
}
