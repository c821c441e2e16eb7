/**
 * Giving a session back while all it waits for are waits: nobody holds it until one of them has an outcome.
 *
 * Owns: when that is tried. Never: judges whether the run may be left (the run does), talks to the engine.
 *
 * Invariants:
 * - B1 a run is given back only if nothing of it is in flight and every outcome the ledger has was delivered; the engine
 *   refuses if it knows more, and the run goes on.
 * - B2 a run that moves is left alone for the linger time; one that a timer will wake soon is kept.
 * - B3 without an open wait this costs nothing: no timer, no look.
 */
/** A session is kept if a timer of it is due within this time, in ms. */
const KEEP_MS_MAX = 5_000;
/** A run that cannot be given back now is looked at again after this, in ms, although what frees it also moves it. */
const AGAIN_MS = 1_000;
/** How long after its time a timer's outcome is waited for, in ms. */
const LATE_MS = 250;

/** Something open that only an outcome from outside the run moves. */
export interface Parked {
  /** When its outcome is there at the latest, in ms since the Unix epoch; undefined: not known, or never. */
  readonly dueMs: number | undefined;
}

/** What parking asks of its run. */
export interface ParkingRun {
  /** True while only outcomes of waits can move it. */
  readonly isParked: boolean;
  /** Gives the session back; false: it has moved on. */
  park(): Promise<boolean>;
}

export class Parking {
  private readonly waits = new Set<Parked>();
  private movedMs = 0;
  private timer: NodeJS.Timeout | undefined;
  private trying = false;
  private stopped = false;

  constructor(
    private readonly run: ParkingRun,
    private readonly lingerMs: number,
  ) {}

  opened(wait: Parked): void {
    this.waits.add(wait);
    this.moved();
  }

  closed(wait: Parked): void {
    this.waits.delete(wait);
    this.moved();
  }

  /** The run has moved: it asked for something, or something of it became durable or was delivered. */
  moved(): void {
    if (this.waits.size === 0 || this.stopped) return; // B3
    this.movedMs = performance.now();
    this.watch(this.lingerMs);
  }

  stop(): void {
    this.stopped = true;
    clearTimeout(this.timer);
  }

  private watch(ms: number): void {
    if (this.trying || this.stopped) return;
    this.timer ??= setTimeout(() => this.look(), ms);
  }

  private look(): void {
    this.timer = undefined;
    if (this.waits.size === 0) return;
    const leftMs = this.movedMs + this.lingerMs - performance.now();
    if (leftMs > 0) return this.watch(leftMs); // B2
    if (!this.run.isParked) return this.watch(Math.max(this.lingerMs, AGAIN_MS));
    const keepMs = this.keepMs();
    if (keepMs > 0) return this.watch(keepMs);
    this.trying = true;
    void this.run.park().then((given) => {
      this.trying = false;
      if (!given) this.watch(this.lingerMs);
    });
  }

  /** How long the session is kept because a timer is due soon, in ms. */
  private keepMs(): number {
    let soonest = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.waits) if (dueMs !== undefined) soonest = Math.min(soonest, dueMs);
    const dueInMs = soonest - Date.now();
    return dueInMs <= KEEP_MS_MAX ? dueInMs + LATE_MS : 0;
  }
}
