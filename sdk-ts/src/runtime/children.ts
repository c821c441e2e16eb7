/**
 * The children of one run: which are open, and which an end of the run has to wait for.
 *
 * Owns: that list, and asking the engine to cancel. Never: settles a promise (`spawn.ts` does), runs a child.
 *
 * Invariants:
 * - L1 an end of the run waits until every child that is not abandoned has ended; it asks them to cancel first.
 * - L2 a child is asked to cancel once per session, crashes included.
 * - L3 a run that only waits for children is given back like any other (`parking.ts`).
 * - L4 a cancelled session waits with its cleanup for the children of its workflow code, not for those of its cleanup.
 */
import { create } from "@bufbuild/protobuf";
import { ChildCancelRequestedSchema, type Event } from "../gen/cellaflow/v1/event_pb.js";
import type { AfterMark } from "./journal.js";
import type { Parked, Parking } from "./parking.js";
import type { AppendAsk } from "./run-types.js";

/** What the children ask of their run. */
export interface ParentRun {
  readonly after: AfterMark;
  readonly parking: Parking;
  append(after: AfterMark, ask: AppendAsk): void;
}

interface Child extends Parked {
  /** Seq of the spawn; 0: it is not acknowledged yet. */
  seq: number;
  abandoned: boolean;
  /** It was asked to cancel. */
  asked: boolean;
  /** Spawned by the workflow's code in this run; false as well as long as a replay has not come to it. */
  byCode: boolean;
  /** Called when it has ended. */
  ended: () => void;
}

const NOBODY = (): void => {};

export class Children {
  private readonly open = new Map<string, Child>();
  private readonly ended = new Set<string>();
  private endReason: string | undefined;
  /** Seq of the request to cancel this session, once delivered. */
  private cancelledAt: number | undefined;

  constructor(private readonly run: ParentRun) {}

  /** True while an end of the run has to wait (L1). */
  get holdEnd(): boolean {
    for (const child of this.open.values()) if (!child.abandoned) return true;
    return false;
  }

  /** True while a cleanup has to wait (L4). */
  get areAwaited(): boolean {
    for (const child of this.open.values()) if (!child.abandoned && child.byCode) return true;
    return false;
  }

  /** This run asks for a child, which the ledger may have already. */
  spawning(key: string, asked: Pick<Child, "abandoned" | "byCode" | "ended">): void {
    const child = this.open.get(key);
    if (child !== undefined) Object.assign(child, asked);
    else if (this.ended.has(key)) asked.ended();
    else this.open.set(key, { seq: 0, asked: false, dueMs: undefined, ...asked });
  }

  /** The engine refused to spawn it. */
  refused(key: string): void {
    this.open.delete(key);
  }

  note(event: Event): void {
    const { body } = event;
    if (body.case === "childSpawned") this.spawned(body.value.stepKey, Number(event.seq), body.value.abandoned);
    else if (body.case === "childCancelRequested") this.noteAsked(body.value.stepKey);
    else if (body.case === "childEnded") {
      const child = this.open.get(body.value.stepKey);
      this.open.delete(body.value.stepKey);
      this.ended.add(body.value.stepKey);
      if (child === undefined) return;
      this.run.parking.closed(child);
      child.ended();
    }
  }

  /** Asks one child to cancel, unless it has ended or was asked. */
  cancel(key: string, reason: string): void {
    const child = this.open.get(key);
    if (child === undefined || child.asked) return;
    child.asked = true;
    const value = create(ChildCancelRequestedSchema, { stepKey: key, reason });
    // A refusal says that there is nothing to cancel any more.
    this.run.append(this.run.after, { op: { case: "childCancelRequested", value }, bytes: 0, refused: () => {} });
  }

  /** The run ends: asks all children to cancel but abandoned ones, also those that are spawned at this moment. */
  endAll(reason: string): void {
    this.endReason = reason;
    for (const key of [...this.open.keys()]) this.askIfDue(key);
  }

  /** The run's session is being cancelled: the engine asks the children that it knew then; later ones are asked here. */
  parentCancelled(seq: number): void {
    this.cancelledAt = seq;
    for (const key of [...this.open.keys()]) this.askIfDue(key);
  }

  private spawned(key: string, seq: number, abandoned: boolean): void {
    // After a lost connection the acknowledgement of a spawn may come after later events.
    if (this.ended.has(key)) return;
    const child = this.open.get(key) ?? {
      seq,
      abandoned,
      asked: false,
      byCode: false,
      dueMs: undefined,
      ended: NOBODY,
    };
    child.seq = seq;
    this.open.set(key, child);
    this.run.parking.opened(child);
    this.askIfDue(key);
  }

  private noteAsked(key: string): void {
    const child = this.open.get(key);
    if (child !== undefined) child.asked = true;
  }

  private askIfDue(key: string): void {
    const child = this.open.get(key);
    if (child === undefined || child.seq === 0 || child.abandoned) return;
    if (this.endReason !== undefined) return this.cancel(key, this.endReason);
    if (this.cancelledAt !== undefined && child.seq > this.cancelledAt && child.byCode) {
      this.cancel(key, "its parent is being cancelled");
    }
  }
}
