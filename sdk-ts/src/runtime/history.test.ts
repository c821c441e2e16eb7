/** The replay's gate (design 5.3): an outcome waits for what the run had asked before it saw it (H1, H2). */
import assert from "node:assert/strict";
import { test } from "node:test";
import { create } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "../gen/cellaflow/v1/event_pb.js";
import { History } from "./history.js";

function completed(seq: number, stepKey: string, afterSeq: number, requests: number): Event {
  return create(EventSchema, {
    seq: BigInt(seq),
    after: { seq: BigInt(afterSeq), requests },
    body: { case: "stepCompleted", value: { stepKey, name: stepKey, attempt: 1 } },
  });
}

function request(history: History, key: string): void {
  const record = history.get(key);
  if (record !== undefined) history.noteRequested(record);
}

test("H1 a recorded request made before a delivery is made again before it", () => {
  const history = new History();
  // a and b were asked for at once; a's outcome came first.
  history.add(completed(3, "a", 0, 0));
  history.add(completed(4, "b", 0, 0));
  history.seal();
  request(history, "a");
  assert.equal(history.mayDeliver(3, 1), false, "b is missing");
  request(history, "b");
  assert.equal(history.mayDeliver(3, 2), true);
});

test("H2 requests that left no event count as well", () => {
  const history = new History();
  history.add(completed(3, "a", 0, 0));
  // Asked for after a was delivered, when three requests had been made: two of them left nothing behind.
  history.add(completed(4, "b", 3, 3));
  history.seal();
  request(history, "a");
  assert.equal(history.mayDeliver(3, 2), false);
  assert.equal(history.mayDeliver(3, 3), true);
  assert.equal(history.mayDeliver(4, 4), false, "b itself was not asked for");
  request(history, "b");
  assert.equal(history.mayDeliver(4, 4), true);
});

test("H3 what is asked for after a delivery does not hold it back", () => {
  const history = new History();
  history.add(completed(3, "a", 0, 0));
  history.add(completed(4, "b", 3, 1));
  history.seal();
  request(history, "a");
  assert.equal(history.mayDeliver(3, 1), true);
  assert.deepEqual(history.unrequested(), ["b"]);
});
