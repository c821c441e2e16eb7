/** Order (O1, O2): many outcomes in one turn of the event loop, each after all that the one before has caused. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { Order } from "./order.js";

const OUTCOMES = 200;

function delivery(seq: number) {
  return { seq, timeMs: 0, key: String(seq), event: undefined };
}

test("O2 between two deliveries microtasks and ticks run to their end, and turns are saved", async () => {
  const seen: string[] = [];
  let turns = 0;
  const order = new Order<never>({
    ready: () => true,
    deliver({ seq }) {
      seen.push(`${seq} delivered`);
      const caused = (depth: number): void => {
        if (depth === 0) seen.push(`${seq} settled`);
        else if (depth % 2 === 0) queueMicrotask(() => caused(depth - 1));
        else process.nextTick(() => caused(depth - 1));
      };
      caused(6);
    },
  });
  for (let seq = 1; seq <= OUTCOMES; seq++) order.note(seq, delivery(seq));
  assert.equal(order.firstUnknown, OUTCOMES + 1);
  while (!order.isDrained || seen.length < 2 * OUTCOMES) {
    turns += 1;
    await new Promise<void>((next) => setImmediate(next));
  }
  const wanted = Array.from({ length: OUTCOMES }, (_, n) => [`${n + 1} delivered`, `${n + 1} settled`]).flat();
  assert.deepEqual(seen, wanted);
  assert.ok(turns < OUTCOMES / 10, `${turns} turns for ${OUTCOMES} outcomes`);
});

test("O1 the first unknown seq is known at any time, whatever the order of arrival", () => {
  const order = new Order<never>({ ready: () => false, deliver: () => {} });
  const known = new Set<number>();
  for (const seq of [3, 1, 2, 7, 5, 4, 6, 9]) {
    known.add(seq);
    order.note(seq, seq % 2 === 0 ? undefined : delivery(seq));
    let first = 1;
    while (known.has(first)) first++;
    assert.equal(order.firstUnknown, first);
  }
  order.stop();
});
