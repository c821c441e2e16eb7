/**
 * The keyed digest of a step's input: HMAC-SHA-256 of its canonical bytes under the lineage's salt.
 *
 * Owns: the computation. Never: keeps inputs.
 *
 * Invariant D1: equal to `createHmac("sha256", salt)`. That makes a key object each time, which for small inputs costs
 * more than the hashing itself; two one-shot hashes over prepared pads do not.
 */
import { createHmac, hash } from "node:crypto";
import { canonicalBytes } from "../values/canonical.js";

const BLOCK_BYTES = 64;
const HASH_BYTES = 32;
/** Larger inputs are not copied behind the pad. */
const COPIED_BYTES_MAX = 4_096;
const NO_INPUT = new Uint8Array(0);

/** Digests inputs under one salt. */
export class InputDigest {
  private readonly inner = Buffer.alloc(BLOCK_BYTES + COPIED_BYTES_MAX, 0x36);
  private readonly outer = Buffer.alloc(BLOCK_BYTES + HASH_BYTES, 0x5c);

  constructor(private readonly salt: Uint8Array) {
    const key = salt.length > BLOCK_BYTES ? hash("sha256", salt, "buffer") : salt;
    for (const [index, byte] of key.entries()) {
      this.inner[index] = 0x36 ^ byte;
      this.outer[index] = 0x5c ^ byte;
    }
  }

  /** Returns the digest, 32 bytes; empty: there is no input. @throws ValueError if the input cannot be digested */
  of(input: unknown): Uint8Array {
    if (input === undefined) return NO_INPUT;
    const bytes = canonicalBytes(input);
    if (bytes.length > COPIED_BYTES_MAX) return createHmac("sha256", this.salt).update(bytes).digest();
    this.inner.set(bytes, BLOCK_BYTES);
    hash("sha256", this.inner.subarray(0, BLOCK_BYTES + bytes.length), "buffer").copy(this.outer, BLOCK_BYTES);
    return hash("sha256", this.outer, "buffer");
  }
}
