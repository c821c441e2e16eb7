/**
 * Payloads: values, failures and documents as the wire carries them.
 *
 * Owns: the conversion in both directions. Never: decides what is stored.
 */
import { create, type DescMessage, fromBinary, type MessageShape, toBinary } from "@bufbuild/protobuf";
import { CellaflowError } from "../errors.js";
import { type Failure, StepError } from "../failure.js";
import { type StepFailure, StepFailureSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { type Payload, PayloadFormat, PayloadSchema } from "../gen/cellaflow/v1/common_pb.js";
import { decodeValue, encodeValue } from "../values/codec.js";
import { tryEncodable } from "../values/encodable.js";
import type { PayloadCodec } from "../values/hooks.js";

/** Makes a payload of bytes. */
export function payload(format: PayloadFormat, data: Uint8Array): Payload {
  return create(PayloadSchema, { format, sizeBytes: BigInt(data.length), body: { case: "data", value: data } });
}

/** Makes a payload of an encoded value. */
export function valuePayload(bytes: Uint8Array): Payload {
  return payload(PayloadFormat.VALUE, bytes);
}

/** Makes a payload of a document. */
export function documentPayload<D extends DescMessage>(
  format: PayloadFormat,
  schema: D,
  doc: MessageShape<D>,
): Payload {
  return payload(format, toBinary(schema, doc));
}

/** Returns a payload's bytes. */
export function payloadBytes(from: Payload | undefined): Uint8Array {
  if (from === undefined) return new Uint8Array(0);
  if (from.codec !== "") {
    throw new CellaflowError(
      "payload_sealed",
      `a payload was encoded by the hook "${from.codec}"`,
      "use the same payload hooks here",
    );
  }
  if (from.body.case === "data") return from.body.value;
  // Proto3 readers drop nothing, but an empty `data` may come without a body.
  if (from.body.case === undefined && from.sizeBytes === 0n) return new Uint8Array(0);
  throw new CellaflowError(
    "payload_absent",
    "the content of a recorded event was erased or did not arrive",
    "this session cannot be replayed; start a new one",
  );
}

/** Reads a payload that holds a value, from this SDK or a thin client. */
export function payloadValue(from: Payload | undefined, codec: PayloadCodec): unknown {
  const bytes = payloadBytes(from);
  if (from?.format === PayloadFormat.BYTES) return Uint8Array.from(bytes);
  if (from?.format === PayloadFormat.JSON) return decodeValue(bytes);
  return codec.decode(bytes);
}

/** Reads a payload that holds a document. */
export function payloadDocument<D extends DescMessage>(from: Payload | undefined, schema: D): MessageShape<D> {
  return fromBinary(schema, payloadBytes(from));
}

/** Makes a payload of a failure. */
export function failurePayload(failure: Failure): Payload {
  return documentPayload(PayloadFormat.FAILURE, StepFailureSchema, failureDocument(failure));
}

/** Reads a payload that holds a failure; absent: the policy of a guarded step made it fail. */
export function payloadFailure(from: Payload | undefined): Failure {
  if (from === undefined) return EFFECT_UNKNOWN;
  return failureOf(payloadDocument(from, StepFailureSchema));
}

/** The failure of a guarded step whose outcome stayed unknown. */
export const EFFECT_UNKNOWN: Failure = {
  name: "EffectUnknown",
  code: "effect_unknown",
  message: "the outcome of the guarded effect stayed unknown",
  retryable: false,
};

/** Returns the stored form of a failure. */
export function failureDocument(failure: Failure): StepFailure {
  const { name, code, message, retryable, data, cause } = failure;
  const doc = create(StepFailureSchema, { name, code, message, retryable });
  if (data !== undefined && tryEncodable(data)) doc.data = encodeValue(data);
  if (cause !== undefined) doc.cause = failureDocument(cause);
  return doc;
}

/** Reads the stored form of a failure. */
export function failureOf(doc: StepFailure): Failure {
  const { name, code, message, retryable } = doc;
  const failure: Failure = { name, code, message, retryable };
  if (doc.data.length > 0) failure.data = decodeValue(doc.data);
  if (doc.cause !== undefined) failure.cause = failureOf(doc.cause);
  return failure;
}

/** Makes the error that workflow code sees, from bytes alone, so that live and replay agree. */
export function stepErrorOf(from: Payload | undefined): StepError {
  return new StepError(payloadFailure(from));
}
