/**
 * What may be stored: one walk that both encodings share, so that they can never disagree on what they refuse.
 *
 * Kept: undefined, null, booleans, numbers (NaN, -0 and the infinities too), bigint, strings, arrays, plain objects,
 * Date, URL, URLSearchParams, RegExp, Map, Set, ArrayBuffer and its views (Buffer as Uint8Array), Temporal values.
 * Refused, with the path: functions, symbols, promises, instances of classes, boxed primitives, weak and other host
 * objects, objects with symbol keys or a key `__proto__`, nesting beyond {@link VALUE_DEPTH_MAX}.
 *
 * Invariants:
 * - V1 a refusal names the path of the value, e.g. `$.items[3].callback`, and says what to do.
 * - V2 what is refused here never reaches an encoder; what is not refused is encoded without loss.
 */
import { ValueError } from "../errors.js";

/** How deep values may nest, in levels. */
export const VALUE_DEPTH_MAX = 512;

/** How a value's parts are told apart by both encodings. */
export type Kind =
  | "array"
  | "object"
  | "map"
  | "set"
  | "date"
  | "url"
  | "url_search_params"
  | "regexp"
  | "array_buffer"
  | "view"
  | "temporal";

/** One step of the way to a part of a value. */
export type PathPart = string | number | { mapKey: unknown } | { setIndex: number };

const IDENTIFIER = /^[A-Za-z_$][A-Za-z0-9_$]*$/;

/** Shows a path, e.g. `$.items[3]["a-b"].get("key")`. */
export function formatPath(parts: readonly PathPart[]): string {
  let path = "$";
  for (const part of parts) {
    if (typeof part === "number") path += `[${part}]`;
    else if (typeof part === "string") path += IDENTIFIER.test(part) ? `.${part}` : `[${JSON.stringify(part)}]`;
    else if ("setIndex" in part) path += `.values()[${part.setIndex}]`;
    else path += `.get(${typeof part.mapKey === "string" ? JSON.stringify(part.mapKey) : typeof part.mapKey})`;
  }
  return path;
}

/** Makes the error for a part that cannot be stored. */
export function refuse(parts: readonly PathPart[], problem: string, action: string, cause?: unknown): ValueError {
  const path = formatPath(parts);
  return new ValueError("unserialisable_value", `${path} is ${problem}`, action, { data: { path }, cause });
}

const TAG_KINDS: Readonly<Record<string, Kind>> = {
  Date: "date",
  URL: "url",
  URLSearchParams: "url_search_params",
  RegExp: "regexp",
  Map: "map",
  Set: "set",
  ArrayBuffer: "array_buffer",
};

const PLAIN_DATA = "return plain data (objects, arrays, Map, Set, Date, URL, bytes) instead";

/** Says what an object is, or throws {@link ValueError} when it cannot be stored. */
export function kindOf(value: object, path: readonly PathPart[]): Kind {
  const proto: unknown = Object.getPrototypeOf(value);
  // The two common cases first; the rest of this function also serves values of another realm (vm contexts).
  if (proto === Object.prototype) return plainObject(value, path);
  if (proto === Array.prototype) return "array";
  if (proto === null) return plainObject(value, path);
  if (ArrayBuffer.isView(value)) return "view";
  const tag = Object.prototype.toString.call(value).slice(8, -1);
  if (isBuiltin(proto, tag)) {
    const kind = TAG_KINDS[tag];
    if (kind !== undefined) return kind;
    if (tag === "Array") return "array";
    if (tag === "Object") return plainObject(value, path);
  }
  if (tag.startsWith("Temporal.")) return "temporal";
  if (typeof (value as { then?: unknown }).then === "function") {
    throw refuse(path, "a promise", "await it first");
  }
  throw refuse(path, `an instance of ${classOf(proto)}, whose methods would be lost`, PLAIN_DATA);
}

function isBuiltin(proto: unknown, tag: string): boolean {
  return classOf(proto) === tag && Object.hasOwn(proto as object, "constructor");
}

function classOf(proto: unknown): string {
  const made: unknown = (proto as { constructor?: unknown } | null)?.constructor;
  return typeof made === "function" && made.name !== "" ? made.name : "an unnamed class";
}

function plainObject(value: object, path: readonly PathPart[]): Kind {
  for (const symbol of Object.getOwnPropertySymbols(value)) {
    if (Object.prototype.propertyIsEnumerable.call(value, symbol)) {
      throw refuse(path, `an object with the symbol key ${String(symbol)}`, "use string keys");
    }
  }
  const then = (value as { then?: unknown }).then;
  if (typeof then === "function") throw refuse(path, "a promise", "await it first");
  return "object";
}

/** Throws {@link ValueError} for the types of primitives that cannot be stored. */
export function refusePrimitive(value: unknown, path: readonly PathPart[]): void {
  if (typeof value === "function") throw refuse(path, "a function, which cannot be stored", PLAIN_DATA);
  if (typeof value === "symbol") throw refuse(path, "a symbol, which cannot be stored", "use a string instead");
}

/** Throws {@link ValueError} when a key cannot be stored or the value nests too deeply. */
export function checkDepth(path: readonly PathPart[]): void {
  if (path.length > VALUE_DEPTH_MAX) {
    throw refuse(path.slice(0, 8), `nested deeper than ${VALUE_DEPTH_MAX} levels`, "flatten it");
  }
}

/** Throws {@link ValueError} for a key that would change an object's prototype when it is read back carelessly. */
export function checkKey(key: string, path: readonly PathPart[]): void {
  if (key === "__proto__") throw refuse(path, "an object with a key __proto__", "rename or drop that key");
}

/**
 * Walks a value; throws {@link ValueError} for the first part that cannot be stored.
 *
 * @returns whether the value is plain JSON: JSON.stringify and JSON.parse would give it back exactly, identity of
 * its parts included
 */
export function checkEncodable(value: unknown): boolean {
  return new Walk().visit(value);
}

/** Says whether a value can be stored. Never throws. */
export function tryEncodable(value: unknown): boolean {
  try {
    checkEncodable(value);
    return true;
  } catch {
    return false;
  }
}

class Walk {
  private readonly path: PathPart[] = [];
  private readonly seen = new Set<object>();

  visit(value: unknown): boolean {
    switch (typeof value) {
      case "string":
      case "boolean":
        return true;
      case "number":
        return Number.isFinite(value) && !Object.is(value, -0);
      case "undefined":
      case "bigint":
        return false;
      case "object":
        return value === null || this.visitObject(value);
      default:
        refusePrimitive(value, this.path);
        return false;
    }
  }

  private visitObject(value: object): boolean {
    // Seen twice: shared or cyclic, which JSON would not give back.
    if (this.seen.has(value)) return false;
    this.seen.add(value);
    checkDepth(this.path);
    const kind = kindOf(value, this.path);
    if (kind === "object") return this.visitProperties(value);
    if (kind === "array") return this.visitItems(value as unknown[]);
    if (kind === "map") this.visitEntries(value as Map<unknown, unknown>);
    else if (kind === "set") this.visitMembers(value as Set<unknown>);
    return false;
  }

  private visitProperties(value: object): boolean {
    let plain = Object.getPrototypeOf(value) !== null;
    for (const key of Object.keys(value)) {
      this.path.push(key);
      checkKey(key, this.path);
      if (!this.visit((value as Record<string, unknown>)[key])) plain = false;
      this.path.pop();
    }
    return plain;
  }

  private visitItems(items: readonly unknown[]): boolean {
    let plain = true;
    // A sparse array is walked by what it holds: its length may be four billion.
    if (items.length > 1_024 && Object.keys(items).length < items.length / 2) {
      for (const index of Object.keys(items)) this.visitItem(items, Number(index));
      return false;
    }
    for (let index = 0; index < items.length; index++) {
      if (!this.visitItem(items, index)) plain = false;
    }
    return plain;
  }

  private visitItem(items: readonly unknown[], index: number): boolean {
    if (Number.isNaN(index)) return false;
    this.path.push(index);
    const plain = this.visit(items[index]);
    this.path.pop();
    return plain;
  }

  private visitEntries(map: Map<unknown, unknown>): void {
    for (const [key, value] of map) {
      this.path.push({ mapKey: key });
      this.visit(key);
      this.visit(value);
      this.path.pop();
    }
  }

  private visitMembers(set: Set<unknown>): void {
    let setIndex = 0;
    for (const member of set) {
      this.path.push({ setIndex: setIndex++ });
      this.visit(member);
      this.path.pop();
    }
  }
}
