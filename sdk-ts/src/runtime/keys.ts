/**
 * Step keys: how a request is matched with what the ledger recorded of it.
 *
 * Owns: the grammar of keys. Never: what a key refers to.
 *
 * A key is the scope's path, then `name#occurrence` (from 1, counted per scope and name) or `name@key` where the caller
 * gave one: `clone#1`, `map#1/src%2Fa.ts/audit#1`, `send@order-17`. A scope's part of the path is its key, from its
 * second occurrence on with the number: `turn/ask#1`, `turn#2/ask#1`. The characters `% / # @` of names and keys are
 * percent-encoded, so that no two different places share a key.
 *
 * Invariants:
 * - K1 a key depends on scope, name and order of requests alone, never on source code.
 * - K2 an explicit key is used once in a run.
 */
import { CellaflowError } from "../errors.js";
import { misuse } from "../misuse.js";

/** Longest name or explicit key, in UTF-16 units. */
export const NAME_CHARS_MAX = 256;
const RESERVED = /[%/#@]/g;
const HAS_RESERVED = /[%/#@]/;

function encode(text: string): string {
  if (!HAS_RESERVED.test(text)) return text;
  return text.replace(RESERVED, (char) => `%${char.charCodeAt(0).toString(16).toUpperCase()}`);
}

/** Returns a name as it stands in keys. */
export function keyPart(what: "name" | "key", text: string): string {
  if (typeof text === "string" && text !== "" && text.length <= NAME_CHARS_MAX) return encode(text);
  const found = typeof text === "string" ? `${text.length} characters` : `a ${typeof text}`;
  throw new CellaflowError(
    "invalid_name",
    `the ${what} of a step, scope or zone has ${found}`,
    `use a text of 1 to ${NAME_CHARS_MAX} characters`,
  );
}

/** Counts the occurrences of names in the scopes of one run or zone. */
export class KeyCounter {
  private readonly counts = new Map<string, number>();
  private readonly explicit = new Set<string>();

  /** Returns the key of the next request with this name in a scope; `path` is empty or ends with a slash. */
  next(path: string, name: string, key?: string): string {
    const base = path + keyPart("name", name);
    if (key !== undefined) return this.useExplicit(`${base}@${keyPart("key", key)}`);
    const count = (this.counts.get(base) ?? 0) + 1;
    this.counts.set(base, count);
    return `${base}#${count}`;
  }

  /** Returns the path of a scope: `key/`, or `key#2/` when it is the second of that key here. */
  scope(path: string, key: string): string {
    const base = `${path}${keyPart("key", key)}`;
    const count = (this.counts.get(`${base}/`) ?? 0) + 1;
    this.counts.set(`${base}/`, count);
    // Each its own: the loser of a race may still be at work in the one before.
    return count === 1 ? `${base}/` : `${base}#${count}/`;
  }

  private useExplicit(key: string): string {
    if (this.explicit.has(key)) throw misuse.duplicateStepKey(key);
    this.explicit.add(key);
    return key;
  }
}
