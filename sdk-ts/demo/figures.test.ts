import assert from "node:assert/strict";
import { it } from "node:test";
import { dollars, grouped, largest, percentile, rounded, seconds } from "./figures.js";

it("takes percentiles by nearest rank, whatever the order", () => {
  const hundred = Array.from({ length: 100 }, (_, index) => 100 - index);
  assert.equal(percentile(hundred, 50), 50);
  assert.equal(percentile(hundred, 99), 99);
  assert.equal(percentile(hundred, 100), 100);
  assert.equal(percentile([7], 1), 7);
  assert.equal(percentile([1, 1_000], 99), 1_000, "few samples never hide the worst one");
  assert.equal(percentile([], 50), 0);
});

it("formats numbers for people", () => {
  assert.equal(largest([1, 3, 2]), 3);
  assert.equal(largest([]), 0);
  assert.equal(rounded(1.2345, 2), 1.23);
  assert.equal(grouped(12_345.4), "12,345");
  assert.equal(dollars(1_234_000), "$0.001234");
  assert.equal(dollars(undefined), "unknown");
  assert.equal(seconds(2_314), "2.31 s");
});
