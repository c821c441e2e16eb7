/**
 * `make bench`: measures every contender that is installed, one at a time, and writes summary and report.
 *
 * Exit code 0 when all rows were measured or said why not, 1 otherwise, 64 for wrong arguments.
 */
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { cellaflow } from "./contender/cellaflow.js";
import type { Contender } from "./contender/contender.js";
import { dbos } from "./contender/dbos.js";
import { restate } from "./contender/restate.js";
import { temporal } from "./contender/temporal.js";
import { core, floor } from "./floor.js";
import { type Growth, growth } from "./growth.js";
import { machine } from "./machine.js";
import { isDisk } from "./measure/disk.js";
import { medians } from "./measure/figures.js";
import { keysOf } from "./report/keys.js";
import type { Outcome, Summary } from "./report/summary.js";
import { quick, ROWS, type Row, smoke } from "./rows.js";
import { type Figures, folderOf, measure } from "./run.js";

const CONTENDERS: readonly Contender[] = [cellaflow, restate, dbos, temporal];

const OPTIONS = {
  mode: { type: "string", default: "full" },
  rows: { type: "string" },
  contenders: { type: "string" },
  folder: { type: "string" },
  out: { type: "string", default: "target/bench" },
  keep: { type: "boolean", default: false },
} as const;

interface Plan {
  rows: readonly Row[];
  contenders: readonly Contender[];
  folder: string;
  out: string;
  keep: boolean;
  growth: boolean;
  mode: string;
}

function planOf(): Plan {
  const { values } = parseArgs({ options: OPTIONS });
  const wanted = (list: string | undefined, name: string): boolean =>
    list === undefined || list.split(",").includes(name);
  if (!["full", "quick", "smoke"].includes(values.mode)) throw new TypeError("--mode must be full, quick or smoke");
  const rows = ROWS.map((row) => (values.mode === "smoke" ? smoke(row) : values.mode === "quick" ? quick(row) : row));
  const only = values.contenders ?? (values.mode === "quick" ? cellaflow.name : undefined);
  const folder = mkdtempSync(join(values.folder ?? tmpdir(), "cellaflow-bench-"));
  chmodSync(folder, 0o755); // a server that refuses root runs as somebody else
  if (!isDisk(folder))
    throw new TypeError(`${folder} is in memory: a sync costs nothing there; name a disk with --folder`);
  return {
    rows: rows.filter((row) => row !== undefined).filter(({ id }) => wanted(values.rows, id)),
    contenders: CONTENDERS.filter(({ name }) => wanted(only, name)),
    folder,
    out: values.out,
    keep: values.keep,
    growth: values.mode !== "quick" && wanted(values.rows, "growth"),
    mode: values.mode,
  };
}

const say = (line: string): void => void process.stderr.write(`bench: ${line}\n`);

/** Measures a row: each repetition all contenders in turn, each time another one first; idle ones side by side. */
async function measureRow(row: Row, plan: Plan): Promise<Partial<Record<string, Outcome>>> {
  const { contenders } = plan;
  const outcomes = new Map(contenders.map(({ name }) => [name, new Repetitions()]));
  for (let repetition = 0; repetition < row.repetitions; repetition++) {
    const once = async (contender: Contender): Promise<void> =>
      outcomes.get(contender.name)?.add(contender, row, repetition, plan);
    const first = repetition % contenders.length;
    if (row.way === "idle") await Promise.all(contenders.map(once));
    else for (const contender of [...contenders.slice(first), ...contenders.slice(0, first)]) await once(contender);
  }
  return Object.fromEntries([...outcomes].map(([name, taken]) => [name, taken.outcome]));
}

/** What came of a contender in a row so far. */
class Repetitions {
  private readonly taken: Figures[] = [];
  private without: string | undefined;

  get outcome(): Outcome {
    const { taken, without } = this;
    return { medians: medians(taken), repetitions: taken, ...(without === undefined ? {} : { without }) };
  }

  /** Measures once more, unless it has failed before. */
  async add(contender: Contender, row: Row, repetition: number, plan: Plan): Promise<void> {
    const { name, repetitionsMax = row.repetitions } = contender;
    this.without ??= contender.absent() ?? row.without?.[name];
    if (this.without !== undefined || repetition >= repetitionsMax) return;
    try {
      const folder = folderOf(plan.folder, row, contender, repetition);
      const figures = await measure(contender, row, { folder, keep: plan.keep });
      this.taken.push(figures);
      say(`${row.id} ${name} ${repetition + 1}/${row.repetitions} ${JSON.stringify(medians([figures]))}`);
    } catch (error) {
      this.without = shortened(error);
      say(`${row.id} ${name} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
    }
  }
}

/** How our own cost grows: 10² to 10⁵ of each. */
async function growthOf({ mode, folder, contenders, growth: wanted }: Plan): Promise<{ growth?: Growth }> {
  if (!wanted || cellaflow.absent() !== undefined || !contenders.includes(cellaflow)) return {};
  return {
    growth: await growth(folder, mode === "full" ? [100, 1_000, 10_000, 100_000] : [10, 20], say),
  };
}

function shortened(error: unknown): string {
  const text = error instanceof Error ? error.message : String(error);
  return text.replaceAll(/\s+/g, " ").slice(0, 300);
}

async function main(): Promise<void> {
  const plan = planOf();
  try {
    const summary = begun(plan);
    // After each row: what was measured is kept if a later one ends the run.
    const keep = (): void => {
      mkdirSync(plan.out, { recursive: true });
      writeFileSync(join(plan.out, "summary.json"), `${JSON.stringify(summary, undefined, 2)}\n`);
    };
    Object.assign(summary, floor(plan.folder, plan.mode, say), core(plan.folder, plan.mode, say));
    for (const row of plan.rows) {
      const { id, title, way, repetitions } = row;
      summary.rows.push({ id, title, way, repetitions, outcomes: await measureRow(row, plan) });
      keep();
    }
    Object.assign(summary, await growthOf(plan));
    keep();
    process.stdout.write(`${JSON.stringify({ bench: keysOf(summary) })}\n`);
  } finally {
    if (!plan.keep) rmSync(plan.folder, { recursive: true, force: true });
  }
}

function begun({ mode, folder, contenders }: Plan): Summary {
  return {
    mode,
    taken: new Date().toISOString(),
    machine: machine(folder),
    contenders: contenders.map((contender) => {
      const { name, label, settings } = contender;
      const absent = contender.absent();
      return { name, label, settings, ...(absent === undefined ? { versions: contender.versions() } : { absent }) };
    }),
    rows: [],
  };
}

// What was started ends with us (an ended process's own `exit` handlers see to it).
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

await main().catch((error: unknown) => {
  console.error(error instanceof TypeError ? error.message : error);
  process.exitCode = error instanceof TypeError ? 64 : 1;
});
