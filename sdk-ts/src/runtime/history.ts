/**
 * What the ledger holds of a session, by step key, and when each recorded outcome may be delivered again.
 *
 * Owns: the index of recorded events and the gate of the replay. Never: runs or settles anything.
 *
 * An outcome that workflow code saw at some moment is seen again no earlier, whatever I/O of its own the code does
 * in between. The ledger tells the moment in two ways, both from the `after` of worker appends:
 *
 * Besides: signals that were received and not yet delivered to the code.
 *
 * Invariants:
 * - H1 an outcome waits until every recorded request that was made before its first delivery (its `after.seq` is
 *   lower) has been made again.
 * - H2 an outcome waits until the run has made as many requests as an append that came after it says.
 * - H3 both were true in an earlier run before that delivery, so a deterministic run cannot be stuck by them.
 */
import { CellaflowError } from "../errors.js";
import { PauseReason, type Payload } from "../gen/cellaflow/v1/common_pb.js";
import {
  type DivergenceAccepted,
  type Event,
  type GuardResolved,
  Resolution,
  type SignalReceived,
  UnknownReason,
} from "../gen/cellaflow/v1/event_pb.js";

/** Why another attempt of a guarded step may start. */
export interface WhyAgain {
  /** A person or program asked for it: attempts are not counted against the limit. */
  asked?: boolean;
  /** Nobody said that the attempt was not applied: the next one finds out. */
  unsure?: boolean;
  /** What says that the attempt was not applied. */
  failure?: Payload | undefined;
}

/** Returns why a resolution lets another attempt start. */
export function whyAgain(resolved: GuardResolved): WhyAgain {
  return {
    asked: !["policy", "tool", "reconcile"].includes(resolved.by),
    unsure: resolved.resolution === Resolution.RETRY,
    failure: resolved.failure,
  };
}

/** Returns the key under which the end of a child is recorded. No step has a key of this form. */
export function endKey(spawnKey: string): string {
  return `${spawnKey}/ended`;
}

/** What an open or resolved intent says about the next thing to do. */
export interface GuardRecord extends WhyAgain {
  attempt: number;
  /** `due`: attempt time and grace are over. `retry`: the attempt was resolved so that another one may start. */
  state: "open" | "unknown" | "due" | "retry";
}

/** What the ledger holds under one step key. */
export interface KeyRecord {
  key: string;
  /** "any": an edit of a fork, which does not say. */
  kind: "step" | "zone" | "timer" | "signal" | "approval" | "child" | "any";
  /** Keyed digest of the input; undefined: no event said it. Empty: no input. */
  digest: Uint8Array | undefined;
  /** Last attempt of which an event speaks. */
  attempt: number;
  /** Failed attempts that were to be retried, since the session was last resumed after they had been used up. */
  failures: number;
  /** Attempts before that resume. */
  forgiven: number;
  /** Earliest start of the next attempt in ms since the Unix epoch. */
  retryAtMs: number;
  guard: GuardRecord | undefined;
  /** What an attempt last said of how far it was. */
  progress: Payload | undefined;
  /** When a wait is over at the latest, ms since the Unix epoch; undefined: never, or it is none. */
  dueMs: number | undefined;
  outcome: Event | undefined;
  /** The run has asked for it, or need not. */
  requested: boolean;
  /** An operator left the recorded outcome aside. */
  dropped: boolean;
  /** Seq of the last outcome delivered when it was first requested. */
  afterSeq: number;
}

/** What one event means to its run. */
export interface Noted {
  /** Step or zone concerned; undefined: none. */
  key: string | undefined;
  outcome: boolean;
}

const NOTHING: Noted = { key: undefined, outcome: false };

/** The recorded events of one session. */
export class History {
  private readonly records = new Map<string, KeyRecord>();
  private readonly signals = new Map<number, SignalReceived>();
  private readonly requestsAt = new Map<number, number>();
  private gates: KeyRecord[] = [];
  private gate = 0;
  private sealed = false;
  private missing = 0;
  /** Step that the session is paused for because its attempts were used up. */
  private exhausted: string | undefined;

  /** Takes an event into the index. */
  add(event: Event): Noted {
    const noted = this.index(event);
    const after = event.after;
    if (after !== undefined) {
      const seq = Number(after.seq);
      this.requestsAt.set(seq, Math.max(this.requestsAt.get(seq) ?? 0, after.requests));
      const record = noted.key === undefined ? undefined : this.records.get(noted.key);
      if (record !== undefined && seq < record.afterSeq) record.afterSeq = seq;
    }
    return noted;
  }

  /** Ends the reading of recorded events: what follows is live and passes the gate by itself. */
  seal(): void {
    this.sealed = true;
    this.gates = [...this.records.values()].filter((record) => record.afterSeq !== Number.MAX_SAFE_INTEGER);
    this.gates.sort((a, b) => a.afterSeq - b.afterSeq);
  }

  get(key: string): KeyRecord | undefined {
    return this.records.get(key);
  }

  /** Returns the seqs of outcomes that nobody waits for any more. */
  droppedOutcomes(): number[] {
    const seqs: number[] = [];
    for (const record of this.records.values()) {
      if (record.dropped && record.outcome !== undefined) seqs.push(Number(record.outcome.seq));
    }
    return seqs;
  }

  /** Seq of the last outcome that is to be delivered; 0: none. */
  lastOutcome(): number {
    let last = 0;
    for (const record of this.records.values()) {
      if (!record.dropped && record.outcome !== undefined) last = Math.max(last, Number(record.outcome.seq));
    }
    return last;
  }

  /** Lets go of a delivered outcome's bytes; its key stays known. */
  forgetOutcome(key: string): void {
    const record = this.records.get(key);
    if (record !== undefined) record.outcome = undefined;
  }

  /** Returns a signal by the seq at which it was received, and lets go of it; undefined: there is none. */
  takeSignal(seq: number): SignalReceived | undefined {
    const received = this.signals.get(seq);
    this.signals.delete(seq);
    return received;
  }

  /** H1, H2. */
  mayDeliver(seq: number, requests: number): boolean {
    for (let next = this.gates[this.gate]; next !== undefined && next.afterSeq < seq; next = this.gates[++this.gate]) {
      if (!next.requested) return false;
    }
    return requests >= (this.requestsAt.get(seq) ?? 0);
  }

  /** Notes that the run asked for what is recorded here. */
  noteRequested(record: KeyRecord): void {
    if (record.requested) return;
    record.requested = true;
    this.missing -= 1;
  }

  /** True once the run has asked for all that the ledger has. */
  get allRequested(): boolean {
    return this.missing === 0;
  }

  /** Returns the keys that the ledger has and the run never asked for. */
  unrequested(): string[] {
    const keys: string[] = [];
    for (const record of this.records.values()) if (!record.requested) keys.push(record.key);
    return keys;
  }

  private index(event: Event): Noted {
    const body = event.body;
    switch (body.case) {
      case "stepCompleted":
        return this.outcome(this.record("step", body.value.stepKey, body.value.inputDigest), event);
      case "stepFailed": {
        const { stepKey, inputDigest, attempt, final, retryAtMs } = body.value;
        const record = this.record("step", stepKey, inputDigest);
        return final ? this.outcome(record, event) : this.failed(record, attempt, retryAtMs);
      }
      case "stepHeartbeat": {
        const record = this.record("step", body.value.stepKey);
        record.progress = body.value.details;
        return { key: record.key, outcome: false };
      }
      case "guardIntent": {
        const record = this.record("step", body.value.stepKey, body.value.inputDigest);
        return this.guarded(record, body.value.attempt, "open");
      }
      case "guardUnknown": {
        const due = body.value.reason === UnknownReason.NO_OUTCOME || body.value.reason === UnknownReason.GRACE_OVER;
        return this.guarded(this.record("step", body.value.stepKey), body.value.attempt, due ? "due" : "unknown");
      }
      case "guardResolved": {
        const record = this.record("step", body.value.stepKey);
        const { resolution, attempt } = body.value;
        const final = resolution === Resolution.OUTPUT || resolution === Resolution.FAILURE;
        return final ? this.outcome(record, event) : this.guarded(record, attempt, "retry", whyAgain(body.value));
      }
      case "zoneEntered": {
        const record = this.record("zone", body.value.zoneKey, body.value.inputDigest);
        record.attempt = body.value.attempt;
        return { key: record.key, outcome: false };
      }
      case "zoneCommitted":
        return this.outcome(this.record("zone", body.value.zoneKey), event);
      case "zoneFailed": {
        const record = this.record("zone", body.value.zoneKey);
        const { attempt, final, retryAtMs } = body.value;
        return final ? this.outcome(record, event) : this.failed(record, attempt, retryAtMs);
      }
      case "zoneRolledBack":
        return { key: this.record("zone", body.value.zoneKey).key, outcome: false };
      case "timerStarted":
        return this.waits(this.record("timer", body.value.stepKey), body.value.dueMs);
      case "timerFired":
        return this.outcome(this.record("timer", body.value.stepKey), event);
      case "signalReceived":
        this.signals.set(Number(event.seq), body.value);
        return NOTHING;
      case "signalAwaited":
        return this.waits(this.record("signal", body.value.stepKey), body.value.dueMs);
      case "signalDelivered":
        return this.outcome(this.record("signal", body.value.stepKey), event);
      case "approvalRequested": {
        const { stepKey, argsDigest, dueMs } = body.value;
        return this.waits(this.record("approval", stepKey, argsDigest), dueMs);
      }
      case "approvalDecided":
        return this.outcome(this.record("approval", body.value.stepKey), event);
      case "waitDropped": {
        // A wait is never dropped before it was opened.
        const record = this.records.get(body.value.stepKey);
        return record === undefined ? NOTHING : this.outcome(record, event);
      }
      case "labelsSet":
      case "sessionReleased":
        return NOTHING;
      case "sessionStarted":
        // Of a fork: what came before is its parent's.
        if (body.value.forkedFromSession !== "") for (const record of this.records.values()) record.digest = undefined;
        return NOTHING;
      case "forkEdited":
        return body.value.stepKey === "" ? NOTHING : this.outcome(this.record("any", body.value.stepKey), event);
      case "divergenceAccepted":
        this.accepted(body.value);
        return NOTHING;
      case "childSpawned":
        return this.outcome(this.record("child", body.value.stepKey, body.value.inputDigest), event);
      case "childEnded":
        return this.outcome(this.record("child", endKey(body.value.stepKey)), event);
      case "sessionPaused":
        this.exhausted = body.value.reason === PauseReason.RETRIES_EXHAUSTED ? body.value.stepKey : undefined;
        return NOTHING;
      case "sessionResumed":
        this.forgive(this.exhausted);
        return NOTHING;
      case "sessionCompleted":
      case "sessionFailed":
      case "sessionCancelled":
      case "childCancelRequested":
      case "sessionContinued":
      case "cancelRequested":
      case "leaseGranted":
      case "leaseReleased":
      case "budgetReserved":
      case "budgetRaised":
      case "budgetReleased":
      case "tokenCreated":
      case "tokenRevoked":
      case "archiveChanged":
      case "workflowRegistered":
      case "workflowDrained":
        return NOTHING;
      case undefined:
        throw new CellaflowError(
          "unknown_event",
          `event ${event.seq} is of a kind that this SDK does not know`,
          "update @cellaflow/sdk on this worker",
        );
    }
  }

  /** A step whose attempts were used up has all of them again. */
  private forgive(key: string | undefined): void {
    const record = key === undefined ? undefined : this.records.get(key);
    this.exhausted = undefined;
    if (record === undefined) return;
    record.failures = 0;
    record.forgiven = record.attempt;
  }

  private record(kind: KeyRecord["kind"], key: string, digest?: Uint8Array): KeyRecord {
    const known = this.records.get(key);
    if (known !== undefined) {
      known.digest ??= digest;
      return known;
    }
    const record: KeyRecord = {
      key,
      kind,
      digest,
      attempt: 0,
      failures: 0,
      forgiven: 0,
      retryAtMs: 0,
      guard: undefined,
      progress: undefined,
      dueMs: undefined,
      outcome: undefined,
      // What comes after the replay answers requests of this very run.
      requested: this.sealed,
      dropped: false,
      afterSeq: Number.MAX_SAFE_INTEGER,
    };
    if (!record.requested) this.missing += 1;
    this.records.set(key, record);
    return record;
  }

  private accepted({ stepKey, inputDigest, drop }: DivergenceAccepted): void {
    const record = this.records.get(stepKey);
    if (record === undefined) return;
    if (!drop) record.digest = inputDigest;
    else if (!record.dropped) {
      record.dropped = true;
      this.noteRequested(record);
    }
  }

  private outcome(record: KeyRecord, event: Event): Noted {
    record.outcome = event;
    return { key: record.key, outcome: true };
  }

  private failed(record: KeyRecord, attempt: number, retryAtMs: bigint): Noted {
    record.attempt = attempt;
    record.failures += 1;
    record.retryAtMs = Number(retryAtMs);
    return { key: record.key, outcome: false };
  }

  private waits(record: KeyRecord, dueMs: bigint): Noted {
    record.dueMs = dueMs === 0n ? undefined : Number(dueMs);
    return { key: record.key, outcome: false };
  }

  private guarded(record: KeyRecord, attempt: number, state: GuardRecord["state"], why?: WhyAgain): Noted {
    record.attempt = attempt;
    record.guard = { attempt, state, ...why };
    return { key: record.key, outcome: false };
  }
}
