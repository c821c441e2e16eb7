import assert from "node:assert/strict";
import { it } from "node:test";
import { payloadCodec } from "./hooks.js";

const invert = (bytes: Uint8Array): Uint8Array => bytes.map((byte) => byte ^ 0xff);

it("redacts before and encrypts after encoding", () => {
  const codec = payloadCodec({
    redact: (value, where) => (where.name === "login" ? { ...(value as object), password: "***" } : value),
    encode: invert,
    decode: invert,
  });
  const stored = codec.encode({ user: "u", password: "p" }, { kind: "input", name: "login" });
  assert.equal(codec.name, "custom");
  assert.equal(payloadCodec().name, "");
  assert.equal(Buffer.from(stored).includes("user"), false);
  assert.deepEqual(codec.decode(stored), { user: "u", password: "***" });
});

it("leaves undefined alone: no payload is no payload", () => {
  const codec = payloadCodec({ encode: invert, decode: invert });
  assert.equal(codec.encode(undefined, { kind: "output", name: "s" }).length, 0);
  assert.equal(codec.decode(new Uint8Array(0)), undefined);
});
