/** The account of a tree (B1 to B3): what went beyond a limit must be told from what did not. */
import assert from "node:assert/strict";
import { it } from "node:test";
import { create, type MessageInitShape } from "@bufbuild/protobuf";
import { type Event, EventSchema } from "#sdk/gen/cellaflow/v1/event_pb.js";
import { accountOf, unreserved } from "./account.js";

type Body = NonNullable<MessageInitShape<typeof EventSchema>["body"]>;

const ledger = (...events: [timeMs: number, body: Body][]): Event[] =>
  events.map(([timeMs, body], at) => create(EventSchema, { seq: BigInt(at + 1), timeMs: BigInt(timeMs), body }));
const owner = (costNanos: bigint): Body => ({
  case: "sessionStarted",
  value: { rootId: "top", budget: { limits: { costNanos } } },
});
const child = (rootId: string): Body => ({ case: "sessionStarted", value: { rootId } });
const reserved = (costNanos: bigint): Body => ({ case: "budgetReserved", value: { stepKey: "llm#1", costNanos } });
const answered = (costNanos: bigint): Body => ({
  case: "stepCompleted",
  value: { stepKey: "llm#1", llm: { usage: { costNanos } } },
});
const raised = (costNanos: bigint): Body => ({ case: "budgetRaised", value: { limits: { costNanos } } });

it("B2 counts what was accepted beyond the limit of its time, whoever reserved it", () => {
  const top = ledger([0, owner(100n)], [50, raised(200n)]);
  const one = ledger([1, child("one")], [10, reserved(60n)]);
  const other = (atMs: number) => ledger([1, child("other")], [atMs, reserved(60n)]);
  assert.equal(accountOf([top, one, other(20)]).beyond, 1);
  assert.equal(accountOf([top, one, other(60)]).beyond, 0);
  assert.deepEqual([accountOf([top, one, other(60)]).peakNanos, accountOf([top, one]).leastNanos], [120n, 60n]);
});

it("B1 an outcome frees the reservation and counts what was used", () => {
  const top = ledger([0, owner(100n)]);
  const one = ledger([1, child("one")], [10, reserved(60n)], [20, answered(30n)]);
  const other = (nanos: bigint) => ledger([1, child("other")], [20, reserved(nanos)]);
  const fits = accountOf([top, one, other(70n)]);
  assert.deepEqual([fits.beyond, fits.spentNanos, fits.reservedNanos], [0, 30n, 70n]);
  assert.equal(accountOf([top, one, other(71n)]).beyond, 1);
});

it("B1 the call of a run that died counts at its worst case for good", () => {
  const top = ledger([0, owner(100n)]);
  const one = ledger([1, child("one")], [10, reserved(60n)], [20, reserved(60n)], [30, answered(30n)]);
  const account = accountOf([top, one]);
  assert.deepEqual([account.beyond, account.spentNanos, account.reservedNanos], [1, 90n, 0n]);
});

it("B3 counts requests that nothing was reserved for", () => {
  const one = ledger([1, child("one")], [10, reserved(60n)], [20, reserved(60n)]);
  assert.equal(unreserved([one], ["one", "one"]), 0);
  assert.equal(unreserved([one], ["one", "one", "one", "nobody"]), 2);
});
