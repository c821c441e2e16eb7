import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { canonicalBytes, canonicalDigest } from "./canonical.js";
import { encodeValue } from "./codec.js";

const digest = (value: unknown): string => Buffer.from(canonicalDigest(value)).toString("hex");
const same = (a: unknown, b: unknown): void => assert.equal(digest(a), digest(b));

describe("D1: how a value was built does not matter", () => {
  it("key order", () => same({ a: 1, b: { c: 2, d: 3 } }, { b: { d: 3, c: 2 }, a: 1 }));
  it("integer-like keys", () => same({ 2: "b", 1: "a", x: 0 }, { x: 0, 1: "a", 2: "b" }));
  it("a property that is undefined counts as missing", () => same({ a: undefined, b: 1 }, { b: 1 }));
  it("a hole counts as undefined", () => {
    const sparse: unknown[] = [];
    sparse[1] = 1;
    same(sparse, [undefined, 1]);
  });
  it("sharing", () => {
    const shared = { n: 1 };
    same([shared, shared], [{ n: 1 }, { n: 1 }]);
  });
  it("prototype-less objects, Buffers and views of a larger buffer", () => {
    same(Object.assign(Object.create(null) as object, { a: 1 }), { a: 1 });
    same(Buffer.from([1, 2]), new Uint8Array([1, 2]));
    same(new Uint8Array([9, 1, 2, 9]).subarray(1, 3), new Uint8Array([1, 2]));
  });
  it("non-enumerable properties and array extras", () => {
    same(Object.defineProperty({ a: 1 }, "hidden", { value: 2 }), { a: 1 });
    same(Object.assign([1], { extra: 2 }), [1]);
  });
});

it("D2: different values have different bytes", () => {
  const values: unknown[] = [
    undefined,
    null,
    true,
    false,
    0,
    -0,
    1,
    "1",
    1n,
    Number.NaN,
    "NaN",
    Infinity,
    -Infinity,
    "",
    "u",
    [],
    [[]],
    [undefined],
    [null],
    [undefined, undefined],
    {},
    { a: null },
    { a: [] },
    { a: {} },
    { "": 1 },
    ["ab"],
    ["a", "b"],
    { a: "b" },
    { ab: "" },
    [["a"], "b"],
    [["a", "b"]],
    new Date(0),
    "1970-01-01T00:00:00.000Z",
    new Date(Number.NaN),
    new URL("https://a.b/"),
    "https://a.b/",
    new URLSearchParams("a=1"),
    "a=1",
    /a/g,
    /a/i,
    /a/,
    /ag/,
    new Map(),
    new Set(),
    new Map([["a", 1]]),
    new Map([
      ["a", 1],
      ["b", 2],
    ]),
    new Map([
      ["b", 2],
      ["a", 1],
    ]),
    new Set([1, 2]),
    new Set([2, 1]),
    [1, 2],
    new Uint8Array([1]),
    new Int8Array([1]),
    new Uint8Array([1]).buffer,
    new DataView(new Uint8Array([1]).buffer),
    "\ud800",
    "\ud801",
    "\ufffd",
    "é",
    "e\u0301",
  ];
  const seen = new Map<string, unknown>();
  for (const value of values) {
    const bytes = Buffer.from(canonicalBytes(value)).toString("hex");
    assert.equal(seen.has(bytes), false, `${String(value)} collides with ${String(seen.get(bytes))}`);
    seen.set(bytes, value);
  }
});

describe("refusals", () => {
  it("cycles, with their path", () => {
    const value: { a: { list: unknown[] } } = { a: { list: [1] } };
    value.a.list.push(value.a);
    assert.throws(() => canonicalBytes(value), /unserialisable_value: \$\.a\.list\[1\] is part of a cycle/);
  });

  it("D3: what one encoding refuses, the other refuses at the same path", () => {
    class Money {}
    const samples: unknown[] = [
      { a: () => 1 },
      [Symbol("x")],
      { a: [new Money()] },
      { p: Promise.resolve() },
      new Map([[new Money(), 1]]),
      JSON.parse('{"__proto__":1}'),
      { [Symbol("s")]: 1 },
      new Set([() => 1]),
      { e: new Error("x") },
      [new String("s")],
    ];
    for (const sample of samples) {
      const messages = [encodeValue, canonicalBytes].map((encode) => {
        try {
          encode(sample);
        } catch (error) {
          return (error as Error).message;
        }
        return "not refused";
      });
      assert.notEqual(messages[0], "not refused");
      assert.equal(messages[0], messages[1]);
    }
  });

  it("a small value that sharing makes huge", () => {
    let value: unknown = "x".repeat(1_000);
    for (let level = 0; level < 40; level++) value = [value, value];
    assert.throws(() => canonicalBytes(value), /67108864 bytes an input may have/);
  });
});

it("the digest is pinned (golden: sessions of earlier versions are compared with it)", () => {
  const value = {
    text: "é",
    list: [1, -0, Number.NaN, null, undefined, true, 12n],
    at: new Date(1_700_000_000_000),
    map: new Map([["k", new Set(["v"])]]),
    url: new URL("https://example.com/"),
    bytes: new Uint8Array([1, 2, 3]),
    missing: undefined,
  };
  assert.equal(
    Buffer.from(canonicalBytes({ b: "é", a: [1, null] })).toString("hex"),
    "016f00000002" +
      "7300000001" +
      "61" +
      "6100000002" +
      "643ff0000000000000" +
      "6e" +
      "7300000001" +
      "62" +
      "7300000002" +
      "c3a9",
  );
  assert.equal(digest(value), "c21c19a14a6aa00e377b0c4f565ce31cbc6d8131db8beb5018dbcf5ef2b38852");
});
