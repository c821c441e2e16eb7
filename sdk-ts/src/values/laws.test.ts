/**
 * Laws of both encodings on random values. A failing run names its seed: put it first in SEEDS to see it again.
 */
import assert from "node:assert/strict";
import { it } from "node:test";
import { canonicalBytes } from "./canonical.js";
import { decodeValue, encodeValue } from "./codec.js";

const SEEDS = Array.from({ length: 500 }, (_, index) => index + 1);

/** A small deterministic generator (mulberry32), so that every run of the test is the same run. */
function random(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Make = (next: () => number, depth: number) => unknown;

const KEYS = ["a", "b", "10", "9", "", "é", "constructor", "toString", "with space", "\u2028"];
const pick = <T>(next: () => number, from: readonly T[]): T => from[Math.floor(next() * from.length)] as T;
const some = (next: () => number): null[] => Array.from({ length: Math.floor(next() * 4) }, () => null);

const leaves: Make[] = [
  (next) => pick(next, [null, undefined, true, false, 0, -0, 1, 1.5, Number.NaN, Infinity, -Infinity, 2 ** 53]),
  (next) => pick(next, ["", "a", "ä€😀", "\ud83d", "</script>", "\u0000", "1", "null"]),
  (next) => BigInt(Math.floor(next() * 1e9)) ** 3n,
  (next) => new Date(pick(next, [0, 1_700_000_000_123, -1, Number.NaN])),
  (next) => new URL(`https://example.com/${Math.floor(next() * 9)}`),
  (next) => Uint8Array.from(some(next).map(() => next() * 256)),
  (next) => Buffer.from(some(next).map(() => next() * 256)),
  () => /x+/giu,
  () => new Float32Array([0.5, -0]),
];
const nodes: Make[] = [
  (next, depth) => some(next).map(() => value(next, depth)),
  (next, depth) => Object.fromEntries(some(next).map(() => [pick(next, KEYS), value(next, depth)])),
  (next, depth) => new Map(some(next).map(() => [value(next, depth), value(next, depth)])),
  (next, depth) => new Set(some(next).map(() => value(next, depth))),
  (next, depth) => {
    const shared = value(next, depth);
    return { first: shared, second: [shared] };
  },
];

function value(next: () => number, depth: number): unknown {
  const make = pick(next, depth > 0 && next() < 0.7 ? nodes : leaves);
  return make(next, depth - 1);
}

/** The same value with every object's keys put in the other way round. */
function reversed(part: unknown): unknown {
  if (Array.isArray(part)) return part.map(reversed);
  if (part instanceof Map) return new Map([...part].map(([key, held]) => [reversed(key), reversed(held)]));
  if (part instanceof Set) return new Set([...part].map(reversed));
  if (part === null || typeof part !== "object" || Object.getPrototypeOf(part) !== Object.prototype) return part;
  return Object.fromEntries(
    Object.entries(part)
      .reverse()
      .map(([key, held]) => [key, reversed(held)]),
  );
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

it("C1: a second round through the codec changes nothing", () => {
  for (const seed of SEEDS) {
    const once = encodeValue(value(random(seed), 4));
    assert.equal(hex(encodeValue(decodeValue(once))), hex(once), `seed ${seed}`);
  }
});

it("a value and what comes back of it have one digest: a replayed input is the same input", () => {
  for (const seed of SEEDS) {
    const made = value(random(seed), 4);
    assert.equal(hex(canonicalBytes(decodeValue(encodeValue(made)))), hex(canonicalBytes(made)), `seed ${seed}`);
  }
});

it("D1: key order never matters", () => {
  for (const seed of SEEDS) {
    const made = value(random(seed), 4);
    assert.equal(hex(canonicalBytes(reversed(made))), hex(canonicalBytes(made)), `seed ${seed}`);
  }
});

it("D2: different values have different bytes", () => {
  const seen = new Map<string, string>();
  for (const seed of SEEDS) {
    const made = value(random(seed), 4);
    const bytes = hex(canonicalBytes(made));
    // Told apart by other means than the encoding under test.
    const shape = JSON.stringify(describe(made));
    assert.equal(seen.get(bytes) ?? shape, shape, `seed ${seed}`);
    seen.set(bytes, shape);
  }
});

/** A description of a value that owes nothing to the canonical encoding. */
function describe(part: unknown): unknown {
  if (part === null || typeof part === "boolean" || typeof part === "string") return part;
  if (typeof part !== "object") return { [typeof part]: Object.is(part, -0) ? "-0" : String(part) };
  if (Array.isArray(part)) return part.map(describe);
  if (part instanceof Map) return { map: [...part].map(([key, held]) => [describe(key), describe(held)]) };
  if (part instanceof Set) return { set: [...part].map(describe) };
  if (part instanceof Date) return { date: part.getTime() };
  if (part instanceof Uint8Array) return { bytes: [...part] };
  if (ArrayBuffer.isView(part)) return { view: String(part) };
  if (part instanceof URL || part instanceof RegExp) return { [part.constructor.name]: String(part) };
  const entries = Object.entries(part).filter(([, held]) => held !== undefined);
  return { object: entries.sort(([a], [b]) => (a < b ? -1 : 1)).map(([key, held]) => [key, describe(held)]) };
}
