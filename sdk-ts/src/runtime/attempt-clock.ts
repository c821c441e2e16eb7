/**
 * How much time an attempt has left.
 *
 * Owns: the reading of both clocks. Never: aborts anything.
 */

/** Time of an attempt on two clocks; the one that says less counts. */
export class AttemptClock {
  private readonly monotonicMs = performance.now();
  private readonly wallMs = Date.now();

  constructor(private readonly attemptMs: number) {}

  leftMs(): number {
    const elapsedMs = Math.max(performance.now() - this.monotonicMs, Date.now() - this.wallMs);
    return this.attemptMs - elapsedMs;
  }
}
