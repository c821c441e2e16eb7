/**
 * `make budget`: prints one line of JSON that says whether children that spend one budget in parallel ever reserved more
 * than it held, or asked a model for more. Exit code 0 if they never did, 1 if they did, 64 for wrong arguments.
 */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { Processes } from "#sdk/harness/processes.js";
import { type Measured, measure } from "./measure.js";

/** As many as a session may wait for. */
const CHILDREN_MAX = 64;
const ROUNDS_DEFAULT = 3;

interface Options {
  children: number;
  rounds: number;
}

function optionsOf(): Options {
  const text = { type: "string" as const };
  const { values } = parseArgs({ options: { children: text, rounds: text } });
  const [children, rounds] = [Number(values.children ?? CHILDREN_MAX), Number(values.rounds ?? ROUNDS_DEFAULT)];
  if (!Number.isInteger(children) || children < 6 || children > CHILDREN_MAX) {
    throw new TypeError(`--children needs a whole number from 6 to ${CHILDREN_MAX}`);
  }
  if (!Number.isInteger(rounds) || rounds < 1) throw new TypeError("--rounds needs a whole number from 1");
  return { children, rounds };
}

function figuresOf(children: number, runs: readonly Measured[]) {
  const sum = (of: (run: Measured) => number): number => runs.reduce((total, run) => total + of(run), 0);
  const most = (of: (run: Measured) => number): number => Math.max(...runs.map(of));
  return {
    children,
    rounds: runs.length,
    engine_kills: sum((run) => run.engineKills),
    worker_kills: sum((run) => run.workerKills),
    completed: sum((run) => run.completed),
    reservations: sum((run) => run.account.reservations),
    overshoot_reservations: most((run) => run.overshootReservations),
    requests: sum((run) => run.requests),
    overshoot_requests: most((run) => run.overshootRequests),
    unreserved_requests: sum((run) => run.unreservedRequests),
    charged_beyond_spent: runs.filter((run) => run.chargedNanos > run.spentNanos).length,
    sums_that_differ: runs.filter((run) => run.account.spentNanos !== run.spentNanos).length,
    looks: sum((run) => run.looks),
  };
}

async function main(): Promise<number> {
  const { children, rounds } = optionsOf();
  const program = process.env.CELLAFLOW_BIN ?? "";
  if (!existsSync(program)) throw new TypeError("CELLAFLOW_BIN names no engine: run `make budget`");
  const folder = mkdtempSync(join(tmpdir(), "cellaflow-budget-"));
  const processes = new Processes();
  try {
    const runs: Measured[] = [];
    // The first one is undisturbed.
    for (let round = 0; round < rounds; round++) {
      runs.push(await measure({ children, kills: round > 0, program, folder: join(folder, String(round)) }, processes));
    }
    const budget = figuresOf(children, runs);
    process.stdout.write(`${JSON.stringify({ budget })}\n`);
    const held =
      budget.overshoot_reservations + budget.overshoot_requests + budget.unreserved_requests === 0 &&
      budget.charged_beyond_spent + budget.sums_that_differ === 0;
    return held && budget.completed === children * rounds ? 0 : 1;
  } finally {
    await processes.end();
    rmSync(folder, { recursive: true, force: true });
  }
}

process.exitCode = await main().catch((error: unknown) => {
  console.error(error instanceof TypeError ? error.message : error);
  return error instanceof TypeError ? 64 : 1;
});
