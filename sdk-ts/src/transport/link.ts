/**
 * One leased session on the channel: the journal of its run.
 *
 * Owns: what is unacknowledged, and binding again after a lost connection. Never: knows the run's rules.
 *
 * Invariants:
 * - J1 entries are sent in the order of `append`; after a lost connection all unacknowledged ones again, in that order.
 * - J2 what may succeed later is tried again after the engine's hint; what will not is told to the run.
 * - J3 events reach the run in ledger order, each once or more; the run knows which it has.
 */
import { create } from "@bufbuild/protobuf";
import { type Refusal, RefusalSchema } from "../gen/cellaflow/v1/common_pb.js";
import { type Event, ReleaseReason } from "../gen/cellaflow/v1/event_pb.js";
import {
  type Ack,
  AppendSchema,
  type Assigned,
  AttachSchema,
  type Nack,
  ReleaseSchema,
  type Revoked,
  RevokeReason,
  type WorkerMessage,
} from "../gen/cellaflow/v1/worker_pb.js";
import { reached } from "../internal/crash-point.js";
import type { Sealer } from "../internal/sealing.js";
import type { Entry, Journal, ReleaseWhy } from "../runtime/journal.js";
import type { Run } from "../runtime/run.js";
import type { Channel } from "./channel.js";
import { workerMessage } from "./messages.js";

/** How long a release waits for the engine's answer, in ms; afterwards the lease runs out by itself. */
const RELEASE_MS_MAX = 2_000;
/** Wait before trying again where the engine gave no hint, in ms. */
const RETRY_MS = 100;
/** How long begun work may go on when the engine takes the session back, in ms. */
const REVOKED_GRACE_MS = 30_000;

const REASONS = {
  shutdown: ReleaseReason.SHUTDOWN,
  suspended: ReleaseReason.SUSPENDED,
  unable: ReleaseReason.UNABLE,
  waiting: ReleaseReason.WAITING,
} as const;

interface Unacked {
  message: WorkerMessage;
  bytes: number;
  /** Undefined: a release. */
  entry: Entry | undefined;
  /** The release was carried out (true) or refused. */
  released?(given: boolean): void;
}

export class SessionLink implements Journal {
  readonly sessionId: string;
  readonly epoch: bigint;
  readonly replayToSeq: number;
  readonly grantedMs = performance.now();
  /** Settles when all recorded events have arrived. */
  readonly replayed: Promise<readonly Event[]>;
  private readonly version: string;
  private sealer: Sealer | undefined;
  private recorded: Event[] = [];
  private gotAll!: (events: readonly Event[]) => void;
  private run: Run | undefined;
  private readonly unacked = new Map<bigint, Unacked>();
  /** False while a lost connection is not bound again: entries wait. */
  private bound = true;
  private rebindId: bigint | undefined;
  /** True from when this process stood still until the session is bound again. */
  private doubted = false;
  private readonly doubting: (() => void)[] = [];
  private closed = false;

  constructor(
    private readonly channel: Channel,
    assigned: Assigned,
  ) {
    this.sessionId = assigned.session?.sessionId ?? "";
    this.version = assigned.session?.version ?? "";
    this.epoch = assigned.epoch;
    this.replayToSeq = Number(assigned.replayToSeq);
    this.replayed = new Promise((resolve) => {
      this.gotAll = resolve;
    });
    if (this.replayToSeq === 0) this.gotAll([]);
  }

  /** Seals what is sent and opens what arrives from now on. */
  sealWith(sealer: Sealer | undefined): void {
    this.sealer = sealer;
  }

  /** Hands over to the run: it has taken the events of `replayed`. */
  attachRun(run: Run): void {
    this.run = run;
    const late = this.recorded.filter((event) => Number(event.seq) > this.replayToSeq);
    this.recorded = [];
    run.noteEvents(this.open(late));
  }

  // ---- what the run asks ----

  get full(): boolean {
    return this.channel.isFull;
  }

  whenRoom(proceed: () => void): void {
    this.channel.whenRoom(proceed);
  }

  get doubtful(): boolean {
    this.channel.checkAwake();
    return this.doubted;
  }

  whenSure(proceed: () => void): void {
    this.doubting.push(proceed);
  }

  /** Others may hold the session by now. */
  doubt(): void {
    this.doubted = true;
  }

  append(entry: Entry): void {
    if (this.closed) return;
    let sealed: Entry;
    try {
      sealed = this.sealer?.seal(entry) ?? entry;
    } catch (error) {
      this.run?.giveUp("the encode hook threw", error);
      return;
    }
    const requestId = this.channel.requestId(this);
    const { after, stateDelta, conversationDelta, op } = sealed;
    const value = create(AppendSchema, {
      requestId,
      sessionId: this.sessionId,
      epoch: this.epoch,
      after: { seq: BigInt(after.seq), requests: after.requests },
      op,
    });
    if (stateDelta !== undefined) value.stateDelta = stateDelta;
    if (conversationDelta !== undefined) value.conversationDelta = conversationDelta;
    this.sendTracked(requestId, { message: workerMessage({ case: "append", value }), bytes: entry.bytes, entry });
  }

  async release(why: ReleaseWhy, seenSeq = 0): Promise<boolean> {
    if (this.closed) return true;
    const requestId = this.channel.requestId(this);
    const { sessionId, epoch } = this;
    const value = create(ReleaseSchema, {
      requestId,
      sessionId,
      epoch,
      reason: REASONS[why],
      seenSeq: BigInt(seenSeq),
    });
    return new Promise<boolean>((resolve) => {
      // A run that only waits can go on waiting for the engine as well.
      const timer = why === "waiting" ? undefined : setTimeout(() => resolve(true), RELEASE_MS_MAX);
      const released = (given: boolean): void => {
        clearTimeout(timer);
        resolve(given);
      };
      const message = workerMessage({ case: "release", value });
      this.sendTracked(requestId, { message, bytes: 0, entry: undefined, released });
    });
  }

  close(): void {
    if (this.closed) return;
    this.closed = true;
    for (const [requestId, { bytes }] of this.unacked) {
      this.channel.answered(requestId);
      this.channel.countBytes(-bytes);
    }
    this.unacked.clear();
    this.channel.forget(this);
  }

  // ---- what the engine says ----

  events(events: readonly Event[]): void {
    for (const { seq } of events) reached(this.sessionId, Number(seq));
    if (this.run !== undefined) return this.noteLive(this.run, events);
    this.recorded.push(...events);
    const last = this.recorded.at(-1);
    if (last !== undefined && Number(last.seq) >= this.replayToSeq) {
      this.gotAll(this.recorded.filter((event) => Number(event.seq) <= this.replayToSeq));
    }
  }

  acked(ack: Ack): void {
    const unacked = this.forgetRequest(ack.requestId);
    if (unacked === undefined) return;
    if (unacked.entry === undefined) return unacked.released?.(true);
    const { seq, timeMs, duplicate, recorded, before } = this.sealer?.open(ack) ?? ack;
    unacked.entry.acked({ seq: Number(seq), timeMs: Number(timeMs), duplicate, recorded, before });
  }

  nacked(nack: Nack): void {
    const refusal = nack.refusal ?? create(RefusalSchema, { code: "refused", message: "refused: without a reason" });
    if (nack.requestId === this.rebindId) return this.rebindRefused(refusal);
    const unacked = this.unacked.get(nack.requestId);
    if (unacked === undefined) return;
    if (refusal.retryable && unacked.entry !== undefined) return this.tryLater(nack.requestId, refusal); // J2
    this.forgetRequest(nack.requestId);
    if (unacked.entry === undefined) unacked.released?.(false);
    else unacked.entry.refused(refusal);
  }

  revoked(revoked: Revoked): void {
    if (revoked.epoch !== this.epoch) return;
    switch (revoked.reason) {
      case RevokeReason.PAUSED:
        return void this.run?.suspend("paused", REVOKED_GRACE_MS);
      case RevokeReason.DRAIN:
        return void this.run?.suspend("shutdown", REVOKED_GRACE_MS);
      case RevokeReason.FENCED:
        return this.fence("another worker took the session over");
      case RevokeReason.ENDED:
        return this.fence("the session has ended otherwise");
      default:
        return this.fence("the engine took the session back");
    }
  }

  fence(why: string): void {
    if (this.run === undefined) this.close();
    else this.run.fence(why);
  }

  // ---- a lost connection ----

  /** The connection is new: asks for the same lease again. */
  rebind(): void {
    if (this.closed) return;
    this.bound = false;
    if (this.rebindId !== undefined) this.channel.answered(this.rebindId);
    const requestId = this.channel.requestId(this);
    this.rebindId = requestId;
    const fromSeq = BigInt(this.run?.firstUnknownSeq ?? this.recorded.length + 1);
    const { sessionId, epoch, version } = this;
    const value = create(AttachSchema, { requestId, sessionId, epoch, fromSeq, version });
    this.channel.send(sessionId, workerMessage({ case: "attach", value }), 0);
  }

  /** Takes the answer to a rebinding. Returns false if it is none. */
  rebound(assigned: Assigned): boolean {
    if (this.rebindId === undefined || assigned.requestId !== this.rebindId) return false;
    this.channel.answered(this.rebindId);
    this.rebindId = undefined;
    if (assigned.epoch !== this.epoch) {
      this.fence(assigned.epoch === 0n ? "the session does not run any more" : "the lease was granted anew");
      // A release got through although its answer was lost, and the session can go on: whoever runs it takes it anew.
      if (assigned.epoch > 0n) this.channel.giveBack(assigned);
      return true;
    }
    this.bound = true;
    this.doubted = false;
    for (const unacked of this.unacked.values()) this.channel.send(this.sessionId, unacked.message, unacked.bytes); // J1
    for (const proceed of this.doubting.splice(0)) proceed();
    return true;
  }

  private rebindRefused(refusal: Refusal): void {
    if (this.rebindId !== undefined) this.channel.answered(this.rebindId);
    this.rebindId = undefined;
    if (!refusal.retryable || refusal.code === "lease_held") return this.fence(refusal.message);
    setTimeout(() => {
      if (!this.bound && this.rebindId === undefined && this.channel.isOpen) this.rebind();
    }, Number(refusal.retryAfterMs) || RETRY_MS);
  }

  private noteLive(run: Run, events: readonly Event[]): void {
    try {
      run.noteEvents(this.open(events));
    } catch (error) {
      run.giveUp("events of this session cannot be read here", error);
    }
  }

  private open(events: readonly Event[]): readonly Event[] {
    return this.sealer?.open(events) ?? events;
  }

  // ---- requests ----

  private sendTracked(requestId: bigint, unacked: Unacked): void {
    this.unacked.set(requestId, unacked);
    this.channel.countBytes(unacked.bytes);
    if (this.bound && this.channel.isOpen) this.channel.send(this.sessionId, unacked.message, unacked.bytes);
  }

  private tryLater(requestId: bigint, refusal: Refusal): void {
    setTimeout(() => {
      const unacked = this.unacked.get(requestId);
      // A connection lost meanwhile sends everything again.
      if (unacked === undefined || !this.bound || !this.channel.isOpen) return;
      this.channel.send(this.sessionId, unacked.message, unacked.bytes);
    }, Number(refusal.retryAfterMs) || RETRY_MS);
  }

  private forgetRequest(requestId: bigint): Unacked | undefined {
    const unacked = this.unacked.get(requestId);
    if (unacked === undefined) return undefined;
    this.unacked.delete(requestId);
    this.channel.answered(requestId);
    this.channel.countBytes(-unacked.bytes);
    return unacked;
  }
}
