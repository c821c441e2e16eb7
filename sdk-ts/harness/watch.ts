/**
 * Follows one session live, across kills of the engine.
 *
 * Invariant W1: every event is reported once, in the order of seqs, as soon as the engine shows it.
 */
import { setTimeout as delay } from "node:timers/promises";
import { status as grpcStatus } from "@grpc/grpc-js";
import { SessionStatus } from "#sdk/gen/cellaflow/v1/common_pb.js";
import type { Event } from "#sdk/gen/cellaflow/v1/event_pb.js";
import type { SubscribeSessionResponse } from "#sdk/gen/cellaflow/v1/session_pb.js";
import type { Wire } from "./wire.js";

/** How long to wait before asking an engine again that is down, or that does not know the session yet, in ms. */
const RETRY_MS = 15;

/** What is read from an engine; a {@link Wire}, or a fake. */
export type Source = Pick<Wire, "subscribe">;

/** Which session. */
export interface Key {
  workflow: string;
  key: string;
}

/** Follows one session until it has ended or the watch is stopped. */
export class Watch {
  /** Seq of the last event seen. */
  seq = 0;
  /** Empty until the session exists. */
  sessionId = "";
  /** Settles when the session has ended: with its status; with UNSPECIFIED when the watch was stopped before. */
  readonly ended: Promise<SessionStatus>;
  /** Rejects when the session cannot be followed; never fulfilled. */
  readonly failed: Promise<never>;
  private status = SessionStatus.UNSPECIFIED;
  private readonly stopping = new AbortController();

  constructor(
    private readonly source: Source,
    private readonly of: Key | { sessionId: string },
    private readonly onEvent: (event: Event) => void,
  ) {
    if ("sessionId" in of) this.sessionId = of.sessionId;
    this.ended = this.follow();
    this.failed = new Promise((_resolve, reject) => {
      this.ended.catch(reject);
    });
    this.failed.catch(() => undefined);
  }

  stop(): void {
    this.stopping.abort();
  }

  private async follow(): Promise<SessionStatus> {
    const { signal } = this.stopping;
    while (!signal.aborted && this.status === SessionStatus.UNSPECIFIED) {
      try {
        for await (const message of this.subscribe(signal)) this.take(message);
      } catch (error) {
        if (signal.aborted) break;
        if (!isPassing(error)) throw error;
      }
      if (this.status === SessionStatus.UNSPECIFIED) await delay(RETRY_MS);
    }
    return this.status;
  }

  private subscribe(signal: AbortSignal): AsyncIterable<SubscribeSessionResponse> {
    const request = {
      session: { by: this.by() },
      fromSeq: BigInt(this.seq + 1),
      headersOnly: true,
    };
    return this.source.subscribe(request, signal);
  }

  private by() {
    // A key may come to name a successor; what is followed is one session.
    if (this.sessionId !== "" || "sessionId" in this.of) return { case: "sessionId" as const, value: this.sessionId };
    return { case: "key" as const, value: this.of };
  }

  private take(message: SubscribeSessionResponse): void {
    const { body } = message;
    if (body.case === "event") {
      const seq = Number(body.value.seq);
      if (seq <= this.seq) return;
      if (seq !== this.seq + 1) throw new Error(`the engine sent event ${seq} after event ${this.seq}`);
      this.seq = seq;
      const started = body.value.body;
      if (started.case === "sessionStarted" && this.sessionId === "") this.sessionId = started.value.rootId;
      this.onEvent(body.value);
    } else if (body.case === "end") {
      this.status = body.value.status;
    }
  }
}

const PASSING: readonly number[] = [
  grpcStatus.NOT_FOUND,
  grpcStatus.UNAVAILABLE,
  grpcStatus.CANCELLED,
  grpcStatus.INTERNAL,
  grpcStatus.UNKNOWN,
  grpcStatus.RESOURCE_EXHAUSTED,
];

function isPassing(error: unknown): boolean {
  return PASSING.includes((error as { code?: number }).code ?? -1);
}
