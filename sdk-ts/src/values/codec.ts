/**
 * How values become bytes and come back: workflow code always sees decode(encode(value)), live and on replay.
 *
 * Owns: the stored format of values. Never: limits sizes, compresses, encrypts (see hooks).
 *
 * The first byte says the format; formats are stored, so each byte is assigned once:
 * - 0x01 the text of the `devalue` library, which keeps what JSON loses
 * - 0x02 raw bytes: the value is one Uint8Array
 * - anything else: JSON text as it stands, which never begins with a control byte; so a thin client in any language
 *   writes and reads plain values without this codec
 * - no byte at all: undefined
 *
 * Invariants:
 * - C1 decode(encode(value)) equals value for everything `encodable.ts` keeps; the rest is refused with its path.
 * - C2 equal plain JSON values with keys in the same order have equal bytes. (For digests see `canonical.ts`.)
 * - C3 bytes this version cannot read are an error, never a guess.
 */
import { parse, stringify } from "devalue";
import { ValueError } from "../errors.js";
import { checkEncodable, refuse } from "./encodable.js";

const DEVALUE = 0x01;
const RAW_BYTES = 0x02;
const FIRST_TEXT_BYTE = 0x20;
/** From here on a Buffer never takes its memory from the pool that small ones share: bytes of others stay out of reach. */
const LONG_TEXT_CHARS = 8_192;

const encoder = new TextEncoder();
const decoder = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/**
 * Encodes a value as it is stored.
 *
 * @throws ValueError `unserialisable_value` with the path of the first part that cannot be kept
 */
export function encodeValue(value: unknown): Uint8Array {
  if (value === undefined) return new Uint8Array(0);
  if (value instanceof Uint8Array) return prefixed(RAW_BYTES, value);
  if (checkEncodable(value)) return encodeText(JSON.stringify(value));
  return prefixed(DEVALUE, encodeText(devalueText(value)));
}

/**
 * Decodes what {@link encodeValue} or a thin client's JSON writer made.
 *
 * @throws ValueError `undecodable_value` when the bytes are damaged or of a later format
 */
export function decodeValue(bytes: Uint8Array): unknown {
  const format = bytes[0];
  if (format === undefined) return undefined;
  // A copy: the bytes usually are a window into a network buffer that would be kept alive.
  if (format === RAW_BYTES) return Uint8Array.from(bytes.subarray(1));
  try {
    if (format === DEVALUE) return parse(decoder.decode(bytes.subarray(1)));
    if (isJsonText(bytes)) return JSON.parse(decoder.decode(bytes)) as unknown;
  } catch (cause) {
    throw undecodable(`${bytes.length} stored bytes are damaged`, cause);
  }
  throw undecodable(`stored bytes have the unknown format ${format}`);
}

/** Says whether encoded bytes are plain JSON text, which clients without this codec can read. */
export function isJsonText(bytes: Uint8Array): boolean {
  return (bytes[0] ?? 0) >= FIRST_TEXT_BYTE;
}

/** Both give the same bytes; a buffer of its own size is made in half the time where the text is long. */
function encodeText(text: string): Uint8Array {
  if (text.length < LONG_TEXT_CHARS) return encoder.encode(text);
  const { buffer, byteOffset, byteLength } = Buffer.from(text);
  return new Uint8Array(buffer, byteOffset, byteLength);
}

function undecodable(problem: string, cause?: unknown): ValueError {
  return new ValueError("undecodable_value", problem, "update @cellaflow/sdk, or check the payload hooks' keys", {
    cause,
  });
}

function devalueText(value: unknown): string {
  try {
    return stringify(value, undefined, { operations: { viewInfo } });
  } catch (cause) {
    // Everything known to be refused was refused before; what is left are getters and proxies that throw.
    throw refuse([], "a value that cannot be read in full", "return plain data instead", cause);
  }
}

// The library stores the whole buffer behind a view; bytes that the view does not show are not the value's.
function viewInfo(view: ArrayBufferView & { length: number }) {
  const whole = view.byteOffset === 0 && view.byteLength === view.buffer.byteLength && !Buffer.isBuffer(view);
  const buffer = whole ? view.buffer : copyOf(view);
  return { buffer, byteOffset: 0, byteLength: view.byteLength, length: view.length, bufferByteLength: view.byteLength };
}

function copyOf(view: ArrayBufferView): ArrayBuffer {
  const copy = new Uint8Array(view.byteLength);
  copy.set(new Uint8Array(view.buffer, view.byteOffset, view.byteLength));
  return copy.buffer;
}

function prefixed(format: number, bytes: Uint8Array): Uint8Array {
  const out = new Uint8Array(bytes.length + 1);
  out[0] = format;
  out.set(bytes, 1);
  return out;
}
