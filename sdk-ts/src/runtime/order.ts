/**
 * The order in which outcomes reach workflow code: ledger order, one per macrotask, live and on replay.
 *
 * Owns: the queue of outcomes by seq. Never: knows what an outcome is.
 *
 * Invariants:
 * - O1 the outcome of seq n is delivered only when every seq below n is known and every outcome among them delivered.
 * - O2 between two deliveries all microtasks that the first one caused have run (each has a macrotask of its own).
 *   Several such macrotasks are queued for one turn of the event loop: a turn costs more than a delivery does.
 * - O3 an outcome that is not ready (its request was not made, the replay's gate is shut) holds all later ones back.
 */

/** An outcome with its place in the ledger. */
export interface Delivery<E> {
  seq: number;
  /** Ledger time in ms since the Unix epoch. */
  timeMs: number;
  key: string;
  /** The recorded event; undefined: this run's own, whose request knows the outcome. */
  event: E | undefined;
}

/** What the order asks of its run. */
export interface OrderTarget<E> {
  ready(delivery: Delivery<E>): boolean;
  deliver(delivery: Delivery<E>): void;
}

const NO_OUTCOME = null;

/** Deliveries in one turn of the event loop; sockets and timers get their turn in between. */
const TURN_DELIVERIES_MAX = 64;

/** The queue of one run. */
export class Order<E> {
  private readonly known = new Map<number, Delivery<E> | typeof NO_OUTCOME>();
  private next = 1;
  /** First seq that is not known; at least `next`. */
  private unknown = 1;
  /** Macrotasks that are queued. */
  private scheduled = 0;
  private stopped = false;
  private readonly tick = (): void => this.pump();

  constructor(private readonly target: OrderTarget<E>) {}

  /** First seq that is not known. */
  get firstUnknown(): number {
    return this.unknown;
  }

  /** Last seq up to which all is known and delivered. */
  get deliveredTo(): number {
    return this.next - 1;
  }

  /** True while nothing that is known waits for its delivery. */
  get isDrained(): boolean {
    return this.known.size === 0;
  }

  /** The outcome that holds the others back; undefined: none does. */
  get head(): Delivery<E> | undefined {
    return this.known.get(this.next) ?? undefined;
  }

  /** Notes what a seq is. Returns false if it was known already. */
  note(seq: number, delivery: Delivery<E> | undefined): boolean {
    if (seq < this.next || this.known.has(seq)) return false;
    this.known.set(seq, delivery ?? NO_OUTCOME);
    while (this.known.has(this.unknown)) this.unknown++;
    if (seq === this.next) this.schedule();
    return true;
  }

  /** Takes an outcome out: nobody waits for it. */
  skip(seq: number): void {
    if (this.known.has(seq)) this.known.set(seq, NO_OUTCOME);
  }

  /** Looks again whether the next outcome is ready. */
  poke(): void {
    if (this.known.size > 0) this.schedule();
  }

  /** Ends all deliveries. */
  stop(): void {
    this.stopped = true;
    this.known.clear();
    this.unknown = this.next;
  }

  private schedule(): void {
    if (this.scheduled > 0 || this.stopped) return;
    this.scheduled = Math.min(this.known.size, TURN_DELIVERIES_MAX);
    for (let n = 0; n < this.scheduled; n++) setImmediate(this.tick);
  }

  private pump(): void {
    this.scheduled -= 1;
    if (this.stopped) return;
    for (let entry = this.known.get(this.next); entry !== undefined; entry = this.known.get(this.next)) {
      if (entry === NO_OUTCOME) {
        this.known.delete(this.next++);
        continue;
      }
      if (!this.target.ready(entry)) return;
      this.known.delete(this.next++);
      if (this.known.size > 0) this.schedule();
      this.target.deliver(entry);
      return;
    }
  }
}
