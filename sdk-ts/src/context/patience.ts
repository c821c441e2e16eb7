/**
 * When it is worth waiting for a compacted context: where waits come to nothing, they become rare.
 *
 * Owns: that. Never: is part of what is recorded: a replay waits for nothing.
 */

/** The most prompts in a row that nothing is waited for. */
export const SKIPPED_MAX = 32;

/** The patience of one run. */
export class Patience {
  private fruitless = 0;
  private skip = 0;

  /** Asked once per prompt that a wait might help. */
  mayWait(): boolean {
    if (this.skip === 0) return true;
    this.skip -= 1;
    return false;
  }

  /** A wait is over: it brought something that fits, or not. */
  waited(fruitful: boolean): void {
    this.skip = fruitful ? 0 : Math.min(2 ** this.fruitless, SKIPPED_MAX);
    this.fruitless = fruitful ? 0 : Math.min(this.fruitless + 1, SKIPPED_MAX);
  }
}
