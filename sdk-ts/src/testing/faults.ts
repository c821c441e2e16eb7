/**
 * Faults that wait for the request they are meant for.
 *
 * Invariant: a fault is used at most `times`, by requests that match it, in the order the faults were added.
 */

/** Which requests a fault is for: every field given must equal the request's. */
export type Match = Readonly<Record<string, string | number>>;

interface Waiting<Fault> {
  fault: Fault;
  match: Match;
  left: number;
}

/** Faults added by a test, taken by requests. */
export class Faults<Fault> {
  private waiting: Waiting<Fault>[] = [];

  /** @param times how many requests it hits; default 1 */
  add(fault: Fault, match: Match = {}, times = 1): void {
    this.waiting.push({ fault, match, left: times });
  }

  /** Returns the first fault that matches and counts it as used. */
  take(request: Readonly<Record<string, unknown>>): Fault | undefined {
    const found = this.waiting.find(({ match }) =>
      Object.entries(match).every(([field, value]) => request[field] === value),
    );
    if (found === undefined) return undefined;
    found.left -= 1;
    if (found.left <= 0) this.waiting = this.waiting.filter((one) => one !== found);
    return found.fault;
  }

  clear(): void {
    this.waiting = [];
  }
}
