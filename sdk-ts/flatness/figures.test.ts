/** The figures of flatness (F1, F2): a run that gets slower must be told from one that does not. */
import assert from "node:assert/strict";
import { test } from "node:test";
import type { Lap } from "./agents.js";
import { fastest, median, slopeOf } from "./figures.js";

const run = (total: number, ms: (n: number) => number): Lap[] =>
  Array.from({ length: total }, (_, index) => ({ n: index + 1, ms: ms(index + 1), wallMs: 0 }));

test("F1 the first and the last tenth are compared by their medians", () => {
  const slower = slopeOf(
    run(100, (n) => (n <= 50 ? 2 : 3)),
    100,
  );
  assert.deepEqual(slower, { first: 2, last: 3, ratio: 1.5 });
  const outlier = slopeOf(
    run(100, (n) => (n === 95 ? 1_000 : 2)),
    100,
  );
  assert.equal(outlier.ratio, 1);
});

test("F1 laps that were replayed are missing, a tenth without any is an error", () => {
  const laps = run(100, () => 2).filter(({ n }) => n % 3 === 0);
  assert.equal(slopeOf(laps, 100).ratio, 1);
  assert.throws(
    () =>
      slopeOf(
        laps.filter(({ n }) => n <= 90),
        100,
      ),
    RangeError,
  );
});

test("F2 of several runs a lap counts as its fastest; what grows in all of them is seen", () => {
  const disturbed = (from: number): Lap[] => run(100, (n) => (n > from && n <= from + 20 ? 50 : 2));
  assert.equal(slopeOf(fastest([disturbed(0), disturbed(80), disturbed(40)]), 100).ratio, 1);
  const growing = (from: number): Lap[] => disturbed(from).map((lap) => ({ ...lap, ms: lap.ms + lap.n / 100 }));
  assert.ok(slopeOf(fastest([growing(0), growing(80)]), 100).ratio > 1.3);
  assert.equal(median([3, 1, 2]), 2);
  assert.equal(median([4, 1, 3, 2]), 2.5);
});
