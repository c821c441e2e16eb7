/**
 * Sending signals to sessions.
 *
 * Owns: `client.signal`. Never: decides to which wait a signal goes.
 *
 * Invariant S1: one call is received once, however often it is repeated over lost connections.
 */
import { randomUUID } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { SessionService, SignalSessionRequestSchema } from "../gen/cellaflow/v1/session_pb.js";
import { valuePayload } from "../runtime/payloads.js";
import { type CallOptions, type ClientCore, refOf, type SessionName } from "./core.js";

/** How a signal is sent. */
export interface SendSignalOptions extends CallOptions {
  /**
   * Makes the signal idempotent for the life of the session: at most 128 bytes, stored in plain. The same id with
   * another value is refused (`signal_conflict`). Default: each call is a signal of its own.
   */
  id?: string;
}

/** What became of a signal. */
export interface SignalReceipt {
  /** Event that received it. */
  seq: number;
  /** True if a signal of this id had been received before; nothing was changed. */
  duplicate: boolean;
  /** True if the session was waiting for it; false: it is kept until the session awaits one of its name. */
  delivered: boolean;
}

/** Sends a signal. @throws CellaflowError `session_not_found`, `session_ended`, `signals_full`, `signal_conflict` */
export async function sendSignal(
  core: ClientCore,
  session: SessionName,
  name: string,
  value: unknown,
  options: SendSignalOptions = {},
): Promise<SignalReceipt> {
  const { id = randomUUID(), signal } = options;
  const bytes = core.codec.encode(value, { kind: "signal", name });
  // Sealed once: the engine compares the bytes of a repeated call.
  const request = core.seal(
    create(SignalSessionRequestSchema, {
      session: refOf(session),
      name,
      value: valuePayload(bytes),
      signalId: id,
    }),
  );
  const { seq, duplicate, delivered } = await core.call(SessionService.method.signalSession, request, { signal });
  return { seq: Number(seq), duplicate, delivered };
}
