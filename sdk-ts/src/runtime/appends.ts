/**
 * What a run appends to the ledger, and what is said to it.
 *
 * Owns: which writes travel with an append, what an acknowledgement or refusal means to any of them. Never: knows what is
 * appended (requests and `ending.ts` do), sends anything (`journal.ts`).
 *
 * Invariant A1: every append carries what its request had seen (`after`), and the first one after a write carries the write.
 */
import { CellaflowError } from "../errors.js";
import type { Refusal } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import { reached } from "../internal/crash-point.js";
import type { Activity } from "./activity.js";
import type { Budgets } from "./budget.js";
import type { Conversation } from "./conversation.js";
import { type Deltas, NO_DELTAS, takeDeltas } from "./deltas.js";
import type { Ending } from "./ending.js";
import type { AfterMark, Appended } from "./journal.js";
import type { Delivery } from "./order.js";
import type { Parking } from "./parking.js";
import type { AppendAsk, RunSettings } from "./run-types.js";
import type { StateStore } from "./state.js";
import type { Telling } from "./telling.js";
import type { TextRegistry } from "./texts.js";

/** What it asks of its run. */
export interface AppendingRun {
  readonly settings: RunSettings;
  readonly state: StateStore;
  readonly conversation: Conversation;
  readonly texts: TextRegistry;
  readonly activity: Activity;
  readonly budgets: Budgets;
  readonly parking: Parking;
  readonly ending: Ending;
  readonly telling: Telling;
  readonly isOver: boolean;
  noteEvents(events: readonly Event[]): void;
  /** Takes an event of the run's own, with the outcome that it is. Returns false if it is known already. */
  noteOwn(seq: number, outcome: Delivery<Event> | undefined): boolean;
  fence(why: string): void;
  suspendPaused(): void;
  giveUp(problem: string, cause: unknown): void;
}

export class Appends {
  constructor(private readonly run: AppendingRun) {}

  append(after: AfterMark, ask: AppendAsk): void {
    const { op, bytes, outcomeOf } = ask;
    const deltas = ask.deltas === false ? NO_DELTAS : takeDeltas(this.run.state, this.run.conversation); // A1
    if (outcomeOf !== undefined) outcomeOf.deltaTexts = deltas.texts;
    this.run.activity.sent();
    this.run.settings.journal.append({
      after,
      op,
      bytes: bytes + deltas.bytes,
      stateDelta: deltas.state,
      conversationDelta: deltas.conversation,
      acked: (answer) => this.acked(ask, answer, deltas),
      refused: (refusal) => this.refused(ask, refusal),
    });
  }

  private acked(ask: AppendAsk, answer: Appended, { texts, messages }: Deltas): void {
    const { run } = this;
    run.activity.answered();
    run.telling.commit(ask.op, answer.seq);
    if (answer.recorded === undefined) run.budgets.count(answer.seq, ask.op);
    reached(run.settings.session.sessionId, answer.seq);
    if (run.isOver) return;
    run.noteEvents(answer.before);
    if (answer.recorded !== undefined) run.noteEvents([answer.recorded]);
    else if (answer.seq > 0 && !isOverdue(ask, answer)) {
      const { seq, timeMs } = answer;
      if (messages !== undefined) run.conversation.noteDurable(seq, messages);
      const key = ask.outcomeOf?.spec.key;
      const isNew = run.noteOwn(seq, key === undefined ? undefined : { seq, timeMs, key, event: undefined });
      if (isNew && key === undefined && texts.length > 0) run.texts.record(seq, texts);
    }
    ask.acked?.(answer);
    if (ask.outcomeOf !== undefined) run.ending.offer();
    run.parking.moved();
    run.activity.checkIdle();
  }

  private refused(ask: AppendAsk, refusal: Refusal): void {
    const { run } = this;
    run.activity.answered();
    if (run.isOver) return;
    if (refusal.code === "fenced" || refusal.code === "session_ended") return run.fence(refusal.message);
    if (ask.refused !== undefined) ask.refused(refusal);
    else if (refusal.code === "session_paused") run.suspendPaused();
    else run.giveUp("the engine refused an append of this run", refusalError(refusal));
    run.parking.moved();
    run.activity.checkIdle();
  }
}

/** A refusal as an error, for whoever reads the worker's log. */
export function refusalError({ code, message, retryable }: Refusal): CellaflowError {
  return new CellaflowError(code, message, "see the worker's log", { retryable });
}

/** A drop that came after its wait's outcome is answered with that outcome's seq; the event itself is on the way. */
function isOverdue(ask: AppendAsk, answer: Appended): boolean {
  return answer.duplicate && ask.op.case === "waitDropped";
}
