/**
 * Where users put redaction and encryption: around the codec, so that what leaves the process is already protected.
 *
 * Owns: the order of the hooks. Never: keeps keys.
 *
 * Order: redact → encode to bytes → `encode` hook → ledger → `decode` hook → decode to a value.
 */
import { decodeValue, encodeValue } from "./codec.js";

/** What a payload belongs to. */
export interface PayloadWhere {
  /** The role of the value. */
  kind: "input" | "output" | "state" | "message" | "failure" | "chunk" | "signal";
  /** The name of the step, zone or workflow it belongs to. */
  name: string;
}

/** Hooks of a worker or client. They are synchronous: keys are fetched before the worker starts. */
export interface PayloadHooks {
  /** Names what {@link PayloadHooks.encode} does, e.g. `aes-256-gcm/1`; stored beside each payload. Default: `custom`. */
  name?: string;
  /** Returns the value to store in place of `value`. Workflow code sees the redacted value too, live and on replay. */
  redact?(value: unknown, where: PayloadWhere): unknown;
  /** Transforms encoded bytes before they leave the process, e.g. encrypts them. */
  encode?(bytes: Uint8Array): Uint8Array;
  /** Undoes {@link PayloadHooks.encode}; must also read what earlier versions of it wrote. */
  decode?(bytes: Uint8Array): Uint8Array;
}

/** The codec with a worker's or client's hooks applied. */
export interface PayloadCodec {
  /** Name of the byte hooks; empty: there are none. */
  readonly name: string;
  encode(value: unknown, where: PayloadWhere): Uint8Array;
  decode(bytes: Uint8Array): unknown;
}

/** Composes the hooks with the codec. Empty payloads (undefined) pass by the byte hooks in both directions. */
export function payloadCodec(hooks: PayloadHooks = {}): PayloadCodec {
  return {
    name: hooks.encode === undefined ? "" : (hooks.name ?? "custom"),
    encode(value, where) {
      const kept = hooks.redact === undefined ? value : hooks.redact(value, where);
      const bytes = encodeValue(kept);
      return hooks.encode === undefined || bytes.length === 0 ? bytes : hooks.encode(bytes);
    },
    decode(bytes) {
      return decodeValue(hooks.decode === undefined || bytes.length === 0 ? bytes : hooks.decode(bytes));
    },
  };
}
