/** The demo's command line. */
import { parseArgs } from "node:util";

/** What was asked for. */
export interface Options {
  json: boolean;
  quick: boolean;
  keep: boolean;
  help: boolean;
  /** Engines side by side; each run has one of them for itself. */
  lanes: number;
}

/** Reads the command line; throws with a sentence for a person. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      json: { type: "boolean", default: false },
      quick: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      help: { type: "boolean", short: "h", default: false },
      lanes: { type: "string", default: "3" },
    },
  });
  const lanes = Number(values.lanes);
  if (!Number.isInteger(lanes) || lanes < 1 || lanes > 16) {
    throw new Error(`--lanes needs a whole number from 1 to 16, got "${values.lanes}"`);
  }
  return { ...values, lanes };
}
