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
import { core, type Floor, floor } from "./floor.js";
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

/** Measures a row: each repetition all contenders in turn, each time another one first. */
async function measureRow(row: Row, plan: Plan): Promise<Partial<Record<string, Outcome>>> {
  const taken = new Map<string, Figures[]>();
  const failed = new Map<string, string>();
  for (let repetition = 0; repetition < row.repetitions; repetition++) {
    const first = repetition % plan.contenders.length;
    for (const contender of [...plan.contenders.slice(first), ...plan.contenders.slice(0, first)]) {
      const { name, repetitionsMax = row.repetitions } = contender;
      if (repetition >= repetitionsMax) continue;
      const reason = failed.get(name) ?? contender.absent() ?? row.without?.[name];
      if (reason !== undefined) {
        failed.set(name, reason);
        continue;
      }
      try {
        const folder = folderOf(plan.folder, row, contender, repetition);
        const figures = await measure(contender, row, {
          folder,
          keep: plan.keep,
        });
        taken.set(name, [...(taken.get(name) ?? []), figures]);
        say(`${row.id} ${name} ${repetition + 1}/${row.repetitions} ${JSON.stringify(medians([figures]))}`);
      } catch (error) {
        failed.set(name, shortened(error));
        say(`${row.id} ${name} failed: ${error instanceof Error ? (error.stack ?? error.message) : String(error)}`);
      }
    }
  }
  return Object.fromEntries(
    plan.contenders.map(({ name }): [string, Outcome] => {
      const repetitions = taken.get(name) ?? [];
      const why = failed.get(name);
      return [
        name,
        {
          medians: medians(repetitions),
          repetitions,
          ...(why === undefined ? {} : { without: why }),
        },
      ];
    }),
  );
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
    const rows: Summary["rows"] = [];
    const below: Floor | undefined = floor(plan.folder, plan.mode, say);
    for (const row of plan.rows) {
      const { id, title, way, repetitions } = row;
      rows.push({
        id,
        title,
        way,
        repetitions,
        outcomes: await measureRow(row, plan),
      });
    }
    const contenders = plan.contenders.map((contender) => {
      const { name, label, settings } = contender;
      const absent = contender.absent();
      return {
        name,
        label,
        settings,
        ...(absent === undefined ? { versions: contender.versions() } : { absent }),
      };
    });
    const summary: Summary = {
      mode: plan.mode,
      taken: new Date().toISOString(),
      machine: machine(plan.folder),
      contenders,
      ...(below === undefined ? {} : { floor: below }),
      ...core(plan.folder, plan.mode, say),
      ...(await growthOf(plan)),
      rows,
    };
    mkdirSync(plan.out, { recursive: true });
    writeFileSync(join(plan.out, "summary.json"), `${JSON.stringify(summary, undefined, 2)}\n`);
    process.stdout.write(`${JSON.stringify({ bench: keysOf(summary) })}\n`);
  } finally {
    if (!plan.keep) rmSync(plan.folder, { recursive: true, force: true });
  }
}

// What was started ends with us (an ended process's own `exit` handlers see to it).
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => process.exit(130));

await main().catch((error: unknown) => {
  console.error(error instanceof TypeError ? error.message : error);
  process.exitCode = error instanceof TypeError ? 64 : 1;
});
