/**
 * What the parts of a client share: calls that are repeated while that helps, payloads in both directions.
 *
 * Owns: that. Never: knows what a call means.
 */
import type { DescMethodServerStreaming, DescMethodUnary, MessageShape } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import type { Shared } from "../internal/connection.js";
import type { Sealer } from "../internal/sealing.js";
import type { PayloadCodec } from "../values/hooks.js";

/** Time for one call to the engine, in ms. */
export const CALL_MS_MAX = 30_000;
const RETRY_MS = 200;
const TRIES_MAX = 50;

/** How one call to the engine is made. */
export interface CallOptions {
  /** Gives the call up. */
  signal?: AbortSignal;
}

/** Names a session: its id, or workflow and key. */
export type SessionName = string | { workflow: string; key: string };

/** A client's connection with its hooks. */
export class ClientCore {
  constructor(
    readonly shared: Shared,
    readonly codec: PayloadCodec,
    readonly sealer: Sealer | undefined,
  ) {}

  /** Makes a call, again while the engine says that it may succeed later (so it must be idempotent). */
  call<M extends DescMethodUnary>(
    method: M,
    request: MessageShape<M["input"]>,
    options: { signal?: AbortSignal | undefined; timeoutMs?: number } = {},
  ): Promise<MessageShape<M["output"]>> {
    const { signal, timeoutMs = CALL_MS_MAX } = options;
    return retried(() => this.shared.client.unary(method, request, { timeoutMs, signal }), signal);
  }

  /** Makes a call that answers with a stream; it is not made again. */
  stream<M extends DescMethodServerStreaming>(
    method: M,
    request: MessageShape<M["input"]>,
    signal: AbortSignal | undefined,
  ): AsyncGenerator<MessageShape<M["output"]>> {
    return this.shared.client.serverStream(method, request, signal);
  }

  /** Applies the user's byte hooks to what is sent. */
  seal<T>(message: T): T {
    return this.sealer?.seal(message) ?? message;
  }

  /** Undoes the user's byte hooks in what was received. */
  open<T>(message: T): T {
    return this.sealer?.open(message) ?? message;
  }
}

/** Returns how the wire names a session. */
export function refOf(session: SessionName) {
  if (typeof session === "string") return { by: { case: "sessionId", value: session } } as const;
  return { by: { case: "key", value: { workflow: session.workflow, key: session.key } } } as const;
}

/** Tries again what the engine says may succeed later, while it restarts for example. */
export async function retried<T>(call: () => Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  for (let tries = 1; ; tries++) {
    try {
      return await call();
    } catch (error) {
      signal?.throwIfAborted();
      const again = error instanceof CellaflowError && error.retryable && error.code !== "lease_held";
      if (!again || tries >= TRIES_MAX) throw error;
      const hint = Number(error.data.retryAfterMs ?? 0);
      await new Promise((resolve) => setTimeout(resolve, hint > 0 ? hint : RETRY_MS));
    }
  }
}
