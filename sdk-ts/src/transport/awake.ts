/**
 * Notices that this process stood still: it was stopped, or its machine slept, or something blocked its event loop.
 *
 * Owns: the comparison of the clocks with when it last looked. Never: does anything about it.
 *
 * Invariant A1: once it has stood still, {@link slept} is true until {@link note}, whoever looks first.
 */

/** Looks per time limit. */
const LOOKS = 4;

/** Watches one process. */
export class Awake {
  private limitMs = Number.POSITIVE_INFINITY;
  private monotonicMs = 0;
  private wallMs = 0;
  private timer: NodeJS.Timeout | undefined;

  /** Watches for standstills of more than `limitMs` from now on. */
  watch(limitMs: number): void {
    this.stop();
    this.limitMs = limitMs;
    this.note();
    this.timer = setInterval(() => {
      if (!this.slept) this.note(); // A1
    }, limitMs / LOOKS);
    this.timer.unref();
  }

  stop(): void {
    clearInterval(this.timer);
    this.timer = undefined;
    this.limitMs = Number.POSITIVE_INFINITY;
  }

  /** Whether it stood still since the last look. */
  get slept(): boolean {
    // The monotonic clock stops while a machine sleeps, the other one may be set.
    return Math.max(performance.now() - this.monotonicMs, Date.now() - this.wallMs) > this.limitMs;
  }

  /** It is known. */
  note(): void {
    this.monotonicMs = performance.now();
    this.wallMs = Date.now();
  }
}
