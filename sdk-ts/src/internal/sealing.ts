/**
 * The user's byte hooks (encryption), applied to every payload at the edge of this process.
 *
 * Owns: that no content leaves unsealed once a hook is set. Never: keeps keys, redacts (the codec does).
 *
 * Invariants:
 * - S1 with an `encode` hook every payload that is sent is encoded and names its codec: values, model requests and
 *   answers, failures, deltas, zone records. Left as they are: keys, names, and a guarded step's idempotency key, which
 *   the engine has to recognise.
 * - S2 only payloads that name a codec are decoded, so that what was stored before the hook was set stays readable.
 */
import { create } from "@bufbuild/protobuf";
import { type Payload, PayloadFormat, PayloadSchema } from "../gen/cellaflow/v1/common_pb.js";
import { mapPayloads } from "../transport/pieces.js";
import type { PayloadHooks } from "../values/hooks.js";

const NAME_DEFAULT = "custom";

/** Seals what is sent and opens what is received. */
export interface Sealer {
  seal<T>(message: T): T;
  open<T>(message: T): T;
}

/** Makes the sealer of these hooks; undefined: there is nothing to do. */
export function sealerOf(hooks: PayloadHooks | undefined): Sealer | undefined {
  const { encode, decode, name = NAME_DEFAULT } = hooks ?? {};
  if (encode === undefined && decode === undefined) return undefined;
  return {
    seal: (message) => (encode === undefined ? message : mapPayloads(message, (one) => sealed(one, name, encode))),
    open: (message) => mapPayloads(message, (one) => opened(one, decode)),
  };
}

function sealed(payload: Payload, codec: string, encode: (bytes: Uint8Array) => Uint8Array): Payload {
  if (payload.body.case !== "data" || payload.format === PayloadFormat.BYTES || payload.codec !== "") return payload;
  if (payload.body.value.length === 0) return payload;
  const value = encode(payload.body.value);
  const { format } = payload;
  return create(PayloadSchema, { format, codec, sizeBytes: BigInt(value.length), body: { case: "data", value } });
}

function opened(payload: Payload, decode: ((bytes: Uint8Array) => Uint8Array) | undefined): Payload {
  // Without the hook the payload keeps its codec: whoever reads it is told.
  if (decode === undefined || payload.codec === "" || payload.body.case !== "data") return payload;
  return { ...payload, codec: "", body: { case: "data", value: decode(payload.body.value) } };
}
