/**
 * Payload texts: random, so that nobody can deduplicate them, and hardly compressible.
 *
 * 64 letters carry 6 bits each: an entropy coder can take out a quarter at most, a dictionary coder (LZ4, Snappy, pglz)
 * nothing. Text, because JSON is what the contenders' SDKs store by default. The texts are cut out of one pool, because
 * making random bytes anew would cost more than a good part of what is measured; they come round after 16 MB.
 */
import { randomBytes } from "node:crypto";

const POOL_CHARS = 16 * 1_024 * 1_024;
/** Between two texts in the pool: so that the next round cuts others. */
const GAP_CHARS = 1_009;

let pool = "";
let next = 0;

/** A random text of so many bytes. */
export function text(bytes: number): string {
  if (pool === "") pool = randomBytes((POOL_CHARS * 3) / 4).toString("base64url");
  if (next + bytes > pool.length) next %= GAP_CHARS;
  const from = next;
  next += bytes + GAP_CHARS;
  return pool.slice(from, from + bytes);
}
