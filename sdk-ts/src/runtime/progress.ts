/**
 * How far an unguarded step is, as its heartbeats say: journaled now and then, so that the next attempt can go on from
 * there.
 *
 * Owns: the last details, and how often they are journaled. Never: an outcome.
 *
 * Invariants:
 * - G1 details are journaled at once, then at most every {@link EVERY_MS}; the last ones of an attempt that goes on are
 *   never left out.
 * - G2 an attempt in the same process sees the very last details; one after a crash those that were journaled.
 */
import { create } from "@bufbuild/protobuf";
import type { Payload } from "../gen/cellaflow/v1/common_pb.js";
import { StepHeartbeatSchema } from "../gen/cellaflow/v1/event_pb.js";
import { payloadValue, valuePayload } from "./payloads.js";
import type { RequestSpec } from "./request.js";
import type { Run } from "./run.js";

/** Least time between two journaled heartbeats of a step, in ms. */
const EVERY_MS = 5_000;

export class Progress {
  private stored: Payload | undefined;
  private pending: { attempt: number } | undefined;
  private timer: NodeJS.Timeout | undefined;
  private sentMs = Number.NEGATIVE_INFINITY;

  constructor(
    private readonly run: Run,
    private readonly spec: RequestSpec,
  ) {}

  /** Takes what the ledger has. */
  recorded(details: Payload | undefined): void {
    this.stored = details;
  }

  /** The last details, as they were stored. */
  get value(): unknown {
    return this.stored === undefined ? undefined : payloadValue(this.stored, this.run.settings.codec);
  }

  /** Takes the details of a heartbeat. @throws MisuseError for details that cannot be stored */
  note(attempt: number, details: unknown): void {
    const bytes = this.run.settings.codec.encode(details, { kind: "output", name: this.spec.name });
    this.stored = valuePayload(bytes);
    this.pending = { attempt };
    const wait = this.sentMs + EVERY_MS - performance.now();
    if (wait <= 0) this.send();
    else this.timer ??= setTimeout(() => this.send(), wait); // G1
  }

  /** The attempt is over: its outcome says more. */
  stop(): void {
    clearTimeout(this.timer);
    this.timer = undefined;
    this.pending = undefined;
  }

  private send(): void {
    this.timer = undefined;
    const { pending, stored } = this;
    if (pending === undefined || stored === undefined) return;
    this.pending = undefined;
    this.sentMs = performance.now();
    const value = create(StepHeartbeatSchema, { stepKey: this.spec.key, attempt: pending.attempt, details: stored });
    const { log, session } = this.run.settings;
    this.run.append(this.spec.after, {
      op: { case: "stepHeartbeat", value },
      bytes: Number(stored.sizeBytes),
      deltas: false,
      refused: ({ message }) =>
        log("warn", "a heartbeat was not kept", { sessionId: session.sessionId, stepKey: this.spec.key, message }),
    });
  }
}
