/**
 * The deadline of one run in this process: after it the session is handed over at a step boundary.
 *
 * Owns: when, and that the run is told. Never: aborts a step before its time.
 *
 * Invariant D1: after the deadline no new step begins; what was begun commits, or is aborted after `handOverMs` and runs
 * again elsewhere.
 */
import { MisuseError } from "../errors.js";
import type { Run } from "../runtime/run.js";
import type { RunEnd } from "../runtime/run-types.js";
import type { SessionResult } from "./api.js";

const HAND_OVER_MS_DEFAULT = 30_000;

export class Deadline {
  private readonly atMs: number;
  private timer: NodeJS.Timeout | undefined;
  private told = false;

  constructor(
    deadlineMs = Number.POSITIVE_INFINITY,
    private readonly graceMs = HAND_OVER_MS_DEFAULT,
  ) {
    if (!(deadlineMs > 0) || !(graceMs >= 0)) {
      throw new MisuseError(
        "invalid_deadline",
        "a deadline lies in the future",
        "pass deadlineMs above 0 and handOverMs of 0 or more",
      );
    }
    this.atMs = performance.now() + deadlineMs;
  }

  /** How long until it comes, in ms. */
  get leftMs(): number {
    return Math.max(0, this.atMs - performance.now());
  }

  /** Tells a run when it comes. */
  watch(run: Run): void {
    const { leftMs } = this;
    if (leftMs === Number.POSITIVE_INFINITY) return;
    const tell = (): void => {
      this.told = true;
      void run.suspend("shutdown", this.graceMs);
    };
    if (leftMs === 0) tell();
    // Node cannot wait longer at once; a process that lives for weeks has no use for a deadline.
    else this.timer = setTimeout(tell, Math.min(leftMs, 2 ** 31 - 1));
  }

  unwatch(): void {
    clearTimeout(this.timer);
  }

  /** True if a run ended because of it. */
  handedOver(end: RunEnd): boolean {
    return this.told && end.kind === "suspended" && end.why === "shutdown";
  }
}

/** The result of such a run. */
export function handedOver(sessionId: string): SessionResult<never> {
  const reason = "the deadline of this run came: using the session's key again goes on";
  return { status: "handedOver", sessionId, reason };
}
