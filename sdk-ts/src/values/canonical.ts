/**
 * One encoding per value, for the digest of a step's input: the digest says whether the same was asked again.
 *
 * Owns: the canonical format. Never: decodes it; nothing but its digest is stored.
 *
 * Two values have the same canonical bytes exactly when they are the same to a careful reader:
 * - the order in which an object got its keys does not matter; a Map's and a Set's insertion order does
 * - a property that is undefined counts as missing, as it does everywhere in JavaScript; undefined in an array or at
 *   the top differs from null; a hole in an array counts as undefined
 * - 1, "1", 1n, true, NaN, 0 and -0 all differ; a Date differs from its text; bytes differ from an array of numbers
 * - a Buffer equals a Uint8Array, a null-prototype object equals a plain one
 * - a part that occurs twice is written twice: sharing does not matter. Cycles are refused with their path
 *
 * Layout: a version byte, then per value a tag byte and its content; counts and lengths are 4 bytes big-endian.
 *
 * Invariants:
 * - D1 the bytes depend on the value alone: not on key order, sharing, or how it was built.
 * - D2 no two different values share bytes: every variable part carries its length.
 * - D3 what `encodable.ts` refuses is refused here too, with the same path.
 */
import { hash } from "node:crypto";
import { checkDepth, checkKey, kindOf, type PathPart, refuse, refusePrimitive } from "./encodable.js";

/** The largest canonical form, in bytes; sharing could otherwise blow a small value up without bound. */
export const CANONICAL_BYTES_MAX = 64 * 1024 * 1024;

const VERSION = 0x01;

/** Returns the canonical bytes of a value. */
export function canonicalBytes(value: unknown): Uint8Array {
  return new CanonicalWriter().write(value);
}

/** Returns the SHA-256 digest of the canonical bytes, 32 bytes. */
export function canonicalDigest(value: unknown): Uint8Array {
  return hash("sha256", canonicalBytes(value), "buffer");
}

const TAG = {
  undefined: 0x75, // u
  null: 0x6e, // n
  true: 0x74, // t
  false: 0x66, // f
  number: 0x64, // d
  bigint: 0x69, // i
  string: 0x73, // s
  illFormedString: 0x77, // w
  array: 0x61, // a
  object: 0x6f, // o
  map: 0x4d, // M
  set: 0x53, // S
  date: 0x44, // D
  url: 0x55, // U
  urlSearchParams: 0x51, // Q
  regexp: 0x52, // R
  bytes: 0x62, // b
  view: 0x76, // v
  arrayBuffer: 0x42, // B
  temporal: 0x54, // T
} as const;

class CanonicalWriter {
  // From the pool: most inputs are small, and what is returned is digested at once.
  private buffer = Buffer.allocUnsafe(512);
  private length = 0;
  private readonly path: PathPart[] = [];
  private readonly open = new Set<object>();

  write(value: unknown): Uint8Array {
    this.byte(VERSION);
    this.value(value);
    return this.buffer.subarray(0, this.length);
  }

  private value(value: unknown): void {
    switch (typeof value) {
      case "undefined":
        return this.byte(TAG.undefined);
      case "boolean":
        return this.byte(value ? TAG.true : TAG.false);
      case "number":
        this.byte(TAG.number);
        return this.double(value);
      case "bigint":
        this.byte(TAG.bigint);
        return this.text(value.toString());
      case "string":
        return this.string(value);
      case "object":
        return value === null ? this.byte(TAG.null) : this.object(value);
      default:
        return refusePrimitive(value, this.path);
    }
  }

  private object(value: object): void {
    if (this.open.has(value)) {
      throw refuse(this.path, "part of a cycle, which has no digest", "break the cycle, e.g. by passing ids instead");
    }
    checkDepth(this.path);
    this.open.add(value);
    this.content(value);
    this.open.delete(value);
  }

  private content(value: object): void {
    const kind = kindOf(value, this.path);
    switch (kind) {
      case "array":
        return this.items(value as unknown[]);
      case "object":
        return this.properties(value as Record<string, unknown>);
      case "map":
        return this.entries(value as Map<unknown, unknown>);
      case "set":
        return this.members(value as Set<unknown>);
      case "date":
        this.byte(TAG.date);
        return this.double((value as Date).getTime());
      case "url":
        return this.tagged(TAG.url, (value as URL).href);
      case "url_search_params":
        return this.tagged(TAG.urlSearchParams, String(value));
      case "regexp":
        this.tagged(TAG.regexp, (value as RegExp).source);
        return this.text((value as RegExp).flags);
      case "temporal":
        this.tagged(TAG.temporal, Object.prototype.toString.call(value).slice(8, -1));
        return this.text(String(value));
      case "array_buffer":
        this.byte(TAG.arrayBuffer);
        return this.bytes(new Uint8Array(value as ArrayBuffer));
      case "view":
        return this.view(value as ArrayBufferView);
    }
  }

  private items(items: readonly unknown[]): void {
    this.byte(TAG.array);
    this.count(items.length);
    for (let index = 0; index < items.length; index++) this.at(index, items[index]);
  }

  private properties(value: Record<string, unknown>): void {
    const keys: string[] = [];
    for (const key of Object.keys(value)) {
      if (key === "__proto__") checkKey(key, [...this.path, key]);
      if (value[key] !== undefined) keys.push(key);
    }
    keys.sort();
    this.byte(TAG.object);
    this.count(keys.length);
    for (const key of keys) {
      this.string(key);
      this.at(key, value[key]);
    }
  }

  private entries(map: Map<unknown, unknown>): void {
    this.byte(TAG.map);
    this.count(map.size);
    for (const [key, value] of map) {
      this.at({ mapKey: key }, key);
      this.at({ mapKey: key }, value);
    }
  }

  private members(set: Set<unknown>): void {
    this.byte(TAG.set);
    this.count(set.size);
    let setIndex = 0;
    for (const member of set) this.at({ setIndex: setIndex++ }, member);
  }

  private view(view: ArrayBufferView): void {
    if (view instanceof Uint8Array) {
      this.byte(TAG.bytes);
    } else {
      this.tagged(TAG.view, Object.prototype.toString.call(view).slice(8, -1));
    }
    this.bytes(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  }

  private at(part: PathPart, value: unknown): void {
    this.path.push(part);
    this.value(value);
    this.path.pop();
  }

  private string(value: string): void {
    if (value.isWellFormed()) return this.tagged(TAG.string, value);
    // UTF-8 has no lone surrogates: it would make one replacement character of them all.
    this.byte(TAG.illFormedString);
    this.bytes(Buffer.from(value, "utf16le"));
  }

  private tagged(tag: number, text: string): void {
    this.byte(tag);
    this.text(text);
  }

  private text(text: string): void {
    this.reserve(4 + text.length * 3);
    const written = this.buffer.write(text, this.length + 4, "utf8");
    this.buffer.writeUInt32BE(written, this.length);
    this.length += 4 + written;
  }

  private bytes(bytes: Uint8Array): void {
    this.count(bytes.length);
    this.reserve(bytes.length);
    this.buffer.set(bytes, this.length);
    this.length += bytes.length;
  }

  private byte(byte: number): void {
    this.reserve(1);
    this.buffer[this.length++] = byte;
  }

  private count(count: number): void {
    this.reserve(4);
    this.length = this.buffer.writeUInt32BE(count, this.length);
  }

  private double(value: number): void {
    this.reserve(8);
    // One NaN of the many bit patterns.
    if (Number.isNaN(value)) this.length = this.buffer.writeBigUInt64BE(0x7ff8000000000000n, this.length);
    else this.length = this.buffer.writeDoubleBE(value, this.length);
  }

  private reserve(bytes: number): void {
    const needed = this.length + bytes;
    if (needed <= this.buffer.length) return;
    if (needed > CANONICAL_BYTES_MAX) {
      throw refuse(this.path, `beyond the ${CANONICAL_BYTES_MAX} bytes an input may have`, "pass a reference instead");
    }
    const larger = Buffer.allocUnsafeSlow(Math.min(CANONICAL_BYTES_MAX, Math.max(needed, this.buffer.length * 2)));
    this.buffer.copy(larger, 0, 0, this.length);
    this.buffer = larger;
  }
}
