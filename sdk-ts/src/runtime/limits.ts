/**
 * Errors for what is larger than the engine takes.
 *
 * Owns: their texts. Never: measures.
 */
import { CellaflowError } from "../errors.js";

/** Returns the error for an output that is too large; undefined: it is not. */
export function tooLarge(bytes: number, max: number, name: string): CellaflowError | undefined {
  if (bytes <= max) return undefined;
  return new CellaflowError(
    "payload_too_large",
    `the output of "${name}" has ${bytes} bytes, more than the ${max} that the engine takes (payload_bytes_max)`,
    "store it elsewhere and return where it is",
  );
}
