/**
 * The waits of the engine in memory: open timers, signals and approvals of one session.
 *
 * Owns: just enough of the engine's rules to open, deliver, drop and release. Never: is part of the package's API.
 */
import { create } from "@bufbuild/protobuf";
import { ApprovalDecision } from "../gen/cellaflow/v1/common_pb.js";
import {
  ApprovalDecidedSchema,
  type Event,
  SignalDeliveredSchema,
  SignalReceivedSchema,
  TimerFiredSchema,
} from "../gen/cellaflow/v1/event_pb.js";
import { encodeValue } from "../values/codec.js";
import { valuePayload } from "./payloads.js";

type Body = Event["body"];

interface OpenWait {
  kind: "timer" | "signal" | "approval";
  name: string;
  /** Time until it is over, in ms; undefined: for ever. */
  limitMs: number | undefined;
}

export class MemoryWaits {
  private readonly open = new Map<string, OpenWait>();
  private buffered: { name: string; seq: number }[] = [];
  private readonly timers = new Map<string, NodeJS.Timeout>();

  constructor(
    /** Stores an event and pushes it to the run; returns its seq. */
    private readonly push: (body: Body) => number,
  ) {}

  get isEmpty(): boolean {
    return this.open.size === 0;
  }

  /** True if this body closes a wait that is not open (any more). */
  refuses(body: Body): boolean {
    return body.case === "waitDropped" && !this.open.has(body.value.stepKey);
  }

  /** Takes a stored event; `live`: outcomes that follow from it are pushed. */
  noted(event: Event, live = true): void {
    const { body } = event;
    switch (body.case) {
      case "timerStarted": {
        const limitMs = Number(body.value.delayMs > 0n ? body.value.delayMs : body.value.dueMs - event.timeMs);
        return this.opened(body.value.stepKey, { kind: "timer", name: body.value.name, limitMs }, live);
      }
      case "signalAwaited": {
        const limitMs = body.value.timeoutMs === 0n ? undefined : Number(body.value.timeoutMs);
        return this.opened(body.value.stepKey, { kind: "signal", name: body.value.name, limitMs }, live);
      }
      case "approvalRequested": {
        const limitMs = body.value.expiresInMs === 0n ? undefined : Number(body.value.expiresInMs);
        return this.opened(body.value.stepKey, { kind: "approval", name: body.value.name, limitMs }, live);
      }
      case "signalReceived":
        this.buffered.push({ name: body.value.name, seq: Number(event.seq) });
        return live ? this.match() : undefined;
      case "signalDelivered": {
        const { signalSeq } = body.value;
        this.buffered = this.buffered.filter(({ seq }) => seq !== Number(signalSeq));
        return this.closed(body.value.stepKey);
      }
      case "timerFired":
      case "approvalDecided":
      case "waitDropped":
        return this.closed(body.value.stepKey);
      default:
        return;
    }
  }

  /** The clocks of what was found open go on. */
  resume(): void {
    for (const [stepKey, wait] of this.open) this.watch(stepKey, wait);
    this.match();
  }

  stop(): void {
    for (const timer of this.timers.values()) clearTimeout(timer);
    this.timers.clear();
  }

  /** What a client does. */
  signal(name: string, value: unknown): void {
    const payload = valuePayload(encodeValue(value));
    this.push({ case: "signalReceived", value: create(SignalReceivedSchema, { name, value: payload, by: "test" }) });
  }

  /** What an approver does. */
  decide(stepKey: string, decision: ApprovalDecision, comment?: string): void {
    const value = create(ApprovalDecidedSchema, { stepKey, decision });
    if (decision !== ApprovalDecision.EXPIRED) value.by = "test";
    if (comment !== undefined) value.comment = valuePayload(encodeValue(comment));
    this.push({ case: "approvalDecided", value });
  }

  private opened(stepKey: string, wait: OpenWait, live: boolean): void {
    this.open.set(stepKey, wait);
    if (!live) return;
    this.watch(stepKey, wait);
    this.match();
  }

  private closed(stepKey: string): void {
    this.open.delete(stepKey);
    clearTimeout(this.timers.get(stepKey));
    this.timers.delete(stepKey);
  }

  private watch(stepKey: string, { kind, limitMs }: OpenWait): void {
    if (limitMs === undefined) return;
    const over = (): void => {
      if (kind === "timer") this.push({ case: "timerFired", value: create(TimerFiredSchema, { stepKey }) });
      else if (kind === "approval") this.decide(stepKey, ApprovalDecision.EXPIRED);
      else this.deliver(stepKey, 0);
    };
    this.timers.set(stepKey, setTimeout(over, Math.max(0, limitMs)));
  }

  private match(): void {
    for (const { name, seq } of [...this.buffered]) {
      const found = [...this.open].find(([, wait]) => wait.kind === "signal" && wait.name === name);
      if (found !== undefined) this.deliver(found[0], seq);
    }
  }

  private deliver(stepKey: string, seq: number): void {
    const value = create(SignalDeliveredSchema, { stepKey, signalSeq: BigInt(seq) });
    this.push({ case: "signalDelivered", value });
  }
}
