/**
 * `make flatness`: prints one line of JSON that says whether steps get slower with the length of a session, or with the
 * number of its continuations. Exit code 0 if they do not, 1 if they do, 64 for wrong arguments.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Processes } from "#sdk/harness/processes.js";
import type { Lap } from "./agents.js";
import { fastest, RATIO_MAX, rounded, slopeOf } from "./figures.js";
import { type Measured, measure } from "./measure.js";

interface Options {
  turns: number;
  kills: number;
  continuations: number;
  rounds: number;
}

const DEFAULTS: Options = { turns: 200, kills: 10, continuations: 1_000, rounds: 5 };

function optionsOf(): Options {
  const names = Object.keys(DEFAULTS) as (keyof Options)[];
  const { values } = parseArgs({
    options: Object.fromEntries(names.map((name) => [name, { type: "string" as const }])),
  });
  const given = names.map((name) => [name, Number(values[name] ?? DEFAULTS[name])] as const);
  for (const [name, value] of given) {
    if (!Number.isSafeInteger(value) || value < 1) throw new TypeError(`--${name} must be a whole number from 1`);
  }
  return Object.fromEntries(given) as unknown as Options;
}

function figuresOf(runs: readonly Measured[], { turns, continuations }: Options) {
  const turnsOf = runs.map((run) => run.turns);
  const wall = (lap: Lap): number => lap.wallMs;
  const perTurn = slopeOf(fastest(turnsOf), turns);
  const wholeTurn = slopeOf(fastest(turnsOf, wall), turns, wall);
  const perRound = slopeOf(fastest(runs.map((run) => run.rounds)), continuations + 1);
  return {
    turns,
    kills: Math.min(...runs.map((run) => run.kills)),
    turn_ms_p50_first: rounded(perTurn.first),
    turn_ms_p50_last: rounded(perTurn.last),
    ratio_turns: rounded(perTurn.ratio),
    turn_with_model_ms_p50_first: rounded(wholeTurn.first),
    turn_with_model_ms_p50_last: rounded(wholeTurn.last),
    continuations,
    step_ms_p50_first: rounded(perRound.first),
    step_ms_p50_last: rounded(perRound.last),
    ratio_continuations: rounded(perRound.ratio),
    redundant_llm_requests: runs.reduce((sum, run) => sum + run.redundantLlmRequests, 0),
  };
}

async function main(): Promise<number> {
  const options = optionsOf();
  const program = process.env.CELLAFLOW_BIN;
  if (program === undefined) throw new TypeError("CELLAFLOW_BIN names no engine: run `make flatness`");
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-flatness-"));
  const processes = new Processes();
  try {
    const runs: Measured[] = [];
    for (let round = 1; round <= options.rounds; round++) {
      runs.push(await measure({ ...options, program, folder: join(folder, String(round)) }, processes));
    }
    const flatness = figuresOf(runs, options);
    process.stdout.write(`${JSON.stringify({ flatness })}\n`);
    const flat = Math.max(flatness.ratio_turns, flatness.ratio_continuations) <= RATIO_MAX;
    return flat && flatness.redundant_llm_requests === 0 ? 0 : 1;
  } finally {
    await processes.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof TypeError ? error.message : error);
  return error instanceof TypeError ? 64 : 1;
});
