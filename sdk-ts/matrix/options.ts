/** The kill matrix's command line. */
import { parseArgs } from "node:util";
import { HITS, type Hit } from "./points.js";

/** What was asked for. */
export interface Options {
  help: boolean;
  json: boolean;
  keep: boolean;
  /** Only list the points, from undisturbed runs. */
  list: boolean;
  /** Only examples of these names, or of the folders of these names; empty: all. */
  example: readonly string[];
  /** Only points whose description contains one of these texts; empty: all. */
  points: readonly string[];
  /** Only these hits. */
  hits: readonly Hit[];
  /** At most so many runs with a hit, spread over all of them; 0: all. */
  sample: number;
  /** Engines side by side. */
  jobs: number;
  /** After so long a run counts as stuck, in ms. */
  timeoutMs: number;
  /** Folder of compiled examples; empty: the repository's. */
  examples: string;
}

/** Reads the command line; throws with a sentence for a person. */
export function parseOptions(args: readonly string[]): Options {
  const { values } = parseArgs({
    args: [...args],
    options: {
      help: { type: "boolean", short: "h", default: false },
      json: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      list: { type: "boolean", default: false },
      example: { type: "string", multiple: true, default: [] },
      points: { type: "string", multiple: true, default: [] },
      hit: { type: "string", multiple: true, default: [] },
      sample: { type: "string", default: "0" },
      jobs: { type: "string", default: "4" },
      "timeout-s": { type: "string", default: "40" },
      examples: { type: "string", default: "" },
    },
  });
  const { hit, sample, jobs, "timeout-s": timeout, ...rest } = values;
  return {
    ...rest,
    hits: hit.length === 0 ? HITS : hit.map(hitOf),
    sample: whole("sample", sample, 0, 1_000_000),
    jobs: whole("jobs", jobs, 1, 16),
    timeoutMs: whole("timeout-s", timeout, 1, 3_600) * 1_000,
  };
}

function hitOf(text: string): Hit {
  const found = HITS.find((one) => one === text);
  if (found === undefined) throw new Error(`--hit needs one of ${HITS.join(", ")}, got "${text}"`);
  return found;
}

function whole(name: string, text: string, min: number, max: number): number {
  const number = Number(text);
  if (Number.isInteger(number) && number >= min && number <= max) return number;
  throw new Error(`--${name} needs a whole number from ${min} to ${max}, got "${text}"`);
}
