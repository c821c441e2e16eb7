/** Sending: order within a session, turns among sessions, large payloads as pieces (B1, B2, P1, P2). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create, fromBinary, toBinary } from "@bufbuild/protobuf";
import { PayloadFormat } from "../gen/cellaflow/v1/common_pb.js";
import { StepCompletedSchema } from "../gen/cellaflow/v1/event_pb.js";
import {
  AppendSchema,
  CapacitySchema,
  type WorkerMessage,
  WorkerMessageSchema,
} from "../gen/cellaflow/v1/worker_pb.js";
import { payload } from "../runtime/payloads.js";
import { workerMessage } from "./messages.js";
import { Outbox } from "./outbox.js";
import { Cutter, Joiner, PIECE_BYTES_MAX } from "./pieces.js";

const numbered = (free: number): WorkerMessage =>
  workerMessage({ case: "capacity", value: create(CapacitySchema, { free }) });
const numberOf = (message: WorkerMessage): number => (message.body.case === "capacity" ? message.body.value.free : -1);

test("B1 B2 a session's messages keep their order, and sessions take turns", () => {
  const outbox = new Outbox();
  for (const free of [1, 2, 3]) outbox.put("a", { message: numbered(free), bytes: 60_000 });
  for (const free of [11, 12]) outbox.put("b", { message: numbered(free), bytes: 60_000 });
  outbox.putControl({ message: numbered(0), bytes: 10 });
  const sent: number[] = [];
  while (!outbox.isEmpty) sent.push(...outbox.take(130_000).map(numberOf));
  assert.deepEqual(
    sent.filter((free) => free < 10),
    [0, 1, 2, 3],
  );
  assert.deepEqual(
    sent.filter((free) => free > 10),
    [11, 12],
  );
  assert.ok(sent.indexOf(11) < sent.indexOf(2), `turns: ${sent.join()}`);
});

test("a message larger than the limit is still sent", () => {
  const outbox = new Outbox();
  outbox.put("a", { message: numbered(1), bytes: 10_000_000 });
  assert.equal(outbox.take(1_000).length, 1);
});

test("P1 P2 a large payload comes back whole, whatever lies between its pieces", () => {
  const bytes = new Uint8Array(3 * PIECE_BYTES_MAX + 5).map((_, index) => index % 251);
  const output = payload(PayloadFormat.VALUE, bytes);
  const value = create(StepCompletedSchema, { stepKey: "s#1", output });
  const message = workerMessage({
    case: "append",
    value: create(AppendSchema, { op: { case: "stepCompleted", value } }),
  });
  const { message: cut, pieces } = new Cutter().cut(message);
  assert.equal(pieces.length, 4);
  assert.ok(toBinary(WorkerMessageSchema, cut).length < 200);
  assert.equal(output.body.case, "data", "what was given is not changed: it may be sent again");
  const joiner = new Joiner();
  for (const piece of pieces) joiner.take(piece);
  const joined = joiner.join(fromBinary(WorkerMessageSchema, toBinary(WorkerMessageSchema, cut)));
  const op = joined.body.case === "append" ? joined.body.value.op : undefined;
  const body = op?.case === "stepCompleted" ? op.value.output?.body : undefined;
  assert.ok(body?.case === "data" && Buffer.compare(body.value, bytes) === 0);
});
