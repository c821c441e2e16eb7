/**
 * Whether a request is the one that the ledger recorded under its key, and how to show it when it is not.
 *
 * Owns: the comparison and its words. Never: acts on it.
 */
import type { PayloadCodec } from "../values/hooks.js";
import type { KeyRecord } from "./history.js";
import type { RequestSpec } from "./request.js";

/** How much of a value is shown, in UTF-16 units. */
const SHOWN_CHARS_MAX = 500;

/** How many steps one repair names (the engine's limit). */
export const DROPPED_MAX = 64;

/** Both sides of a nondeterminism. */
export interface Mismatch {
  recorded: string;
  requested: string;
  /** What an operator can accept; undefined: nothing. */
  repair?: Repair;
}

/** What an operator can accept of a nondeterminism; see `sessions accept`. */
export type Repair =
  /** The recorded outcome stands for the input that has this digest (hexadecimal; empty: no input). */
  | { inputDigest: string }
  /** These steps need not be asked for. */
  | { drop: readonly string[] };

/** Compares; undefined: they are the same. */
export function mismatchOf(record: KeyRecord, spec: RequestSpec, codec: PayloadCodec): Mismatch | undefined {
  const { key, kind, digest, input } = spec;
  if (record.dropped) {
    const left = `the outcome of "${key}" left aside by "sessions accept --drop"`;
    return { recorded: left, requested: "it after all" };
  }
  // A spawn that was refused is recorded as a failed step.
  const refusedSpawn = kind === "child" && record.outcome?.body.case === "stepFailed";
  if (record.kind !== "any" && record.kind !== kind && !refusedSpawn) {
    return { recorded: `a ${record.kind} under the key "${key}"`, requested: `a ${kind} under the same key` };
  }
  if (record.digest === undefined || Buffer.compare(record.digest, digest) === 0) return undefined;
  return {
    recorded: `${kind} "${key}" with ${describeDigest(record.digest)}${describeRecordedInput(record, codec)}`,
    requested: `it with ${describeDigest(digest)}: ${describeValue(input)}`,
    repair: { inputDigest: Buffer.from(digest).toString("hex") },
  };
}

function describeDigest(digest: Uint8Array): string {
  return digest.length === 0 ? "no input" : `the input digest ${Buffer.from(digest).toString("hex").slice(0, 12)}`;
}

function describeRecordedInput(record: KeyRecord, codec: PayloadCodec): string {
  const body = record.outcome?.body;
  if (body?.case !== "stepCompleted" || body.value.input?.body.case !== "data") return "";
  try {
    return `: ${describeValue(codec.decode(body.value.input.body.value))}`;
  } catch {
    return "";
  }
}

function describeValue(value: unknown): string {
  try {
    const plain = (_key: string, part: unknown): unknown => (typeof part === "bigint" ? `${part}n` : part);
    const text = JSON.stringify(value, plain) ?? "undefined";
    return text.length > SHOWN_CHARS_MAX ? `${text.slice(0, SHOWN_CHARS_MAX - 1)}…` : text;
  } catch {
    return "a value that cannot be shown";
  }
}
