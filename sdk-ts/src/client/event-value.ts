/**
 * The value that an event carries, as users see it.
 *
 * Owns: which payload of an event that is. Never: shows what the user's hooks seal and this process cannot open.
 */
import { usedContext } from "../context/shown.js";
import { type Payload, PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import type { Event } from "../gen/cellaflow/v1/event_pb.js";
import { payloadFailure, payloadValue } from "../runtime/payloads.js";
import type { PayloadCodec } from "../values/hooks.js";

/** Returns the value; undefined: it carries none, or it was erased or is sealed. */
export function carriedValue(event: Event, codec: PayloadCodec): unknown {
  const { body } = event;
  switch (body.case) {
    case "sessionStarted":
      return read(body.value.input, codec);
    case "stepCompleted":
      // The output of a model call is a document of its own.
      return body.value.llm === undefined ? read(body.value.output, codec) : undefined;
    case "zoneCommitted":
    case "sessionCompleted":
      return read(body.value.output, codec);
    case "signalReceived":
      return read(body.value.value, codec);
    case "stepFailed":
    case "zoneFailed":
    case "sessionFailed":
      return isHere(body.value.failure) ? payloadFailure(body.value.failure) : undefined;
    default:
      return undefined;
  }
}

function read(payload: Payload | undefined, codec: PayloadCodec): unknown {
  if (!isHere(payload)) return undefined;
  return payload.format === PayloadFormat.CONTEXT ? usedContext(payload) : payloadValue(payload, codec);
}

function isHere(payload: Payload | undefined): payload is Payload {
  return payload !== undefined && payload.codec === "" && payload.body.case === "data";
}
