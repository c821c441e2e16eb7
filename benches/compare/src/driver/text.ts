/**
 * Payload texts: random, so that nobody can deduplicate them, and hardly compressible.
 *
 * 64 letters carry 6 bits each: an entropy coder can take out a quarter at most, a dictionary coder (LZ4, Snappy, pglz)
 * nothing. Text, because JSON is what the contenders' SDKs store by default.
 */
import { randomBytes } from "node:crypto";

/** A new random text of so many bytes. */
export function text(bytes: number): string {
  return randomBytes(Math.ceil((bytes * 3) / 4))
    .toString("base64url")
    .slice(0, bytes);
}
