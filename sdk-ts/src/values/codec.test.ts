import assert from "node:assert/strict";
import { describe, it } from "node:test";
import { ValueError } from "../errors.js";
import { decodeValue, encodeValue, isJsonText } from "./codec.js";

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");
const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString("utf8");

/** Encodes and decodes, and checks on the way that a second round changes nothing. */
function roundTrip<T>(value: T): T {
  const bytes = encodeValue(value);
  const back = decodeValue(bytes) as T;
  assert.equal(hex(encodeValue(back)), hex(bytes));
  return back;
}

describe("C1: values survive", () => {
  const kept: Record<string, unknown> = {
    undefined: undefined,
    null: null,
    "an undefined property": { a: undefined, b: 1 },
    "undefined in an array": [undefined, null],
    numbers: [0, -0, NaN, Infinity, -Infinity, 1e308, 5e-324],
    bigint: 2n ** 80n,
    strings: ["", "é", "😀", "\u2028", "</script>", "\ud800 alone"],
    date: { at: new Date(1_700_000_000_123) },
    "an invalid date": [new Date(Number.NaN)],
    url: new URL("https://example.com/a?b=c"),
    "url parameters": new URLSearchParams("a=1&a=2"),
    regexp: /a+/gi,
    map: new Map<unknown, unknown>([
      [1, "one"],
      ["1", new Map([[{ deep: true }, new Set([1n])]])],
    ]),
    set: new Set<unknown>([1, "1", [1]]),
    bytes: new Uint8Array([0, 1, 255]),
    "nested bytes": { data: new Uint8Array([1, 2, 3]) },
    floats: new Float64Array([1.5, -0]),
    buffer: new Uint8Array([7]).buffer,
    "an object without prototype": Object.assign(Object.create(null) as object, { a: 1 }),
  };
  for (const [name, value] of Object.entries(kept)) {
    it(name, () => assert.deepStrictEqual(roundTrip(value), value));
  }

  it("a hole stays a hole", () => {
    const sparse: unknown[] = [1];
    sparse[2] = 3;
    assert.equal(1 in roundTrip(sparse), false);
  });

  it("sharing and cycles stay", () => {
    const shared = { n: 1 };
    const back = roundTrip({ a: shared, b: shared });
    assert.equal(back.a, back.b);
    const cycle: { self?: unknown } = {};
    cycle.self = cycle;
    const again = roundTrip(cycle);
    assert.equal(again.self, again);
  });

  it("a Buffer comes back as the Uint8Array it shows, without its pool", () => {
    const shown = Buffer.from("shown");
    const back = roundTrip({ shown }) as { shown: Uint8Array };
    assert.equal(Object.getPrototypeOf(back.shown), Uint8Array.prototype);
    assert.deepEqual([...back.shown], [...shown]);
    assert.equal(decodeValue(encodeValue(shown)) instanceof Buffer, false);
  });

  it("bytes outside a view are not stored", () => {
    const secret = new TextEncoder().encode("secret-visible-secret");
    const stored = encodeValue({ view: secret.subarray(7, 14) });
    assert.equal(text(stored).includes(Buffer.from("secret").toString("base64").slice(0, 6)), false);
    assert.equal(text((decodeValue(stored) as { view: Uint8Array }).view), "visible");
  });

  it("what comes back shares nothing with the input bytes", () => {
    const stored = encodeValue(new Uint8Array([1, 2]));
    const back = decodeValue(stored) as Uint8Array;
    stored.fill(9);
    assert.deepEqual([...back], [1, 2]);
  });
});

describe("V1: what cannot be kept is refused with its path", () => {
  class Money {
    constructor(readonly cents: number) {}
  }
  class MyMap extends Map {}
  const cases: [unknown, string, RegExp][] = [
    [() => 1, "$", /function/],
    [{ items: [1, 2, 3, { callback: () => 1 }] }, "$.items[3].callback", /function/],
    [{ "a-b": Symbol("x") }, '$["a-b"]', /symbol/],
    [{ later: Promise.resolve(1) }, "$.later", /promise.*await it first/],
    // biome-ignore lint/suspicious/noThenProperty: the point of this case
    [{ thenable: { then: () => 1 } }, "$.thenable", /promise/],
    [[new Money(3)], "$[0]", /instance of Money/],
    [{ m: new Map([["k", new Money(1)]]) }, '$.m.get("k")', /instance of Money/],
    [new Set([1, new Money(1)]), "$.values()[1]", /instance of Money/],
    [{ m: new MyMap() }, "$.m", /instance of MyMap/],
    [{ e: new TypeError("x") }, "$.e", /instance of TypeError/],
    [{ w: new WeakMap() }, "$.w", /instance of WeakMap/],
    [{ n: new Number(1) }, "$.n", /instance of Number/],
    [{ [Symbol("s")]: 1 }, "$", /symbol key/],
    [JSON.parse('{"a":{"__proto__":1}}'), "$.a.__proto__", /__proto__/],
  ];
  for (const [value, path, problem] of cases) {
    it(path, () => {
      assert.throws(
        () => encodeValue(value),
        (error) => {
          assert(error instanceof ValueError);
          assert.equal(error.code, "unserialisable_value");
          assert.equal(error.data.path, path);
          assert(error.message.startsWith(`unserialisable_value: ${path} is `), error.message);
          assert.match(error.message, problem);
          return true;
        },
      );
    });
  }

  it("nesting has a limit, on this side as on that", () => {
    let deep: unknown = 0;
    for (let level = 0; level < 512; level++) deep = [deep];
    assert.deepStrictEqual(roundTrip(deep), deep);
    assert.throws(() => encodeValue([[deep]]), /nested deeper than 512 levels; flatten it/);
  });

  it("a getter that throws is refused, not half stored", () => {
    const value = {
      ok: undefined,
      get bad(): never {
        throw new Error("no");
      },
    };
    assert.throws(() => encodeValue(value));
  });
});

describe("the stored format is pinned (golden bytes: these may never change)", () => {
  const golden: [string, unknown, string][] = [
    ["undefined", undefined, ""],
    ["null", null, "null"],
    ["plain JSON", { b: 1, a: ["x", true, 1.5] }, '{"b":1,"a":["x",true,1.5]}'],
    ["raw bytes", new Uint8Array([255, 0]), "\u0002\ufffd\u0000"],
    ["-0", -0, "\u0001-6"],
    ["a date", { at: new Date(0) }, '\u0001[{"at":1},["Date","1970-01-01T00:00:00.000Z"]]'],
    ["an undefined property", { a: undefined, n: 1n }, '\u0001[{"a":-1,"n":1},["BigInt","1"]]'],
    ["map, set", new Map([["k", new Set([1])]]), '\u0001[["Map",1,2],"k",["Set",3],1]'],
    ["nested bytes", [new Uint8Array([1, 2])], '\u0001[[1],["Uint8Array",2],["ArrayBuffer","AQI="]]'],
    ["a URL", [new URL("https://a.b/c")], '\u0001[[1],["URL","https://a.b/c"]]'],
  ];
  for (const [name, value, bytes] of golden) {
    it(name, () => {
      assert.equal(text(encodeValue(value)), bytes);
      if (name !== "raw bytes") assert.deepStrictEqual(decodeValue(Buffer.from(bytes)), value);
    });
  }
});

describe("C3: bytes that cannot be read are an error", () => {
  for (const [name, bytes] of [
    ["an unknown format", [0x03, 1]],
    ["cut JSON", [0x7b, 0x22]],
    ["ill-formed UTF-8", [0x22, 0xff, 0x22]],
    ["damaged devalue", [0x01, 0x5b]],
  ] as const) {
    it(name, () => assert.throws(() => decodeValue(Uint8Array.from(bytes)), { code: "undecodable_value" }));
  }
});

it("says which encoded values other clients can read as JSON", () => {
  assert.deepEqual(
    [{ a: 1 }, null, "x", undefined, new Date(0), new Uint8Array(1)].map((value) => isJsonText(encodeValue(value))),
    [true, true, true, false, false, false],
  );
});
