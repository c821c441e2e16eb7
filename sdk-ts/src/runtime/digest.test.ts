/** D1: the prepared computation is HMAC-SHA-256, whatever the size of input and salt. */
import assert from "node:assert/strict";
import { createHmac, randomBytes } from "node:crypto";
import { test } from "node:test";
import { canonicalBytes } from "../values/canonical.js";
import { InputDigest } from "./digest.js";

test("D1 the digest equals HMAC-SHA-256 of the canonical input", () => {
  for (const saltBytes of [0, 32, 64, 100]) {
    const salt = randomBytes(saltBytes);
    const digest = new InputDigest(salt);
    for (const input of [1, null, { a: [1n, new Date(3)] }, "x".repeat(4_000), "y".repeat(100_000), "short again"]) {
      const expected = createHmac("sha256", salt).update(canonicalBytes(input)).digest();
      assert.deepEqual(Buffer.from(digest.of(input)), expected);
    }
    assert.equal(digest.of(undefined).length, 0);
  }
});
