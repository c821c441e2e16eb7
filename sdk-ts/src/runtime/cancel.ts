/**
 * The cancellation of a session, as its run sees it: what rejects, what is still awaited, what cleans up.
 *
 * Owns: the order of a cancellation. Never: decides that a session is cancelled (the ledger says so), cancels children
 * that the engine cancels by itself.
 *
 * Invariants:
 * - C1 a cancellation is delivered at its place in the ledger, like an outcome: what was delivered before it is
 *   delivered before it again, everything else rejects. So a replay unwinds as the first run did.
 * - C2 a guarded effect that was begun before the cancellation is not interrupted: its promise settles with its outcome.
 *   Nobody could clean up after an effect without knowing whether it happened.
 * - C3 from the moment the request to cancel is known, nothing starts that it would reject: a replay after a crash in
 *   the cleanup repeats no step.
 * - C4 cleanup starts when the workflow's code is over, begun guarded effects have outcomes and awaited children have
 *   ended; last registered first, one at a time. A cleanup that fails does not keep the others from running.
 * - C5 what was asked to be cancelled ends as cancelled, whatever the workflow's code returns or throws.
 * - C6 a guarded effect of the cleanup whose outcome stays unknown pauses the session, like any other: somebody has to
 *   say whether it was undone. Resolved and resumed, the cleanup goes on.
 */
import { create } from "@bufbuild/protobuf";
import { CancelledError } from "../errors.js";
import { type Event, SessionCancelledSchema } from "../gen/cellaflow/v1/event_pb.js";
import type { Children } from "./children.js";
import { runInside } from "./inside.js";
import type { Request } from "./request.js";
import type { AppendAsk, RunSettings } from "./run-types.js";

/** The key under which the order delivers a cancellation; no step has it. */
export const CANCELLATION_KEY = "";
/** How long cleanup waits for workflow code that does not end, in ms: it may be busy with something of its own. */
const UNWIND_MS_MAX = 30_000;

/** What a cancellation asks of its run. */
export interface CancellingRun {
  readonly settings: RunSettings;
  readonly children: Children;
  readonly isRunning: boolean;
  /** Requests that are not settled. */
  pending(): Iterable<Request>;
  /** Forgets a request: an outcome that the ledger may still get for it is passed over. */
  drop(request: Request): void;
  /** Pauses the session: nobody knows what became of this effect. */
  pauseUnknown(stepKey: string): void;
  /** Ends the session with this. */
  endCancelled(op: AppendAsk["op"]): void;
}

interface Cleanup {
  path: string;
  fn: () => unknown;
}

export class Cancellation {
  private requested: { seq: number; reason: string } | undefined;
  private error: CancelledError | undefined;
  private readonly cleanups: Cleanup[] = [];
  private unwound = false;
  private cleaning = false;
  private timer: NodeJS.Timeout | undefined;

  constructor(private readonly run: CancellingRun) {}

  /** True once the ledger has a request to cancel. */
  get isRequested(): boolean {
    return this.requested !== undefined;
  }

  /** True once it was delivered to the workflow's code. */
  get isDelivered(): boolean {
    return this.error !== undefined;
  }

  /** Takes a request to cancel. Returns true for the first one, which is delivered in its turn. */
  note(event: Event): boolean {
    if (event.body.case !== "cancelRequested" || this.requested !== undefined) return false;
    this.requested = { seq: Number(event.seq), reason: event.body.value.reason };
    return true;
  }

  /** Notes what runs when the session is cancelled; returns what undoes that. */
  register(path: string, fn: () => unknown): () => void {
    const cleanup = { path, fn };
    this.cleanups.push(cleanup);
    return () => {
      const index = this.cleanups.indexOf(cleanup);
      if (index >= 0) this.cleanups.splice(index, 1);
    };
  }

  /** True if the request to cancel has a lower seq. */
  isBefore(seq: number): boolean {
    return this.requested !== undefined && this.requested.seq < seq;
  }

  /** C3. */
  holds(request: Request): boolean {
    return this.requested !== undefined && request.spec.cleanup !== true && !request.survivesCancel;
  }

  /** True if a recorded outcome comes after the request to cancel, which rejects the request first. */
  passesOver(request: Request, outcome: Event): boolean {
    return this.holds(request) && this.isBefore(Number(outcome.seq));
  }

  /** Rejects a request that was made after the delivery and outside a cleanup. */
  rejects(request: Request): boolean {
    if (this.error === undefined || request.spec.cleanup === true) return false;
    request.cancel(this.error);
    return true;
  }

  /** What a call gets that is no request, once the cancellation was delivered. */
  rejection(): Promise<never> {
    return Promise.reject(this.error ?? new CancelledError(this.requested?.reason ?? ""));
  }

  /** Rejects a request that had survived the cancellation, and would now start something. */
  rejectLate(request: Request): void {
    this.run.drop(request);
    request.cancel(this.error ?? new CancelledError(this.requested?.reason ?? ""));
    this.poke();
  }

  /** C1. */
  deliver(): void {
    const { seq, reason } = this.requested ?? { seq: 0, reason: "" };
    const error = new CancelledError(reason);
    this.error = error;
    for (const request of [...this.run.pending()]) {
      if (request.survivesCancel) continue;
      this.run.drop(request);
      request.cancel(error);
    }
    this.run.children.parentCancelled(seq);
    this.timer = setTimeout(() => this.unwindLate(), UNWIND_MS_MAX);
    this.poke();
  }

  /** The workflow's code has returned or thrown. */
  codeEnded(): void {
    this.unwound = true;
    clearTimeout(this.timer);
    this.poke();
  }

  /** C4. Looks whether the cleanup may start. */
  poke(): void {
    if (this.error === undefined || !this.run.isRunning) return;
    this.settleLost();
    if (this.cleaning || !this.unwound) return;
    if (this.run.children.areAwaited) return;
    for (const request of this.run.pending()) if (request.spec.cleanup !== true) return;
    this.cleaning = true;
    void this.cleanUp();
  }

  /** The run is over otherwise. */
  stop(): void {
    clearTimeout(this.timer);
  }

  /** What only a person could say: the workflow's code goes on without it (C2), the cleanup does not (C6). */
  private settleLost(): void {
    for (const request of [...this.run.pending()]) {
      if (!request.isLost) continue;
      if (request.spec.cleanup === true) return this.run.pauseUnknown(request.spec.key);
      this.run.drop(request);
      request.lose();
    }
  }

  private unwindLate(): void {
    const { log, session } = this.run.settings;
    const problem = "the workflow's code does not end after its cancellation: its cleanup starts all the same";
    log("warn", problem, { sessionId: session.sessionId, waitedMs: UNWIND_MS_MAX });
    this.codeEnded();
  }

  private async cleanUp(): Promise<void> {
    const { log, session } = this.run.settings;
    for (let next = this.cleanups.pop(); next !== undefined; next = this.cleanups.pop()) {
      const { path, fn } = next;
      try {
        await runInside({ run: this.run, kind: "cleanup", name: "onCancel", path }, fn);
      } catch (error) {
        log("error", "a cleanup of a cancelled session failed", { sessionId: session.sessionId, error: String(error) });
      }
      if (!this.run.isRunning) return;
    }
    const value = create(SessionCancelledSchema, { reason: this.requested?.reason ?? "" });
    this.run.endCancelled({ case: "sessionCancelled", value });
  }
}
