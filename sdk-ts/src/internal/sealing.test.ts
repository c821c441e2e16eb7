/** Byte hooks (design 5.5): no content leaves the process unsealed, whatever carries it (S1, S2). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, toBinary } from "@bufbuild/protobuf";
import { MessageSchema, ZoneRecordSchema } from "../gen/cellaflow/content/v1/content_pb.js";
import { PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import { AppendSchema } from "../gen/cellaflow/v1/worker_pb.js";
import { documentPayload, failurePayload, payload, payloadBytes, valuePayload } from "../runtime/payloads.js";
import { encodeValue } from "../values/codec.js";
import { sealerOf } from "./sealing.js";

const invert = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);
const SECRET = "the secret text";

function appends() {
  const record = create(ZoneRecordSchema, { outcomes: [{ outcome: { case: "output", value: encodeValue(SECRET) } }] });
  const message = create(MessageSchema, { role: "user", parts: [{ kind: { case: "text", value: SECRET } }] });
  return [
    create(AppendSchema, {
      stateDelta: payload(PayloadFormat.STATE_DELTA, encodeValue(SECRET)),
      conversationDelta: documentPayload(PayloadFormat.CONVERSATION_DELTA, MessageSchema, message),
      op: {
        case: "stepCompleted",
        value: {
          stepKey: "s#1",
          output: valuePayload(encodeValue(SECRET)),
          input: valuePayload(encodeValue(SECRET)),
          llm: { request: documentPayload(PayloadFormat.LLM_REQUEST, MessageSchema, message) },
        },
      },
    }),
    create(AppendSchema, {
      op: {
        case: "zoneCommitted",
        value: { zoneKey: "z#1", record: documentPayload(PayloadFormat.ZONE_RECORD, ZoneRecordSchema, record) },
      },
    }),
    create(AppendSchema, {
      op: {
        case: "guardUnknown",
        value: { failure: failurePayload({ name: "E", code: "e", message: SECRET, retryable: false }) },
      },
    }),
  ];
}

test("S1 S2 every payload is sealed, and what was not is read as it is", () => {
  const sealer = sealerOf({ name: "invert/1", encode: invert, decode: invert });
  assert.ok(sealer !== undefined);
  for (const append of appends()) {
    const plain = Buffer.from(toBinary(AppendSchema, append));
    const sealed: typeof append = sealer.seal(append);
    assert.ok(plain.includes(SECRET));
    assert.ok(!Buffer.from(toBinary(AppendSchema, sealed)).includes(SECRET));
    assert.deepEqual(Buffer.from(toBinary(AppendSchema, sealer.open(sealed))), plain);
    assert.deepEqual(sealer.open(append), append);
  }
});

test("S1 a guarded step's idempotency key stays recognisable", () => {
  const key = payload(PayloadFormat.BYTES, Buffer.from("report-1"));
  const intent = create(AppendSchema, { op: { case: "guardIntent", value: { stepKey: "s#1", idempotencyKey: key } } });
  const sealed = sealerOf({ encode: invert })?.seal(intent);
  const op = sealed?.op;
  assert.ok(op?.case === "guardIntent");
  assert.equal(Buffer.from(payloadBytes(op.value.idempotencyKey)).toString(), "report-1");
});

test("without the hook that wrote it a sealed payload is an error, never a guess", () => {
  const sealed = sealerOf({ encode: invert })?.seal(valuePayload(encodeValue(SECRET)));
  assert.throws(() => payloadBytes(sealerOf({ encode: invert })?.open(sealed)), { code: "payload_sealed" });
  assert.throws(() => payloadBytes(sealed), { code: "payload_sealed" });
});
