/**
 * Starts and attaches that wait for the engine's answer, over lost connections.
 *
 * Owns: asking again on every new connection, giving up when the caller does. Never: connects, or binds a session again
 * that was bound before (`link.ts`).
 */
import { CellaflowError } from "../errors.js";
import type { Assigned, Nack, WorkerMessage } from "../gen/cellaflow/v1/worker_pb.js";
import { refusalError } from "./grpc.js";
import type { SessionLink } from "./link.js";

/** What is answered to a start or attach. */
export interface Binding {
  assigned: Assigned;
  /** The session's lease; undefined: none was taken, because it has ended, waits or is paused. */
  link: SessionLink | undefined;
}

/** Builds a request anew for every connection. */
export type BindMessage = (requestId: bigint) => WorkerMessage;

interface PendingBind {
  message: BindMessage;
  resolve(binding: Binding): void;
  reject(error: CellaflowError): void;
}

/** What they ask of the channel. */
export interface BindingChannel {
  readonly isOpen: boolean;
  requestId(): bigint;
  send(session: string, message: WorkerMessage, bytes: number): void;
  connect(): void;
  /** One is answered or given up: perhaps the channel is not needed any more. */
  checkIdle(): void;
}

export class Binds {
  private readonly pending = new Map<bigint, PendingBind>();

  constructor(private readonly channel: BindingChannel) {}

  get size(): number {
    return this.pending.size;
  }

  /** Asks, and waits for the answer. */
  ask(signal: AbortSignal | undefined, message: BindMessage): Promise<Binding> {
    return new Promise((resolve, reject) => {
      const requestId = this.channel.requestId();
      const done = (): void => {
        this.pending.delete(requestId);
        signal?.removeEventListener("abort", aborted);
        this.channel.checkIdle();
      };
      const aborted = (): void => {
        done();
        reject(new CellaflowError("cancelled", "the call was aborted", "call it again; a started session goes on"));
      };
      this.pending.set(requestId, {
        message,
        resolve: (binding) => {
          done();
          resolve(binding);
        },
        reject: (error) => {
          done();
          reject(error);
        },
      });
      signal?.addEventListener("abort", aborted, { once: true });
      if (signal?.aborted) return aborted();
      if (this.channel.isOpen) this.send(requestId);
      else this.channel.connect();
    });
  }

  /** The connection is new: asks for all of them. */
  sendAll(): void {
    for (const requestId of [...this.pending.keys()]) this.send(requestId);
  }

  rejectAll(error: CellaflowError): void {
    for (const pending of [...this.pending.values()]) pending.reject(error);
  }

  /** Takes an answer. Returns false if nobody waits for it. */
  answered(requestId: bigint, binding: Binding): boolean {
    const pending = this.pending.get(requestId);
    pending?.resolve(binding);
    return pending !== undefined;
  }

  /** Takes a refusal. Returns false if nobody waits for it. */
  refused({ requestId, refusal }: Nack): boolean {
    const pending = this.pending.get(requestId);
    const { code = "refused", message = "", retryable = false, retryAfterMs = 0n } = refusal ?? {};
    pending?.reject(refusalError(code, message, retryable, Number(retryAfterMs)));
    return pending !== undefined;
  }

  private send(requestId: bigint): void {
    const pending = this.pending.get(requestId);
    if (pending === undefined) return;
    const message = pending.message(requestId);
    const { body } = message;
    const input = body.case === "start" ? body.value.request?.input : undefined;
    this.channel.send(`bind ${requestId}`, message, Number(input?.sizeBytes ?? 0n));
  }
}
