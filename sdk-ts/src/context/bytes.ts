/**
 * Texts as UTF-8 bytes, cut at whole characters.
 *
 * Owns: that. Never: knows what the texts are.
 */

/** Returns the bytes from `first` (inclusive) to `end` (exclusive), without characters that are not whole. */
export function slice(bytes: Uint8Array, first: number, end: number): string {
  let from = Math.max(0, Math.min(first, bytes.length));
  let to = Math.max(from, Math.min(end, bytes.length));
  while (from < to && isWithin(bytes, from)) from += 1;
  while (to > from && isWithin(bytes, to)) to -= 1;
  return Buffer.from(bytes.buffer, bytes.byteOffset + from, to - from).toString("utf8");
}

/** Returns a text's beginning, at most `bytes` long. */
export function head(text: string, bytes: number): string {
  return slice(Buffer.from(text), 0, bytes);
}

/** Returns a text's end, at most `bytes` long. */
export function tail(text: string, bytes: number): string {
  const all = Buffer.from(text);
  return slice(all, all.length - bytes, all.length);
}

/** True where a character does not begin: its first byte comes before. */
function isWithin(bytes: Uint8Array, at: number): boolean {
  return at < bytes.length && ((bytes[at] ?? 0) & 0xc0) === 0x80;
}
