/**
 * What programs that watch a run are told: delivered steps, the end of the replay, acknowledged commits.
 *
 * Owns: the words. Never: changes what the run does, whatever a watcher throws.
 */
import type { UsedContext } from "../context/shown.js";
import { fromUsage } from "../llm/index.js";
import type { AppendOp } from "./journal.js";
import type { Request } from "./request.js";
import type { AckLine, RunSettings } from "./run-types.js";

export class Telling {
  private replayedOutcomes = 0;

  constructor(private readonly settings: RunSettings) {}

  /** An outcome was delivered. */
  delivered(request: Request, seq: number, replayed: boolean): void {
    if (replayed) this.replayedOutcomes += 1;
    const { observer, session } = this.settings;
    const totalMs = performance.now() - request.requestedMs;
    this.tell(() =>
      observer.stepDelivered?.({
        sessionId: session.sessionId,
        stepKey: request.spec.key,
        seq,
        replayed,
        totalMs,
        ownMs: request.ownMs,
        usage: request.usage.map(fromUsage),
      }),
    );
  }

  /** A context was delivered. */
  context(stepKey: string, used: UsedContext, replayed: boolean): void {
    const { observer, session } = this.settings;
    this.tell(() => observer.contextUsed?.({ ...used, sessionId: session.sessionId, stepKey, replayed }));
  }

  /** The last recorded outcome was delivered. */
  replayFinished(): void {
    const { observer, session, grantedMs } = this.settings;
    const replayMs = performance.now() - grantedMs;
    const { sessionId } = session;
    this.tell(() => observer.replayFinished?.({ sessionId, outcomes: this.replayedOutcomes, replayMs }));
  }

  /** A model call was committed, in the event of a step or zone. */
  call(call: string, step: string, seq: number): void {
    this.acknowledged({ session: this.settings.session.sessionId, call, step, seq, ms: Date.now() });
  }

  /** An append was committed. */
  commit(op: AppendOp, seq: number): void {
    if (this.settings.ackLog === undefined || seq === 0) return;
    const { stepKey, zoneKey } = (op.value ?? {}) as { stepKey?: string; zoneKey?: string };
    const { sessionId: session } = this.settings.session;
    this.acknowledged({ session, call: "", step: stepKey ?? zoneKey ?? "", kind: op.case ?? "", seq, ms: Date.now() });
  }

  private acknowledged(line: AckLine): void {
    this.tell(() => this.settings.ackLog?.(line));
  }

  private tell(watcher: () => void): void {
    try {
      watcher();
    } catch (error) {
      this.settings.log("warn", "an observer of this run threw", { error: String(error) });
    }
  }
}
